//! The journal: the records of the model in one file, appended and synced in batches, and now and then written anew.
//!
//! It does not know what a record means. Its one promise: when `append` returned Ok for a record that must be synced,
//! that record is read back after any crash or loss of power, or the damage is noticed.
//!
//! After a failure the file is given up: once fsync(2) failed, the kernel may have dropped the very pages that were to be
//! written and call the next fsync a success, so there is nothing to retry. Only a new file, by `rewrite`, is trusted.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::atomic::{self, Unfinished};
use super::dir::{Folder, StateDir};
use super::lines::{self, Damage, Scan};
use crate::model::record::{FORMAT, Record};

pub(super) const NAME: &str = "journal";

/// No journal grows beyond this, and none that is larger is read.
///
/// A ledger at all its limits (4 096 entries of 4 KiB, 64 that wait with the largest payload and outcome) has a snapshot
/// of about 50 MiB, and [`Journal::wants_rewrite`] comes at twice that.
pub(super) const MAX_LENGTH: u64 = 128 << 20;

/// How far a journal may grow beyond twice its snapshot before it is rewritten.
///
/// Twice: then a rewrite of a ledger that no longer grows writes less than was appended since the last one. 256 KiB more:
/// some hundred commands pass between two rewrites of a small ledger, and reading it at start still takes milliseconds.
pub(super) const GROWTH: u64 = 256 << 10;

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    folder: Arc<Folder>,
    path: PathBuf,
    state: State,
    /// All appends that were accepted end here, in bytes.
    accepted: u64,
    /// What of it is known to be on disk.
    synced: u64,
    /// From this length on a rewrite pays.
    rewrite_at: u64,
}

#[derive(Debug)]
enum State {
    Ready(File),
    Broken(StoreError),
}

/// A journal that is there and cannot be used. The file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{}: damaged at byte {offset}; hint: check this disk, keep a copy, then move the file away to begin anew \
         (commands that are sent again may then run again)", path.display()
    )]
    Corrupt { path: PathBuf, offset: u64 },
    #[error(
        "{}: written in format {format}, and this twinagent knows {FORMAT} only; hint: install the newer version again, \
         or move the file away to begin anew", path.display()
    )]
    Newer { path: PathBuf, format: u32 },
    #[error(
        "{}: the line at byte {offset} is whole, but it is no record that this version knows; hint: install the version \
         that wrote it, or move the file away to begin anew", path.display()
    )]
    Foreign { path: PathBuf, offset: u64 },
    #[error("{}: {length} bytes, more than a journal can have ({MAX_LENGTH}); hint: move it away", path.display())]
    TooLarge { path: PathBuf, length: u64 },
    #[error("{}: a link, folder, pipe or device instead of a file; hint: move it away", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: {doing} failed: {error}; hint: {}", path.display(), remedy(error, "check the owner of the file and the health of this disk"))]
    Io { path: PathBuf, doing: &'static str, error: io::Error },
}

/// Something could not be put on disk.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {doing} failed: {error}; hint: {}", path.display(), remedy(error, "check the free space and the health of this disk"))]
pub struct StoreError {
    path: PathBuf,
    doing: &'static str,
    error: Arc<io::Error>,
}

/// What to do about an error, if it is none of the usual ones.
fn remedy(error: &io::Error, usual: &'static str) -> &'static str {
    match error.kind() {
        // A service with a sandbox has mounts of its own, and what is remounted later is not remounted in there.
        io::ErrorKind::ReadOnlyFilesystem => {
            "make this file system writable; a service that saw it read-only at its start may have to be restarted then"
        }
        _ => usual,
    }
}

impl Journal {
    /// Opens the journal of this folder, or makes an empty one, and reads its records.
    ///
    /// All that is read is on disk before it is returned: a daemon that was killed between write and sync must not act
    /// on what it left in the page cache. A torn tail is cut off. A journal that can be read but neither written nor
    /// synced comes back with a [`fault`](Self::fault), so that the device still knows what it has done.
    ///
    /// Once for each folder: two open journals would overwrite each other.
    pub fn open(dir: &StateDir) -> Result<(Self, Vec<Record>), OpenError> {
        let path = dir.path().join(NAME);
        let folder = dir.folder();
        atomic::discard_draft(&folder, NAME);
        let mut journal = Self {
            folder,
            state: State::Broken(StoreError::new(&path, "finding it", Errno::NOENT.into())),
            path,
            accepted: 0,
            synced: 0,
            rewrite_at: 0,
        };
        let Some((file, writable)) = find(&journal.folder, &journal.path)? else {
            // If this fails, the journal keeps the reason as its fault.
            let _ = journal.rewrite(&[]);
            return Ok((journal, Vec::new()));
        };
        let (length, scan) = read(&file, &journal.path)?;
        let settled = writable
            .map_err(|error| StoreError::new(&journal.path, "opening it for writing", error))
            .and_then(|()| settle(&file, &journal.path, length, scan.whole));
        journal.state = settled.map_or_else(State::Broken, |()| State::Ready(file));
        journal.starts_with(scan.snapshot, scan.whole);
        Ok((journal, scan.records))
    }

    /// Appends these records in one write, and syncs if one of them [must be](Record::must_be_synced).
    ///
    /// After an error nothing of it counts as recorded, and every further append fails in the same way until
    /// [`rewrite`](Self::rewrite) has succeeded.
    pub fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let file = match &self.state {
            State::Ready(file) => file,
            State::Broken(fault) => return Err(fault.clone()),
        };
        let mut bytes = Vec::new();
        for record in records {
            lines::push(&mut bytes, self.synced, record);
        }
        let grown = self.accepted + bytes.len() as u64;
        let sync = records.iter().any(Record::must_be_synced);

        let ended = if grown > MAX_LENGTH {
            Err((self.accepted, "growing it", io::ErrorKind::FileTooLarge.into()))
        } else if let Err(error) = file.write_all_at(&bytes, self.accepted) {
            Err((self.accepted, "writing to it", error))
        } else if sync && let Err(error) = file.sync_data() {
            // What was accepted without a sync may be gone now as well.
            Err((self.synced, "syncing it", error))
        } else {
            Ok(())
        };
        if let Err((keep, doing, error)) = ended {
            // So that a restart before the rewrite does not find what was refused. If it fails, it may; the model can
            // live with both.
            let _ = file.set_len(keep);
            let fault = StoreError::new(&self.path, doing, error);
            self.state = State::Broken(fault.clone());
            return Err(fault);
        }
        self.accepted = grown;
        if sync {
            self.synced = grown;
        }
        Ok(())
    }

    /// Replaces the whole journal by these records, atomically, and heals a broken one.
    ///
    /// If it fails, a journal that was sound still is, unless the new file has its name already and could not be made
    /// durable there.
    pub fn rewrite(&mut self, snapshot: &[Record]) -> Result<(), StoreError> {
        let bytes = lines::snapshot(snapshot);
        let length = bytes.len() as u64;
        let replaced = if length > MAX_LENGTH {
            Err(Unfinished { doing: "rewriting it", error: io::ErrorKind::FileTooLarge.into(), renamed: false })
        } else {
            atomic::replace(&self.folder, NAME, &bytes)
        };
        match replaced {
            Ok(file) => {
                self.state = State::Ready(file);
                self.starts_with(length, length);
                Ok(())
            }
            Err(Unfinished { doing, error, renamed }) => {
                let fault = StoreError::new(&self.path, doing, error);
                if renamed || self.fault().is_some() {
                    self.state = State::Broken(fault.clone());
                }
                // The next try is due when it has grown again, not with each append.
                self.rewrite_at = self.accepted.saturating_add(GROWTH);
                Err(fault)
            }
        }
    }

    /// Whether it has grown so much since the last rewrite that the next one pays. Never while it is broken: when to try
    /// again is then a question of time, not of size.
    pub fn wants_rewrite(&self) -> bool {
        matches!(self.state, State::Ready(_)) && self.accepted >= self.rewrite_at
    }

    /// Why nothing can be appended until a rewrite succeeds.
    pub fn fault(&self) -> Option<&StoreError> {
        match &self.state {
            State::Ready(_) => None,
            State::Broken(fault) => Some(fault),
        }
    }

    fn starts_with(&mut self, snapshot: u64, length: u64) {
        self.accepted = length;
        self.synced = length;
        self.rewrite_at = 2 * snapshot + GROWTH;
    }
}

impl StoreError {
    pub(super) fn new(path: &Path, doing: &'static str, error: io::Error) -> Self {
        Self { path: path.to_owned(), doing, error: Arc::new(error) }
    }

    /// What the system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

/// The file, if there is one, and whether it can be written to. Follows no link and does not wait for a pipe's writer.
fn find(folder: &File, path: &Path) -> Result<Option<(File, io::Result<()>)>, OpenError> {
    let open = |access| {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(folder, NAME, flags, Mode::empty()).map(File::from)
    };
    let found = match open(OFlags::RDWR) {
        Err(errno @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => {
            open(OFlags::RDONLY).map(|file| (file, Err(errno.into())))
        }
        other => other.map(|file| (file, Ok(()))),
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Err(OpenError::NotAFile { path: path.to_owned() }),
        Err(errno) => Err(OpenError::Io { path: path.to_owned(), doing: "opening it", error: errno.into() }),
    }
}

/// Its length, and what of it can be believed.
fn read(file: &File, path: &Path) -> Result<(u64, Scan), OpenError> {
    let path = || path.to_owned();
    let failed = |error| OpenError::Io { path: path(), doing: "reading it", error };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(OpenError::NotAFile { path: path() });
    }
    if found.len() > MAX_LENGTH {
        return Err(OpenError::TooLarge { path: path(), length: found.len() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut bytes).map_err(failed)?;
    let scan = lines::scan(&bytes).map_err(|damage| match damage {
        Damage::Corrupt { offset } => OpenError::Corrupt { path: path(), offset },
        Damage::Newer { format } => OpenError::Newer { path: path(), format },
        Damage::Foreign { offset } => OpenError::Foreign { path: path(), offset },
    })?;
    Ok((bytes.len() as u64, scan))
}

/// Cuts a torn tail off and makes sure that what was read is on disk.
fn settle(file: &File, path: &Path, length: u64, whole: u64) -> Result<(), StoreError> {
    let failed = |doing| move |error| StoreError::new(path, doing, error);
    if whole == length {
        return file.sync_data().map_err(failed("syncing what was found"));
    }
    tracing::warn!(path = %path.display(), at = whole, bytes = length - whole, "cut off an end of the journal that had not been synced");
    file.set_len(whole).map_err(failed("cutting a torn end off"))?;
    file.sync_all().map_err(failed("syncing what was found"))
}
