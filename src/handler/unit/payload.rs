//! The payloads of jobs: a file each, for root and the agent alone, in a folder in memory that outlives the agent.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

use crate::host::clock;
use crate::model::command::{CommandId, Outcome, Status};
use crate::model::now::Timestamp;

/// A payload of this age has a job that runs, or none. Between the two lie moments.
const OLD: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
pub(super) struct Payloads {
    folder: PathBuf,
}

impl Payloads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes that of a job that does not run. The error is the answer.
    pub(super) async fn write(&self, id: &CommandId, payload: Vec<u8>) -> Result<(), Outcome> {
        let (folder, name) = (self.folder.clone(), file(id));
        let written = tokio::task::spawn_blocking(move || {
            let folder = open(&folder)?;
            // Of an earlier one with this id, which nobody could take away.
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
            let why = format!(
                "the payload cannot be written to {}: {error}; hint: `sudo systemd-tmpfiles --create twinagent.conf`, then \
                 `sudo systemctl restart twinagent`",
                self.folder.display()
            );
            Outcome::failed(Status::FAILED, why)
        })
    }

    /// Takes it away, if it is there.
    pub(super) async fn remove(&self, id: &CommandId) {
        let (folder, name) = (self.folder.clone(), file(id));
        let removed = tokio::task::spawn_blocking(move || match open(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            folder => remove(&folder?, &name),
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!("{} cannot be removed: {error}", self.folder.join(file(id)).display());
        }
    }

    /// Ids of payloads that have lain there for longer than any job takes to begin.
    pub(super) async fn old(&self) -> Vec<CommandId> {
        let folder = self.folder.clone();
        let found = tokio::task::spawn_blocking(move || {
            let now = clock::wall();
            let is_old = |entry: &std::fs::DirEntry| {
                let written = entry.metadata().ok().and_then(|facts| facts.modified().ok());
                let written = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
                let written = written.and_then(|time| i64::try_from(time.as_micros()).ok()).map(Timestamp::from_micros);
                written.is_some_and(|written| now.since(written) > OLD)
            };
            let id =
                |entry: std::fs::DirEntry| CommandId::parse(entry.file_name().to_str()?.strip_suffix(".json")?).ok();
            // Without the folder there is nothing in it.
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries.filter(is_old).filter_map(id).collect()
        });
        found.await.unwrap_or_default()
    }
}

fn file(id: &CommandId) -> String {
    format!("{id}.json")
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
