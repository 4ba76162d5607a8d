//! The local interface, as programs on a device meet it: real sockets, real users, real clients of others.

#![allow(clippy::print_stdout, reason = "figures are printed, not asserted")]
#![allow(clippy::disallowed_methods, reason = "tests measure with the standard library's clock")]

mod calls;
mod cli;
mod hostile;
mod protocol;
mod python;
mod rights;
mod serving;
mod support;
