//! The names of identities in a hub, checked when they are made, and how a device writes its own in CONNECT.
//!
//! Grammar: "Understand the identity registry in your IoT hub" (device identity properties); CONNECT: "Communicate with an
//! IoT hub using the MQTT protocol", both under learn.microsoft.com/azure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::HubError;

/// The longest id, in characters.
const LONGEST_ID: usize = 128;
/// What an id may hold besides letters and digits.
const MARKS: &[u8] = b"-.%_*?!(),:=@$'";
/// The versions of the interface that the cloud's own libraries and pages name, for devices and for the service.
const API_VERSIONS: [&str; 8] = [
    "2016-11-14",
    "2018-06-30",
    "2019-03-30",
    "2019-10-01",
    "2020-03-13",
    "2020-05-31-preview",
    "2020-09-30",
    "2021-04-12",
];

/// A device, or a module of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubName {
    pub device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl HubName {
    /// The name of a device.
    pub fn device(id: &str) -> Result<Self, HubError> {
        Ok(Self { device: checked("device", id)?, module: None })
    }

    /// The name of a module of this device.
    pub fn module(&self, id: &str) -> Result<Self, HubError> {
        Ok(Self { device: self.device.clone(), module: Some(checked("module", id)?) })
    }

    /// The device whose module this is, or this device.
    pub(crate) fn of(&self) -> Self {
        Self { device: self.device.clone(), module: None }
    }

    /// What a token must be for: `{host}/devices/{device}[/modules/{module}]`.
    pub(crate) fn resource(&self, host: &str) -> String {
        match &self.module {
            None => format!("{host}/devices/{}", self.device),
            Some(module) => format!("{host}/devices/{}/modules/{module}", self.device),
        }
    }
}

/// `{device}` or `{device}/{module}`, which is also the client id of MQTT.
impl fmt::Display for HubName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.device)?;
        self.module.iter().try_for_each(|module| write!(out, "/{module}"))
    }
}

fn checked(what: &str, id: &str) -> Result<String, HubError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || MARKS.contains(&byte);
    // `$edgeAgent` and its like are modules of the cloud's own, `.` and `..` would be lost in paths.
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(plain) || matches!(id, "." | "..") {
        return Err(HubError::invalid(format!(
            "Invalid {what} id: 1 to {LONGEST_ID} letters, digits and {} are allowed.",
            String::from_utf8_lossy(MARKS)
        )));
    }
    Ok(id.to_owned())
}

/// The user name of a CONNECT: `{host}/{device}[/{module}]/?api-version={date}[&…]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserName {
    /// In lower case, without a port.
    pub(crate) host: String,
    pub(crate) name: HubName,
}

impl UserName {
    /// Reads it. Ids stand in it as they are, the values of the query are percent-encoded. The error is for the log.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (path, query) = text.split_once("/?").ok_or("the user name is not {host}/{device}/?api-version=…")?;
        let mut parts = path.split('/');
        let host = parts.next().filter(|host| !host.is_empty()).ok_or("the user name has no host")?;
        let device = parts.next().ok_or("the user name has no device")?;
        let mut name = HubName::device(device).map_err(|error| error.message)?;
        if let Some(module) = parts.next() {
            name = name.module(module).map_err(|error| error.message)?;
        }
        if parts.next().is_some() {
            return Err("the user name has more parts than host, device and module".to_owned());
        }
        let mut versions = query.split('&').filter_map(|pair| pair.strip_prefix("api-version="));
        match (versions.next(), versions.next()) {
            (Some(version), None) if is_api_version(version) => {}
            _ => return Err(format!("the user name has no api-version of these: {}", API_VERSIONS.join(", "))),
        }
        Ok(Self { host: host_of(host), name })
    }
}

/// Whether the service has an interface of this version.
pub(crate) fn is_api_version(text: &str) -> bool {
    API_VERSIONS.contains(&text)
}

/// The host of `host` or `host:port`, in lower case.
pub(crate) fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_identity_registry() {
        for good in ["a", "gw-1", "A.%_*?!(),:=@$'9", &"x".repeat(128)] {
            assert!(HubName::device(good).is_ok(), "{good}");
        }
        for wrong in ["", "a/b", "a b", "a+b", "a#", "ü", ".", "..", &"x".repeat(129)] {
            assert_eq!(HubName::device(wrong).expect_err(wrong).status, 400);
        }
        let module = HubName::device("gw-1").and_then(|name| name.module("app")).expect("a name");
        assert_eq!(module.to_string(), "gw-1/app");
        assert_eq!(module.resource("hub"), "hub/devices/gw-1/modules/app");
        assert_eq!(module.of().to_string(), "gw-1");
    }

    #[test]
    fn user_names_of_the_clouds_own_library_are_read() {
        for (text, host, name) in [
            (
                "localhost/dev1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11.7%3B",
                "localhost",
                "dev1",
            ),
            ("My.Hub:8883/d/m/?model-id=dtmi%3Aa%3B1&api-version=2020-09-30", "my.hub", "d/m"),
            ("hub/d/?api-version=2020-05-31-preview", "hub", "d"),
        ] {
            let read = UserName::parse(text).expect(text);
            assert_eq!((read.host.as_str(), read.name.to_string().as_str()), (host, name));
        }
    }

    #[test]
    fn other_user_names_are_refused_with_a_reason() {
        for text in [
            "",
            "hub/d",
            "hub/d/api-version=2021-04-12",
            "hub/?api-version=2021-04-12",
            "/d/?api-version=2021-04-12",
            "hub/d/m/x/?api-version=2021-04-12",
            "hub/d//?api-version=2021-04-12",
            "hub/d/?",
            "hub/d/?api-version=",
            "hub/d/?api-version=latest",
            "hub/d/?api-version=2015-01-01",
            "hub/d/?api-version=2021-04-13",
            "hub/d/?api-version=2021-04-12&api-version=2021-04-12",
            "unused",
        ] {
            assert!(!UserName::parse(text).expect_err(text).is_empty());
        }
    }
}
