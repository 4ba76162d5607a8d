//! The machine's reboot, asked of root: the agent leaves a request in a folder that it may write to, and
//! `twinagent run-reboot` takes it and leaves its answer in a folder that only root may write to.
//!
//! This file is the agent's side, `perform.rs` root's. What root reads was written by somebody with fewer rights, so it
//! trusts nothing but the kernel's word on who wrote it. No answer proves anything: only another boot id does.

mod inhibitors;
mod note;
mod perform;
mod program;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

pub use perform::{Performer, Tools, perform, user_id};

pub use self::note::{Answer, Request};
use self::note::{Folder, read};
use crate::model::command::CommandId;
use crate::model::now::BootId;
use crate::model::reboot::plan::Plan;

/// The name of the request in its folder.
const REQUEST: &str = "request";
/// The name of the answer in its folder.
const ANSWER: &str = "outcome";

/// Where requests and answers lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The agent writes here.
    pub requests: PathBuf,
    /// Only root writes here.
    pub answers: PathBuf,
}

impl Places {
    /// Those of the agent that has this runtime folder: beside it, so that a second agent has its own.
    /// For `/run/twinagent` they are `/run/twinagent-reboot` and `/run/twinagent-reboot-helper`.
    pub fn beside(runtime: &Path) -> Self {
        let place = |suffix: &str| {
            let mut name = runtime.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            runtime.with_file_name(name)
        };
        Self { requests: place("-reboot"), answers: place("-reboot-helper") }
    }

    /// What to watch for a way to the helper that opens or closes, and for its answer.
    pub fn watched(&self) -> [PathBuf; 2] {
        [self.requests.clone(), self.answers.join(ANSWER)]
    }

    /// Whether a request could be left; if not, why, and what to do about it. Whether root listens cannot be seen.
    pub fn reach(&self) -> Result<(), String> {
        let folder = self.requests.display();
        let why = match accessat(CWD, &self.requests, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) if self.requests.is_dir() => return Ok(()),
            Ok(()) => format!("{folder} is no folder"),
            Err(Errno::NOENT) => format!(
                "{folder} is not there; hint: the package brings it: `sudo systemd-tmpfiles --create twinagent.conf`, \
                 then `sudo systemctl restart twinagent`"
            ),
            Err(Errno::ROFS) => format!("{folder} came after the agent; hint: `sudo systemctl restart twinagent`"),
            Err(errno) => format!(
                "{folder} cannot be written to: {errno}; hint: `sudo systemd-tmpfiles --create twinagent.conf` mends it"
            ),
        };
        Err(format!("no way to the reboot helper: {why}"))
    }

    /// Leaves a request, in the place of one that may lie there.
    pub fn ask(&self, plan: &Plan) -> io::Result<()> {
        let request = Request::from(plan);
        Folder::open(&self.requests)?.put(REQUEST, &serde_json::to_string(&request)?)
    }

    /// Takes back whatever request lies there. If there was one, nobody has taken it; the command it was for, if it is
    /// one of ours.
    pub fn withdraw(&self) -> io::Result<Option<Option<CommandId>>> {
        let folder = match Folder::open(&self.requests) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            folder => folder?,
        };
        let request = folder.find(REQUEST).ok().and_then(|file| Request::parse(&read(&file, &ours()).ok()?).ok());
        match folder.remove(REQUEST) {
            Ok(()) => Ok(Some(request.map(|request| request.command))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What root's side said last, if that was in this boot: for which command, and whether it has asked systemd.
    pub fn answer(&self, boot: BootId) -> Option<(CommandId, Result<(), String>)> {
        let file = Folder::open(&self.answers).and_then(|folder| folder.find(ANSWER)).ok()?;
        let answer = read(&file, &ours())
            .and_then(|text| Answer::parse(&text))
            .inspect_err(|error| tracing::warn!("{}: {error:#}", self.answers.join(ANSWER).display()))
            .ok()?;
        let Answer { command, boot: of, refused } = answer;
        (of == boot).then_some((command, refused.map_or(Ok(()), Err)))
    }
}

/// Whose files the agent believes: its own, which nobody else can make, and root's.
fn ours() -> [u32; 2] {
    [0, rustix::process::geteuid().as_raw()]
}

#[cfg(test)]
mod tests;
