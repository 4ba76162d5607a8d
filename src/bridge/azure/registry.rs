//! What the service does with the identities of a hub, and what the connections of devices tell of them.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use super::identity::{Identity, IdentityBody};
use super::twin::Twin;
use super::{Azure, Change, FIRST_NUMBER, HubError, HubName, IfMatch, Record};
use crate::bridge::broker::ClientNumber;
use crate::model::now::Timestamp;

/// The most modules of one device (learn.microsoft.com, "IoT Hub quotas and throttling").
const MOST_MODULES: usize = 50;
/// The most devices of a list.
pub(crate) const LONGEST_LIST: usize = 1_000;

impl Azure {
    /// Makes an identity, or writes the one that is there where `if_match` says which.
    ///
    /// Whoever is connected and is not enabled any more is to be sent away: [`Azure::is_enabled`].
    pub(crate) fn put_identity(
        &mut self,
        name: &HubName,
        body: IdentityBody,
        if_match: Option<&IfMatch>,
        now: Timestamp,
    ) -> Result<Value, HubError> {
        match if_match {
            None => self.create_identity(name.clone(), body, now),
            Some(if_match) => {
                let number = self.number_of(name)?;
                let record = self.record_mut(number).expect("the number was just found");
                if_match.check(&record.identity.etag())?;
                record.identity.update(body, now)?;
                Ok(record.identity.resource())
            }
        }
    }

    /// A module needs its device.
    fn create_identity(&mut self, name: HubName, body: IdentityBody, now: Timestamp) -> Result<Value, HubError> {
        if name.module.is_some() {
            self.number_of(&name.of())?;
            if self.names_of_modules(&name.device).count() == MOST_MODULES {
                return Err(HubError::too_large(format!("A device has at most {MOST_MODULES} modules.")));
            }
        }
        if self.numbers.contains_key(&name) {
            return Err(HubError::already_exists(&name));
        }
        let number = self.free_number();
        let identity = Identity::new(name.clone(), (number - FIRST_NUMBER).to_string(), body)?;
        let resource = identity.resource();
        self.numbers.insert(name, number);
        self.records.insert(number, Record { number, identity, twin: Twin::new(now) });
        self.changed.insert(Change::Record(number));
        Ok(resource)
    }

    /// Deletes an identity, a device with its modules. Returns whose connections and sessions are to end.
    pub(crate) fn delete_identity(
        &mut self,
        name: &HubName,
        if_match: &IfMatch,
    ) -> Result<Vec<ClientNumber>, HubError> {
        if_match.check(&self.known(self.number_of(name)?)?.identity.etag())?;
        let gone: Vec<_> = match &name.module {
            Some(_) => vec![name.clone()],
            None => std::iter::once(name.clone()).chain(self.names_of_modules(&name.device).cloned()).collect(),
        };
        let numbers: Vec<_> = gone.iter().filter_map(|name| self.numbers.remove(name)).collect();
        for number in &numbers {
            self.records.remove(number);
            self.changed.insert(Change::Record(*number));
        }
        Ok(numbers)
    }

    /// As the service shows it.
    pub(crate) fn identity(&self, name: &HubName) -> Result<Value, HubError> {
        self.known(self.number_of(name)?).map(|record| record.identity.resource())
    }

    /// The first `top` devices in the order of their names, at most [`LONGEST_LIST`].
    pub(crate) fn devices(&self, top: usize) -> Vec<Value> {
        let devices = self.numbers.keys().filter(|name| name.module.is_none()).take(top.min(LONGEST_LIST));
        devices.filter_map(|name| self.identity(name).ok()).collect()
    }

    /// The modules of a device, in the order of their names.
    pub(crate) fn modules(&self, device: &HubName) -> Result<Vec<Value>, HubError> {
        self.number_of(device)?;
        Ok(self.names_of_modules(&device.device).filter_map(|name| self.identity(name).ok()).collect())
    }

    /// The numbers of the modules of a device.
    pub(crate) fn modules_of(&self, device: &str) -> Vec<ClientNumber> {
        self.names_of_modules(device).filter_map(|name| self.numbers.get(name).copied()).collect()
    }

    fn names_of_modules(&self, device: &str) -> impl Iterator<Item = &HubName> {
        self.numbers.keys().filter(move |name| name.device == device && name.module.is_some())
    }

    /// `/statistics/devices`
    pub(crate) fn registry_statistics(&self) -> Value {
        let (mut total, mut enabled) = (0, 0);
        for record in self.records.values().filter(|record| record.identity.name.module.is_none()) {
            total += 1;
            enabled += u64::from(record.identity.is_enabled());
        }
        json!({ "totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled })
    }

    /// `/statistics/service`
    pub(crate) fn service_statistics(&self) -> Value {
        let devices = self.records.values().map(|record| &record.identity).filter(|one| one.name.module.is_none());
        json!({ "connectedDeviceCount": devices.filter(|one| one.connection.connected).count() })
    }

    /// Whether it may connect: it is there, and its device is enabled.
    pub(crate) fn is_enabled(&self, number: ClientNumber) -> bool {
        let device = self.name_of(number).and_then(|name| self.numbers.get(&name.of()));
        device.and_then(|device| self.record(*device)).is_some_and(|record| record.identity.is_enabled())
    }

    /// Lets a device connect, or no more.
    pub(crate) fn set_enabled(&mut self, number: ClientNumber, enabled: bool, now: Timestamp) -> Result<(), HubError> {
        let record = self.record_mut(number).ok_or_else(HubError::gone)?;
        record.identity.update(IdentityBody::with_status(enabled), now)
    }

    /// The first key of an identity, in base64.
    pub(crate) fn primary_key(&self, number: ClientNumber) -> Result<String, HubError> {
        let key = self.known(number)?.identity.authentication.primary_key();
        key.map(str::to_owned).ok_or_else(|| HubError::invalid("The identity proves itself by a certificate."))
    }

    /// A connection of it was opened or has ended.
    pub(crate) fn set_connected(&mut self, number: ClientNumber, connected: bool, now: Timestamp) {
        if let Some(record) = self.record_mut(number) {
            record.identity.set_connected(connected, now);
        }
    }

    /// It was heard of.
    pub(crate) fn active(&mut self, number: ClientNumber, now: Timestamp) {
        if let Some(record) = self.record_mut(number) {
            record.identity.seen(now);
        }
    }

    /// So many messages wait for it.
    pub(crate) fn set_queued(&mut self, number: ClientNumber, queued: usize) {
        if let Some(record) = self.records.get_mut(&number) {
            record.identity.connection.queued = queued;
        }
    }

    fn free_number(&self) -> ClientNumber {
        loop {
            let mut bytes = [0; 8];
            SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
            let number = FIRST_NUMBER | u64::from_le_bytes(bytes);
            if !self.records.contains_key(&number) {
                return number;
            }
        }
    }
}
