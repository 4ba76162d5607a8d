//! The management API: registries and devices are created, read, changed and deleted here.
//!
//! Each call is checked as a whole before it changes anything. Answers are the JSON that a client gets.

use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::device::{Config, Device, DeviceBody, MAX_HISTORY, check_document};
use super::fields::{Fields, check_update_mask};
use super::gateway::GatewayConfig;
use super::json::{Payload, Version};
use super::list::{ListOptions, listed, page};
use super::registry::{Registry, RegistryBody};
use super::{ApiError, Canonical, Change, DeviceName, Google, RegistryName};
use crate::bridge::broker::ClientNumber;
use crate::model::now::Timestamp;

/// The largest command, in bytes of payload, and the longest subfolder, in characters.
const MAX_COMMAND: usize = 256 * 1024;
const MAX_SUBFOLDER: usize = 256;
/// How long a caller waits for the device. The cloud's own limit is not written down.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(10);

impl Google {
    // Registries

    pub(crate) fn create_registry(
        &mut self,
        name: RegistryName,
        body: RegistryBody,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        if self.registries.contains_key(&name) {
            return Err(ApiError::new(Canonical::AlreadyExists, format!("Registry '{name}' already exists.")));
        }
        let number = self.free_number();
        let registry = Registry::new(name.clone(), number, body, now)?;
        let resource = registry.resource();
        self.registries.insert(name, registry);
        self.changed.insert(Change::Registry(number));
        Ok(resource)
    }

    fn registry(&self, name: &RegistryName) -> Result<&Registry, ApiError> {
        self.registries.get(name).ok_or_else(|| ApiError::not_found("Registry", &name.to_string()))
    }

    pub(crate) fn get_registry(&self, name: &RegistryName) -> Result<Value, ApiError> {
        self.registry(name).map(Registry::resource)
    }

    /// The registries of `projects/{project}/locations/{region}`.
    pub(crate) fn list_registries(&self, parent: &str, options: &ListOptions) -> Result<Value, ApiError> {
        let mine = self.registries.values().filter(|registry| registry.name.parent() == parent);
        let (page, token) = page(mine, |registry| &registry.name.registry, options)?;
        let list: Vec<Value> = page.into_iter().map(Registry::resource).collect();
        Ok(listed("deviceRegistries", list, token))
    }

    pub(crate) fn patch_registry(
        &mut self,
        name: &RegistryName,
        body: &RegistryBody,
        mask: &[String],
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        self.registry(name)?;
        check_update_mask(mask)?;
        let registry = self.registries.get_mut(name).expect("it was just found");
        registry.patch(body, mask, now)?;
        self.changed.insert(Change::Registry(registry.number));
        Ok(registry.resource())
    }

    pub(crate) fn delete_registry(&mut self, name: &RegistryName) -> Result<Value, ApiError> {
        let number = self.registry(name)?.number;
        if self.devices_of(name).next().is_some() {
            return Err(ApiError::new(
                Canonical::FailedPrecondition,
                format!("Registry '{name}' is not empty; delete its devices first."),
            ));
        }
        self.registries.remove(name);
        self.changed.insert(Change::Registry(number));
        Ok(json!({}))
    }

    // Devices

    fn devices_of<'a>(&'a self, name: &'a RegistryName) -> impl Iterator<Item = &'a Device> {
        let first = DeviceName {
            project: name.project.clone(),
            region: name.region.clone(),
            registry: name.registry.clone(),
            device: String::new(),
        };
        self.numbers
            .range(first..)
            .take_while(move |(device, _)| device.of() == *name)
            .filter_map(|(_, number)| self.devices.get(number))
    }

    /// The number of a device that is named by its id or by its number.
    pub(crate) fn find(&self, registry: &RegistryName, id: &str) -> Result<ClientNumber, ApiError> {
        self.registry(registry)?;
        let missing = || ApiError::not_found("Device", &format!("{registry}/devices/{id}"));
        if id.starts_with(|first: char| first.is_ascii_digit()) {
            let number = id.parse().map_err(|_| missing())?;
            return self.name_of(number).filter(|name| name.of() == *registry).map(|_| number).ok_or_else(missing);
        }
        self.number_of(&registry.device(id)?).map_err(|_| missing())
    }

    pub(crate) fn create_device(
        &mut self,
        registry: &RegistryName,
        body: DeviceBody,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        self.registry(registry)?;
        let name = registry.device(&body.id)?;
        if self.numbers.contains_key(&name) {
            return Err(ApiError::new(Canonical::AlreadyExists, format!("Device '{name}' already exists.")));
        }
        let number = self.free_number();
        let authorities = &self.registry(registry)?.body.credentials;
        let device = Device::new(name.clone(), number, body, authorities, now)?;
        let resource = device.resource();
        self.devices.insert(number, device);
        self.numbers.insert(name, number);
        self.changed.insert(Change::Device(number));
        Ok(resource)
    }

    pub(crate) fn get_device(&self, number: ClientNumber, fields: &[String]) -> Result<Value, ApiError> {
        let fields = Fields::of_device(fields)?;
        Ok(fields.shown_or_all(self.device(number).expect("the number was just found")))
    }

    pub(crate) fn list_devices(&self, registry: &RegistryName, options: &ListOptions) -> Result<Value, ApiError> {
        self.registry(registry)?;
        options.check()?;
        let fields = Fields::of_device(&options.fields)?;
        let named = !options.ids.is_empty() || !options.numbers.is_empty();
        let mine = self
            .devices_of(registry)
            .filter(|device| {
                !named || options.ids.contains(&device.name.device) || options.numbers.contains(&device.num_id)
            })
            .filter(|device| GatewayConfig::is_of(device.gateway_config.as_ref(), options.gateway_type));
        let (page, token) = page(mine, |device| &device.name.device, options)?;
        let list = page.into_iter().map(|device| fields.shown(device)).collect();
        Ok(listed("devices", list, token))
    }

    /// Changes the named fields; the device as it then is, and whether it is blocked.
    pub(crate) fn patch_device(
        &mut self,
        number: ClientNumber,
        body: &DeviceBody,
        mask: &[String],
        now: Timestamp,
    ) -> Result<(Value, bool), ApiError> {
        check_update_mask(mask)?;
        let device = self.devices.get_mut(&number).expect("the number was just found");
        let registry = self.registries.get(&device.name.of()).expect("the device was just found in it");
        device.patch(body, mask, &registry.body.credentials, now)?;
        self.changed.insert(Change::Device(number));
        Ok((device.resource(), device.blocked))
    }

    pub(crate) fn delete_device(&mut self, number: ClientNumber) -> Value {
        if let Some(device) = self.devices.remove(&number) {
            self.numbers.remove(&device.name);
            self.state_acks.remove(&number);
            self.changed.insert(Change::Device(number));
        }
        json!({})
    }

    // Configuration, states, commands

    /// Makes a new version. `expected` 0 takes any; else it must be the newest version.
    pub(crate) fn set_config(
        &mut self,
        number: ClientNumber,
        expected: u64,
        data: Payload,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        check_document(&data.0)?;
        let device = self.device_mut(number).expect("the number was just found");
        let newest = device.config().version.0;
        if expected != 0 && expected != newest {
            // The status is nowhere written down.
            return Err(ApiError::new(
                Canonical::FailedPrecondition,
                format!("The config version {expected} is not the newest one, which is {newest}."),
            ));
        }
        let config =
            Config { version: Version(newest + 1), cloud_update_time: now, device_ack_time: None, binary_data: data };
        let answer = json!(config);
        device.configs.push_front(config);
        device.configs.truncate(MAX_HISTORY);
        Ok(answer)
    }

    /// The newest `count` versions, all that are kept if it is 0.
    pub(crate) fn config_versions(&self, number: ClientNumber, count: usize) -> Value {
        let device = self.device(number).expect("the number was just found");
        let count = if count == 0 { MAX_HISTORY } else { count };
        json!({ "deviceConfigs": device.configs.iter().take(count).collect::<Vec<_>>() })
    }

    /// The newest `count` states, all that are kept if it is 0.
    pub(crate) fn list_states(&self, number: ClientNumber, count: usize) -> Value {
        let device = self.device(number).expect("the number was just found");
        let count = if count == 0 { MAX_HISTORY } else { count };
        let states: Vec<_> = device.states.iter().take(count).collect();
        if states.is_empty() { json!({}) } else { json!({ "deviceStates": states }) }
    }

    /// The states that are kept, the newest first.
    pub(crate) fn states(&self, number: ClientNumber) -> Vec<(Timestamp, Bytes)> {
        let states = self.device(number).into_iter().flat_map(|device| &device.states);
        states.map(|state| (state.update_time, state.binary_data.0.clone())).collect()
    }

    fn free_number(&self) -> u64 {
        loop {
            let mut bytes = [0; 8];
            SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
            // 16 digits, as the cloud has them: a client that reads them as floating point numbers is found out.
            let number = 9_100_000_000_000_001 + u64::from_le_bytes(bytes) % 800_000_000_000_000;
            if !self.devices.contains_key(&number) {
                return number;
            }
        }
    }
}

/// Refuses a command that could not be delivered.
pub(crate) fn check_command(subfolder: &str, payload: &[u8]) -> Result<(), ApiError> {
    if payload.len() > MAX_COMMAND {
        return Err(ApiError::invalid(format!(
            "The command is too large: {} bytes, of which {MAX_COMMAND} are allowed.",
            payload.len()
        )));
    }
    if subfolder.chars().count() > MAX_SUBFOLDER || subfolder.contains(['+', '#', '\0']) {
        return Err(ApiError::invalid(format!(
            "Invalid subfolder: at most {MAX_SUBFOLDER} characters without + # and NUL are allowed."
        )));
    }
    Ok(())
}
