//! Stories: a whole daemon, a whole cloud, real sockets, real files. One module a theme, one test a story.

mod both;
mod cloud;
#[path = "../support/count.rs"]
mod count;
mod device;
#[path = "../support/logind.rs"]
mod fake_logind;
mod log;
mod process;
mod program;
mod strace;
mod workshop;

mod clock;
mod clone;
mod commands;
mod config;
mod connection;
mod direct;
mod disk;
mod ends;
mod handlers;
mod hostile;
mod hub;
mod key;
mod kill;
mod living;
mod local;
mod logind;
mod mended;
mod network;
mod offline;
mod order;
mod outage;
mod power;
mod provisioning;
mod proxy;
mod reboot;
mod rotation;
mod secrets;
mod siege;
mod start;
mod trust;
mod twin;
mod unusable;
