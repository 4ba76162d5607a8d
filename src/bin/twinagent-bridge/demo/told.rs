//! What the person reads: aligned lines on standard output, each with the time since the beginning.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use twinagent::host::clock;
use twinagent::model::now::BootInstant;

use super::site::Site;

pub(super) struct Told {
    began: BootInstant,
    folder: PathBuf,
}

impl Told {
    pub(super) fn begin(folder: &Path) -> anyhow::Result<Self> {
        let told = Self { began: clock::boot(), folder: folder.to_owned() };
        line("One rebootDevice, from the cloud to a device and back. All on this machine, and nothing reboots.")?;
        line(&format!("Files: {}\n", folder.display()))?;
        Ok(told)
    }

    fn seconds(&self) -> f64 {
        clock::boot().since(self.began).as_secs_f64()
    }

    pub(super) fn step(&self, name: &str, what: &str) -> anyhow::Result<()> {
        line(&format!("{:5.1} s  {name:<11} {what}", self.seconds()))
    }

    pub(super) fn done(&self) -> anyhow::Result<()> {
        line(&format!("Done in {:.1} s; the files are removed. `cargo demo --keep` stays up.", self.seconds()))
    }

    /// Commands to copy into a shell.
    pub(super) fn what_to_try(&self, site: &Site, commands: &str) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let configuration = site.configuration_file();
        let (configuration, state) = (configuration.display(), site.folders().state.display());
        line(&format!(
            "Cloud and agent stay up until Ctrl-C. In another terminal, first:\n\n    \
             cd '{folder}'\n\
             {commands}\n\n\
             The agent's configuration is {configuration}, its journal is in {state}."
        ))
    }
}

pub(super) fn document(document: &Value, read: &str) -> anyhow::Result<()> {
    let mut text = format!("\nThe reported document, {read}:\n\n");
    for part in format!("{document:#}").lines() {
        writeln!(text, "    {part}").expect("a text takes all that is written to it");
    }
    line(&text)
}

pub(super) fn line(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}
