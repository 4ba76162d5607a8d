//! What the person reads: aligned lines on standard output, each with the time since the beginning.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
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
    pub(super) fn what_to_try(&self, site: &Site) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let device = site.rest().device_url();
        let configuration = site.configuration_file();
        let (configuration, state) = (configuration.display(), site.folders().state.display());
        let data = |payload: &Value| STANDARD.encode(payload.to_string());
        let command = |subfolder: &str, payload| json!({ "subfolder": subfolder, "binaryData": data(&payload) });
        let echo = command("echo/hello-1", json!({ "hello": "world" }));
        let reboot = command("rebootDevice/again-1", json!({ "reason": "once more" }));
        let config = json!({ "binaryData": data(&json!({ "color": "blue" })) });
        let curl = "curl --silent --show-error --cacert cloud/ca.pem";
        line(&format!(
            "Cloud and agent stay up until Ctrl-C. In another terminal, first:\n\n    \
             cd '{folder}'\n    \
             device='{device}'\n\n\
             Send a command with an id and a payload; the answer stands in the state under commands.hello-1:\n\n    \
             {curl} \"${{device}}:sendCommandToDevice\" --data '{echo}'\n\n\
             Change the configuration; the state tells its digest under desired:\n\n    \
             {curl} \"${{device}}:modifyCloudToDeviceConfig\" --data '{config}'\n\n\
             Reboot once more, in simulation:\n\n    \
             {curl} \"${{device}}:sendCommandToDevice\" --data '{reboot}'\n\n\
             Read the state, a second later:\n\n    \
             {curl} \"${{device}}/states?numStates=1\" \
             | grep -o '\"binaryData\":\"[^\"]*' | cut -d '\"' -f 4 | base64 -d\n\n\
             The agent's configuration is {configuration}, its journal is in {state}."
        ))
    }
}

pub(super) fn document(document: &Value) -> anyhow::Result<()> {
    let mut text = String::from("\nThe reported document, as states.list gives it:\n\n");
    for part in format!("{document:#}").lines() {
        writeln!(text, "    {part}").expect("a text takes all that is written to it");
    }
    line(&text)
}

pub(super) fn line(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}
