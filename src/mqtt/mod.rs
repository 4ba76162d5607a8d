//! One MQTT 3.1.1 connection at a time, from the order to connect to its typed end.
//!
//! * `link`: the daemon's end of a connection, and the queues between the two.
//! * `connection`: the task that owns the stream; `login` is its first part, CONNECT to SUBACK.
//! * `pulse`: when to ping and when a silent link is dead. `flight`: what waits for a PUBACK, either way.
//! * `packets`: between the words of the model and those of rumqttc's codec.
//! * `dial` opens the stream, with the addresses of `resolver`, through `proxy` where there is one; `tls` says whom to trust,
//!   `identity` what to show, and `distrust` why it came to nothing. `preparation` does it ahead of time.
//! * `websocket` carries MQTT where nothing but HTTPS is let through.
//! * `screen` knows a web page in the broker's place; `plain` makes the words of strangers fit for a log; `stage`: what is being
//!   waited for.
//! * `incoming`: bytes of a broker, read without one.
//!
//! Nothing here retries, keeps a message beyond its connection, or knows a topic.
//!
//! Only rumqttc's codec and packet types are used, over a stream that is opened here. Its `EventLoop` (0.25) loses
//! publishes when a session is not resumed, can lock up after a packet id collides, tries addresses one after another
//! within one time-out, throws a handshake away when its future is dropped, and notices a dead link only after up to two
//! keep-alives. Its `MqttState` is free of I/O, but would add a bit set, a slot for collisions that packet ids from a free
//! list never have, and a second opinion on what is in flight. QoS 0 and 1 need neither, and no cloud offers QoS 2. The
//! library's TLS features stay off, and with them two crates with open advisories.
//!
//! Nothing of a login leaves before the broker's certificate was judged, by the time that the login names: a device without
//! a clock could not use TLS otherwise (`tls`).

use std::fmt;
use std::time::Duration;

use crate::model::wire::{Delivery, Handshake, Login, MessageId, Packet, Reason, Subscription};

mod connection;
mod dial;
mod distrust;
mod flight;
pub mod identity;
pub mod incoming;
mod link;
mod login;
mod packets;
mod plain;
mod preparation;
mod proxy;
mod pulse;
mod resolver;
mod screen;
mod stage;
pub mod tls;
mod websocket;

pub use dial::Approach;
pub use link::{Link, Refused, connect, connect_over};
pub use preparation::{Preparation, prepare};
pub use proxy::{Proxy, ProxyLogin};
pub use resolver::Resolver;

/// Where a broker listens, and how it is known there. Equal ones lead to the same broker in the same way.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address (IPv6 without brackets). With TLS the certificate must be for it.
    pub host: String,
    pub port: u16,
    /// None: plain TCP.
    pub tls: Option<tls::Trust>,
    /// None: straight there.
    pub proxy: Option<Proxy>,
    /// The path, with its query, of a WebSocket that carries MQTT. None: MQTT right on the stream.
    pub websocket: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { ", TLS" } else { "" };
        let proxy = if self.proxy.is_some() { ", proxy" } else { "" };
        let websocket = if self.websocket.is_some() { ", WebSocket" } else { "" };
        write!(out, "Endpoint({}:{}{tls}{proxy}{websocket})", self.host, self.port)
    }
}

/// The largest packet taken and sent when nobody says otherwise. The largest message of the clouds we speak to is 256 KiB, and
/// its topic and header come on top.
pub const PACKET_LIMIT: usize = 300 * 1024;

/// Messages of ours that may be un-settled at a time when nobody says otherwise: enough to hide a round trip of a second at 64
/// answers a second, few enough to be sent again after a lost session.
pub const WINDOW: u16 = 64;

/// What one connection may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet that is taken, in bytes without its fixed header. A larger one ends the connection before any of it is stored.
    pub packet_in: usize,
    /// The largest PUBLISH that is sent, in bytes with its fixed header. A larger one is refused by [`Link::ask`].
    pub packet_out: usize,
    /// How many messages of ours may be un-settled at a time; packet ids go one further at most. 0 counts as 1, 65 535 as one less.
    pub window: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { packet_in: PACKET_LIMIT, packet_out: PACKET_LIMIT, window: WINDOW }
    }
}

/// All that is needed for one connection.
#[derive(Clone, Debug)]
pub struct Order {
    pub endpoint: Endpoint,
    pub login: Login,
    /// Sent in one SUBSCRIBE; each must be granted. May be empty.
    pub subscriptions: Vec<Subscription>,
    /// One limit over name, TCP, TLS, WebSocket, CONNACK and SUBACK together.
    pub connect_timeout: Duration,
    pub resolver: Resolver,
    pub limits: Limits,
}

/// What the daemon wants of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Settled at its PUBACK (QoS 1) or once it is written (QoS 0).
    Publish(MessageId, Packet),
    /// The message may be forgotten by the broker. PUBACKs leave in the order of arrival, so this one may wait for earlier ones.
    Ack(Delivery),
    /// Find out at once whether anybody is still there: a ping, and [`Reason::DeadLink`] if nothing arrives within half a
    /// keep-alive, or 10 s if that is shorter.
    Check,
    /// Write all that was asked before, then DISCONNECT. What was not acknowledged stays with the broker.
    Disconnect,
}

/// What a connection tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Logged in and every subscription granted. A broker that kept the session, and has so much to send that the grant is far
    /// behind it, may still take that back: then the connection ends.
    Online {
        /// The broker still had the session of an earlier connection.
        session_kept: bool,
        /// How TLS was agreed on. None: plain TCP.
        tls: Option<Handshake>,
    },
    /// A message. With QoS 1 it waits for [`Ask::Ack`].
    Received(Delivery, Packet),
    Settled(MessageId),
    /// Exactly once, and always the last.
    Ended(Reason),
}
