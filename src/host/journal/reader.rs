//! The side that may read the journal: asks journalctl(1), and makes a bounded answer of what it prints.
//!
//! The newest line is read first, so that reading can end where there is no more room. Whatever a program has logged, an
//! answer is text, and of a length that is known before.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Answer, Entry, Lines, MOST_BYTES, Query};
use crate::host::clock;
use crate::model::json;
use crate::model::now::Timestamp;
use crate::model::unit_name::UnitName;

/// journalctl reads without an index where it has to: on a slow card with large files that takes long.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest line of journalctl's that is looked at, in bytes. An entry may have hundreds of megabytes.
const LONGEST_LINE: usize = 1_024 * 1_024;

/// The longest message of an entry that is passed on, in characters.
const LONGEST_MESSAGE: usize = 4_096;

/// The most of journalctl's complaints that is passed on, in bytes.
const COMPLAINT: u64 = 1_024;

/// Reads the journal for whoever asks on a connection of ours.
#[derive(Clone, Debug)]
pub struct Reader {
    pub journalctl: PathBuf,
    /// Units that may be asked for, besides our own; or why nobody knows.
    pub listed: Result<BTreeSet<UnitName>, String>,
}

impl Reader {
    /// Answers one question.
    pub async fn answer(&self, question: &[u8]) -> Answer {
        let query = match Query::parse(question) {
            Ok(query) => query,
            Err(why) => return Answer::Failed(format!("not a question: {why}")),
        };
        if !is_own(&query.unit) {
            match &self.listed {
                Ok(listed) if listed.contains(&query.unit) => {}
                Ok(_) => return Answer::NotListed(query.unit.to_string()),
                Err(why) => return Answer::Failed(why.clone()),
            }
        }
        match tokio::time::timeout(LIMIT, self.read(&query)).await {
            Ok(Ok(lines)) => Answer::Lines(lines),
            Ok(Err(error)) => Answer::Failed(format!("{error:#}")),
            Err(_) => Answer::Failed(format!("journalctl took longer than {} s", LIMIT.as_secs())),
        }
    }

    async fn read(&self, query: &Query) -> anyhow::Result<Lines> {
        let mut child = self.spawn(query)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            anyhow::bail!("journalctl has no output");
        };
        let mut complaint = Vec::new();
        let mut stderr = stderr.take(COMPLAINT);
        // Beside each other: neither may wait for room that nobody makes.
        let (lines, heard) = tokio::join!(gather(BufReader::new(stdout)), stderr.read_to_end(&mut complaint));
        let lines = lines?;
        // What came before an error is still worth a look.
        drop(heard);
        if lines.truncated {
            // The rest is not wanted; the child ends with this value.
            return Ok(lines);
        }
        let status = child.wait().await?;
        let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
        anyhow::ensure!(status.success() || !lines.entries.is_empty(), "journalctl: {complaint} ({status})");
        Ok(lines)
    }

    fn spawn(&self, query: &Query) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.journalctl);
        command.arg(format!("--unit={}", query.unit)).arg(format!("--lines={}", query.lines)).args([
            "--reverse",
            "--output=json",
            "--output-fields=MESSAGE,PRIORITY",
            "--all",
            "--no-pager",
            "--quiet",
        ]);
        if let Some(since) = query.since {
            // A number is read alike by every version and in every zone (systemd.time(7)).
            command.arg(format!("--since=@{}", since.unix_seconds()));
        }
        if let Some(priority) = query.priority {
            command.arg(format!("--priority={priority}"));
        }
        if let Some(invocation) = &query.invocation {
            // What it said itself, and what systemd says of it (systemd.journal-fields(7)).
            command.arg(format!("_SYSTEMD_INVOCATION_ID={invocation}")).arg("+");
            command.arg(format!("INVOCATION_ID={invocation}"));
        }
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("SYSTEMD_COLORS", "0")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().map_err(|error| anyhow::anyhow!("{} cannot be started: {error}", self.journalctl.display()))
    }
}

/// Units of ours: the agent, its services, its jobs.
fn is_own(unit: &UnitName) -> bool {
    let name = unit.as_str();
    name == "twinagent.service"
        || (name.starts_with("twinagent-") && name.ends_with(".service"))
        || (name.starts_with("twinagent@") && name.ends_with(".service"))
}

/// Takes entries in, the newest first, as long as there is room.
async fn gather(mut lines: impl AsyncBufRead + Unpin) -> anyhow::Result<Lines> {
    let mut gathered = Lines::default();
    let mut left = MOST_BYTES;
    while let Some(line) = next_line(&mut lines).await? {
        let newer = gathered.entries.last().map(|entry: &Entry| entry.time);
        let Some(entry) = line.as_deref().map_or_else(|| Some(Entry::unreadable(newer)), Entry::read) else { continue };
        let length = serde_json::to_vec(&entry)?.len() + 1;
        let Some(rest) = left.checked_sub(length) else {
            gathered.truncated = true;
            break;
        };
        left = rest;
        gathered.entries.push(entry);
    }
    gathered.entries.reverse();
    Ok(gathered)
}

/// The next line without its end; nothing in the place of one that is too long. `None`: there is no further one.
async fn next_line(lines: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let bytes = lines.fill_buf().await?;
        if bytes.is_empty() {
            let is_over = line.is_empty() && !is_too_long;
            return Ok((!is_over).then_some((!is_too_long).then_some(line)));
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let taken = part.len() + usize::from(end.is_some());
        if is_too_long || line.len() + part.len() > LONGEST_LINE {
            is_too_long = true;
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        lines.consume(taken);
        if end.is_some() {
            return Ok(Some((!is_too_long).then_some(line)));
        }
    }
}

impl Entry {
    /// One object of `journalctl --output=json` (systemd.io, "Journal Export Formats"): text is a string, anything else a
    /// list of bytes, and a field that stands twice a list of both. Nothing, if it is none.
    fn read(line: &[u8]) -> Option<Self> {
        let entry = json::strict(line).ok()?;
        let micros = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        let priority = entry.get("PRIORITY").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let message = match entry.get("MESSAGE") {
            Some(Value::String(text)) => harmless(text),
            Some(Value::Array(bytes)) => {
                let bytes: Option<Vec<u8>> = bytes.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
                bytes
                    .map_or_else(|| "(several messages)".to_owned(), |bytes| harmless(&String::from_utf8_lossy(&bytes)))
            }
            _ => "(no message)".to_owned(),
        };
        Some(Self {
            time: Timestamp::from_micros(micros),
            message,
            priority: priority.filter(|priority| *priority <= 7),
        })
    }

    /// In the place of one that is too long to be looked at. Its time is not known, but it is before that of the next.
    fn unreadable(newer: Option<Timestamp>) -> Self {
        let time = newer.unwrap_or_else(clock::wall);
        Self { time, message: "(a message that is too long)".to_owned(), priority: None }
    }
}

/// A text that steers no terminal, and is not without end.
fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    let mut message: String = text.chars().take(LONGEST_MESSAGE).map(shown).collect();
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        message.push('…');
    }
    message
}
