//! The local interface: how programs and people on the device reach the daemon, over a Unix socket.
//!
//! The protocol is Varlink (varlink.org): a JSON object and a NUL byte each way, described by the interface itself. Any
//! language can speak it from its standard library, and systemd's own services do. It is written here by hand, so that what
//! a hostile caller can cost is ours to bound. Who is calling is the kernel's word, never the caller's. Nothing is decided
//! here: a call becomes a [`crate::model::ask::Question`], a [`crate::model::ask::Reply`] becomes its answer.
//!
//! To add a method: its lines in `io.twinagent.Agent.varlink`, its question in `model::ask`, its arm in `interface.rs`.

pub mod client;
mod connection;
pub mod interface;
mod peer;
mod places;
mod server;
mod serving;
mod socket;

pub use peer::{Rights, group_id};
pub use server::{Asked, Server};

/// The name of the socket in the runtime folder.
pub const SOCKET: &str = "io.twinagent.Agent";
