//! The names of Cloud IoT Core's resources, checked when they are made.
//!
//! Grammar: cloud.google.com/iot/docs/requirements, "Permitted characters and size requirements".

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// `projects/{project}/locations/{region}/registries/{registry}`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryName {
    pub project: String,
    pub region: String,
    pub registry: String,
}

/// `{registry}/devices/{device}`, with the device's id, not its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceName {
    pub project: String,
    pub region: String,
    pub registry: String,
    pub device: String,
}

impl RegistryName {
    /// Checks each part.
    pub fn new(project: &str, region: &str, registry: &str) -> Result<Self, ApiError> {
        let plain = |text: &str| {
            (1..=100).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte))
        };
        if !plain(project) {
            return Err(ApiError::invalid(format!("Invalid project id '{project}'.")));
        }
        if !plain(region) {
            return Err(ApiError::invalid(format!("Invalid location '{region}'.")));
        }
        if !is_id(registry) {
            return Err(ApiError::invalid(format!("Invalid registry id '{registry}': {ID_RULE}")));
        }
        Ok(Self { project: project.into(), region: region.into(), registry: registry.into() })
    }

    /// `projects/{project}/locations/{region}`
    pub(crate) fn parent(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.region)
    }

    /// The name of a device of this registry.
    pub fn device(&self, device: &str) -> Result<DeviceName, ApiError> {
        if !is_id(device) {
            return Err(ApiError::invalid(format!("Invalid device id '{device}': {ID_RULE}")));
        }
        Ok(DeviceName {
            project: self.project.clone(),
            region: self.region.clone(),
            registry: self.registry.clone(),
            device: device.into(),
        })
    }
}

impl DeviceName {
    /// Checks each part.
    pub fn new(project: &str, region: &str, registry: &str, device: &str) -> Result<Self, ApiError> {
        RegistryName::new(project, region, registry)?.device(device)
    }

    /// Reads an MQTT client id.
    pub fn from_client_id(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let &["projects", project, "locations", region, "registries", registry, "devices", device] = &parts[..] else {
            return None;
        };
        Self::new(project, region, registry, device).ok()
    }

    /// The registry that holds this device.
    pub fn of(&self) -> RegistryName {
        RegistryName { project: self.project.clone(), region: self.region.clone(), registry: self.registry.clone() }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "projects/{}/locations/{}/registries/{}", self.project, self.region, self.registry)
    }
}

/// Written as the MQTT client id.
impl fmt::Display for DeviceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "projects/{}/locations/{}/registries/{}/devices/{}",
            self.project, self.region, self.registry, self.device
        )
    }
}

const ID_RULE: &str =
    "3 to 255 characters are expected: a letter, then letters, digits and -._+~%; not beginning with 'goog'.";

/// A registry id or a device id.
fn is_id(text: &str) -> bool {
    (3..=255).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !text.starts_with("goog")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._+~%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_read_strictly() {
        let good = "projects/p1/locations/us-central1/registries/reg/devices/gw-1.~%+_";
        assert_eq!(DeviceName::from_client_id(good).expect("a good one").to_string(), good);
        for bad in [
            "",
            "gw-1",
            "projects/p1/locations/us-central1/registries/reg/devices/",
            "projects/p1/locations/us-central1/registries/reg/devices/ab",
            "projects/p1/locations/us-central1/registries/reg/devices/1ab",
            "projects/p1/locations/us-central1/registries/reg/devices/google-1",
            "projects/p1/locations/us-central1/registries/reg/devices/gw-1/x",
            "projects/p1/locations/us-central1/registries/reg/devices/gw 1",
            "/projects/p1/locations/us-central1/registries/reg/devices/gw-1",
            "projects//locations/us-central1/registries/reg/devices/gw-1",
        ] {
            assert_eq!(DeviceName::from_client_id(bad), None, "{bad:?}");
        }
    }
}
