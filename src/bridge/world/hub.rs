//! Devices and modules of IoT Hub: their logins, twins, direct methods and messages.
//!
//! Where the cloud's pages are silent the strict reading is taken: a topic that is none of the device's, a payload over its
//! limit, an answer to a method that is no JSON, and a will to any topic but that of telemetry end the connection.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Unwelcome, Welcome, World, wall};
use crate::bridge::azure::{HubError, HubName, IdentityBody, IfMatch, Login, TwinBody, Write};
use crate::bridge::broker::connection::ConnectionId;
use crate::bridge::broker::{ClientNumber, Receipt};
use crate::bridge::faults::Fault;
use crate::bridge::google::{Canonical, LogLevel, Violation, quoted};
use crate::bridge::hub::topics::{self, Properties, Said};
use crate::bridge::hub::{Call, CallNumber, Outcome, QUEUE};
use crate::bridge::owner::Timer;
use crate::bridge::peer::Certificate;
use crate::bridge::taps::{HubMessage, ReportedChange};
use crate::model::json::strict;

/// The largest telemetry message, in bytes of payload.
const MAX_TELEMETRY: usize = 256 * 1024;
/// The largest payload of a direct method, each way.
const MAX_METHOD: usize = 128 * 1024;
/// The largest cloud-to-device message, in bytes of payload.
const MAX_MESSAGE: usize = 64 * 1024;
/// The longest name of a method.
const MAX_METHOD_NAME: usize = 100;
/// Topics that a device can be subscribed to at one time.
const SUBSCRIPTIONS: usize = 5;

fn invalid(text: impl Into<String>) -> Violation {
    Violation::new(Canonical::InvalidArgument, text)
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
        let skew = self.azure.settings().skew;
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
            return Err(invalid(format!("the filter {} is not one of the device's", quoted(filter))));
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
            return Err(invalid("QoS 2 is not supported"));
        }
        let name = self.azure.name_of(number).ok_or_else(deleted)?;
        let Some(said) = topics::said(name, &message.topic) else {
            return Err(invalid(format!("the topic {} is not one of the device's", quoted(&message.topic))));
        };
        self.azure.active(number, wall());
        // A copy: the message is a slice of a read buffer that would live as long.
        let payload = Bytes::copy_from_slice(&message.payload);
        match said {
            Said::Telemetry(mut properties) => {
                if payload.len() > MAX_TELEMETRY {
                    return Err(invalid(format!("the message is too large: {} bytes", payload.len())));
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

    // === Twins

    fn fetch_twin(&mut self, number: ClientNumber, rid: &str) {
        let answer = match self.hub.throttled(number) {
            Some(status) => (status, refusal_body(status)),
            None => match self.azure.device_twin(number) {
                Ok(twin) => (200, twin),
                Err(error) => (error.status, error_body(&error)),
            },
        };
        self.answer_about_twin(number, rid, answer.0, None, answer.1);
    }

    fn patch_reported(&mut self, number: ClientNumber, rid: &str, patch: &[u8]) {
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

    // === Direct methods

    fn takes_methods(&mut self, number: ClientNumber) -> bool {
        self.broker.connection_of(number).is_some() && self.is_granted(number, topics::METHODS).is_some()
    }

    /// Calls a method. What came of it is sent to the receiver, within both times.
    pub(crate) fn invoke(
        &mut self,
        number: ClientNumber,
        method: String,
        payload: Option<&Value>,
        connect: Duration,
        response: Duration,
    ) -> Result<oneshot::Receiver<Outcome>, HubError> {
        if method.is_empty() || method.len() > MAX_METHOD_NAME || method.contains(['+', '#', '\0']) {
            let text = format!("A method name has 1 to {MAX_METHOD_NAME} characters without + # and NUL.");
            return Err(HubError::invalid(text));
        }
        let payload = Bytes::from(payload.map(Value::to_string).unwrap_or_default());
        if payload.len() > MAX_METHOD {
            return Err(HubError::too_large(format!("The payload has more than {MAX_METHOD} bytes.")));
        }
        let online = self.takes_methods(number);
        if !online && connect.is_zero() {
            return Err(HubError::not_online());
        }
        let (caller, outcome) = oneshot::channel();
        let call = Call { client: number, method, payload, response, caller, sent_on: None, timer: None };
        let call = self.hub.methods.add(call).ok_or_else(HubError::throttled)?;
        if online {
            self.send_method(call);
        } else {
            let timer = self.timers.add(Instant::now() + connect, Timer::Method(call));
            if let Some(call) = self.hub.methods.get(call) {
                call.timer = Some(timer);
            }
        }
        Ok(outcome)
    }

    fn send_method(&mut self, number: CallNumber) {
        let Some(call) = self.hub.methods.get(number) else { return };
        if let Some(timer) = call.timer.take() {
            self.timers.cancel(timer);
        }
        call.timer = Some(self.timers.add(Instant::now() + call.response, Timer::Method(number)));
        call.sent_on = self.broker.connection_of(call.client);
        let (client, payload) = (call.client, call.payload.clone());
        let topic = topics::method_topic(&call.method, &format!("{number:x}"));
        self.tell(client, topic, payload);
    }

    /// The device has not come, or not answered.
    pub(super) fn method_overdue(&mut self, number: CallNumber) {
        let Some(call) = self.hub.methods.take(number) else { return };
        let error = if call.sent_on.is_some() { HubError::no_answer() } else { HubError::not_online() };
        // The caller may have given up.
        let _ = call.caller.send(Err(error));
    }

    fn method_answered(
        &mut self,
        number: ClientNumber,
        status: i64,
        rid: &str,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if payload.len() > MAX_METHOD {
            return Err(invalid(format!("the answer to a method is too large: {} bytes", payload.len())));
        }
        let body = if payload.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(payload) };
        let body = body.map_err(|error| invalid(format!("the answer to a method is no JSON: {error}")))?;
        let connection = self.broker.connection_of(number);
        let Some(call) = connection.and_then(|connection| self.hub.methods.answered(rid, connection)) else {
            // Late, or of a connection before: nobody waits for it.
            self.log(number, LogLevel::Debug, format_args!("an answer to no method: {}", quoted(rid)));
            return Ok(());
        };
        if let Some(timer) = call.timer {
            self.timers.cancel(timer);
        }
        // The caller may have given up.
        let _ = call.caller.send(Ok((status, body)));
        Ok(())
    }

    // === Cloud-to-device messages

    /// Queues a message. The receiver is told at the device's PUBACK; it fails when that cannot come any more.
    pub(crate) fn send_message(
        &mut self,
        number: ClientNumber,
        mut properties: Properties,
        body: Bytes,
    ) -> Result<oneshot::Receiver<()>, HubError> {
        let name = self.azure.name_of(number).ok_or_else(|| HubError::invalid("The device was deleted."))?.clone();
        if name.module.is_some() {
            return Err(HubError::invalid("Messages are for devices, not for modules."));
        }
        if body.len() > MAX_MESSAGE {
            return Err(HubError::too_large(format!("The message has more than {MAX_MESSAGE} bytes.")));
        }
        if self.queued(number) >= QUEUE {
            return Err(HubError::queue_full(&name));
        }
        let to = ("$.to".to_owned(), format!("/devices/{}/messages/devicebound", name.device));
        if properties.iter().all(|(name, _)| *name != to.0) {
            properties.insert(0, to);
        }
        let topic = topics::message_topic(&name, &properties);
        if topic.len() > usize::from(u16::MAX) {
            return Err(HubError::too_large("The properties do not fit into a topic."));
        }
        let (settled, receipt) = oneshot::channel();
        let message = Publish::from_bytes(topic, QoS::AtLeastOnce, body);
        self.hub.mailboxes.put(number, message, Receipt::Caller(settled));
        self.hub_deliver(number);
        Ok(receipt)
    }

    /// Messages to a device that it has not acknowledged, sent or not.
    pub(crate) fn queued(&self, number: ClientNumber) -> usize {
        self.hub.mailboxes.len(number) + self.broker.unsettled(number)
    }

    pub(super) fn count_queue(&mut self, number: ClientNumber) {
        let queued = self.queued(number);
        self.azure.set_queued(number, queued);
    }

    /// Drops the session of a client, and its connection with it.
    pub(crate) fn forget_session(&mut self, number: ClientNumber) {
        self.broker.forget(number);
        self.count_queue(number);
    }

    /// Drops the messages to a device; how many there were.
    pub(crate) fn purge_messages(&mut self, number: ClientNumber) -> usize {
        let dropped = self.broker.take_messages(number).len() + self.hub.mailboxes.take(number).len();
        self.count_queue(number);
        dropped
    }

    // === Identities

    /// Makes or changes an identity. A connection that it could not make any more ends.
    pub(crate) fn put_identity(
        &mut self,
        name: &HubName,
        body: IdentityBody,
        if_match: Option<&IfMatch>,
    ) -> Result<Value, HubError> {
        let identity = self.azure.put_identity(name, body, if_match, wall())?;
        self.end_if_disabled(self.azure.number_of(name)?);
        Ok(identity)
    }

    pub(crate) fn set_enabled(&mut self, number: ClientNumber, enabled: bool) -> Result<(), HubError> {
        self.azure.set_enabled(number, enabled, wall())?;
        self.end_if_disabled(number);
        Ok(())
    }

    fn end_if_disabled(&mut self, number: ClientNumber) {
        if self.azure.is_enabled(number) {
            return;
        }
        let mut affected = vec![number];
        if let Some(HubName { device, module: None }) = self.azure.name_of(number) {
            affected.extend(self.azure.modules_of(device));
        }
        for number in affected {
            if self.broker.connection_of(number).is_some() {
                self.violated(number, Violation::new(Canonical::PermissionDenied, "the identity is disabled"));
            }
        }
    }

    /// Deletes an identity, its modules, their connections and all that waits for them.
    pub(crate) fn delete_identity(&mut self, name: &HubName, if_match: &IfMatch) -> Result<(), HubError> {
        for number in self.azure.delete_identity(name, if_match)? {
            self.broker.remove(number);
            self.hub.remove(number);
            self.logins.remove(&number);
        }
        Ok(())
    }

    /// Whether it is connected and subscribed to all that it can use.
    pub(crate) fn hub_ready(&mut self, number: ClientNumber) -> bool {
        let messages = self.azure.name_of(number).and_then(topics::messages_filter);
        let filters = [topics::METHODS, topics::DESIRED, topics::TWIN_ANSWERS];
        let mut filters = filters.into_iter().map(str::to_owned).chain(messages).collect::<Vec<_>>().into_iter();
        self.broker.connection_of(number).is_some() && filters.all(|filter| self.is_granted(number, &filter).is_some())
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
