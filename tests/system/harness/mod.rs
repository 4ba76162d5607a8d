//! The machines, their network and their cloud.
//!
//! All waits are bounded, and all that is started ends with its owner, also in a panic and when the tests are killed.

mod base;
mod cloud;
mod command;
mod device;
mod handlers;
mod installed;
mod machine;
mod network;
mod order;
mod package;
mod patience;
mod places;
mod power;
mod rest;

pub(crate) use self::base::Suite;
pub(crate) use self::cloud::{Cloud, TOKEN};
pub(crate) use self::device::Device;
pub(crate) use self::machine::Machine;
pub(crate) use self::package::Package;
pub(crate) use self::patience::{eventually, within};
