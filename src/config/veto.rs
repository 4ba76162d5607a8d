//! Vetoes: files by which root holds reboots back from this machine, `NAME.toml` in one of two folders.
//!
//! A file holds as long as it is there and has not expired. One that cannot be understood holds too: somebody wanted
//! something by it. One that somebody else than root could have written counts for nothing, and is told as a trouble.
//! Reads and spells; what follows from a veto, the model decides, and `twinagent veto` writes them.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::Deserialize;

use super::Setting;
use crate::model::now::{BootInstant, Now, Timestamp};

/// What the files are called.
const SUFFIX: &str = ".toml";
/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// The longest reason, in characters; what is beyond it is cut.
pub const LONGEST_REASON: usize = 200;
/// The largest file, in bytes.
const LARGEST: u64 = 4096;
/// The most files of a folder that are read. Who needs more wants `methods.disable`.
const MOST: usize = 64;
/// Mode bits by which others than the owner could change a file or a folder.
const OPEN: u32 = 0o022;
const ROOT: u32 = 0;

/// One hold on reboots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veto {
    pub name: String,
    pub reason: String,
    pub end: Option<End>,
    pub path: PathBuf,
}

/// When a veto is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Wall(Timestamp),
    /// Of this boot; no step of the wall clock moves it.
    Boot(BootInstant),
}

/// What a file may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    reason: String,
    /// RFC 3339.
    expires: Option<String>,
    /// Seconds after the kernel's start, for files that do not outlive it. Wins over `expires`.
    expires_uptime: Option<u64>,
}

/// All that hold or held, and what is wrong with files that count for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vetoes {
    pub vetoes: Vec<Veto>,
    pub troubles: Vec<String>,
}

/// The name is not one that a veto may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {LONGEST_NAME} of A-Z a-z 0-9 . _ - and begins with a letter or digit")]
pub struct NotAName;

/// Checks the name of a veto, which is also that of its file.
pub fn name(text: &str) -> Result<String, NotAName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=LONGEST_NAME).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(plain);
    fits.then(|| text.to_owned()).ok_or(NotAName)
}

/// The file of the veto of this name.
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SUFFIX}"))
}

/// A file's text for a veto that ends, if ever, `after` now. `until_boot`: the file does not outlive this boot.
pub fn text(reason: &str, after: Option<Duration>, until_boot: bool, now: &Now) -> String {
    let expires = after.map(|after| format!("expires = \"{}\"\n", now.wall.saturating_add(after)));
    let uptime = after.filter(|_| until_boot).map(|after| now.boot.0.saturating_add(after).as_secs());
    [
        Some(format!("reason = {}\n", Setting::Text(reason.to_owned()))),
        expires,
        uptime.map(|uptime| format!("expires_uptime = {uptime}\n")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Veto {
    /// Whether it holds no more.
    pub fn is_over(&self, now: &Now) -> bool {
        match self.end {
            Some(End::Wall(end)) => now.wall >= end,
            Some(End::Boot(end)) => now.boot >= end,
            None => false,
        }
    }

    /// When it will be over, by the wall clock of now.
    pub fn expires(&self, now: &Now) -> Option<Timestamp> {
        match self.end? {
            End::Wall(end) => Some(end),
            End::Boot(end) => Some(now.wall.saturating_add(end.since(now.boot))),
        }
    }
}

impl Vetoes {
    /// Reads all files of these folders. A folder that is not there holds nothing.
    pub fn read<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut found = Self::default();
        for folder in folders {
            found.read_folder(folder);
        }
        found
    }

    fn read_folder(&mut self, folder: &Path) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.trouble(folder, &error.to_string()),
        };
        // Who may write here may remove what root put here, and put anything in its place.
        match fs::metadata(folder) {
            Ok(facts) if is_roots(&facts) => {}
            Ok(_) => return self.trouble(folder, UNTRUSTED),
            Err(error) => return self.trouble(folder, &error.to_string()),
        }
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for entry in entries.filter_map(Result::ok) {
            let file = entry.file_name();
            // Drafts and backups of editors have other names.
            if let Some(name) = file.to_str().and_then(|file| name(file.strip_suffix(SUFFIX)?).ok()) {
                files.insert(name, entry.path());
            }
        }
        if files.len() > MOST {
            self.trouble(folder, &format!("more than {MOST} files; the first of them count"));
        }
        for (name, path) in files.into_iter().take(MOST) {
            match read_file(&path) {
                Err(Unread::Gone) => {}
                Err(Unread::Untrusted) => self.trouble(&path, UNTRUSTED),
                Err(Unread::Failed(why)) => {
                    let reason = shortened(&format!("{}: {why}", path.display()));
                    self.vetoes.push(Veto { name, reason, end: None, path });
                }
                Ok((reason, end)) => self.vetoes.push(Veto { name, reason: shortened(&reason), end, path }),
            }
        }
    }

    fn trouble(&mut self, path: &Path, why: &str) {
        self.troubles.push(format!("{}: {why}", path.display()));
    }
}

const UNTRUSTED: &str = "others than root may write here, so it counts for nothing; hint: chown root, chmod go-w";

enum Unread {
    Gone,
    Untrusted,
    Failed(String),
}

fn read_file(path: &Path) -> Result<(String, Option<End>), Unread> {
    // Without waiting for the other end of a pipe.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Gone,
        _ => Unread::Failed(error.to_string()),
    })?;
    let failed = |error: io::Error| Unread::Failed(error.to_string());
    let facts = file.metadata().map_err(failed)?;
    if !is_roots(&facts) {
        return Err(Unread::Untrusted);
    }
    if !facts.is_file() {
        return Err(Unread::Failed("not a regular file".to_owned()));
    }
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(Unread::Failed(format!("larger than {LARGEST} bytes")));
    }
    parse(&text).map_err(Unread::Failed)
}

/// Reads the text of a file: the reason, not yet cut to its longest, and the end.
///
/// # Errors
///
/// If it cannot be understood, in words for people. Such a veto holds all the same.
pub fn parse(text: &str) -> Result<(String, Option<End>), String> {
    // The message of a fault only: its picture of the line is for terminals.
    let raw: Raw = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let wall = raw.expires.map(|time| time.parse().map(End::Wall).map_err(|_| "`expires` is not a time in RFC 3339"));
    let boot = raw.expires_uptime.map(|seconds| End::Boot(BootInstant(Duration::from_secs(seconds))));
    Ok((raw.reason, boot.or(wall.transpose()?)))
}

fn is_roots(facts: &Metadata) -> bool {
    facts.uid() == ROOT && facts.mode() & OPEN == 0
}

fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests;
