//! Direct methods that are under way: called, waiting for their device or for its answer.
//!
//! A table only; the world sends requests, sets timers, and knows connections. Nothing here outlives its caller's time-outs.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::bridge::azure::HubError;
use crate::bridge::broker::ClientNumber;
use crate::bridge::broker::connection::ConnectionId;
use crate::bridge::owner::TimerKey;

/// Calls under way at one time, of all devices: some for each of as many devices as a test has. Each ends by its time-outs.
const CALLS: usize = 4_096;

/// Names a call; its request id, in hexadecimal.
pub(crate) type CallNumber = u64;

/// What a caller gets: the device's status and payload.
pub(crate) type Outcome = Result<(i64, Value), HubError>;

/// A call of a direct method.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) client: ClientNumber,
    pub(crate) method: String,
    /// Empty if there is no payload.
    pub(crate) payload: Bytes,
    /// How long the device may take to answer.
    pub(crate) response: Duration,
    pub(crate) caller: oneshot::Sender<Outcome>,
    /// The connection on which it was sent. `None`: it waits for the device.
    pub(crate) sent_on: Option<ConnectionId>,
    pub(crate) timer: Option<TimerKey>,
}

/// The calls under way.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    calls: BTreeMap<CallNumber, Call>,
    next: CallNumber,
}

impl Methods {
    /// Takes a call on; `None` if there are too many.
    pub(crate) fn add(&mut self, call: Call) -> Option<CallNumber> {
        if self.calls.len() >= CALLS {
            return None;
        }
        self.next += 1;
        self.calls.insert(self.next, call);
        Some(self.next)
    }

    pub(crate) fn get(&mut self, number: CallNumber) -> Option<&mut Call> {
        self.calls.get_mut(&number)
    }

    /// The call is over.
    pub(crate) fn take(&mut self, number: CallNumber) -> Option<Call> {
        self.calls.remove(&number)
    }

    /// The call that an answer on this connection belongs to. It is over.
    pub(crate) fn answered(&mut self, rid: &str, connection: ConnectionId) -> Option<Call> {
        let number = CallNumber::from_str_radix(rid, 16).ok()?;
        if self.calls.get(&number)?.sent_on != Some(connection) {
            return None;
        }
        self.calls.remove(&number)
    }

    /// The calls that wait for this client to connect, the oldest first.
    pub(crate) fn waiting(&self, client: ClientNumber) -> Vec<CallNumber> {
        let waits = |call: &Call| call.client == client && call.sent_on.is_none();
        self.calls.iter().filter(|(_, call)| waits(call)).map(|(number, _)| *number).collect()
    }
}
