//! What the names in a configuration may look like: hosts, ids, paths.
//!
//! Each rule gives the text back, or the words that end "… is": why it does not fit.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::model::command::DeviceId;

/// `PATH_MAX` of Linux, with the byte that ends the text (limits.h).
const LONGEST_PATH: usize = 4096;
/// Twice what useradd(8) allows.
const LONGEST_GROUP: usize = 64;

/// A host name (RFC 1123 2.1) or an IP address, without scheme, port and brackets.
pub fn host(text: &str) -> Result<String, &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.contains("://") {
        return Err("a URL: the host alone is expected, and its port under `port`");
    }
    if text.contains(':') {
        return Err("a host with a port: the port belongs under `port` (an IPv6 address takes no brackets)");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("not a host name or IP address")
    }
}

/// Whether what is sent to this host never leaves the machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A project, region or registry: one part of the client id and, the project, the audience of tokens.
pub(super) fn segment(text: &str) -> Result<String, &'static str> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/+#".contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err("not an id: 1 to 255 visible ASCII characters without `/`, `+` and `#` are expected")
    }
}

/// A device id that every cloud could take, its specifiers filled in.
pub(super) fn device(text: &str) -> Result<DeviceId, String> {
    if text.contains('+') {
        return Err("not taken: `+` has a meaning of its own in the topic filters of MQTT (3.1.1, 4.7)".to_owned());
    }
    DeviceId::parse(text).map_err(|error| error.to_string())
}

/// The name of a group, or nothing for none. More than useradd(8) makes, since directories have freer names.
pub(super) fn group(text: &str) -> Result<Option<String>, &'static str> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b":,/\"'\\".contains(&byte);
    if text.is_empty() {
        Ok(None)
    } else if text.len() <= LONGEST_GROUP && text.bytes().all(fits) && !text.starts_with('-') {
        Ok(Some(text.to_owned()))
    } else {
        Err(
            "not the name of a group: up to 64 visible ASCII characters without `:`, `,`, `/`, quotes and backslash are expected",
        )
    }
}

/// cloud.google.com/iot/docs/requirements: `[a-zA-Z][-a-zA-Z0-9._+~%]{2,254}`, not beginning with `goog`.
pub(super) fn fits_iotcore(id: &DeviceId) -> Result<(), &'static str> {
    let text = id.as_str();
    if !text.starts_with(|first: char| first.is_ascii_alphabetic())
        || !(3..=255).contains(&text.len())
        || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    {
        return Err("not an id for Cloud IoT Core: a letter and then 2 to 254 of A-Z a-z 0-9 - . _ ~ are expected");
    }
    if text.starts_with("goog") {
        return Err("not an id for Cloud IoT Core: those that begin with `goog` are reserved");
    }
    Ok(())
}

/// The id of a device at an IoT hub, of which the cloud takes a few more (learn.microsoft.com, "Device identity properties"):
/// a quote has no place in a topic of ours.
pub fn hub_device(text: &str) -> Result<DeviceId, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.%_*?!(),:=@$".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(fits) {
        DeviceId::parse(text).map_err(|error| error.to_string())
    } else {
        Err("not an id for IoT Hub: 1 to 128 of A-Z a-z 0-9 - . % _ * ? ! ( ) , : = @ $ are expected".to_owned())
    }
}

/// A module of a device, which has the same letters.
pub(super) fn hub_module(text: &str) -> Result<String, &'static str> {
    match hub_device(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not the id of a module: 1 to 128 of A-Z a-z 0-9 - . % _ * ? ! ( ) , : = @ $ are expected"),
    }
}

/// learn.microsoft.com/azure/iot-dps/concepts-service, "Registration ID".
pub(super) fn registration(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let ends_well = text.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '-');
    if text.len() <= 128 && text.bytes().all(fits) && ends_well {
        Ok(text.to_owned())
    } else {
        Err("not a registration id: up to 128 of A-Z a-z 0-9 - . _ : are expected, of which the last is no . _ :")
    }
}

/// The portal shows it: `0ne` and eight letters or digits. Its length is not promised.
pub(super) fn id_scope(text: &str) -> Result<String, &'static str> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("not an id scope: letters and digits such as 0ne00000000 are expected")
    }
}

/// github.com/Azure/opendigitaltwins-dtdl, "Digital Twin Model Identifier": `dtmi:`, words with a `:` between two, `;` and a
/// version.
pub(super) fn model(text: &str) -> Result<String, &'static str> {
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !word.ends_with('_')
    };
    let version = |version: &str| {
        (1..=9).contains(&version.len())
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && !version.starts_with('0')
    };
    let parts = text.strip_prefix("dtmi:").and_then(|rest| rest.split_once(';'));
    match parts {
        Some((path, number)) if text.len() <= 128 && path.split(':').all(word) && version(number) => {
            Ok(text.to_owned())
        }
        _ => Err("not the id of a model: one such as dtmi:com:example:Thermostat;1 is expected"),
    }
}

/// A daemon has no folder of its own to which a relative path could be meant.
pub(super) fn path(text: &str) -> Result<PathBuf, &'static str> {
    if !text.starts_with('/') {
        Err("not an absolute path")
    } else if text.len() >= LONGEST_PATH || text.contains('\0') {
        Err("not a path that Linux could open")
    } else {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_and_nothing_around_them() {
        for good in ["localhost", "mqtt.example.", "mqtt.2030.ltsapis.goog", "10.0.0.1", "::1", "fe80::1", "a_b.local"]
        {
            assert_eq!(host(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "a..b", "-a", "a-", "mqtts://a", "a:8883", "[::1]", "a b", "a/b", "ä.de", &"a".repeat(64)]
        {
            assert!(host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_stays_on_the_machine_is_loopback() {
        for local in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["localhost.example", "128.0.0.1", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example"] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }

    #[test]
    fn a_group_is_a_name_or_none() {
        assert_eq!(group(""), Ok(None));
        for good in ["adm", "domain-users", "a$", "a.b"] {
            assert_eq!(group(good), Ok(Some(good.to_owned())));
        }
        for bad in ["a b", "a:b", "a,b", "../a", "-a", "ä", &"a".repeat(65)] {
            assert!(group(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_absolute_and_can_be_opened() {
        assert_eq!(path("/etc/ca.pem"), Ok(PathBuf::from("/etc/ca.pem")));
        for bad in ["", "ca.pem", "~/ca.pem", "/a\0b", &format!("/{}", "a".repeat(4095))] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_at_an_iot_hub_are_those_of_the_cloud() {
        for good in ["d", "gw-1", "a.b%c_d*e?f!(g),h:i=j@k$l", &"a".repeat(128)] {
            assert!(hub_device(good).is_ok() && hub_module(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a/b", "a+b", "a#b", "a'b", "a b", "ä", "a;b", "a&b", &"a".repeat(129)] {
            assert!(hub_device(bad).is_err() && hub_module(bad).is_err(), "{bad:?}");
        }
        for good in ["gw-1", "a:b.c_d-", "1", &"a".repeat(128)] {
            assert_eq!(registration(good).as_deref(), Ok(good));
        }
        for bad in ["", "a.", "a_", "a:", "a b", "a/b", "a%b", "ä", &"a".repeat(129)] {
            assert!(registration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(id_scope("0ne00000001").as_deref(), Ok("0ne00000001"));
        for bad in ["", "0ne/1", "0ne 1", "0ne&", &"a".repeat(65)] {
            assert!(id_scope(bad).is_err(), "{bad:?}");
        }
        for good in ["dtmi:a;1", "dtmi:com:example:Thing_2;999999999"] {
            assert_eq!(model(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "dtmi:a", "dtmi:;1", "dtmi:a;", "dtmi:a;0", "dtmi:a;01", "dtmi:1a;1", "dtmi:a_;1", "dtmi:a:;1", "a;1"]
        {
            assert!(model(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn device_ids_are_those_of_the_cloud() {
        let fits = |id: &str| device(id).is_ok_and(|id| fits_iotcore(&id).is_ok());
        for good in ["gw-1", "abc", "A.b_c~d", &format!("a{}", "b".repeat(254))] {
            assert!(fits(good), "{good:?}");
        }
        for bad in ["", "ab", "1abc", "-abc", "googly", "gw+1", "gw-%", "@etc", "a/b", "ä23", "a b c", &"a".repeat(256)]
        {
            assert!(!fits(bad), "{bad:?}");
        }
    }
}
