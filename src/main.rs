//! The `twinagent` program: reads the command line, starts the log, does one thing, and says how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use twinagent::cli::{Cli, Exit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and end well. With nobody to read it there is nothing to do.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    twinagent::logging::start();
    match cli.run() {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(),
    }
}
