//! Running a program of the system to its end, within a time limit, for how it ends and what it complains of.
//!
//! Knows no program in particular.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The most that is read of what a program complains of, in bytes.
const MOST: u64 = 64 * 1_024;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stderr: String,
}

impl Ended {
    /// The last line of what went wrong, or how it ended.
    pub(super) fn complaint(&self) -> String {
        let last = self.stderr.lines().rfind(|line| !line.trim().is_empty());
        last.map_or_else(|| self.status.to_string(), |line| line.trim().to_owned())
    }
}

/// Runs a program in an environment that is always the same. One that takes longer than `limit` is ended.
pub(super) fn run(program: &Path, arguments: &[&str], limit: Duration) -> anyhow::Result<Ended> {
    let name = program.display();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} cannot be started"))?;
    let id = Pid::from_child(&child);
    let (tell, told) = sync_channel(1);
    thread::spawn(move || tell.send(finish(child)));
    match told.recv_timeout(limit) {
        Ok(ended) => ended.with_context(|| format!("{name} cannot be waited for")),
        Err(RecvTimeoutError::Timeout) => {
            // The thread has not reaped it yet, so the id is still its own. Refused only if it has just ended.
            let _ = kill_process(id, Signal::KILL);
            bail!("{name} was ended after {} s", limit.as_secs());
        }
        Err(RecvTimeoutError::Disconnected) => bail!("{name} was lost"),
    }
}

fn finish(mut child: Child) -> io::Result<Ended> {
    let stderr = text(child.stderr.take());
    Ok(Ended { status: child.wait()?, stderr })
}

/// The beginning of what comes. The rest is left unread: who writes on gets SIGPIPE.
fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What came before an error is still worth a look.
        let _ = stream.take(MOST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
