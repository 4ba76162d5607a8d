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
        if self.numbers.contains_key(&name) {
            return Err(HubError::already_exists(&name));
        }
        if name.module.is_some() {
            self.number_of(&name.of())?;
            if self.names_of_modules(&name.device).count() == MOST_MODULES {
                return Err(HubError::too_many_modules(&name, MOST_MODULES));
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Settings;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn hub() -> Azure {
        Azure::new(Settings { skew: Duration::ZERO, hosts: Vec::new() }, None, Vec::new()).expect("a hub")
    }

    fn name(device: &str, module: Option<&str>) -> HubName {
        let device = HubName::device(device).expect("a device's id");
        module.map_or(device.clone(), |module| device.module(module).expect("a module's id"))
    }

    fn body(body: &Value) -> IdentityBody {
        IdentityBody::parse(body.to_string().as_bytes()).expect("an identity")
    }

    fn made(hub: &mut Azure, device: &str, module: Option<&str>) -> Result<Value, HubError> {
        hub.put_identity(&name(device, module), IdentityBody::default(), None, at(1))
    }

    #[test]
    fn an_identity_is_made_once_and_written_by_its_tag() {
        let mut hub = hub();
        let first = made(&mut hub, "d", None).expect("a device");
        assert_eq!(first["status"], "enabled");
        assert_eq!(made(&mut hub, "d", None).expect_err("it is there").code, 409_001);
        let tag = IfMatch::parse(first["etag"].as_str().expect("a tag"));
        let disabled = body(&json!({"deviceId": "d", "status": "disabled", "statusReason": "lost", "etag": "any"}));
        let second = hub.put_identity(&name("d", None), disabled, Some(&tag), at(2)).expect("its newest version");
        assert_eq!((&second["status"], &second["statusReason"]), (&json!("disabled"), &json!("lost")));
        assert_eq!(second["authentication"], first["authentication"], "what is not named stays");
        let late = hub.put_identity(&name("d", None), IdentityBody::default(), Some(&tag), at(3));
        assert_eq!(late.expect_err("it was changed").code, 412_001);
        let nobody = hub.put_identity(&name("e", None), IdentityBody::default(), Some(&IfMatch::Any), at(3));
        assert_eq!(nobody.expect_err("it is not there").code, 404_001);
    }

    #[test]
    fn modules_live_and_die_with_their_device() {
        let mut hub = hub();
        assert_eq!(made(&mut hub, "d", Some("m")).expect_err("no device").code, 404_001);
        made(&mut hub, "d", None).expect("a device");
        for module in 0..50 {
            made(&mut hub, "d", Some(&format!("m{module}"))).expect("a module");
        }
        assert_eq!(made(&mut hub, "d", Some("m0")).expect_err("it is there").code, 409_301);
        assert_eq!(made(&mut hub, "d", Some("m50")).expect_err("one too many").status, 413);
        made(&mut hub, "d2", None).expect("another device");
        assert_eq!(hub.modules_of("d").len(), 50);
        let number = hub.number_of(&name("d", Some("m7"))).expect("a module");
        assert!(hub.is_enabled(number));
        let device = hub.number_of(&name("d", None)).expect("a device");
        hub.set_enabled(device, false, at(2)).expect("a device");
        assert!(!hub.is_enabled(number), "a module connects if its device may");
        hub.take_changes();
        assert_eq!(hub.delete_identity(&name("d", None), &IfMatch::Any).expect("a device").len(), 51);
        assert_eq!(hub.number_of(&name("d", Some("m7"))).expect_err("gone").code, 404_010);
        assert!(hub.number_of(&name("d2", None)).is_ok());
        let files = hub.take_changes();
        assert!(files.len() == 51 && files.iter().all(|file| file.content.is_none()));
    }

    #[test]
    fn a_device_of_the_same_name_is_another_one() {
        let mut hub = hub();
        let first = made(&mut hub, "d", None).expect("a device");
        hub.delete_identity(&name("d", None), &IfMatch::Any).expect("a device");
        let second = made(&mut hub, "d", None).expect("a device");
        assert_ne!(first["generationId"], second["generationId"]);
        assert_ne!(first["etag"], second["etag"]);
        assert!(Azure::holds(hub.number_of(&name("d", None)).expect("a device")));
    }

    #[test]
    fn what_is_kept_is_what_was_there_but_for_connections() {
        let mut hub = hub();
        made(&mut hub, "d", None).expect("a device");
        made(&mut hub, "d", Some("m")).expect("a module");
        let number = hub.number_of(&name("d", None)).expect("a device");
        hub.set_connected(number, true, at(5));
        hub.set_queued(number, 3);
        hub.patch_reported(number, br#"{"a":{"b":1}}"#, at(6)).expect("a patch");
        assert_eq!(hub.twin(number).expect("a twin")["connectionState"], "Connected");
        assert_eq!(hub.identity(&name("d", None)).expect("a device")["cloudToDeviceMessageCount"], 3);
        let (mut records, mut file) = (Vec::new(), None);
        for change in hub.take_changes() {
            let content = change.content.expect("nothing is gone");
            if change.path == super::super::HUB_FILE {
                file = Some(serde_json::from_slice(&content).expect("its own JSON"));
            } else {
                records.push(serde_json::from_slice(&content).expect("its own JSON"));
            }
        }
        let again = Azure::new(hub.settings.clone(), file, records).expect("its own files");
        let twin = again.twin(number).expect("the same number");
        assert_eq!(twin["connectionState"], "Disconnected");
        assert_eq!(twin["lastActivityTime"], json!(at(5)));
        assert_eq!(twin["properties"], hub.twin(number).expect("a twin")["properties"]);
        assert_eq!(again.primary_key(number), hub.primary_key(number));
        assert_eq!((again.devices(9).len(), again.modules(&name("d", None)).expect("a device").len()), (1, 1));
    }

    #[test]
    fn files_that_contradict_each_other_are_refused() {
        let mut hub = hub();
        made(&mut hub, "d", None).expect("a device");
        let record = hub.records.values().next().expect("it was just made").clone();
        let twice = vec![record.clone(), Record { number: record.number ^ 1, ..record.clone() }];
        let foreign = vec![Record { number: 7, ..record }];
        for records in [twice, foreign] {
            Azure::new(hub.settings.clone(), None, records).expect_err("these are not from one hub");
        }
    }

    #[test]
    fn bodies_about_another_identity_are_refused() {
        let mut hub = hub();
        for (module, wrong) in [
            (None, json!({"deviceId": "e"})),
            (None, json!({"deviceId": "d", "moduleId": "m"})),
            (None, json!({"statusReason": "x".repeat(129)})),
            (None, json!({"authentication": {"type": "none"}})),
            (Some("m"), json!({"moduleId": "n"})),
            (Some("m"), json!({"status": "disabled"})),
        ] {
            if module.is_some() && hub.number_of(&name("d", None)).is_err() {
                made(&mut hub, "d", None).expect("a device");
            }
            let error = hub.put_identity(&name("d", module), body(&wrong), None, at(1)).expect_err("wrong");
            assert_eq!(error.status, 400, "{wrong}");
        }
        for no_body in ["", "[1]", r#"{"status":"lost"}"#, r#"{"authentication":{"symmetricKey":"key"}}"#] {
            let error = IdentityBody::parse(no_body.as_bytes()).err().expect("no identity");
            assert!(error.status == 400 && !error.message.contains("key"), "{error}");
        }
    }

    #[test]
    fn devices_are_counted() {
        let mut hub = hub();
        for device in ["a", "b", "c"] {
            made(&mut hub, device, None).expect("a device");
        }
        made(&mut hub, "a", Some("m")).expect("a module");
        let number = hub.number_of(&name("b", None)).expect("a device");
        hub.set_enabled(number, false, at(1)).expect("a device");
        hub.set_connected(hub.number_of(&name("a", None)).expect("a device"), true, at(1));
        let counts = json!({"totalDeviceCount": 3, "enabledDeviceCount": 2, "disabledDeviceCount": 1});
        assert_eq!(hub.registry_statistics(), counts);
        assert_eq!(hub.service_statistics(), json!({"connectedDeviceCount": 1}));
        assert_eq!((hub.devices(2).len(), hub.devices(usize::MAX).len()), (2, 3));
    }
}
