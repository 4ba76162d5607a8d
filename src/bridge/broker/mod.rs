//! A small MQTT 3.1.1 broker without opinions: who is connected, and what is on its way to whom.
//!
//! It knows no cloud. The rules of a cloud decide who may log in, publish and subscribe, and tell this table what to
//! do. Faults that tests ask for are applied here, at the last step before the wire.

pub(crate) mod connection;
mod session;
pub(crate) mod wire;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};

use self::connection::{ConnectionId, Orders};
pub(crate) use self::session::{Full, Receipt, Session};
use self::wire::Frame;
use super::faults::{Fault, Plan};

/// The number that its cloud gave to a client.
pub(crate) type ClientNumber = u64;

#[derive(Debug, Default)]
pub(crate) struct Broker {
    links: HashMap<ConnectionId, ClientNumber>,
    clients: HashMap<ClientNumber, Client>,
}

/// A client that is connected, or for which something is kept.
#[derive(Debug, Default)]
struct Client {
    link: Option<(ConnectionId, Orders)>,
    session: Session,
    /// The session outlives its connection.
    kept: bool,
    plan: Plan,
    /// Acknowledgements that a fault holds back, for the connection that is open.
    held: Vec<u16>,
}

impl Client {
    /// False if the client is not connected, or not any more because it does not read.
    fn send(&mut self, frame: impl Into<Frame>) -> bool {
        if self.link.as_ref().is_some_and(|(_, orders)| !orders.send(frame)) {
            self.link = None;
        }
        self.link.is_some()
    }

    fn push(&mut self, messages: Vec<Publish>) {
        for message in messages {
            if self.plan.strikes(&Fault::CutPublish) {
                let whole = wire::bytes_of(Packet::Publish(message));
                self.send(whole.slice(..whole.len() / 2));
                self.link = None;
            } else {
                self.send(Packet::Publish(message));
            }
        }
    }
}

impl Broker {
    /// Puts a client on line. An older connection of it is closed. True if a session was there and goes on.
    pub(crate) fn open(&mut self, id: ConnectionId, number: ClientNumber, orders: Orders, keep: bool) -> bool {
        let client = self.clients.entry(number).or_default();
        let present = keep && client.kept;
        if !present {
            client.session = Session::default();
        }
        client.kept = keep;
        client.held.clear();
        client.link = Some((id, orders));
        self.links.insert(id, number);
        present
    }

    /// Sends again what a kept session holds, and then what waited.
    pub(crate) fn resume(&mut self, number: ClientNumber) {
        if let Some(client) = self.clients.get_mut(&number) {
            for bytes in client.session.poison() {
                client.send(bytes);
            }
            let again = client.session.resume();
            client.push(again);
            let fresh = client.session.ready();
            client.push(fresh);
        }
    }

    /// A connection is over. Its client, if this was the client's newest.
    pub(crate) fn gone(&mut self, id: ConnectionId) -> Option<ClientNumber> {
        let number = self.links.remove(&id)?;
        let client = self.clients.get_mut(&number)?;
        match &client.link {
            Some((newest, _)) if *newest != id => return None,
            _ => client.link = None,
        }
        if !client.kept {
            client.session = Session::default();
        }
        if !client.kept && client.plan.is_empty() {
            self.clients.remove(&number);
        }
        Some(number)
    }

    /// The client of a connection, as long as that is the client's newest and open.
    pub(crate) fn client_of(&self, id: ConnectionId) -> Option<ClientNumber> {
        let number = self.links.get(&id).copied()?;
        (self.connection_of(number)? == id).then_some(number)
    }

    /// The open connection of a client.
    pub(crate) fn connection_of(&self, number: ClientNumber) -> Option<ConnectionId> {
        self.clients.get(&number)?.link.as_ref().map(|(id, _)| *id)
    }

    /// Clients that are connected.
    pub(crate) fn connections(&self) -> usize {
        self.clients.values().filter(|client| client.link.is_some()).count()
    }

    /// Closes the connection of a client, if it has one. What was sent before still goes out.
    pub(crate) fn close(&mut self, number: ClientNumber) -> bool {
        self.clients.get_mut(&number).is_some_and(|client| client.link.take().is_some())
    }

    /// Closes the connection and drops what is kept.
    pub(crate) fn forget(&mut self, number: ClientNumber) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.link = None;
            client.kept = false;
            client.session = Session::default();
        }
    }

    /// Whether the session of a client outlives its connection.
    pub(crate) fn keeps(&self, number: ClientNumber) -> bool {
        self.clients.get(&number).is_some_and(|client| client.kept)
    }

    /// Takes all messages out of a session, in their order: sent and not acknowledged, or not sent yet.
    pub(crate) fn take_messages(&mut self, number: ClientNumber) -> Vec<(Publish, Receipt)> {
        self.clients.get_mut(&number).map(|client| client.session.take_messages()).unwrap_or_default()
    }

    /// The client does not exist any more.
    pub(crate) fn remove(&mut self, number: ClientNumber) {
        self.clients.remove(&number);
    }

    /// The session of a client that is connected, or whose session is kept.
    pub(crate) fn session(&mut self, number: ClientNumber) -> Option<&mut Session> {
        let client = self.clients.get_mut(&number)?;
        (client.link.is_some() || client.kept).then_some(&mut client.session)
    }

    /// Sends at once what is no application message, or no packet at all. False if the client is not connected.
    pub(crate) fn send(&mut self, number: ClientNumber, frame: impl Into<Frame>) -> bool {
        self.clients.get_mut(&number).is_some_and(|client| client.send(frame))
    }

    /// Sends bytes one by one, with so long between two of them; what is sent later follows behind.
    pub(crate) fn drip(&mut self, number: ClientNumber, bytes: &Bytes, every: Duration) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        for at in 0..bytes.len() {
            client.send(bytes.slice(at..=at));
            if let Some((_, orders)) = &client.link {
                orders.pause(every);
            }
        }
    }

    /// Sends bytes now and whenever the session goes on. False if there is no session.
    pub(crate) fn poison(&mut self, number: ClientNumber, bytes: Bytes) -> bool {
        let Some(session) = self.session(number) else { return false };
        session.add_poison(bytes.clone());
        self.send(number, bytes);
        true
    }

    /// Sends an application message through the session; its packet id (0 with QoS 0) if it left at once.
    pub(crate) fn publish(
        &mut self,
        number: ClientNumber,
        message: Publish,
        receipt: Receipt,
    ) -> Result<Option<u16>, Full> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(None) };
        client.session.put(message, receipt, client.link.is_some())?;
        if client.link.is_none() {
            return Ok(None);
        }
        let ready = client.session.ready();
        // Messages leave in order, so it is the last, if none is left behind.
        let id = ready.last().filter(|_| !client.session.is_stuck()).map(|message| message.pkid);
        client.push(ready);
        Ok(id)
    }

    /// Sends a message of the session again.
    pub(crate) fn repeat(&mut self, number: ClientNumber, id: u16, version: u64) -> bool {
        let Some(client) = self.clients.get_mut(&number) else { return false };
        if client.link.is_none() {
            return false;
        }
        let again = client.session.repeat(id, version);
        let found = again.is_some();
        client.push(again.into_iter().collect());
        found
    }

    /// A client acknowledged a message.
    pub(crate) fn settled(&mut self, number: ClientNumber, id: u16) -> Option<Receipt> {
        let client = self.clients.get_mut(&number)?;
        let receipt = client.session.settle(id);
        let ready = client.session.ready();
        client.push(ready);
        receipt
    }

    /// Acknowledges a publish of the client. False if a fault held it back.
    pub(crate) fn acknowledge(&mut self, number: ClientNumber, message: &Publish) -> bool {
        let Some(client) = self.clients.get_mut(&number) else { return false };
        if message.qos == QoS::AtMostOnce {
            return true;
        }
        if client.plan.strikes(&Fault::WithholdPubacks) {
            // There are no more packet ids than this.
            if client.held.len() < usize::from(u16::MAX) {
                client.held.push(message.pkid);
            }
            return false;
        }
        client.send(Packet::PubAck(PubAck::new(message.pkid)));
        true
    }

    /// Sends the acknowledgements that were held back. How many there were.
    pub(crate) fn release(&mut self, number: ClientNumber) -> usize {
        let Some(client) = self.clients.get_mut(&number) else { return 0 };
        let held = std::mem::take(&mut client.held);
        for id in &held {
            client.send(Packet::PubAck(PubAck::new(*id)));
        }
        held.len()
    }

    /// The faults asked for on this client.
    pub(crate) fn plan(&mut self, number: ClientNumber) -> &mut Plan {
        &mut self.clients.entry(number).or_default().plan
    }

    /// Messages to this client that are not acknowledged.
    pub(crate) fn unsettled(&self, number: ClientNumber) -> usize {
        self.clients.get(&number).map_or(0, |client| client.session.unsettled())
    }
}
