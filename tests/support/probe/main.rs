//! Tries, from inside a unit, what its sandbox must refuse and what it must allow. In no package; tests/system runs it.
//!
//! Each attempt is a process of its own, so that one which is killed for trying says something of that attempt and
//! nothing of the others. One JSON object is printed: `{"name": {"ok": bool, "detail": "…"}}`. `ok`: it could be done.
//! An attempt that could not be made at all is neither, says `"made": false`, and the exit code is 1.

mod allowed;
mod attempt;
mod refused;

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Map, Value, json};

use attempt::{Attempt, Given, Unmade};

/// How long one attempt may take. The slowest, waiting for a caller, has its own bound below this.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug, Parser)]
#[command(name = "twinagent-probe")]
struct Words {
    #[command(flatten)]
    given: Given,
    /// Make one attempt alone, in this process
    #[arg(long)]
    only: Option<String>,
    /// Connect to the socket of another probe and do nothing else: the caller of its attempt `peer`
    #[arg(long, value_name = "SOCKET")]
    call: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let words = Words::parse();
    if let Some(socket) = words.call {
        // Until the other side closes it, so that it can look at us.
        UnixStream::connect(&socket).with_context(|| socket.display().to_string())?.read_to_end(&mut Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    let attempts = || refused::ATTEMPTS.iter().chain(allowed::ATTEMPTS);
    if let Some(name) = words.only {
        let attempt = attempts().find(|attempt| attempt.name == name).context("there is no such attempt")?;
        print(&told(attempt, &words.given))?;
        return Ok(ExitCode::SUCCESS);
    }
    let all: Map<String, Value> =
        attempts().map(|attempt| (attempt.name.to_owned(), apart(attempt, &words.given))).collect();
    let is_whole = all.values().all(|told| told.get("made").is_none());
    print(&Value::Object(all))?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(told: &Value) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{told}")
}

/// Makes an attempt here.
fn told(attempt: &Attempt, given: &Given) -> Value {
    match (attempt.make)(given) {
        Ok(detail) => json!({ "ok": true, "detail": detail }),
        Err(error) if error.is::<Unmade>() => json!({ "ok": false, "detail": format!("{error:#}"), "made": false }),
        Err(error) => json!({ "ok": false, "detail": format!("{error:#}") }),
    }
}

/// Makes an attempt in a process of its own.
fn apart(attempt: &Attempt, given: &Given) -> Value {
    let unmade = |why: String| json!({ "ok": false, "detail": why, "made": false });
    let child = Command::new("/proc/self/exe")
        .args(given.words())
        .args(["--only", attempt.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return unmade(format!("no process for it: {error}")),
    };
    let mut out = child.stdout.take().expect("it was asked for");
    let (tell, heard) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = out.read_to_string(&mut text);
        // Nobody waits for it any more if it came too late.
        let _ = tell.send(read.map(|_| text));
    });
    let text = heard.recv_timeout(PATIENCE);
    if text.is_err() {
        // It may have ended in this moment.
        let _ = child.kill();
    }
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => return unmade(format!("its end was not seen: {error}")),
    };
    match (status.signal(), text) {
        (_, Err(_)) => unmade(format!("it did not end within {PATIENCE:?}")),
        (Some(signal), _) => json!({ "ok": false, "detail": format!("killed by signal {signal}") }),
        (None, Ok(Ok(text))) => serde_json::from_str(&text).unwrap_or_else(|_| unmade(format!("{status}: {text}"))),
        (None, Ok(Err(error))) => unmade(error.to_string()),
    }
}
