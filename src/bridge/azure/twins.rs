//! What is done with the twins of a hub: by devices and by the service.

use serde_json::{Map, Value, json};

use super::twin::{Notice, TwinBody, Write};
use super::{Azure, HubError, HubName, IfMatch, Record};
use crate::bridge::broker::ClientNumber;
use crate::model::now::Timestamp;

impl Azure {
    /// `{"desired":{…,"$version":N},"reported":{…,"$version":N}}`, as the device reads it.
    pub(crate) fn device_twin(&self, number: ClientNumber) -> Result<Vec<u8>, HubError> {
        self.known(number).map(|record| record.twin.for_device().to_string().into_bytes())
    }

    /// A patch of the device onto its reported properties. Returns their new version; the status of an error is 400.
    pub(crate) fn patch_reported(
        &mut self,
        number: ClientNumber,
        patch: &[u8],
        now: Timestamp,
    ) -> Result<u64, HubError> {
        let record = self.record_mut(number).ok_or_else(HubError::gone)?;
        record.twin.report(patch, now)
    }

    /// A write of the service. The device is to be told what is returned; `None` if its desired properties stay as they are.
    pub(crate) fn update_twin(
        &mut self,
        number: ClientNumber,
        body: TwinBody,
        if_match: &IfMatch,
        how: Write,
        now: Timestamp,
    ) -> Result<Option<Notice>, HubError> {
        let record = self.record_mut(number).ok_or_else(HubError::gone)?;
        record.twin.write(body, if_match, how, now)
    }

    /// As the service reads it.
    pub(crate) fn twin(&self, number: ClientNumber) -> Result<Value, HubError> {
        self.known(number).map(twin_of)
    }

    /// All twins of devices, or all of modules, in the order of their names.
    pub(super) fn twins(&self, modules: bool) -> impl Iterator<Item = (&HubName, Value)> {
        let of_kind = self.numbers.iter().filter(move |(name, _)| name.module.is_some() == modules);
        of_kind.filter_map(|(name, number)| Some((name, twin_of(self.record(*number)?))))
    }
}

fn twin_of(record: &Record) -> Value {
    let identity = &record.identity;
    let mut twin = Map::from_iter([("deviceId".to_owned(), json!(identity.name.device))]);
    if let Some(module) = &identity.name.module {
        twin.insert("moduleId".to_owned(), json!(module));
    }
    twin.extend(identity.members_for_twin());
    twin.extend(record.twin.members_for_service());
    Value::Object(twin)
}
