//! The mark of an orderly end: a small file that names the boot in which the daemon heard that it, or the machine, was to
//! go down. A boot that follows without it came out of the blue.
//!
//! Knows bytes and names; what follows from the mark, the model decides.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::atomic::{self, Unfinished};
use super::{StateDir, StoreError};
use crate::model::now::BootId;

pub(super) const NAME: &str = "farewell";

/// The most bytes that are read: a boot id has 36.
const LARGEST: u64 = 64;

fn path(dir: &StateDir) -> PathBuf {
    dir.path().join(NAME)
}

/// The boot that ended in good order; `None`: there is no mark, or none that names a boot. Follows no link.
pub fn read(dir: &StateDir) -> Result<Option<BootId>, StoreError> {
    let failed = |doing| move |error| StoreError::new(&path(dir), doing, error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(&**dir.folder(), NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("opening it")(errno.into())),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed("reading it"))?;
    Ok(parse(&bytes))
}

/// The boot that a mark with these bytes names, if it names one.
pub fn parse(bytes: &[u8]) -> Option<BootId> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Leaves the mark; it is on disk when this returns.
pub fn write(dir: &StateDir, boot: BootId) -> Result<(), StoreError> {
    match atomic::replace(&dir.folder(), NAME, format!("{boot}\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(Unfinished { doing, error, .. }) => Err(StoreError::new(&path(dir), doing, error)),
    }
}

/// Takes the mark away, if there is one; it does not come back when this has returned.
pub fn remove(dir: &StateDir) -> Result<(), StoreError> {
    let folder = dir.folder();
    match unlinkat(&**folder, NAME, AtFlags::empty()) {
        Ok(()) => {
            atomic::sync_folder(&folder).map_err(|error| StoreError::new(dir.path(), "syncing the folder", error))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(StoreError::new(&path(dir), "removing it", errno.into())),
    }
}
