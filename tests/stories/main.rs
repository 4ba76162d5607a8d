//! Stories: a whole daemon, a whole cloud, real sockets, real files. One module a theme, one test a story.

#[path = "../support/count.rs"]
mod count;
mod device;
mod log;

mod commands;
mod config;
mod connection;
mod outage;
mod reboot;
mod trust;
