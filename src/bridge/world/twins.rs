//! Twins of IoT Hub on their connections: read, reported, and told of.

use serde_json::{Value, json};

use super::{World, wall};
use crate::bridge::azure::{HubError, IfMatch, TwinBody, Write};
use crate::bridge::broker::ClientNumber;
use crate::bridge::faults::Fault;
use crate::bridge::google::LogLevel;
use crate::bridge::hub::topics;
use crate::bridge::taps::ReportedChange;
use crate::model::json::strict;

impl World {
    pub(super) fn fetch_twin(&mut self, number: ClientNumber, rid: &str) {
        let answer = match self.hub.throttled(number) {
            Some(status) => (status, refusal_body(status)),
            None => match self.azure.device_twin(number) {
                Ok(twin) => (200, twin),
                Err(error) => (error.status, error_body(&error)),
            },
        };
        self.answer_about_twin(number, rid, answer.0, None, answer.1);
    }

    pub(super) fn patch_reported(&mut self, number: ClientNumber, rid: &str, patch: &[u8]) {
        if let Some(status) = self.hub.throttled(number) {
            return self.answer_about_twin(number, rid, status, None, refusal_body(status));
        }
        match self.azure.patch_reported(number, patch, wall()) {
            Ok(version) => {
                self.tell_of_reported(number, patch, version);
                self.answer_about_twin(number, rid, 204, Some(version), Vec::new());
            }
            Err(error) => {
                self.log(number, LogLevel::Error, format_args!("reported properties refused: {error}"));
                self.answer_about_twin(number, rid, error.status, None, error_body(&error));
            }
        }
    }

    /// Gives readers in this process what the device has reported.
    fn tell_of_reported(&mut self, number: ClientNumber, patch: &[u8], version: u64) {
        // Of a device that was deleted meanwhile there is nothing to tell.
        let twin = self.azure.device_twin(number).ok();
        let twin = twin.and_then(|twin| serde_json::from_slice::<Value>(&twin).ok());
        let (Some(mut twin), Some(device)) = (twin, self.azure.name_of(number).cloned()) else { return };
        let mut reported = twin["reported"].take();
        if let Some(members) = reported.as_object_mut() {
            members.retain(|name, _| !name.starts_with('$'));
        }
        let patch = strict(patch).expect("what was taken had been read in the same way");
        self.taps.reported.put(&ReportedChange { device, patch, reported, version, time: wall() });
    }

    fn answer_about_twin(&mut self, number: ClientNumber, rid: &str, status: u16, version: Option<u64>, body: Vec<u8>) {
        if self.broker.plan(number).strikes(&Fault::WithholdTwinAnswers) {
            return;
        }
        if self.is_granted(number, topics::TWIN_ANSWERS).is_some() {
            self.tell(number, topics::twin_answer_topic(status, rid, version), body);
        } else {
            self.log(number, LogLevel::Debug, "asks about its twin and is not subscribed to the answers");
        }
    }

    /// Writes tags or desired properties, and tells the device what it is concerned with; the twin as the service sees it.
    pub(crate) fn update_twin(
        &mut self,
        number: ClientNumber,
        body: TwinBody,
        if_match: &IfMatch,
        write: Write,
    ) -> Result<Value, HubError> {
        let notice = self.azure.update_twin(number, body, if_match, write, wall())?;
        if let Some(notice) = notice
            && self.is_granted(number, topics::DESIRED).is_some()
        {
            self.tell(number, topics::desired_topic(notice.version), notice.body);
        }
        self.azure.twin(number)
    }
}

/// What a device is told of a request that was refused.
fn error_body(error: &HubError) -> Vec<u8> {
    json!({ "errorCode": error.code, "message": error.message }).to_string().into_bytes()
}

/// The same, for a refusal that a test has asked for.
fn refusal_body(status: u16) -> Vec<u8> {
    json!({ "errorCode": u32::from(status) * 1_000 + 1, "message": "refused on request" }).to_string().into_bytes()
}
