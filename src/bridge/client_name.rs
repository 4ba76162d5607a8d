//! The name of a client of either cloud, for what works on both: faults.

use std::fmt;

use super::azure::HubName;
use super::google::DeviceName;

/// Whoever logs in: a device of Cloud IoT Core, or a device or module of IoT Hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientName {
    IotCore(DeviceName),
    IotHub(HubName),
}

impl fmt::Display for ClientName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IotCore(name) => name.fmt(out),
            Self::IotHub(name) => name.fmt(out),
        }
    }
}

impl From<&DeviceName> for ClientName {
    fn from(name: &DeviceName) -> Self {
        Self::IotCore(name.clone())
    }
}

impl From<&HubName> for ClientName {
    fn from(name: &HubName) -> Self {
        Self::IotHub(name.clone())
    }
}

impl From<&Self> for ClientName {
    fn from(name: &Self) -> Self {
        name.clone()
    }
}
