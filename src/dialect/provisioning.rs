//! The Device Provisioning Service: where a device asks which hub it belongs to, and under which name.
//!
//! Spells the dialogue and reads the answers; who leads it, and how often, is decided elsewhere.
//!
//! Source: "Communicate with DPS using the MQTT protocol" (learn.microsoft.com/azure/iot-dps/iot-dps-mqtt-support), and
//! "Device registration runtime" of the REST reference for the members of the answers.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::iothub::topic::{Properties, digits, parted};
use super::iothub::{client, password};
use super::sas::percent_encode;
use super::{LoginError, Proof};
use crate::config::{self, Provisioning as Settings};
use crate::model::command::DeviceId;
use crate::model::json;
use crate::model::now::Timestamp;
use crate::model::wire::{Login, Packet, Qos, Subscription};

/// The version of the protocol that the login names.
const API_VERSION: &str = "2019-03-31";

/// The largest answer that is read, in bytes. One with a payload of an allocation function of the customer's has a few KB.
const LARGEST: usize = 64 * 1_024;

/// The longest name of an operation, in bytes. Those of the service have some 60.
const LONGEST_OPERATION: usize = 256;

/// What is repeated of the service's own words, in characters.
const SHOWN: usize = 200;

/// How long to wait before asking again where the service does not say; its libraries do the same.
const AFTER: Duration = Duration::from_secs(2);
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);

/// One registration at the service.
#[derive(Clone, Debug)]
pub struct Provisioning {
    id_scope: String,
    registration_id: String,
    keep_alive: Duration,
    lifetime: Duration,
    run: u32,
}

/// How far the service has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ask for this operation again, no sooner than `after`: 1 second to 1 minute.
    Assigning { operation: String, after: Duration },
    /// The host name of the hub, and the device's name there.
    Assigned { hub: String, device: DeviceId },
    /// It has too much to do now: ask the same again, no sooner than `after`: 1 second to 1 minute.
    Later { after: Duration },
    /// `status` as in HTTP: 429 and 5xx may be over soon, anything else is for the operator. `why` is for people: one line, in
    /// part the service's own words.
    Refused { status: u16, why: String },
    /// Not an answer to us.
    Nothing,
}

impl Provisioning {
    /// `lifetime`: of the login token. `rid_run`: a random number of this run of the daemon.
    pub fn new(settings: &Settings, keep_alive: Duration, lifetime: Duration, rid_run: u32) -> Self {
        let Settings { id_scope, registration_id, host: _ } = settings.clone();
        Self { id_scope, registration_id, keep_alive, lifetime, run: rid_run }
    }

    /// What CONNECT says.
    pub fn login(&self, now: Timestamp, proof: &Proof) -> Result<Login, LoginError> {
        let Self { id_scope, registration_id, .. } = self;
        let resource = format!("{id_scope}/registrations/{registration_id}");
        Ok(Login {
            client_id: registration_id.clone(),
            username: format!("{resource}/api-version={API_VERSION}&ClientVersion={}", client()),
            password: password(proof, &resource, now, self.lifetime, Some("registration"))?,
            keep_alive: self.keep_alive,
            // The service keeps no sessions.
            clean: true,
            will: None,
        })
    }

    /// What must be granted before the service is asked.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription { filter: "$dps/registrations/res/#".to_owned(), qos: Qos::AtLeastOnce }]
    }

    /// Asks for a hub.
    pub fn register(&self) -> Packet {
        let topic = format!("$dps/registrations/PUT/iotdps-register/?$rid={:x}-1", self.run);
        packet(topic, json!({ "registrationId": self.registration_id }).to_string().into())
    }

    /// Asks what has become of an operation.
    pub fn poll(&self, operation: &str) -> Packet {
        let operation = percent_encode(operation);
        let run = self.run;
        packet(
            format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid={run:x}-2&operationId={operation}"),
            Bytes::from_static(b" "),
        )
    }

    /// Reads what arrived.
    pub fn decode(&self, packet: &Packet) -> Progress {
        let (path, properties) = parted(&packet.topic);
        let status = path.strip_prefix("$dps/registrations/res/").and_then(digits);
        let Some(status) = status.and_then(|status| u16::try_from(status).ok()) else { return Progress::Nothing };
        let ours = |rid: &str| ["1", "2"].iter().any(|step| rid == format!("{:x}-{step}", self.run));
        if packet.retain || !properties.rid().is_some_and(ours) {
            return Progress::Nothing;
        }
        if packet.payload.len() > LARGEST {
            return refused(status, format!("an answer of {} bytes; at most {LARGEST} are read", packet.payload.len()));
        }
        // Where it does not say when, whoever leads the dialogue waits longer each time.
        if (status == 429 || status >= 500)
            && let Some(after) = retry_after(properties)
        {
            return Progress::Later { after };
        }
        match json::strict(&packet.payload) {
            Ok(Value::Object(answer)) if status < 300 => judged(status, properties, &answer),
            Ok(Value::Object(answer)) => failed(status, &answer, "message"),
            _ => refused(status, format!("an answer with status {status} that is no JSON object")),
        }
    }
}

fn packet(topic: String, payload: Bytes) -> Packet {
    Packet { topic, payload, qos: Qos::AtLeastOnce, retain: false }
}

/// When the service wants to be asked again, within bounds.
fn retry_after(properties: Properties<'_>) -> Option<Duration> {
    let seconds = properties.number("retry-after")?;
    Some(Duration::from_secs(seconds).clamp(SOONEST, LATEST))
}

/// An answer of the service that it could answer.
fn judged(http: u16, properties: Properties<'_>, answer: &Map<String, Value>) -> Progress {
    let nothing = Map::new();
    let state = answer.get("registrationState").and_then(Value::as_object).unwrap_or(&nothing);
    let operation = text(answer, "operationId");
    match (text(answer, "status"), operation) {
        (Some("assigned"), _) => assigned(state),
        // Not assigned yet is no verdict as long as there is something to ask for again.
        (Some("assigning" | "unassigned"), Some(operation)) if fits(operation) => {
            Progress::Assigning { operation: operation.to_owned(), after: retry_after(properties).unwrap_or(AFTER) }
        }
        (Some("assigning" | "unassigned"), _) => {
            refused(502, "the service assigns, and names no operation to ask for".to_owned())
        }
        (Some("failed"), _) => failed(400, state, "errorMessage"),
        (Some("disabled"), _) => refused(403, "the enrollment of this device is disabled".to_owned()),
        (Some(other), _) => refused(502, format!("a status that is not known: {}", shown(other))),
        (None, _) => refused(502, format!("an answer with status {http} that says nothing of the registration")),
    }
}

/// The host is dialled and stands in the login, so it is looked at like one that a person has configured.
fn assigned(state: &Map<String, Value>) -> Progress {
    let hub = text(state, "assignedHub").ok_or("missing").and_then(config::host_name);
    let device = text(state, "deviceId").ok_or_else(|| "missing".to_owned()).and_then(config::hub_device);
    match (hub, device) {
        (Ok(hub), Ok(device)) => Progress::Assigned { hub, device },
        (Err(why), _) => refused(502, format!("the hub that the service assigned is {why}")),
        (_, Err(why)) => refused(502, format!("the device id that the service assigned is {why}")),
    }
}

/// A refusal with the service's own number and words. Its numbers are statuses of HTTP with three more digits behind.
fn failed(status: u16, said: &Map<String, Value>, words: &str) -> Progress {
    let code = said.get("errorCode").and_then(Value::as_u64);
    let of_code = code.and_then(|code| u16::try_from(code / 1_000).ok()).filter(|status| (400..600).contains(status));
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    let words = text(said, words).map_or_else(|| "no reason was given".to_owned(), shown);
    refused(of_code.unwrap_or(status), format!("{words}{code}"))
}

fn refused(status: u16, why: String) -> Progress {
    Progress::Refused { status, why }
}

fn fits(operation: &str) -> bool {
    (1..=LONGEST_OPERATION).contains(&operation.len()) && operation.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

/// Words from outside, on one line and not without end.
fn shown(words: &str) -> String {
    words.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
