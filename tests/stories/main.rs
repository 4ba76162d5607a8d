//! Stories: a whole daemon, a whole cloud, real sockets, real files. One module a theme, one test a story.

#[path = "../support/count.rs"]
mod count;
mod device;

mod commands;
mod reboot;
