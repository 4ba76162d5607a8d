//! MQTT 3.1.1 in plain words: what goes over the wire, what a login says, and why a connection ended.
//!
//! No cloud's spelling and no library's types are here. The dialects produce and read these values; `mqtt/` moves them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// One application message, either way.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
}

/// Payloads may hold anything, so they are never printed.
impl fmt::Debug for Packet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Packet")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

/// Quality of service. QoS 2 is used by none of the clouds and refused by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

/// A topic filter to subscribe to. The session is online only once every one is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: String,
    pub qos: Qos,
}

/// What a CONNECT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub client_id: String,
    pub username: String,
    pub password: Secret,
    /// Whole seconds, 1 to 65 535.
    pub keep_alive: Duration,
    /// Clean session: the broker forgets what it kept for us.
    pub clean: bool,
    pub will: Option<Packet>,
}

/// A text that must not be seen: its `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself; name the place where it goes when you call this.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// A received message that waits for its PUBACK: its number on its connection, in the order of arrival.
///
/// QoS 0 messages have one too; acknowledging those does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery(pub u64);

/// A message of ours on its way, until it is settled. Never used twice in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Why a connection ended, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("closed as planned")]
    Planned,
    #[error("no login could be made: {0}")]
    NoLogin(String),
    #[error("name not resolved: {0}")]
    Dns(String),
    #[error("no TCP connection: {0}")]
    Tcp(String),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("nothing from the broker within {seconds} s while {stage}")]
    TimedOut { stage: &'static str, seconds: u64 },
    /// CONNACK with a return code other than 0.
    #[error("login refused by the broker (CONNACK {code}: {})", connack_words(*.code))]
    Refused { code: u8 },
    /// The stream ended after CONNECT and before any CONNACK.
    #[error("closed by the broker instead of an answer to the login")]
    ClosedBeforeAnswer,
    #[error("subscription to `{filter}` refused by the broker")]
    SubscriptionRefused { filter: String },
    #[error("closed by the broker")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("dead link: no answer to a ping within {seconds} s")]
    DeadLink { seconds: u64 },
    /// The broker sent what MQTT 3.1.1 does not allow, or more than we take.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// The words of MQTT 3.1.1 table 3.1; some brokers send codes of their own above 5.
fn connack_words(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => "a code of this broker's own",
    }
}

impl Reason {
    /// One line that tells an operator what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Planned => "nothing to do",
            Self::NoLogin(_) => "see `twinagent check` and `twinagent pubkey`",
            Self::Dns(_) => "check `host` under [cloud.*] and the resolver of this machine",
            Self::Tcp(_) => "check `host` and `port` under [cloud.*] and the firewall between here and there",
            Self::Tls(_) => "check `ca_file` and `host` under [cloud.*], and the clock of this machine",
            Self::TimedOut { .. } => {
                "the network or the broker is slow or silent; `session.connect_timeout` is the limit"
            }
            Self::Refused { code: 1 } => "the broker does not speak MQTT 3.1.1",
            Self::Refused { code: 3 } => "the broker is not ready; the agent goes on trying",
            Self::Refused { .. } => {
                "check that the key of `twinagent pubkey` is registered for this device, the ids under [cloud.*], and the clock"
            }
            Self::ClosedBeforeAnswer => "often a wrong project id or region; check [cloud.*]",
            Self::SubscriptionRefused { .. } => "the broker's rules do not let this device read its own topics",
            Self::Closed => {
                "another client with the same identity, an expired login, or a broken rule of the broker, such as telemetry or `answers = \"events\"` to a registry without an event topic; see the broker's log"
            }
            Self::Lost(_) | Self::DeadLink { .. } => "the network between here and the broker was interrupted",
            Self::Protocol(_) => "see the broker's log; is this port MQTT at all?",
        }
    }

    /// Whether trying again soon is useless: the broker judged who we are, not how the network is.
    pub fn is_about_identity(&self) -> bool {
        match self {
            Self::NoLogin(_) | Self::ClosedBeforeAnswer | Self::SubscriptionRefused { .. } => true,
            Self::Refused { code } => *code != 3,
            _ => false,
        }
    }
}
