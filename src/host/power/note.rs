//! The two notes that pass between the agent and root, and the reading of notes that somebody else wrote.
//!
//! A note is a small file of one JSON object, put under its name in one step. A folder is opened once and used by its
//! descriptor, and no link is followed in it.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::command::CommandId;
use crate::model::json;
use crate::model::now::{BootId, BootInstant};
use crate::model::reboot::plan::Plan;

/// The largest note, in bytes. Of 1 024 bytes of text JSON may make six times as many.
const LARGEST: u64 = 8 * 1_024;

/// The longest text in a note, in bytes.
pub(super) const LONGEST: usize = 1_024;

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    pub command: CommandId,
    pub reason: Option<String>,
    /// The boot that is to be ended.
    pub boot: BootId,
    /// Milliseconds of `CLOCK_BOOTTIME` from which on the request is too old.
    pub until_millis: u64,
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Answer {
    pub command: CommandId,
    pub boot: BootId,
    /// Why the machine was not asked to reboot. Missing: it was.
    pub refused: Option<String>,
}

impl From<&Plan> for Request {
    fn from(Plan { way: _, id, reason, boot, until }: &Plan) -> Self {
        let until_millis = u64::try_from(until.0.as_millis()).unwrap_or(u64::MAX);
        Self { command: id.clone(), reason: reason.clone(), boot: *boot, until_millis }
    }
}

impl Request {
    /// Strict: what it does not know, or a text of more than 1 KiB, makes it none.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let request: Self = object(text).context("this is no request for a reboot")?;
        ensure!(request.reason.as_ref().is_none_or(|reason| reason.len() <= LONGEST), "the reason is too long");
        Ok(request)
    }

    pub(super) fn until(&self) -> BootInstant {
        BootInstant(std::time::Duration::from_millis(self.until_millis))
    }
}

impl Answer {
    /// As strict as [`Request::parse`].
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let answer: Self = object(text).context("this is no answer to a request for a reboot")?;
        ensure!(answer.refused.as_ref().is_none_or(|why| why.len() <= LONGEST), "the reason is too long");
        Ok(answer)
    }
}

/// One JSON object. Serde alone would take a list of its members' values, too.
fn object<Note: DeserializeOwned>(text: &str) -> anyhow::Result<Note> {
    let note = json::strict(text.as_bytes())?;
    ensure!(note.is_object(), "an object is expected");
    Ok(serde_json::from_value(note)?)
}

/// An open folder of notes.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?.into()))
    }

    /// Puts a note under this name, in one step. Everybody may read it: root without its capabilities is anybody.
    ///
    /// Nothing is synced. The folder is in memory, and a note that outlived a loss of power would say nothing true.
    pub(super) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let draft = format!("{name}.draft");
        match self.remove(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, &draft, flags, Mode::RUSR | Mode::WUSR)?);
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        Ok(renameat(&self.0, &draft, &self.0, name)?)
    }

    /// Opens whatever has this name, but no link. Does not wait for the writer of a pipe.
    pub(super) fn find(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::empty())?.into())
    }

    /// Removes whatever has this name; of folders only an empty one.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => Ok(unlinkat(&self.0, name, AtFlags::REMOVEDIR)?),
            removed => Ok(removed?),
        }
    }
}

/// The text of a note that one of these users wrote.
pub(super) fn read(file: &File, owners: &[u32]) -> anyhow::Result<String> {
    let facts = file.metadata().context("it cannot be looked at")?;
    ensure!(facts.is_file(), "it is no file");
    let owner = facts.uid();
    ensure!(owners.contains(&owner), "it belongs to user {owner}, who has no say here");
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).context("it cannot be read")?;
    if bytes.len() as u64 > LARGEST {
        bail!("it is larger than {LARGEST} bytes");
    }
    String::from_utf8(bytes).context("it is no text")
}
