//! `twinagent completions`: what a shell needs to complete our command lines, made from their definitions.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Failure, output};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "twinagent", &mut script);
    Ok(output::print(&String::from_utf8_lossy(&script))?)
}
