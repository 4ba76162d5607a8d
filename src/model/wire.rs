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

/// A topic filter to subscribe to. The session is online only once every one is granted, or stood already at the broker.
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
    /// The HTTP proxy on the way refused to let us through, or could not.
    #[error("the proxy does not let us through: {0}")]
    Proxy(String),
    /// The proxy does not take our user and password.
    #[error("the proxy does not let us through: {0}")]
    ProxyLogin(String),
    #[error("TLS failed: {1}")]
    Tls(TlsFault, String),
    /// Somebody on the way answers in the broker's place, in HTTP.
    #[error("a web page instead of a broker: {0}")]
    CaptivePortal(String),
    /// Who TLS has proved to be the broker answers in HTTP and opens no WebSocket. How soon it is of use to ask again, its status
    /// says.
    #[error("the broker opens no WebSocket: {1}")]
    WebSocket(Schedule, String),
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
    /// The service that assigns hubs did not name one. How soon it is of use to ask again is known to whoever asked.
    #[error("no hub was assigned to this device: {1}")]
    Provisioning(Schedule, String),
    /// The broker closed a session that had hardly begun. Found by the model: no connection knows how long is long.
    #[error("closed by the broker {seconds} s after the login")]
    KickedEarly { seconds: u64 },
    /// The broker closed so many sessions in a row soon after their beginning, as it does when two devices say that they are
    /// the same one. Found by the model.
    #[error(
        "closed by the broker soon after the login, {times} times in a row: another client seems to have our identity"
    )]
    TakenOver { times: u32 },
    /// The broker sent bytes that are no MQTT 3.1.1, or a packet larger than we take. Where it keeps sessions, it will send
    /// them again.
    #[error("undecodable packet: {0}")]
    Undecodable(String),
    /// The broker sent a packet that MQTT 3.1.1 does not allow here.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// What is wrong with a TLS connection, as far as somebody can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is for other names.
    Name,
    Expired,
    NotYetValid,
    /// No root that we trust has signed the certificate.
    UnknownAuthority,
    /// The other side speaks nothing newer than TLS 1.1, or nothing that we speak.
    Version,
    Other,
}

/// How the two sides agreed on TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Anew, with a look at the certificate.
    Full,
    /// On a session of before: fewer bytes, and with TLS 1.2 a round trip less.
    Resumed,
}

impl Handshake {
    /// As log and status say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// How soon it is of use to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The network may be better in a second.
    Network,
    /// The broker asks for patience: it has too much to do, or we came too often.
    Busy,
    /// The broker judged who we are. Asking again soon only gets a device banned.
    Refused,
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
            Self::NoLogin(_) => "`twinagent check` says what is missing, or cannot be used",
            Self::Dns(_) => "check `host` under [cloud.*] and the resolver of this machine",
            Self::Tcp(_) => "check `host` and `port` under [cloud.*] and the firewall between here and there",
            Self::Proxy(_) | Self::ProxyLogin(_) => "check `proxy` under [session], and what the proxy allows",
            Self::CaptivePortal(_) => {
                "this network wants a login of its own first, or `host` and `port` are those of a web server"
            }
            Self::Tls(fault, _) => fault.hint(),
            Self::WebSocket(Schedule::Network | Schedule::Refused, _) => {
                "check `host`, `port` and `websocket` under [cloud.*], and what the broker lets in"
            }
            Self::TimedOut { .. } => {
                "the network or the broker is slow or silent; `session.connect_timeout` is the limit"
            }
            Self::Refused { code: 1 } => "the broker does not speak MQTT 3.1.1",
            Self::Refused { code: 3 } | Self::WebSocket(Schedule::Busy, _) => {
                "the broker is not ready; the agent goes on trying"
            }
            Self::Refused { .. } => {
                "check that the cloud knows this device with the key or certificate that `twinagent status` names, the names and ids under [cloud.*], and the clock"
            }
            Self::ClosedBeforeAnswer => {
                "often a name or an id under [cloud.*] that the broker does not know, or a certificate that it does not take"
            }
            Self::SubscriptionRefused { .. } => "the broker's rules do not let this device read its own topics",
            Self::Provisioning(Schedule::Refused, _) => {
                "check `id_scope` and `registration_id` under [cloud.iothub.provisioning], and the enrollment of this device"
            }
            Self::Provisioning(Schedule::Busy | Schedule::Network, _) => {
                "the service that assigns hubs is busy, slow or not ready; the agent goes on asking"
            }
            Self::Closed => {
                "another client with the same identity, an expired login, or a broken rule of the broker, such as telemetry or `answers = \"events\"` to a registry without an event topic; see the broker's log"
            }
            Self::KickedEarly { .. } => {
                "an expired login, a clock that is wrong, or a broken rule of the broker; see the broker's log"
            }
            Self::TakenOver { .. } => {
                "look for a second device with this `device.id`, such as a copied card; `sudo twinagent reset --identity` on the copy"
            }
            Self::Lost(_) | Self::DeadLink { .. } => "the network between here and the broker was interrupted",
            Self::Undecodable(_) | Self::Protocol(_) => "see the broker's log; is this port MQTT at all?",
        }
    }

    /// A name that a fleet can be searched for.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::NoLogin(_) => "no-login",
            Self::Dns(_) => "dns",
            Self::Tcp(_) => "tcp",
            Self::Proxy(_) => "proxy",
            Self::ProxyLogin(_) => "proxy-login",
            Self::Tls(fault, _) => fault.code(),
            Self::CaptivePortal(_) => "captive-portal",
            Self::WebSocket(..) => "websocket",
            Self::TimedOut { .. } => "time-out",
            Self::Refused { code: 3 } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::ClosedBeforeAnswer => "closed-before-answer",
            Self::SubscriptionRefused { .. } => "subscription-refused",
            Self::Provisioning(..) => "provisioning",
            Self::Closed => "closed",
            Self::Lost(_) => "lost",
            Self::DeadLink { .. } => "dead-link",
            Self::KickedEarly { .. } => "kicked-early",
            Self::TakenOver { .. } => "taken-over",
            Self::Undecodable(_) => "undecodable",
            Self::Protocol(_) => "protocol",
        }
    }

    /// How soon another try is of use.
    pub fn schedule(&self) -> Schedule {
        match self {
            Self::Provisioning(schedule, _) | Self::WebSocket(schedule, _) => *schedule,
            Self::Refused { code: 3 } => Schedule::Busy,
            Self::Refused { .. }
            | Self::NoLogin(_)
            | Self::ProxyLogin(_)
            | Self::ClosedBeforeAnswer
            | Self::SubscriptionRefused { .. }
            | Self::TakenOver { .. } => Schedule::Refused,
            _ => Schedule::Network,
        }
    }

    /// A login was refused for who we are, so another key may fare better. Some brokers use codes of their own above 5; one
    /// closes without an answer.
    pub fn doubts_identity(&self) -> bool {
        match self {
            Self::Refused { code } => !matches!(code, 1 | 3),
            Self::NoLogin(_) | Self::ClosedBeforeAnswer | Self::Provisioning(Schedule::Refused, _) => true,
            _ => false,
        }
    }

    /// The hub may be gone, or not be this device's any more; so another one may be assigned to it.
    pub fn doubts_hub(&self) -> bool {
        match self {
            Self::Refused { code } => !matches!(code, 1 | 3),
            Self::Dns(_) | Self::ClosedBeforeAnswer | Self::SubscriptionRefused { .. } => true,
            _ => false,
        }
    }

    /// The broker may have been out of reach, so another address or route of ours may help.
    pub fn is_of_network(&self) -> bool {
        match self {
            Self::Dns(_)
            | Self::Tcp(_)
            | Self::Proxy(_)
            | Self::Tls(..)
            | Self::CaptivePortal(_)
            | Self::TimedOut { .. }
            | Self::Lost(_)
            | Self::DeadLink { .. }
            | Self::WebSocket(Schedule::Network, _)
            | Self::Provisioning(Schedule::Network, _) => true,
            Self::Planned
            | Self::WebSocket(Schedule::Busy | Schedule::Refused, _)
            | Self::Provisioning(Schedule::Busy | Schedule::Refused, _)
            | Self::NoLogin(_)
            | Self::ProxyLogin(_)
            | Self::Refused { .. }
            | Self::ClosedBeforeAnswer
            | Self::SubscriptionRefused { .. }
            | Self::Closed
            | Self::KickedEarly { .. }
            | Self::TakenOver { .. }
            | Self::Undecodable(_)
            | Self::Protocol(_) => false,
        }
    }

    /// A wall clock that was wrong may have caused it: the times in a login or in a certificate did not fit.
    pub fn is_of_clock(&self) -> bool {
        match self {
            // A broker that says yes and then closes, for the times it found in the login, looks like another client too.
            Self::KickedEarly { .. } | Self::TakenOver { .. } => true,
            Self::Tls(fault, _) => matches!(fault, TlsFault::Expired | TlsFault::NotYetValid),
            _ => self.doubts_identity(),
        }
    }
}

impl TlsFault {
    fn code(self) -> &'static str {
        match self {
            Self::Name => "tls-name",
            Self::Expired => "tls-expired",
            Self::NotYetValid => "tls-not-yet-valid",
            Self::UnknownAuthority => "tls-unknown-authority",
            Self::Version => "tls-version",
            Self::Other => "tls",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Name => {
                "check `host` under [cloud.*]; a captive portal or a proxy that opens TLS shows a name of its own too"
            }
            Self::Expired => {
                "the broker's certificate must be renewed, or the clock of this machine is ahead; see `timedatectl`"
            }
            Self::NotYetValid => "the clock of this machine is behind; see `timedatectl`",
            Self::UnknownAuthority => {
                "the broker may have changed to another root; check `ca_file` under [cloud.*], else the package ca-certificates"
            }
            Self::Version => "the broker must speak TLS 1.2 or 1.3; is this the right `port` under [cloud.*]?",
            Self::Other => "check `ca_file` and `host` under [cloud.*], and the clock of this machine",
        }
    }
}
