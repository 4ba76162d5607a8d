//! The stand-in cloud as a program: reads the command line, runs what it names, tells what went wrong.
//!
//! Each command is a module of its own. Errors are printed here and nowhere else.

mod demo;
mod interrupt;
mod serve;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A stand-in for the cloud: Cloud IoT Core's MQTT bridge and REST API on this machine, for trying out and for tests.
#[derive(Debug, Parser)]
#[command(name = "twinagent-bridge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until stopped. When all listeners are bound it prints one JSON line with their addresses.
    Serve(serve::Serve),
    /// Plays the whole job on this machine: cloud, device, agent, a simulated reboot, the state it leads to.
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
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
