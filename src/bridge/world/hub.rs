//! Devices and modules of IoT Hub: their logins and their connections, and what they publish and subscribe to.
//!
//! Where the cloud's pages are silent the strict reading is taken: a topic that is none of the device's, a payload over its
//! limit, and a will to any topic but that of telemetry end the connection.

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};

use super::login::{Unwelcome, Welcome};
use super::{World, wall};
use crate::bridge::azure::Login;
use crate::bridge::broker::ClientNumber;
use crate::bridge::broker::connection::ConnectionId;
use crate::bridge::google::{Canonical, LogLevel, Violation, quoted};
use crate::bridge::hub::topics::{self, Properties, Said};
use crate::bridge::peer::Certificate;
use crate::bridge::taps::HubMessage;

/// The largest telemetry message, in bytes as [`weigh`] counts them.
const MAX_TELEMETRY: usize = 256 * 1024;
/// Topics that a device can be subscribed to at one time.
const SUBSCRIPTIONS: usize = 5;

/// Payload, names and values count, but not the names of system properties: "Create and read IoT Hub messages", message size
/// (learn.microsoft.com/azure/iot-hub).
fn weigh(properties: &Properties, payload: &Bytes) -> usize {
    let bag = properties.iter().map(|(name, value)| if name.starts_with("$.") { 0 } else { name.len() } + value.len());
    bag.sum::<usize>() + payload.len()
}

fn deleted() -> Violation {
    Violation::new(Canonical::NotFound, "the identity was deleted")
}

impl World {
    pub(super) fn hub_login(&self, connect: &Connect, peer: Option<&Certificate>) -> Result<Welcome, Unwelcome> {
        let (username, password) =
            connect.login.as_ref().map_or(("", ""), |login| (login.username.as_str(), login.password.as_str()));
        let login = Login {
            username,
            client_id: &connect.client_id,
            // The codec makes no difference between no password and an empty one; neither is a token.
            password: (!password.is_empty()).then_some(password.as_bytes()),
            certificate: peer.map(Certificate::der),
        };
        let admitted = self.azure.login(&login, wall());
        let admitted = admitted.map_err(|refused| Unwelcome { code: Some(refused.code), why: refused.why })?;
        let name = self.azure.name_of(admitted.number);
        if let (Some(will), Some(name)) = (&connect.last_will, name)
            && (topics::telemetry(name, &will.topic).is_none() || will.qos == QoS::ExactlyOnce)
        {
            let why = "a last will must go to the topic of telemetry, with QoS 0 or 1".to_owned();
            return Err(Unwelcome { code: None, why });
        }
        let skew = self.azure.skew();
        Ok(Welcome {
            number: admitted.number,
            until: admitted.expires.map(|expires| expires.saturating_add(skew)),
            keep: !connect.clean_session,
        })
    }

    /// A login was taken; the broker still has the session from before.
    pub(super) fn hub_connection_begins(
        &mut self,
        id: ConnectionId,
        number: ClientNumber,
        connect: &Connect,
        keep: bool,
    ) {
        if !(keep && self.broker.keeps(number)) {
            // Messages belong to the device, not to its session.
            let messages = self.broker.take_messages(number);
            self.hub.mailboxes.put_back(number, messages);
        }
        if let Some(name) = self.azure.name_of(number) {
            self.hub.connected(id, number, connect, name);
        }
        self.azure.set_connected(number, true, wall());
    }

    /// A connection of anybody is over; the broker does not know it yet.
    pub(super) fn hub_connection_ended(&mut self, id: ConnectionId) {
        let Some((number, will)) = self.hub.ended(id) else { return };
        if let Some(will) = will {
            let mut properties = will.properties;
            properties.push(("iothub-MessageType".to_owned(), "Will".to_owned()));
            self.take_telemetry(number, properties, will.payload);
        }
        if self.broker.connection_of(number).is_some_and(|newest| newest != id) {
            return;
        }
        if !self.broker.keeps(number) {
            let messages = self.broker.take_messages(number);
            self.hub.mailboxes.put_back(number, messages);
        }
        self.azure.set_connected(number, false, wall());
    }

    /// Whether the hub grants this subscription.
    pub(super) fn hub_takes(&mut self, number: ClientNumber, filter: &str) -> Result<bool, Violation> {
        let name = self.azure.name_of(number).ok_or_else(deleted)?;
        if !topics::is_filter(name, filter) {
            return Err(Violation::invalid(format!("the filter {} is not one of the device's", quoted(filter))));
        }
        let room = self
            .broker
            .session(number)
            .is_some_and(|session| session.granted(filter).is_some() || session.filters() < SUBSCRIPTIONS);
        if !room {
            self.log(number, LogLevel::Error, format_args!("refused: {SUBSCRIPTIONS} subscriptions are the limit"));
        }
        Ok(room)
    }

    /// Sends what waits for a client that is connected or has subscribed now.
    pub(super) fn hub_deliver(&mut self, number: ClientNumber) {
        let filter = self.azure.name_of(number).and_then(topics::messages_filter);
        if let Some(qos) = filter.and_then(|filter| self.is_granted(number, &filter)) {
            let mut waiting = self.hub.mailboxes.take(number);
            while let Some((mut message, receipt)) = waiting.pop_front() {
                message.qos = qos;
                if self.broker.publish(number, message, receipt).is_err() {
                    // There is room for many times the queue of a device.
                    tracing::error!("messages of a device do not fit into its session; they are dropped");
                }
            }
        }
        if self.takes_methods(number) {
            for call in self.hub.methods.waiting(number) {
                self.send_method(call);
            }
        }
        self.count_queue(number);
    }

    pub(super) fn hub_published(&mut self, number: ClientNumber, message: &Publish) -> Result<(), Violation> {
        if message.qos == QoS::ExactlyOnce {
            return Err(Violation::invalid("QoS 2 is not supported"));
        }
        let name = self.azure.name_of(number).ok_or_else(deleted)?;
        let Some(said) = topics::said(name, &message.topic) else {
            return Err(Violation::invalid(format!("the topic {} is not one of the device's", quoted(&message.topic))));
        };
        self.azure.active(number, wall());
        // A copy: the message is a slice of a read buffer that would live as long.
        let payload = Bytes::copy_from_slice(&message.payload);
        match said {
            Said::Telemetry(mut properties) => {
                let bytes = weigh(&properties, &payload);
                if bytes > MAX_TELEMETRY {
                    return Err(Violation::invalid(format!("the message is too large: {bytes} bytes")));
                }
                if message.retain {
                    properties.push(("mqtt-retain".to_owned(), "true".to_owned()));
                }
                if self.take_telemetry(number, properties, payload) {
                    self.broker.acknowledge(number, message);
                }
            }
            Said::FetchTwin { rid } => {
                self.broker.acknowledge(number, message);
                self.fetch_twin(number, &rid);
            }
            Said::PatchReported { rid } => {
                self.broker.acknowledge(number, message);
                self.patch_reported(number, &rid, &payload);
            }
            Said::MethodAnswer { status, rid } => {
                self.broker.acknowledge(number, message);
                self.method_answered(number, status, &rid, &payload)?;
            }
        }
        Ok(())
    }

    /// False if it must not be acknowledged.
    fn take_telemetry(&mut self, number: ClientNumber, properties: Properties, payload: Bytes) -> bool {
        let Some(device) = self.azure.name_of(number).cloned() else { return false };
        self.log(number, LogLevel::Debug, format_args!("telemetry of {} bytes", payload.len()));
        self.taps.take_message(&HubMessage { device, properties, payload, time: wall() })
    }

    /// Whether it is connected and subscribed to all that it can use.
    pub(crate) fn hub_ready(&mut self, number: ClientNumber) -> bool {
        let messages = self.azure.name_of(number).and_then(topics::messages_filter);
        let filters = [topics::METHODS, topics::DESIRED, topics::TWIN_ANSWERS];
        let mut filters = filters.into_iter().map(str::to_owned).chain(messages).collect::<Vec<_>>().into_iter();
        self.broker.connection_of(number).is_some() && filters.all(|filter| self.is_granted(number, &filter).is_some())
    }
}
