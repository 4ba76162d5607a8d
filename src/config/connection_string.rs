//! The connection string of a device, as the portal and the tools of Azure IoT Hub hand it out:
//! `HostName=…;DeviceId=…;SharedAccessKey=…`.
//!
//! One line of one file. It holds a key, so nothing of what it says is repeated in an error but the names that it may have;
//! a text that is no connection string could be a key too.
//!
//! Source: "IoT Hub connection strings" (learn.microsoft.com/azure/iot-hub), and what the cloud's own libraries refuse.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::hub_key::{self, HubKeyError};
use super::{Folders, rules};
use crate::model::command::DeviceId;
use crate::model::nearest::nearest;
use crate::model::wire::Secret;

/// Its name among the credentials that systemd passes to the service.
pub const CREDENTIAL: &str = "twinagent.connection-string";

/// The longest, in bytes. The names in it have bounds, and with the longest of each it has a fourth of this.
const LONGEST: usize = 4 << 10;

/// The longest key, in characters of base64. Those of the cloud have 44 or 88.
const LONGEST_KEY: usize = 1_024;

const HOST: &str = "HostName";
const DEVICE: &str = "DeviceId";
const MODULE: &str = "ModuleId";
const GATEWAY: &str = "GatewayHostName";
const KEY: &str = "SharedAccessKey";
const X509: &str = "x509";
/// Only the strings of services have this one.
const POLICY: &str = "SharedAccessKeyName";
/// A token in the place of the key.
const SIGNATURE: &str = "SharedAccessSignature";
const MEMBERS: [&str; 8] = [HOST, DEVICE, MODULE, GATEWAY, KEY, X509, POLICY, SIGNATURE];

/// What the string of a device says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    pub host: String,
    pub device: DeviceId,
    pub module: Option<String>,
    /// Where to connect in the place of `host`.
    pub gateway: Option<String>,
    /// Base64. Missing: the device has a certificate (`x509=true`).
    pub key: Option<Secret>,
}

/// Reads the file of a connection string, which must be kept as well as a key is.
pub fn read(folders: &Folders, path: &Path) -> Result<ConnectionString, HubKeyError> {
    read_with(folders.credentials.as_deref(), path)
}

pub(super) fn read_with(credentials: Option<&Path>, path: &Path) -> Result<ConnectionString, HubKeyError> {
    let file = hub_key::text(credentials, path)?;
    parse(file.text.reveal()).map_err(|why| HubKeyError::Unfit {
        path: path.to_owned(),
        why: format!("no connection string of a device: {why}"),
    })
}

/// Reads the text. The error says what is wrong, and nothing of what stands there.
pub fn parse(text: &str) -> Result<ConnectionString, String> {
    let line = text.trim();
    if line.is_empty() {
        return Err("there is nothing in it".to_owned());
    }
    if line.len() > LONGEST || line.contains(char::is_control) {
        return Err(format!("one line of at most {LONGEST} bytes is expected"));
    }
    let Values { host, device, module, gateway, key, x509, policy, signature } = values(line)?;
    if policy.is_some() {
        return Err(format!(
            "`{POLICY}` stands in strings of services, which may do anything to any device; the device's own is under its \
             name in the hub"
        ));
    }
    if signature.is_some() {
        return Err(format!("`{SIGNATURE}` ends at some time; `{KEY}` is expected, with which the agent signs anew"));
    }
    let key = match (key, x509) {
        (Some(_), Some(_)) => return Err(format!("`{KEY}` and `{X509}` exclude each other")),
        (None, None) => return Err(format!("`{KEY}` is missing")),
        (Some(key), None) => Some(self::key(key).ok_or_else(|| format!("`{KEY}` is not base64"))?),
        (None, Some("true")) => None,
        (None, Some(_)) => return Err(format!("`{X509}` is to be `true`, or to be left out")),
    };
    let host = named(HOST, host, rules::host)?.ok_or_else(|| format!("`{HOST}` is missing"))?;
    let device = named(DEVICE, device, rules::hub_device)?.ok_or_else(|| format!("`{DEVICE}` is missing"))?;
    let module = named(MODULE, module, rules::hub_module)?;
    let gateway = named(GATEWAY, gateway, rules::host)?;
    Ok(ConnectionString { host, device, module, gateway, key })
}

/// What stands behind each name.
#[derive(Default)]
struct Values<'a> {
    host: Option<&'a str>,
    device: Option<&'a str>,
    module: Option<&'a str>,
    gateway: Option<&'a str>,
    key: Option<&'a str>,
    x509: Option<&'a str>,
    policy: Option<&'a str>,
    signature: Option<&'a str>,
}

/// `name=value` with a `;` between two. A value may hold `=`, as base64 does.
fn values(line: &str) -> Result<Values<'_>, String> {
    let mut values = Values::default();
    if line.ends_with(';') {
        return Err("it ends in `;`".to_owned());
    }
    for (at, part) in line.split(';').enumerate() {
        let at = at + 1;
        let (name, value) = part.split_once('=').ok_or_else(|| format!("part {at} has no `=`"))?;
        let place = match name {
            HOST => &mut values.host,
            DEVICE => &mut values.device,
            MODULE => &mut values.module,
            GATEWAY => &mut values.gateway,
            KEY => &mut values.key,
            X509 => &mut values.x509,
            POLICY => &mut values.policy,
            SIGNATURE => &mut values.signature,
            // Not repeated: who has only the key at hand may have put it here.
            _ => {
                let meant = nearest(name, MEMBERS).map(|meant| format!("; did you mean `{meant}`?"));
                return Err(format!("the name of part {at} is not known{}", meant.unwrap_or_default()));
            }
        };
        if value.is_empty() {
            return Err(format!("`{name}` is empty"));
        }
        if place.replace(value).is_some() {
            return Err(format!("`{name}` stands twice"));
        }
    }
    Ok(values)
}

fn named<T, E: std::fmt::Display>(
    name: &str,
    value: Option<&str>,
    rule: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    value.map(rule).transpose().map_err(|why| format!("`{name}` is {why}"))
}

/// A key as a token could be signed with: base64 of something.
pub(super) fn key(text: &str) -> Option<Secret> {
    let fits = (1..=LONGEST_KEY).contains(&text.len()) && STANDARD.decode(text).is_ok();
    fits.then(|| Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "HostName=my-hub.example;DeviceId=gw-1;SharedAccessKey=a2V5a2V5a2V5a2V5a2U=";

    #[test]
    fn the_strings_that_the_cloud_hands_out_are_read() {
        for text in [GOOD.to_owned(), format!("{GOOD}\n"), format!(" {GOOD}\r\n")] {
            let string = parse(&text).expect("a connection string");
            assert_eq!((string.host.as_str(), string.device.as_str()), ("my-hub.example", "gw-1"));
            assert_eq!(string.key.as_ref().map(Secret::reveal), Some("a2V5a2V5a2V5a2V5a2U="));
            assert_eq!((string.module, string.gateway), (None, None));
        }
        let string = parse(&format!("GatewayHostName=edge.local;ModuleId=agent;{GOOD}")).expect("one of a module");
        assert_eq!((string.module.as_deref(), string.gateway.as_deref()), (Some("agent"), Some("edge.local")));
        let string = parse("HostName=h;DeviceId=d;x509=true").expect("one for a certificate");
        assert_eq!(string.key, None);
    }

    #[test]
    fn what_is_wrong_is_said_and_what_stands_there_is_not() {
        let secret = "c2VjcmV0c2VjcmV0";
        let cases = [
            ("", "nothing in it"),
            ("\n", "nothing in it"),
            (secret, "part 1 has no `=`"),
            ("c2VjcmV0c2VjcmV0==", "the name of part 1 is not known"),
            ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0;", "ends in `;`"),
            ("HostName=h;DeviceId=d;;SharedAccessKey=c2VjcmV0c2VjcmV0", "part 3 has no `=`"),
            (
                "HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0;SharedAccessKey=x",
                "`SharedAccessKey` stands twice",
            ),
            ("hostname=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0", "part 1 is not known; did you mean `HostName`?"),
            ("HostName=h;DeviceID=d;SharedAccessKey=c2VjcmV0c2VjcmV0", "did you mean `DeviceId`?"),
            ("HostName=h;DeviceId=d;Color=c2VjcmV0c2VjcmV0", "part 3 is not known"),
            ("HostName=;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0", "`HostName` is empty"),
            ("HostName=h;DeviceId=d;SharedAccessKey=", "`SharedAccessKey` is empty"),
            ("HostName=h;DeviceId=d", "`SharedAccessKey` is missing"),
            ("HostName=h;SharedAccessKey=c2VjcmV0c2VjcmV0", "`DeviceId` is missing"),
            ("DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0", "`HostName` is missing"),
            ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0;x509=true", "exclude each other"),
            ("HostName=h;DeviceId=d;x509=false", "`x509` is to be `true`"),
            ("HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey=c2VjcmV0c2VjcmV0", "strings of services"),
            ("HostName=h;DeviceId=d;SharedAccessSignature=c2VjcmV0c2VjcmV0", "ends at some time"),
            ("HostName=h:8883;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0", "`HostName` is a host with a port"),
            ("HostName=h;DeviceId=a/b;SharedAccessKey=c2VjcmV0c2VjcmV0", "`DeviceId` is not an id"),
            ("HostName=h;DeviceId=d;ModuleId=a/b;SharedAccessKey=c2VjcmV0c2VjcmV0", "`ModuleId` is not"),
            ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0!", "not base64"),
            ("HostName=h;DeviceId=d;SharedAccessKey =c2VjcmV0c2VjcmV0", "did you mean `SharedAccessKey`?"),
            ("HostName=h;DeviceId=d;\nSharedAccessKey=c2VjcmV0c2VjcmV0", "one line"),
            ("HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0c2VjcmV0\0", "one line"),
        ];
        for (text, expected) in cases {
            let why = parse(text).expect_err(text);
            assert!(why.contains(expected) && !why.contains(secret), "{text:?}: {why}");
        }
        let long = format!("{GOOD};GatewayHostName={}", "a".repeat(LONGEST));
        assert!(parse(&long).expect_err("too long").contains("one line"));
        assert!(!format!("{:?}", parse(GOOD)).contains("a2V5"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_none_is_repeated(text in "((HostName|DeviceId|ModuleId|SharedAccessKey|x509)=?[;=a-z\\PC]{0,6};?){0,6}") {
            if let Err(why) = parse(&text) {
                prop_assert!(why.len() < 400 && !why.contains(char::is_control));
            }
        }
    }
}
