//! `rebootDevice`, from its payload to its proof: `request` is what a command asks, `policy` what the operator allows,
//! `window` when, `breaker` how often; `facts` is what the machine says and `probe` how often it is asked; `hold` is what
//! keeps a reboot back, `pending` what is next for it, `plan` what is asked of the machine; `boots` and `story` are what
//! is remembered.
//!
//! The life of one reboot is its entry in the ledger. Everything here reads that entry and says what is next; it performs
//! nothing. That the machine rebooted is known from the kernel's boot id alone, never from a clock or a reply.
//!
//! The way of a reboot: accepted; told (the cloud has acknowledged the 202, or ten seconds have passed); the grace; what
//! the policy asks; the machine asked who holds it back; `Started` recorded with the boot id; the act. After the next start
//! another boot id proves the reboot, whoever caused it; the same one means that it has not happened, and the agent does
//! not ask twice.
//!
//! What can be foreseen (its own `delay` or `at`, spacing, windows) is waited for as long as it takes, and other commands
//! go on meanwhile. What cannot (inhibitors, vetoes, commands that still run, a clock that is not set) is waited for up to
//! `inhibitor_wait`; then the reboot is given up with the reason.
//!
//! Where the state folder forgets at a reboot, a command that comes again cannot be recognised. Then nothing is put off,
//! and the uptime takes the place of the time since the last reboot.

pub mod boots;
pub mod breaker;
pub mod facts;
pub mod hold;
pub mod pending;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod request;
pub mod story;
pub mod window;

use std::time::Duration;

use super::command::Method;

pub use policy::{Policy, TooSoon};

/// The method that asks for a reboot.
pub const REBOOT: &str = "rebootDevice";

/// The method that takes a waiting reboot back.
pub const CANCEL: &str = "cancelReboot";

/// How a reboot is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The machine reboots.
    Machine,
    /// Nothing reboots: the agent disconnects and is back after this time.
    Simulated(Duration),
}

pub fn is_reboot(method: &Method) -> bool {
    method.as_str() == REBOOT
}
