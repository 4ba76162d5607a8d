//! How each cloud spells what the model says in neutral words: topics, payloads, logins. No async, no state, no socket.
//!
//! `iotcore` and `iothub` are the clouds, `envelope` is their one grammar of commands in messages, `provisioning` spells
//! the dialogue with the service that assigns hubs, `sas` and `token` sign. What the clouds do not have in common:
//!
//! | what | Cloud IoT Core | Azure IoT Hub |
//! | --- | --- | --- |
//! | a command | QoS 1 to the device's topic, with an id if its sender gives one; a device that is away gets none, unless the broker keeps sessions | a direct method, whose caller waits, and which comes once; or a cloud-to-device message, which waits in the hub (50 at most) and comes again until it is acknowledged |
//! | its answer | in the state, or by itself | in reported `commands`; to the caller of a direct method within 3 s, 202 if it takes longer |
//! | a report | the whole document, settled by its PUBACK | a patch onto what the hub was found to have, settled by the hub's own answer, which may be 429 |
//! | desired | any bytes, sent at each login, known by their digest | an object with a version, read at each login and followed change by change |
//! | what no document can hold | more than 64 KiB | more than 32 KiB, ten levels, texts of 4 KiB; `null`; names with `.`, `$` and spaces |
//! | who the device is | a pair of keys in three slots; a token says when it was made, and until when it is good | a key that both have, or a certificate; a token says until when it is good, so a clock that is ahead is not refused |
//! | where it is | configured | configured, or assigned by a service, and then it may move |
//! | what ends a session in time | its token | its token; a certificate never |
//! | sessions | clean, unless the operator says otherwise | always kept |
//! | the way | TLS, or plain to loopback | TLS alone, also within a WebSocket |
//! | to subscribe | two filters | four; three for a module, which gets no messages |
//!
//! To add a cloud:
//! 1. one file here with a type that implements [`Dialect`]; fixtures of real packets beside its tests;
//! 2. its section below `config/raw.rs` and its type in `config/cloud.rs`, plain data that never names this module;
//! 3. its arms in `daemon/home.rs`, and in `daemon/credentials.rs` for what it is proved with;
//! 4. its row in the table of README.md, and a fuzz target for its `decode`.

mod envelope;
pub mod iotcore;
pub mod iothub;
pub mod provisioning;
pub mod sas;
pub mod token;

use crate::model::cloud::{CloudLimits, Inbound, Outbound, Settles};
use crate::model::now::Timestamp;
use crate::model::wire::{Login, MessageId, Packet, Subscription};
use token::SignError;

/// With what a device proves who it is.
#[derive(Debug)]
pub enum Proof {
    /// Its private key, which signs a JWT.
    Key(token::Key),
    /// A key that the cloud has too.
    Shared(sas::SharedKey),
    /// A certificate, which was shown when TLS began.
    Certificate,
}

/// One cloud's way to say things.
pub trait Dialect: Send + Sync {
    /// What CONNECT says, with a fresh token.
    fn login(&self, now: Timestamp, proof: &Proof) -> Result<Login, LoginError>;

    /// All that must be granted before the session counts as online.
    fn subscriptions(&self) -> Vec<Subscription>;

    /// Reads what arrived. Never fails: what cannot be read is a kind of [`Inbound`] too.
    fn decode(&self, packet: &Packet) -> Inbound;

    /// Writes what is to be sent. `id` comes back in the answer of a cloud that gives one.
    fn encode(&self, id: MessageId, message: &Outbound) -> Result<Encoded, EncodeError>;

    fn limits(&self) -> CloudLimits;
}

/// A message as it is sent, and how it is known to have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub packet: Packet,
    pub settled_by: Settles,
}

/// Why there can be no login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The proof is of a kind that this cloud does not know.
    #[error("this cloud wants {0}")]
    Unfit(&'static str),
}

/// A message that this cloud would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{bytes} bytes are more than the {limit} that this cloud takes")]
    TooLarge { bytes: usize, limit: usize },
    /// The model asks for what this cloud does not offer.
    #[error("this cloud knows no {0}")]
    Unknown(&'static str),
}
