//! `twinagent run-handlers`: the handlers' service, in the foreground. Not for people: its unit starts it, with the listening
//! socket as stdin.

use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;

use super::{Exit, Failure};
use crate::config::account;
use crate::config::manifest::Finder;
use crate::config::{Fault, Folders};
use crate::launcher::{Find, Launcher, listener};

/// After so long without a command the service ends, and its memory is free. The next command starts it again.
const IDLE: Duration = Duration::from_secs(60);

pub(super) fn run(folders: &Folders) -> Result<(), Failure> {
    let listener = listener(std::io::stdin().as_fd()).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .hint("systemd starts this when the agent needs it: `systemctl enable --now twinagent-handlers.socket`")
    })?;
    // A second agent, or a test, has programs and an agent of whoever runs it.
    let own = (!folders.is_standard()).then(|| rustix::process::geteuid().as_raw());
    let mut manifests = Finder::new(folders.clone());
    let launcher = Launcher {
        callers: std::iter::once(0).chain(account::service_user()).chain(own).collect(),
        owners: std::iter::once(0).chain(own).collect(),
        // What this service's own unit names.
        folder: folders.runtime.clone(),
        idle: IDLE,
    };
    let find: Find = Box::new(move |name| manifests.find(name).map_err(|faults| told(name, &faults)));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")?;
    // As a task: what `block_on` itself runs is woken by way of the reactor, one epoll_wait(2) for each hop.
    let ended = runtime.block_on(async { tokio::spawn(launcher.serve(listener, find)).await });
    Ok(ended.map_err(anyhow::Error::new)??)
}

fn told(name: &str, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if lines.is_empty() { format!("there is no manifest {}", name.escape_debug()) } else { lines.join("; ") }
}
