//! `twinagent run`: the daemon, in the foreground, until SIGTERM or SIGINT.
//!
//! A configuration that is wrong does not end it: a device that stops to answer because of a typing error is one that
//! somebody has to drive to.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure};
use crate::config::Folders;
use crate::daemon::{self, Parts};
use crate::handler::Handler;
use crate::host::unit::{self, Unit};
use crate::store::LockError;

/// Runs the daemon with these handlers. Returns when it was told to stop and has stopped.
pub fn run(folders: &Folders, file: Option<&Path>, handlers: Vec<Arc<dyn Handler>>) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() && is_service(folders) && !is_started_by_systemd() {
        tracing::warn!(
            "run by hand as root beside the service twinagent, which cannot change afterwards what root has written to {}; \
             hint: stop this, and `systemctl start twinagent`",
            folders.state.display()
        );
    }
    let machine = super::machine();
    let parts = Parts { folders: folders.clone(), file: file.map(Path::to_owned), handlers, machine };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")?;
    // As a task: what `block_on` itself runs is woken by way of the reactor, one epoll_wait(2) for each hop.
    let ended = runtime.block_on(async { tokio::spawn(live(parts)).await });
    let ended = ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(error) => Err(error.into()),
    });
    match ended {
        Ok(()) => Ok(()),
        Err(error) => {
            let is_held = matches!(error.downcast_ref(), Some(LockError::Held { .. }));
            if is_held { Err(Failure::new(Exit::Held, error)) } else { Err(error.into()) }
        }
    }
}

/// Whether the daemon of these folders is a service of this machine.
pub(super) fn is_service(folders: &Folders) -> bool {
    folders.is_standard() && unit::is_systemd_here() && Unit::installed().is_some()
}

/// Services are its own children.
fn is_started_by_systemd() -> bool {
    rustix::process::getppid().is_some_and(rustix::process::Pid::is_init)
}

async fn live(parts: Parts) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    daemon::run(parts, stop).await
}
