//! Stories of the installed package: a real Debian with systemd as process 1, a real cloud beside it, real reboots.
//!
//! Root is needed, and the package (`TWINAGENT_DEB_DIR`, or target/debian). One module a theme, one test a story; how a
//! machine is made and handled is the business of `harness`.
#![allow(clippy::disallowed_methods, reason = "these tests read the environment, and bound their waits by the clock")]

mod harness;

mod configuration;
mod day_one;
mod endurance;
mod install;
mod journal;
mod reboot;
mod reboot_logind;
mod removal;
mod sandbox;
mod upgrade;
