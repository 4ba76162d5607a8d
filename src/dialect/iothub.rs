//! Azure IoT Hub: logins, direct methods, the twin, cloud-to-device messages and telemetry.
//!
//! Sources: "Communicate with an IoT hub using the MQTT protocol", "Understand and invoke direct methods", "Understand and
//! use device twins", "Create and read IoT Hub messages", "IoT Hub quotas and throttling" (learn.microsoft.com/azure/iot-hub).

mod reading;
pub(super) mod topic;

use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;

use super::sas::{self, percent_encode};
use super::{Dialect, EncodeError, Encoded, LoginError, Proof};
use crate::config::IotHub as Settings;
use crate::model::cloud::{Answer, CloudLimits, DocumentRules, Inbound, Outbound, Reporting, Road, Settles};
use crate::model::command::{DeviceId, Method};
use crate::model::now::Timestamp;
use crate::model::telemetry::Message;
use crate::model::wire::{Login, MessageId, Packet, Qos, Secret, Subscription};

/// The version of the protocol that each login names.
const API_VERSION: &str = "2021-04-12";

/// What this program calls itself to the cloud, as its own libraries do.
const CLIENT: &str = concat!("twinagent/", env!("CARGO_PKG_VERSION"));

/// Largest payload of a direct method and of its answer, in bytes (direct methods page: 128 KB).
const METHOD: usize = 128 * 1_024;

/// Largest message from a device, its properties included, in bytes (quotas page: 256 KB).
const MESSAGE: usize = 256 * 1_024;

/// What the hub takes for the reported properties (twins page): 32 KB in all, 10 levels, strings of 4 KB, names of 1 KB.
const REPORTED: DocumentRules =
    DocumentRules { bytes: 32 * 1_024, depth: 10, string: 4 * 1_024, key: 1_024, strict: true };

/// The smallest hub does 50 updates of twins a second for all of its devices (throttling page). One a second for each leaves
/// room for others, and is what the other cloud allows.
const REPORTED_INTERVAL: Duration = Duration::from_secs(1);

/// The twin is asked for with a body of one space, as the cloud's own libraries do.
const NOTHING: &[u8] = b" ";

/// One device, or one module of it, at an IoT hub.
#[derive(Clone, Debug)]
pub struct IotHub {
    hub: String,
    device: DeviceId,
    module: Option<String>,
    model: Option<String>,
    keep_alive: Duration,
    lifetime: Duration,
    /// Tells the answers to this run of the daemon from those to a former one.
    run: u32,
    /// What a cloud-to-device message is for that comes without an envelope.
    default_method: Option<Method>,
}

impl IotHub {
    /// `hub` and `device` are what the login names: those of the settings, or those that were assigned. `lifetime`: of each
    /// login token. `run`: a random number of this run of the daemon.
    pub fn new(
        settings: &Settings,
        hub: &str,
        device: DeviceId,
        keep_alive: Duration,
        lifetime: Duration,
        run: u32,
    ) -> Self {
        Self {
            hub: hub.to_owned(),
            device,
            module: settings.module_id.clone(),
            model: settings.model_id.clone(),
            keep_alive,
            lifetime,
            run,
            default_method: None,
        }
    }

    /// The method that a bare cloud-to-device message is for.
    #[must_use]
    pub fn with_default_method(self, default_method: Option<Method>) -> Self {
        Self { default_method, ..self }
    }

    /// `{device}` or `{device}/{module}`.
    fn client_id(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.device),
            None => self.device.to_string(),
        }
    }

    /// `devices/{device}` or `devices/{device}/modules/{module}`: in topics, and in what a token is for.
    fn path(&self) -> String {
        match &self.module {
            Some(module) => format!("devices/{}/modules/{module}", self.device),
            None => format!("devices/{}", self.device),
        }
    }

    /// The `$rid` of a request about the twin.
    fn rid(&self, MessageId(id): MessageId) -> String {
        format!("{:x}-{id:x}", self.run)
    }
}

impl Dialect for IotHub {
    fn login(&self, now: Timestamp, proof: &Proof) -> Result<Login, LoginError> {
        let password = password(proof, &format!("{}/{}", self.hub, self.path()), now, self.lifetime, None)?;
        let model = self.model.as_deref().map(|model| format!("&model-id={}", percent_encode(model)));
        Ok(Login {
            client_id: self.client_id(),
            username: format!(
                "{}/{}/?api-version={API_VERSION}&DeviceClientType={}{}",
                self.hub,
                self.client_id(),
                client(),
                model.unwrap_or_default()
            ),
            password,
            keep_alive: self.keep_alive,
            // The hub forgets what waits for us in a clean session.
            clean: false,
            will: None,
        })
    }

    /// Four of the five that the hub allows; modules get no cloud-to-device messages.
    ///
    /// Direct methods come with QoS 0: whoever waits for one has given up by the time that a broker on the way, which keeps
    /// sessions, could send it once more, and nothing would tell it from a new one.
    fn subscriptions(&self) -> Vec<Subscription> {
        let messages = self.module.is_none().then(|| format!("{}/messages/devicebound/#", self.path()));
        let methods = Subscription { filter: "$iothub/methods/POST/#".to_owned(), qos: Qos::AtMostOnce };
        let twin = ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"].map(str::to_owned);
        let lasting = twin.into_iter().chain(messages);
        let lasting = lasting.map(|filter| Subscription { filter, qos: Qos::AtLeastOnce });
        std::iter::once(methods).chain(lasting).collect()
    }

    fn decode(&self, packet: &Packet) -> Inbound {
        self.read(packet)
    }

    fn encode(&self, id: MessageId, message: &Outbound) -> Result<Encoded, EncodeError> {
        // The hub answers what is about the twin, so a PUBACK would tell nothing more.
        let (topic, payload, qos, settled_by) = match message {
            Outbound::Answer(answer) => {
                let Some(reply_to) = &answer.reply_to else {
                    return Err(EncodeError::Unknown("way to answer but in the state what was no direct method"));
                };
                let topic = format!("$iothub/methods/res/{}/?$rid={}", answer.status, reply_to.0);
                (topic, answer_payload(answer), Qos::AtLeastOnce, Settles::Puback)
            }
            Outbound::Reported(_) => return Err(EncodeError::Unknown("state as a whole")),
            Outbound::ReportedPatch(patch) => {
                let topic = format!("$iothub/twin/PATCH/properties/reported/?$rid={}", self.rid(id));
                (topic, Bytes::from(patch.to_string()), Qos::AtMostOnce, Settles::Answer)
            }
            Outbound::FetchTwin => {
                let topic = format!("$iothub/twin/GET/?$rid={}", self.rid(id));
                (topic, Bytes::from_static(NOTHING), Qos::AtMostOnce, Settles::Answer)
            }
            Outbound::Telemetry(message) => {
                let topic = format!("{}/messages/events/{}", self.path(), telemetry_bag(message));
                (topic, message.payload.clone(), Qos::AtLeastOnce, Settles::Puback)
            }
        };
        let bytes = topic.len() + payload.len();
        if bytes > MESSAGE {
            return Err(EncodeError::TooLarge { bytes, limit: MESSAGE });
        }
        Ok(Encoded { packet: Packet { topic, payload, qos, retain: false }, settled_by })
    }

    fn limits(&self) -> CloudLimits {
        CloudLimits {
            reported_interval: REPORTED_INTERVAL,
            answers: Road::Direct,
            reporting: Reporting::Patches,
            document: REPORTED,
        }
    }
}

/// The password of a login; empty where a certificate was shown instead.
pub(super) fn password(
    proof: &Proof,
    resource: &str,
    now: Timestamp,
    lifetime: Duration,
    policy: Option<&str>,
) -> Result<Secret, LoginError> {
    match proof {
        Proof::Shared(key) => Ok(sas::mint(key, resource, now.saturating_add(lifetime), policy)),
        Proof::Certificate => Ok(Secret::new(String::new())),
        Proof::Key(_) => Err(LoginError::Unfit("a key that it shares with the device, or a certificate")),
    }
}

/// What a login says of the program that logs in.
pub(super) fn client() -> String {
    percent_encode(CLIENT)
}

/// The payload gives way to a note where the hub would not take it.
fn answer_payload(answer: &Answer) -> Bytes {
    let payload = answer.payload.to_string();
    if payload.len() <= METHOD { payload.into() } else { json!({ "payloadDropped": true }).to_string().into() }
}

/// The properties of a message. Routes of the hub can only look into a body that says that it is JSON, in UTF-8.
fn telemetry_bag(Message { subfolder, payload }: &Message) -> String {
    let is_json = serde_json::from_slice::<IgnoredAny>(payload).is_ok();
    let is_text = is_json || std::str::from_utf8(payload).is_ok();
    let kind = match (is_json, is_text) {
        (true, _) => "application/json",
        (_, true) => "text/plain",
        _ => "application/octet-stream",
    };
    let mut properties = vec![("$.ct", kind)];
    properties.extend(is_text.then_some(("$.ce", "utf-8")));
    properties.extend((!subfolder.is_empty()).then(|| ("subfolder", subfolder.as_str())));
    topic::bag(&properties)
}

#[cfg(test)]
mod tests;
