//! The model's decisions, story by story: inputs in, effects out.

#[path = "../support/given.rs"]
mod given;

mod applying;
mod breaker;
mod cancel;
mod clock;
mod commands;
mod connection;
mod connection_ends;
mod connection_keys;
mod connection_provisioning;
mod connection_renewal;
mod connection_waits;
mod desired;
mod desk;
mod direct;
mod goodbye;
mod local;
mod machine;
mod offline;
mod orders;
mod outage;
mod own;
mod policy;
mod progress;
mod proof;
mod queue;
mod reboot;
mod reported;
mod rules;
mod serving;
mod synced;
mod synced_trouble;
