//! The example configuration that the package brings: each of its ways is right as it stands.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Device;

const EXAMPLE: &str = include_str!("../../packaging/examples/iothub.toml");
/// Base64 of anything.
const KEY: &str = "a2V5a2V5a2V5a2V5";

/// What all ways have, and each way: as it stands, or without the signs that make comments of its lines.
fn ways() -> (&'static str, Vec<String>) {
    let mut parts = EXAMPLE.trim_end().split("\n\n").skip(1);
    let common = parts.next().expect("the kind of the cloud");
    let way = |part: &'static str| {
        let line = |line: &'static str| line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line);
        part.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    (common, parts.map(way).collect())
}

/// A self-signed certificate and its key.
fn make_certificate(chain: &Path, key: &Path) {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=gateway-7".split(' '))
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(chain)
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(made.success(), "{made}");
}

#[test]
fn each_way_of_the_example_for_iot_hub_is_right() {
    let (common, ways) = ways();
    assert_eq!(ways.len(), 4, "{ways:#?}");
    for way in ways {
        let device = Device::configured("");
        let text = format!("{common}\n{way}\n").replace("/etc/twinagent/", &format!("{}/", device.path("").display()));
        fs::write(device.path("twinagent.toml"), text.replace("//", "/")).expect("a file");
        let (connection_string, key) = (device.path("connection-string"), device.path("device-key"));
        let content = format!("HostName=myhub.azure-devices.net;DeviceId=gateway-7;SharedAccessKey={KEY}\n");
        fs::write(&connection_string, content).expect("a file");
        if way.contains("cert_file") {
            make_certificate(&device.path("device.pem"), &key);
        } else {
            fs::write(&key, format!("{KEY}\n")).expect("a file");
        }
        for secret in [connection_string, key] {
            fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("its mode");
        }
        let told = device.run(&["check"]);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{way}\n{told:?}");
    }
}
