//! Cloud IoT Core and what speaks its protocol (ClearBlade, EMQX `gcp_device`): topics, envelope, login.
//!
//! Sources: the public pages "Using MQTT bridge", "Sending commands", "Configuring devices", "Using JSON Web Tokens"
//! and "Quotas and limits" of Cloud IoT Core.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::envelope::{Draft, Reading};
use super::token::mint;
use super::{Dialect, EncodeError, Encoded, LoginError, Proof};
use crate::config::{Answers, IotCore as Settings};
use crate::model::cloud::{Answer, CloudLimits, DocumentRules, Inbound, Outbound, Reporting, Road, Settles};
use crate::model::command::{CommandId, DeviceId, Identity, Method, Status};
use crate::model::now::Timestamp;
use crate::model::telemetry::Message;
use crate::model::wire::{Login, MessageId, Packet, Qos, Subscription};

/// Largest payload of a command and of telemetry, in bytes (quotas page: 256 KB).
const COMMAND: usize = 256 * 1_024;

/// Largest state, in bytes (quotas page: 64 KB).
const STATE: usize = 64 * 1_024;

/// State may be sent once a second (quotas page); the margin covers two clocks that tick differently.
const STATE_INTERVAL: Duration = Duration::from_millis(1_050);

/// One device at a Cloud IoT Core bridge.
#[derive(Clone, Debug)]
pub struct IotCore {
    settings: Settings,
    device: DeviceId,
    keep_alive: Duration,
    lifetime: Duration,
    /// What a payload is for that comes without an envelope and without a subfolder.
    default_method: Option<Method>,
}

impl IotCore {
    /// `lifetime`: of each login token, at most 24 hours.
    pub fn new(settings: &Settings, device: DeviceId, keep_alive: Duration, lifetime: Duration) -> Self {
        Self { settings: settings.clone(), device, keep_alive, lifetime, default_method: None }
    }

    /// The method that a bare payload is for.
    #[must_use]
    pub fn with_default_method(self, default_method: Option<Method>) -> Self {
        Self { default_method, ..self }
    }

    fn topic(&self, rest: &str) -> String {
        format!("/devices/{}/{rest}", self.device)
    }
}

impl Dialect for IotCore {
    fn login(&self, now: Timestamp, proof: &Proof) -> Result<Login, LoginError> {
        let Proof::Key(key) = proof else { return Err(LoginError::Unfit("the private key of the device")) };
        let Settings { project_id, region, registry_id, clean_session, .. } = &self.settings;
        Ok(Login {
            client_id: format!(
                "projects/{project_id}/locations/{region}/registries/{registry_id}/devices/{}",
                self.device
            ),
            // Ignored by the bridge; without one, some brokers do not look at the password.
            username: "unused".to_owned(),
            password: mint(key, project_id, now, self.lifetime)?,
            keep_alive: self.keep_alive,
            clean: *clean_session,
            will: None,
        })
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        ["config", "commands/#"].map(|rest| Subscription { filter: self.topic(rest), qos: Qos::AtLeastOnce }).to_vec()
    }

    fn decode(&self, packet: &Packet) -> Inbound {
        let ours = packet.topic.strip_prefix("/devices/").and_then(|topic| topic.strip_prefix(self.device.as_str()));
        let Some(rest) = ours.and_then(|rest| rest.strip_prefix('/')) else {
            return Inbound::Dropped { why: "its topic is not this device's" };
        };
        // EMQX keeps the config as a retained message; a retained command is stale by nature.
        match (rest, rest.strip_prefix("commands")) {
            ("config", _) => Inbound::Desired { body: packet.payload.clone(), version: None },
            (_, Some(_)) if packet.retain => Inbound::Dropped { why: "a retained command is never run" },
            (_, Some("" | "/")) => self.reading().envelope(Draft::default(), &packet.payload),
            (_, Some(subfolder)) if subfolder.starts_with('/') => self.addressed(&subfolder[1..], &packet.payload),
            _ => Inbound::Dropped { why: "its topic means nothing here" },
        }
    }

    fn encode(&self, _: MessageId, message: &Outbound) -> Result<Encoded, EncodeError> {
        let (topic, payload, limit) = match message {
            Outbound::Answer(answer) => {
                (self.topic("events/responses"), Bytes::from(answer_body(answer, COMMAND)), COMMAND)
            }
            Outbound::Reported(document) => (self.topic("state"), Bytes::from(document.to_string()), STATE),
            Outbound::ReportedPatch(_) => return Err(EncodeError::Unknown("patches of the state")),
            Outbound::FetchTwin => return Err(EncodeError::Unknown("way to read the state")),
            Outbound::Telemetry(Message { subfolder, payload }) if subfolder.is_empty() => {
                (self.topic("events"), payload.clone(), COMMAND)
            }
            Outbound::Telemetry(Message { subfolder, payload }) => {
                (self.topic(&format!("events/{}", subfolder.as_str())), payload.clone(), COMMAND)
            }
        };
        if payload.len() > limit {
            return Err(EncodeError::TooLarge { bytes: payload.len(), limit });
        }
        let packet = Packet { topic, payload, qos: Qos::AtLeastOnce, retain: false };
        Ok(Encoded { packet, settled_by: Settles::Puback })
    }

    fn limits(&self) -> CloudLimits {
        CloudLimits {
            reported_interval: STATE_INTERVAL,
            answers: match self.settings.answers {
                Answers::State => Road::Reported,
                Answers::Events => Road::Own,
            },
            reporting: Reporting::Whole,
            document: DocumentRules::of_size(STATE),
        }
    }
}

impl IotCore {
    fn reading(&self) -> Reading<'_> {
        Reading { target: &self.device, default_method: self.default_method.as_ref(), largest: COMMAND }
    }

    /// `commands/{method}[/{id}]`, the body is the payload.
    fn addressed(&self, subfolder: &str, body: &Bytes) -> Inbound {
        let mut draft = Draft::default();
        let (method, id) = match subfolder.split_once('/') {
            Some((method, id)) => (method, Some(id)),
            None => (subfolder, None),
        };
        match id.map(CommandId::parse).transpose() {
            Ok(id) => draft.id = id,
            Err(error) => {
                return draft.refuse(Status::NOT_A_COMMAND, format!("second level of the subfolder: {error}"));
            }
        }
        self.reading().addressed(draft, method, Identity::Derived, body)
    }
}

/// The body of an answer; its payload gives way to a note if the whole would be more than `limit` bytes.
fn answer_body(answer: &Answer, limit: usize) -> String {
    let body = |payload: &Value| {
        let mut body = json!({
            "id": answer.id,
            "status": answer.status,
            "payload": payload,
            "final": answer.last,
        });
        if let Some(method) = &answer.method {
            body["method"] = json!(method);
        }
        body.to_string()
    };
    let whole = body(&answer.payload);
    if whole.len() <= limit { whole } else { body(&json!({ "payloadDropped": true })) }
}

#[cfg(test)]
mod tests;
