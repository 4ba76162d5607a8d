//! Root's side of a reboot: takes one request, judges it, asks systemd, and leaves an answer.
//!
//! The request is removed before anything else is done with it, so that nothing that goes wrong can make a loop. A lock
//! that blocks a shutdown is never overridden. Logged-in users are no lock: `systemctl --check-inhibitors=yes` stops for
//! them too, and a machine with a console that logs in by itself would never reboot.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::inhibitors::blocks;
use super::note::{Answer, Folder, LONGEST, Request, read};
use super::program::run;
use super::{ANSWER, Places, REQUEST};
use crate::model::now::{BootId, BootInstant};
use crate::model::reboot::facts::Inhibitor;
use crate::model::reboot::plan::ASK_WITHIN;

/// For systemctl, which only asks and does not wait for the machine to go down.
const LIMIT: Duration = Duration::from_secs(25);

/// Locks that are named in an answer; of more there is only the number.
const NAMED: usize = 3;

/// The longest name or reason of a lock that is passed on, in characters. Any local user may choose them.
const LONGEST_WORD: usize = 100;

/// What root's side asks: systemd by its program, logind on this socket of the system bus.
#[derive(Clone, Debug)]
pub struct Tools {
    pub systemctl: PathBuf,
    pub bus: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self { systemctl: "/usr/bin/systemctl".into(), bus: "/run/dbus/system_bus_socket".into() }
    }
}

/// Whoever performs, and for whom.
#[derive(Clone, Debug)]
pub struct Performer {
    pub places: Places,
    pub tools: Tools,
    /// The users whose requests count.
    pub owners: Vec<u32>,
}

/// Why a request was not done.
enum Refusal {
    /// Somebody has said that the machine must not go down now.
    Held(Vec<Inhibitor>),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes the request that lies there and does what it asks; nothing, if there is none. That a lock holds the reboot back
/// is no error.
///
/// # Errors
///
/// If the request is not one to be done, or could not be done. It is gone all the same, unless the error says otherwise.
pub fn perform(performer: &Performer, boot: BootId, now: BootInstant) -> anyhow::Result<()> {
    let Some(request) = performer.take()? else {
        tracing::info!("no request for a reboot");
        return Ok(());
    };
    let reason = request.reason.as_deref().unwrap_or("none given");
    tracing::info!(command = %request.command, reason, "asked for a reboot");
    let done = judge(&request, boot, now).map_err(Refusal::Failed).and_then(|()| performer.reboot());
    let (refused, done) = match done {
        Ok(()) => {
            tracing::info!(command = %request.command, "systemd was asked to reboot this machine");
            (None, Ok(()))
        }
        Err(Refusal::Held(blocks)) => {
            let why = held(&blocks);
            tracing::warn!(command = %request.command, "no reboot: {why}");
            (Some(why), Ok(()))
        }
        Err(Refusal::Failed(error)) => (Some(format!("{error:#}")), Err(error)),
    };
    performer.answer(&request, refused.map(cut))?;
    done.with_context(|| format!("no reboot for command {}", request.command))
}

impl Performer {
    /// Removes the request, then reads it.
    fn take(&self) -> anyhow::Result<Option<Request>> {
        let path = self.places.requests.join(REQUEST);
        let folder = Folder::open(&self.places.requests)
            .with_context(|| format!("{} cannot be opened", self.places.requests.display()))?;
        let found = folder.find(REQUEST);
        match folder.remove(REQUEST) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            removed => removed.with_context(|| format!("{} cannot be removed and is not looked at", path.display()))?,
        }
        found
            .map_err(Into::into)
            .and_then(|file| Request::parse(&read(&file, &self.owners)?))
            .with_context(|| format!("{} was removed and not obeyed", path.display()))
            .map(Some)
    }

    fn reboot(&self) -> Result<(), Refusal> {
        let Tools { systemctl, bus } = &self.tools;
        let checked = run(systemctl, &["--check-inhibitors=yes", "reboot"], LIMIT)?;
        if checked.status.success() {
            return Ok(());
        }
        let blocks = blocks(bus).context("it is not known whether something holds the reboot back")?;
        if !blocks.is_empty() {
            return Err(Refusal::Held(blocks));
        }
        let first = checked.stderr.lines().next().unwrap_or_default();
        tracing::info!("no lock blocks a shutdown, and logged-in users are not waited for: {first}");
        let asked = run(systemctl, &["reboot"], LIMIT)?;
        if asked.status.success() {
            return Ok(());
        }
        Err(Refusal::Failed(anyhow::anyhow!("systemctl reboot failed: {}", asked.complaint())))
    }

    fn answer(&self, request: &Request, refused: Option<String>) -> anyhow::Result<()> {
        let answer = Answer { command: request.command.clone(), boot: request.boot, refused };
        Folder::open(&self.places.answers)
            .and_then(|folder| folder.put(ANSWER, &serde_json::to_string(&answer)?))
            .with_context(|| format!("{} cannot be written", self.places.answers.join(ANSWER).display()))
    }
}

/// Whether the request is of this boot and of this moment.
fn judge(request: &Request, boot: BootId, now: BootInstant) -> anyhow::Result<()> {
    ensure!(request.boot == boot, "the request is of another boot ({})", request.boot);
    let until = request.until();
    if now >= until {
        bail!("the request is too old, by {} s", now.since(until).as_secs());
    }
    // The agent never asks so; it would be one that lies in wait.
    ensure!(until.since(now) <= ASK_WITHIN, "the request is for a time too far ahead");
    Ok(())
}

fn held(blocks: &[Inhibitor]) -> String {
    let named = blocks.iter().take(NAMED).map(|Inhibitor { who, why }| format!("{} ({})", shown(who), shown(why)));
    let named: Vec<String> = named.collect();
    let more = blocks.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("a shutdown is blocked by {}{more}; hint: `systemd-inhibit --list` shows by whom", named.join(", "))
}

/// A text of somebody else's, fit for a line.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(LONGEST_WORD).collect()
}

/// Cuts a text to what a note may hold.
fn cut(mut text: String) -> String {
    let end = (0..=LONGEST.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

/// The number of the user with this name in `/etc/passwd` (`passwd(5)`), where all users of the system stand.
pub fn user_id(name: &str) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
