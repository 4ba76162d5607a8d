//! The machine: the only place that asks it for the time, for the boot it is in, for its names, for changes of its
//! files and of its network, for its service manager, and for a reboot.
//!
//! Hands out plain values of the model. Decides nothing.

pub mod boot;
mod burst;
pub mod clock;
pub mod journal;
pub mod logind;
pub mod names;
pub mod network;
pub mod power;
pub mod services;
pub mod system;
pub mod systemd;
pub mod unit;
pub mod volatile;
pub mod watch;

#[cfg(test)]
#[path = "../../tests/support/logind.rs"]
pub(crate) mod fake_logind;

#[cfg(test)]
#[path = "../../tests/support/systemd1.rs"]
pub(crate) mod fake_systemd;
