//! Direct methods of IoT Hub: sent to their device, and settled by its answer or by their time.
//!
//! An answer that is no JSON ends the connection: the cloud's pages are silent on it, and this is the strict reading.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::World;
use crate::bridge::azure::HubError;
use crate::bridge::broker::ClientNumber;
use crate::bridge::google::{LogLevel, Violation, quoted};
use crate::bridge::hub::{Call, CallNumber, Outcome, topics};
use crate::bridge::owner::Timer;

/// The largest payload of a direct method, each way.
const MAX_PAYLOAD: usize = 128 * 1024;
/// The longest name of a method.
const MAX_NAME: usize = 100;

impl World {
    pub(super) fn takes_methods(&mut self, number: ClientNumber) -> bool {
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
        if method.is_empty() || method.len() > MAX_NAME || method.contains(['+', '#', '\0']) {
            let text = format!("A method name has 1 to {MAX_NAME} characters without + # and NUL.");
            return Err(HubError::invalid(text));
        }
        let payload = Bytes::from(payload.map(Value::to_string).unwrap_or_default());
        if payload.len() > MAX_PAYLOAD {
            return Err(HubError::too_large(format!("The payload has more than {MAX_PAYLOAD} bytes.")));
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

    pub(super) fn send_method(&mut self, number: CallNumber) {
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

    pub(super) fn method_answered(
        &mut self,
        number: ClientNumber,
        status: i64,
        rid: &str,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Violation::invalid(format!("the answer to a method is too large: {} bytes", payload.len())));
        }
        let body = if payload.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(payload) };
        let body = body.map_err(|error| Violation::invalid(format!("the answer to a method is no JSON: {error}")))?;
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
}
