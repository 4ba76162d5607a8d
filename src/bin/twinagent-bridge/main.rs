//! The stand-in cloud as a program: reads the command line, runs what it names, tells what went wrong.
//!
//! Each command is a module of its own. Errors are printed here and nowhere else.

mod command_line;
mod demo;
mod interrupt;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use command_line::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse_from(words()).command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(demo) => demo.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "twinagent-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. `cargo demo -- --cloud iothub`, as everybody writes it, comes as `demo -- --cloud iothub`, since cargo
/// hands on the `--` behind an alias that has one already.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "demo") && words.get(2).is_some_and(|word| word == "--") {
        words.remove(2);
    }
    words
}
