//! How each cloud spells what the model says in neutral words: topics, payloads, logins. No async, no state, no socket.
//!
//! To add a cloud:
//! 1. one file here with a type that implements [`Dialect`]; fixtures of real packets beside its tests;
//! 2. its section in `config/raw.rs` and `config/mod.rs`, plain data that never names this module;
//! 3. one arm in `daemon::dialect`;
//! 4. its row in the table of README.md, and a fuzz target for its `decode`.

pub mod iotcore;
pub mod token;

use crate::model::cloud::{CloudLimits, Inbound, Outbound};
use crate::model::now::Timestamp;
use crate::model::wire::{Login, Packet, Subscription};
use token::{Key, SignError};

/// One cloud's way to say things.
pub trait Dialect: Send + Sync {
    /// What CONNECT says, with a fresh token.
    fn login(&self, now: Timestamp, key: &Key) -> Result<Login, SignError>;

    /// All that must be granted before the session counts as online.
    fn subscriptions(&self) -> Vec<Subscription>;

    /// Reads what arrived. Never fails: what cannot be read is a kind of [`Inbound`] too.
    fn decode(&self, packet: &Packet) -> Inbound;

    /// Writes what is to be sent. It is settled by its PUBACK.
    fn encode(&self, message: &Outbound) -> Result<Packet, EncodeError>;

    fn limits(&self) -> CloudLimits;
}

/// A message that this cloud would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{bytes} bytes are more than the {limit} that this cloud takes")]
    TooLarge { bytes: usize, limit: usize },
}
