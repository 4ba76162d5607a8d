//! `twinagent completions`: what a shell needs to complete our command lines, made from their definitions. Also for the
//! packages.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure, output};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut offered("twinagent", &Cli::command()), "twinagent", &mut script);
    Ok(output::print(&String::from_utf8_lossy(&script))?)
}

/// The command line as shells should offer it: `clap_complete` leaves out no command, not even a hidden one.
pub fn offered(name: &'static str, whole: &Command) -> Command {
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()))
        .disable_help_subcommand(true)
}
