//! What a device may do over MQTT, and what its messages change.
//!
//! Source: cloud.google.com/iot/docs/how-tos/mqtt-bridge and the pages on commands, configuration and state. Where they
//! are silent the strict reading is taken and said here:
//!
//! * a malformed client id is answered with return code 2, a project without registries by closing without an answer;
//! * a will, a retained publish and a subscription to anything but the two filters end the connection. With kept
//!   sessions the first two are ignored and the last is answered with 0x80, as plain brokers do.

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use tokio::time::Instant;

use super::device::{MAX_DOCUMENT, MAX_HISTORY, RpcStatus, State};
use super::json::Payload;
use super::{Canonical, DeviceName, Google, auth};
use crate::bridge::broker::ClientNumber;
use crate::model::now::Timestamp;

/// The largest telemetry message, in bytes of payload.
const MAX_EVENT: usize = 256 * 1024;

/// A login that was taken.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) number: ClientNumber,
    /// The wall clock at which its token expires.
    pub(crate) expires: Timestamp,
}

/// A login that was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The return code of the CONNACK; `None`: the connection is closed without one.
    pub(crate) code: Option<u8>,
    pub(crate) why: String,
}

/// What ends a connection: it becomes the device's last error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) status: Canonical,
    pub(crate) message: String,
}

impl Violation {
    pub(crate) fn new(status: Canonical, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What the client said is wrong in itself.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Canonical::InvalidArgument, message)
    }
}

/// A message that was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    State,
    /// For this Pub/Sub topic.
    Event {
        subfolder: String,
        topic: String,
    },
}

/// What a device can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    Config,
    Commands,
}

/// A text of a client's, made harmless for logs and short.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 200;
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start:?}{}", if start.len() < text.len() { "…" } else { "" })
}

fn deleted() -> Violation {
    Violation::new(Canonical::NotFound, "mqtt: the device was deleted")
}

pub(crate) fn config_topic(name: &DeviceName) -> String {
    format!("/devices/{}/config", name.device)
}

fn commands_filter(name: &DeviceName) -> String {
    format!("/devices/{}/commands/#", name.device)
}

/// The topic of a command. An empty subfolder is none.
pub(crate) fn command_topic(name: &DeviceName, subfolder: &str) -> String {
    let slash = if subfolder.is_empty() { "" } else { "/" };
    format!("/devices/{}/commands{slash}{subfolder}", name.device)
}

impl Feed {
    /// The filter, compared as a text: `+` is legal in a device id.
    pub(crate) fn filter(self, name: &DeviceName) -> String {
        match self {
            Self::Config => config_topic(name),
            Self::Commands => commands_filter(name),
        }
    }
}

impl Google {
    /// Judges a CONNECT.
    pub(crate) fn login(&self, connect: &Connect, now: Timestamp) -> Result<Admitted, Refused> {
        let refused = |code, why: &str| Refused { code, why: why.to_owned() };
        let Some(name) = DeviceName::from_client_id(&connect.client_id) else {
            return Err(refused(Some(2), "the client id names no device"));
        };
        if !self.registries.keys().any(|registry| registry.project == name.project) {
            return Err(refused(None, "the project is unknown"));
        }
        if connect.last_will.is_some() && !self.settings.sessions {
            return Err(refused(None, "a last will is not supported"));
        }
        let Some(registry) = self.registries.get(&name.of()) else {
            return Err(refused(Some(5), "the registry is unknown"));
        };
        let device = self.numbers.get(&name).and_then(|number| self.devices.get(number));
        let Some(device) = device else {
            return Err(refused(Some(5), "the device is unknown"));
        };
        if !registry.takes_mqtt() {
            return Err(refused(Some(5), "MQTT is disabled in the registry"));
        }
        if device.blocked {
            return Err(refused(Some(5), "the device is blocked"));
        }
        let token = connect.login.as_ref().map_or("", |login| login.password.as_str());
        let expires = auth::verify(token, &device.credentials, &name.project, now, self.settings.skew)
            .map_err(|denied| refused(Some(5), &denied.to_string()))?;
        Ok(Admitted { number: device.num_id, expires })
    }

    /// Which of the device's feeds a filter asks for.
    pub(crate) fn feed(&self, number: ClientNumber, filter: &str) -> Option<Feed> {
        let name = self.name_of(number)?;
        [Feed::Config, Feed::Commands].into_iter().find(|feed| feed.filter(name) == filter)
    }

    /// Judges a PUBLISH and takes note of what it says.
    pub(crate) fn published(
        &mut self,
        number: ClientNumber,
        message: &Publish,
        now: Timestamp,
        instant: Instant,
    ) -> Result<Published, Violation> {
        let invalid = |text: String| Violation::new(Canonical::InvalidArgument, text);
        if message.qos == QoS::ExactlyOnce {
            return Err(invalid("mqtt: QoS 2 is not supported".to_owned()));
        }
        if message.retain && !self.settings.sessions {
            return Err(invalid("mqtt: retained messages are not supported".to_owned()));
        }
        let foreign = || invalid(format!("mqtt: the topic {} is not one of the device's", quoted(&message.topic)));
        let name = self.name_of(number).ok_or_else(deleted)?;
        let own = message.topic.strip_prefix("/devices/").and_then(|rest| rest.strip_prefix(name.device.as_str()));
        match own {
            Some("/state") => self.take_state(number, &message.payload, now, instant),
            Some("/events" | "/events/") => self.take_event(number, "", &message.payload, now),
            Some(rest) if !rest.contains(['+', '#']) => {
                let subfolder = rest.strip_prefix("/events/").ok_or_else(foreign)?;
                self.take_event(number, subfolder, &message.payload, now)
            }
            _ => Err(foreign()),
        }
    }

    fn take_state(
        &mut self,
        number: ClientNumber,
        payload: &Bytes,
        now: Timestamp,
        instant: Instant,
    ) -> Result<Published, Violation> {
        if payload.len() > MAX_DOCUMENT {
            let text = format!("mqtt: the state is too large: {} bytes", payload.len());
            return Err(Violation::new(Canonical::InvalidArgument, text));
        }
        let ack = self.state_acks.get(&number);
        if ack.is_some_and(|ack| instant.duration_since(*ack) < self.settings.state_interval) {
            let text = "mqtt: the device is publishing state too quickly";
            return Err(Violation::new(Canonical::ResourceExhausted, text));
        }
        let device = self.device_mut(number).ok_or_else(deleted)?;
        device.last.state = Some(now);
        // A copy: the message is a slice of a read buffer that would live as long.
        let binary_data = Payload(Bytes::copy_from_slice(payload));
        device.states.push_front(State { update_time: now, binary_data });
        device.states.truncate(MAX_HISTORY);
        Ok(Published::State)
    }

    fn take_event(
        &mut self,
        number: ClientNumber,
        subfolder: &str,
        payload: &Bytes,
        now: Timestamp,
    ) -> Result<Published, Violation> {
        if payload.len() > MAX_EVENT {
            let text = format!("mqtt: the telemetry event is too large: {} bytes", payload.len());
            return Err(Violation::new(Canonical::InvalidArgument, text));
        }
        let registry = self.name_of(number).and_then(|name| self.registries.get(&name.of()));
        let Some(topic) = registry.and_then(|registry| registry.event_topic(subfolder)).map(str::to_owned) else {
            let text = "mqtt: the registry has no Pub/Sub topic for telemetry events";
            return Err(Violation::new(Canonical::FailedPrecondition, text));
        };
        self.device_mut(number).ok_or_else(deleted)?.last.event = Some(now);
        Ok(Published::Event { subfolder: subfolder.to_owned(), topic })
    }

    /// The state of this device was acknowledged: the next may come after the interval.
    pub(crate) fn state_acknowledged(&mut self, number: ClientNumber, instant: Instant) {
        self.state_acks.insert(number, instant);
    }

    pub(crate) fn heartbeat(&mut self, number: ClientNumber, now: Timestamp) {
        if let Some(device) = self.device_mut(number) {
            device.last.heartbeat = Some(now);
        }
    }

    /// The configuration as it is sent: version and payload.
    pub(crate) fn config_to_send(&mut self, number: ClientNumber, now: Timestamp) -> Option<(u64, Bytes)> {
        let device = self.device_mut(number)?;
        device.last.config_send = Some(now);
        let config = device.config();
        Some((config.version.0, config.binary_data.0.clone()))
    }

    /// The newest version of the configuration.
    pub(crate) fn config_version(&self, number: ClientNumber) -> Option<u64> {
        self.device(number).map(|device| device.config().version.0)
    }

    /// The device acknowledged this version.
    pub(crate) fn config_acknowledged(&mut self, number: ClientNumber, version: u64, now: Timestamp) {
        if let Some(device) = self.device_mut(number) {
            device.last.config_ack = Some(now);
            if let Some(config) = device.configs.iter_mut().find(|config| config.version.0 == version) {
                config.device_ack_time = Some(now);
            }
        }
    }

    /// The device broke a rule.
    pub(crate) fn violated(&mut self, number: ClientNumber, violation: Violation, now: Timestamp) {
        if let Some(device) = self.device_mut(number) {
            device.last.error_time = Some(now);
            device.last.error = Some(RpcStatus { code: violation.status as i32, message: violation.message });
        }
    }
}
