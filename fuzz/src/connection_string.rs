//! Any bytes where the connection string of a device should be: read or refused without a panic, its key never shown, and what
//! is read is what would be written.

use twinagent::config::connection_string::{ConnectionString, parse};

pub const VERDICTS: &[&str] = &["key", "x509", "refused", "nottext"];

pub fn read(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "nottext".to_owned() };
    match parse(text) {
        Ok(string) => {
            assert!(["None", "Some((secret))"].contains(&format!("{:?}", string.key).as_str()), "a key is not shown");
            assert_eq!(parse(&written(&string)).as_ref(), Ok(&string));
            if string.key.is_some() { "key" } else { "x509" }
        }
        Err(why) => {
            assert!(!why.is_empty() && why.len() < 400 && !why.contains(char::is_control), "{why:?}");
            "refused"
        }
    }
    .to_owned()
}

fn written(string: &ConnectionString) -> String {
    let mut parts = vec![format!("HostName={}", string.host), format!("DeviceId={}", string.device)];
    parts.extend(string.module.as_ref().map(|module| format!("ModuleId={module}")));
    parts.extend(string.gateway.as_ref().map(|gateway| format!("GatewayHostName={gateway}")));
    let key = string.key.as_ref().map(|key| format!("SharedAccessKey={}", key.reveal()));
    parts.push(key.unwrap_or_else(|| "x509=true".to_owned()));
    parts.join(";")
}
