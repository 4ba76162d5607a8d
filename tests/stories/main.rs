//! Stories: a whole daemon, a whole cloud, real sockets, real files. One module a theme, one test a story.

#[path = "../support/count.rs"]
mod count;
mod device;
mod process;
mod strace;

mod commands;
mod disk;
mod ends;
mod kill;
mod order;
mod reboot;
mod secrets;
mod unusable;
