//! `twinagent run-logs`: reads the journal of the system for the agent. Not for people: its unit starts it, with a connection
//! of the agent's for stdin and stdout, and for each connection anew.
//!
//! It reads which units may be asked for by itself, so an agent that was taken over learns no more than that.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Failure;
use crate::config::{self, Fault, Folders};
use crate::host::journal::reader::Reader;
use crate::model::unit_name::UnitName;

/// Whoever asks has the question when it connects.
const PATIENCE: Duration = Duration::from_secs(5);

/// One byte more than the longest question, and its end.
const MOST: u64 = 4 * 1_024 + 2;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What reads the journal, for tests
    #[arg(long, default_value = "/usr/bin/journalctl")]
    journalctl: PathBuf,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let question = question()?;
    let reader = Reader { journalctl: arguments.journalctl, listed: listed(folders, file) };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")?;
    let answer = runtime.block_on(reader.answer(&question));
    let mut answer = serde_json::to_vec(&answer).context("the answer cannot be written as JSON")?;
    answer.push(b'\n');
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&answer).and_then(|()| stdout.flush());
    match written {
        // Nobody waits for it any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("the answer cannot be written")?),
    }
}

/// The first line. On a thread that ends with the program, since a read has no time-out.
fn question() -> anyhow::Result<Vec<u8>> {
    let (tell, told) = sync_channel(1);
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut stdin = io::stdin().lock().take(MOST);
        let read = loop {
            let mut part = [0; 1_024];
            match stdin.read(&mut part) {
                Ok(0) => break Ok(line),
                Ok(length) => line.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end);
                break Ok(line);
            }
        };
        // Refused only if nobody waits any more.
        let _ = tell.send(read);
    });
    match told.recv_timeout(PATIENCE) {
        Ok(read) => read.context("the question cannot be read"),
        Err(_) => bail!("no question within {} s", PATIENCE.as_secs()),
    }
}

/// Units that the operator named. Without them our own can be asked for all the same.
fn listed(folders: &Folders, file: Option<&Path>) -> Result<BTreeSet<UnitName>, String> {
    config::log_units(folders, file).map_err(|faults| {
        tracing::warn!("only the logs of the agent's own units can be asked for: {faults}");
        let first = faults.faults.first().map(Fault::to_string).unwrap_or_default();
        format!("the configuration cannot be read: {first}")
    })
}
