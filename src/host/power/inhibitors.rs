//! Who holds a shutdown back, for root's side, which has no runtime of its own: logind is asked as the agent asks it.
//!
//! Decides nothing.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context as _;

use crate::host::logind::{BusError, Logind};
use crate::model::reboot::facts::Inhibitor;

/// All locks that block a shutdown. Without a bus, or without logind, nobody can hold one.
pub(super) fn blocks(bus: &Path) -> anyhow::Result<Vec<Inhibitor>> {
    if let Err(error) = UnixStream::connect(bus)
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
    {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("there is no runtime")?;
    Ok(runtime.block_on(ask(&format!("unix:path={}", bus.display())))?)
}

async fn ask(bus: &str) -> Result<Vec<Inhibitor>, BusError> {
    let logind = Logind::connect(bus).await?;
    match logind.inhibitors().await {
        // Asked first, since the bus starts a logind that is only late.
        Err(_) if !logind.is_there().await? => Ok(Vec::new()),
        listed => listed,
    }
}
