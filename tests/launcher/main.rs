//! The handlers' service as a real process, with real programs, bad ones above all, and the agent's side of it.
//!
//! The service is this test once more, in a process of its own (`support::the_service`), since it takes note of the end of
//! every child of its process.

#![allow(clippy::print_stdout, reason = "figures are printed")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests measure with the standard library's clock, and start themselves again"
)]

mod agent;
mod attack;
mod files;
mod life;
mod support;
mod zoo;
