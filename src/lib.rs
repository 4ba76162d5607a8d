//! twinagent: a device agent that keeps one MQTT session to its cloud, runs the commands it is sent, and reports state.
//!
//! The map of the crate. A module uses only modules below its own row (`tests/architecture.rs` holds this):
//!
//! ```text
//! main, bin/twinagent-bridge
//! cli
//! daemon                                    bridge (feature)
//! local   handler   launcher   mqtt   store   dialect   logging
//! config    host    varlink
//! model
//! ```
//!
//! * [`model`] decides everything and touches nothing: inputs in, effects out.
//! * [`daemon`] owns the model and is the one loop that performs what it decides.
//! * `mqtt`, `store`, `handler`, `dialect` and `local` move data at the edge and do not know each other.
//!
//! ARCHITECTURE.md has the mental model and the promises.

#[cfg(feature = "bridge")]
pub mod bridge;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dialect;
pub mod handler;
pub mod host;
pub mod launcher;
pub mod local;
pub mod logging;
pub mod model;
pub mod mqtt;
pub mod store;
pub mod varlink;
