//! Writes what the packages tell people and shells: manual pages and completions, from the definitions that the
//! programs themselves are made of and from the reference of the configuration.
//!
//! It runs on the machine that builds, whatever the packages are for. Nothing is decided here: a sentence that is wrong in
//! a page is wrong in `--help` or in packaging/twinagent.toml.

mod program;
mod reference;
mod roff;

#[path = "../../src/bin/twinagent-bridge/command_line.rs"]
mod bridge;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};
use twinagent::cli::completions::offered;

const REFERENCE: &str = include_str!("../twinagent.toml");
const USAGE: &str = "usage: twinagent-pages FOLDER DATE (the date that the pages bear, as 2026-11-22)";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, date] = &arguments[..] else { bail!(USAGE) };
    let folder = Path::new(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let agent = twinagent::cli::Cli::command();
    let bridge = bridge::Cli::command();
    write(&folder.join("twinagent.1"), &program::page(agent.clone(), date, include_str!("twinagent.1.roff")))?;
    write(&folder.join("twinagent.toml.5"), &reference::page(REFERENCE, date)?)?;
    write(&folder.join("twinagent-bridge.1"), &program::page(bridge.clone(), date, include_str!("bridge.1.roff")))?;
    completions(folder, offered("twinagent", &agent))?;
    completions(folder, offered("twinagent-bridge", &bridge))
}

/// One file for each shell, under the names that `clap_complete` gives them.
fn completions(folder: &Path, mut command: Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, &name, folder).with_context(|| format!("no completions for {shell}"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
