//! The payloads of jobs: a file each, for root and the agent alone, in a folder in memory that outlives the agent. They are
//! named as their units are, of which `%N` is the name without its kind (systemd.unit(5)).
//!
//! The folder is a file system of its own that follows no links (`systemd/run-twinagent\x2djobs.mount`): systemd reads
//! payloads as root where the agent's user writes. Nothing else makes the folder: without the mount there is none, rather
//! than one in which links lead somewhere. Ids of two methods may be alike, which is why the whole name of the unit is that
//! of the file.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

use crate::host::clock;
use crate::model::command::{Outcome, Status};
use crate::model::now::Timestamp;
use crate::model::unit_name::UnitName;

/// A payload of this age has a job that runs, or none. Between the two lie moments.
const OLD: Duration = Duration::from_secs(10 * 60);

/// What makes the folder, as it is written in a shell.
const MOUNT: &str = r"'run-twinagent\x2djobs.mount'";

#[derive(Clone, Debug)]
pub(super) struct Payloads {
    folder: PathBuf,
}

impl Payloads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes that of a job that does not run. The error is the answer.
    pub(super) async fn write(&self, job: &UnitName, payload: Vec<u8>) -> Result<(), Outcome> {
        let (folder, name) = (self.folder.clone(), file(job));
        let written = tokio::task::spawn_blocking(move || {
            let folder = open(&folder)?;
            // Of an earlier one of this name, which nobody could take away.
            remove(&folder, &name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&payload).inspect_err(|_| {
                // The first error is the one to tell.
                let _ = remove(&folder, &name);
            })
        });
        let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| {
            let folder = self.folder.display();
            if error.kind() == ErrorKind::StorageFull {
                let why = format!("{folder} is full of payloads: there is room again when other jobs have ended");
                return Outcome::failed(Status::CANNOT_NOW, why);
            }
            let why = format!(
                "the payload cannot be written to {folder}: {error}; hint: `systemctl status {MOUNT}`, and then \
                 `sudo systemctl restart twinagent`",
            );
            Outcome::failed(Status::FAILED, why)
        })
    }

    /// Takes it away, if it is there.
    pub(super) async fn remove(&self, job: &UnitName) {
        let (folder, name) = (self.folder.clone(), file(job));
        let removed = tokio::task::spawn_blocking(move || match open(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            folder => remove(&folder?, &name),
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!("{} cannot be removed: {error}", self.folder.join(file(job)).display());
        }
    }

    /// The jobs whose payloads have lain there for longer than any job takes to begin.
    pub(super) async fn old(&self) -> Vec<UnitName> {
        let folder = self.folder.clone();
        let found = tokio::task::spawn_blocking(move || {
            let now = clock::wall();
            let is_old = |entry: &std::fs::DirEntry| {
                let written = entry.metadata().ok().and_then(|facts| facts.modified().ok());
                let written = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
                let written = written.and_then(|time| i64::try_from(time.as_micros()).ok()).map(Timestamp::from_micros);
                written.is_some_and(|written| now.since(written) > OLD)
            };
            let job = |entry: std::fs::DirEntry| {
                UnitName::parse(&format!("{}.service", entry.file_name().to_str()?.strip_suffix(".json")?)).ok()
            };
            // Without the folder there is nothing in it.
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.filter(is_old).filter_map(job).collect()
        });
        found.await.unwrap_or_default()
    }
}

fn file(job: &UnitName) -> String {
    let name = job.as_str();
    format!("{}.json", name.strip_suffix(".service").unwrap_or(name))
}

fn open(folder: &std::path::Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, folder, flags, Mode::empty())?.into())
}

fn remove(folder: &File, name: &str) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}
