//! IoT Hub where it meets connections: its topics, its direct methods and messages under way, and its handle for tests.
//!
//! What identities and twins are is `azure`'s; what happens on a connection is `world`'s. Nothing here outlives the process.

mod handle;
mod mailbox;
mod methods;
pub(crate) mod topics;

use std::collections::HashMap;

use bytes::Bytes;
use rumqttc::mqttbytes::v4::Connect;

pub(in crate::bridge) use self::handle::service_connection_string;
pub use self::handle::{Access, Hub, Sent};
pub(crate) use self::mailbox::{Mailboxes, QUEUE};
pub(crate) use self::methods::{Call, CallNumber, Methods, Outcome};
use super::broker::ClientNumber;
use super::broker::connection::ConnectionId;

/// What is on its way between the hub and its devices.
#[derive(Debug, Default)]
pub(crate) struct HubTraffic {
    pub(crate) methods: Methods,
    pub(crate) mailboxes: Mailboxes,
    connections: HashMap<ConnectionId, (ClientNumber, Option<Will>)>,
    throttles: HashMap<ClientNumber, Throttle>,
    complaints: HashMap<ClientNumber, String>,
    refusal: Option<String>,
}

/// What a device wants said if its connection breaks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) properties: topics::Properties,
    pub(crate) payload: Bytes,
}

/// Payloads may hold anything, so they are never printed.
impl std::fmt::Debug for Will {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Will({} bytes)", self.payload.len())
    }
}

/// Requests about a twin that are to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Throttle {
    left: u32,
    status: u16,
}

impl HubTraffic {
    pub(crate) fn connected(
        &mut self,
        id: ConnectionId,
        number: ClientNumber,
        connect: &Connect,
        name: &super::HubName,
    ) {
        let will = connect.last_will.as_ref().and_then(|will| {
            let properties = topics::telemetry(name, &will.topic)?;
            Some(Will { properties, payload: Bytes::copy_from_slice(&will.message) })
        });
        self.connections.insert(id, (number, will));
    }

    /// Whose connection it was, and what is to be said now.
    pub(crate) fn ended(&mut self, id: ConnectionId) -> Option<(ClientNumber, Option<Will>)> {
        self.connections.remove(&id)
    }

    /// The device has said itself that it goes.
    pub(crate) fn forget_will(&mut self, id: ConnectionId) {
        if let Some((_, will)) = self.connections.get_mut(&id) {
            *will = None;
        }
    }

    /// The next requests of this client about its twin are answered with this status.
    pub(crate) fn throttle(&mut self, number: ClientNumber, times: u32, status: u16) {
        self.throttles.insert(number, Throttle { left: times, status });
    }

    /// The status to refuse this request with; counts it.
    pub(crate) fn throttled(&mut self, number: ClientNumber) -> Option<u16> {
        let throttle = self.throttles.get_mut(&number)?;
        throttle.left = throttle.left.checked_sub(1)?;
        Some(throttle.status)
    }

    pub(crate) fn complain(&mut self, number: ClientNumber, why: String) {
        self.complaints.insert(number, why);
    }

    /// Why the last connection of this client was closed that the bridge has closed.
    pub(crate) fn complaint(&self, number: ClientNumber) -> Option<String> {
        self.complaints.get(&number).cloned()
    }

    pub(crate) fn refused(&mut self, why: String) {
        self.refusal = Some(why);
    }

    /// Why the last login was refused that was.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.clone()
    }

    /// The client does not exist any more.
    pub(crate) fn remove(&mut self, number: ClientNumber) {
        self.mailboxes.take(number);
        self.throttles.remove(&number);
        self.complaints.remove(&number);
    }
}
