//! The stand-in for Cloud IoT Core: its resources and its rules. Knows no socket and no HTTP.
//!
//! [`resources`] is the management API, [`rules`] what a device may do over MQTT. Sources: the pages under
//! cloud.google.com/iot/docs and the discovery document `cloudiot.v1`.

mod auth;
mod authority;
mod credential;
mod device;
mod error;
mod fields;
mod gateway;
mod json;
mod key;
mod list;
mod log_level;
mod names;
mod registry;
mod resources;
mod rules;
mod x509;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

pub(crate) use self::device::DeviceBody;
pub use self::error::{ApiError, Canonical};
pub(crate) use self::fields::mask;
pub(crate) use self::gateway::GatewayType;
pub(crate) use self::json::{Number, Payload};
pub(crate) use self::list::ListOptions;
pub(crate) use self::log_level::LogLevel;
pub use self::names::{DeviceName, RegistryName};
pub(crate) use self::registry::RegistryBody;
pub(crate) use self::resources::{COMMAND_LIMIT, check_command};
pub(crate) use self::rules::{Feed, Published, Violation, command_topic, config_topic, quoted};
pub(crate) use self::x509::validity;

use self::device::Device;
use self::registry::Registry;
use super::broker::ClientNumber;

/// What can be set for tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Kept sessions and forgiving rules, as brokers have them that came after the closed service.
    pub(crate) sessions: bool,
    pub(crate) skew: Duration,
    pub(crate) state_interval: Duration,
    pub(crate) config_retry: Duration,
}

/// All registries and devices.
#[derive(Debug)]
pub(crate) struct Google {
    settings: Settings,
    registries: BTreeMap<RegistryName, Registry>,
    devices: HashMap<ClientNumber, Device>,
    numbers: BTreeMap<DeviceName, ClientNumber>,
    /// When the last state of a device was acknowledged.
    state_acks: HashMap<ClientNumber, Instant>,
    changed: BTreeSet<Change>,
}

/// Something whose file is out of date: it was changed, or it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Registry(u64),
    Device(ClientNumber),
}

/// A file to write under the data folder, or to remove.
#[derive(Debug)]
pub(crate) struct FileChange {
    pub(crate) path: String,
    pub(crate) content: Option<Vec<u8>>,
}

/// The folders of the files, under the data folder.
pub(crate) const REGISTRIES: &str = "google/registries";
pub(crate) const DEVICES: &str = "google/devices";

impl Google {
    /// What an earlier run kept. Fails if it cannot have come from one.
    pub(crate) fn new(settings: Settings, registries: Vec<Registry>, devices: Vec<Device>) -> anyhow::Result<Self> {
        if let Some(device) = devices.iter().find(|device| device.configs.is_empty()) {
            bail!("{DEVICES}/{}.json has no configuration; remove the file", device.num_id);
        }
        Ok(Self {
            settings,
            registries: registries.into_iter().map(|registry| (registry.name.clone(), registry)).collect(),
            numbers: devices.iter().map(|device| (device.name.clone(), device.num_id)).collect(),
            devices: devices.into_iter().map(|device| (device.num_id, device)).collect(),
            state_acks: HashMap::new(),
            changed: BTreeSet::new(),
        })
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    pub(crate) fn number_of(&self, name: &DeviceName) -> Result<ClientNumber, ApiError> {
        self.numbers.get(name).copied().ok_or_else(|| ApiError::not_found("Device", &name.to_string()))
    }

    pub(crate) fn name_of(&self, number: ClientNumber) -> Option<&DeviceName> {
        self.devices.get(&number).map(|device| &device.name)
    }

    /// Whether an event of this level is logged for a device. What is said of a deleted one is.
    pub(crate) fn logs(&self, number: ClientNumber, event: LogLevel) -> bool {
        let Some(device) = self.device(number) else { return true };
        let registry = self.registries.get(&device.name.of());
        device.log_level.logs(registry.map(Registry::log_level).unwrap_or_default(), event)
    }

    fn device(&self, number: ClientNumber) -> Option<&Device> {
        self.devices.get(&number)
    }

    /// The device, to be changed; its file will be written.
    fn device_mut(&mut self, number: ClientNumber) -> Option<&mut Device> {
        let device = self.devices.get_mut(&number)?;
        self.changed.insert(Change::Device(number));
        Some(device)
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The files that are out of date.
    pub(crate) fn take_changes(&mut self) -> Vec<FileChange> {
        std::mem::take(&mut self.changed).into_iter().map(|change| self.file(change)).collect()
    }

    fn file(&self, change: Change) -> FileChange {
        match change {
            Change::Registry(number) => {
                let registry = self.registries.values().find(|registry| registry.number == number);
                FileChange { path: format!("{REGISTRIES}/{number}.json"), content: registry.map(to_json) }
            }
            Change::Device(number) => {
                let content = self.devices.get(&number).map(to_json);
                FileChange { path: format!("{DEVICES}/{number}.json"), content }
            }
        }
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("resources are JSON");
    text.push(b'\n');
    text
}
