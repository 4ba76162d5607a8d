//! How each cloud spells what the model says in neutral words: topics, payloads, logins. No async, no state, no socket.
//!
//! To add a cloud:
//! 1. one file here with a type that implements [`Dialect`]; fixtures of real packets beside its tests;
//! 2. its section below `config/raw.rs` and its type in `config/cloud.rs`, plain data that never names this module;
//! 3. one arm in `daemon::dialect`;
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
