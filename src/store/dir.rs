//! The state folder: opened once, locked against a second daemon, and then used by its descriptor only.
//!
//! The lock is flock(2) on the folder itself: there is no lock file to be left behind, and the kernel drops it with the
//! last descriptor, however the process ends.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, major, minor, mkdirat, openat};
use rustix::io::Errno;

use super::atomic;

/// The state folder, open and locked for as long as this value or a journal opened in it lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    folder: Arc<Folder>,
}

/// The locked folder's descriptor.
#[derive(Debug)]
pub(super) struct Folder(File);

/// The state folder cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it. `pid` is missing where the kernel does not tell.
    #[error(
        "{}: another twinagent{} uses this state folder; hint: stop it, or give this one a folder of its own in $STATE_DIRECTORY",
        path.display(), with_pid(*pid)
    )]
    Held { path: PathBuf, pid: Option<u32> },
    #[error("{}: {why}; hint: the state folder must be a folder (no link) that only its owner and group can write to", path.display())]
    Unfit { path: PathBuf, why: &'static str },
    #[error("{}: {doing} failed: {error}; hint: the folder above it must exist and this user must be allowed to write there", path.display())]
    Io { path: PathBuf, doing: &'static str, error: io::Error },
}

fn with_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl LockError {
    fn io(path: &Path, doing: &'static str, error: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), doing, error: error.into() }
    }
}

impl StateDir {
    /// Opens and locks the folder, without waiting. Makes it (mode 0750) if it is missing; the folder above must exist.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        // A trailing slash would make the kernel follow a link in spite of O_NOFOLLOW.
        let path: PathBuf = path.components().collect();
        make(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match openat(CWD, &path, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(LockError::Unfit { path, why: "this is a link or no folder" });
            }
            Err(errno) => return Err(LockError::io(&path, "opening it", errno)),
        };
        let found = folder.metadata().map_err(|error| LockError::io(&path, "reading its mode", error))?;
        if found.mode() & 0o002 != 0 {
            return Err(LockError::Unfit { path, why: "everybody can write here" });
        }
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, folder: Arc::new(Folder(folder)) }),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { pid: holder(found.dev(), found.ino()), path }),
            Err(errno) => Err(LockError::io(&path, "locking it", errno)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn folder(&self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }
}

impl Deref for Folder {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// Closing alone would not do: a child of ours has a copy of the descriptor until its exec closes it.
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn make(path: &Path) -> Result<(), LockError> {
    match mkdirat(CWD, path, Mode::RWXU | Mode::RGRP | Mode::XGRP) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(LockError::io(path, "making it", errno)),
    }
    // Else a loss of power could take the folder away together with everything that was synced inside it.
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above)
        .and_then(|above| atomic::sync_folder(&above))
        .map_err(|error| LockError::io(path, "syncing the folder above it", error))
}

/// Who holds the lock on this inode, by `proc_locks(5)`: `1: FLOCK ADVISORY WRITE 812 fd:01:1234 0 EOF`.
///
/// The process id is 0 for a holder outside of our pid namespace; btrfs shows another device than stat(2) does.
fn holder(device: u64, inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok().filter(|pid| *pid != 0),
        _ => None,
    })
}
