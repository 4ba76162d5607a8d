//! The file that keeps the last good configuration. What the bytes mean, `config::last_good` knows.
//!
//! Written only when they differ from what is there: a session is reached several times an hour, and flash wears.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::atomic::{self, Unfinished};
use super::{StateDir, StoreError};

pub(super) const NAME: &str = "config.last-good.json";

/// The most bytes that are read. More than any configuration has; who reads them has a bound of their own.
const LARGEST: u64 = 1 << 20;

/// Where it is kept, for words to people.
pub fn path(dir: &StateDir) -> PathBuf {
    dir.path().join(NAME)
}

/// What is kept; `None` if nothing is. Follows no link, and takes nothing but a regular file of at most 1 MiB.
pub fn read(dir: &StateDir) -> Result<Option<Vec<u8>>, StoreError> {
    let path = path(dir);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(&**dir.folder(), NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(odd(&path, "it is a link")),
        Err(errno) => return Err(StoreError::new(&path, "opening it", errno.into())),
    };
    let failed = |error| StoreError::new(&path, "reading it", error);
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(odd(&path, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(odd(&path, "it is larger than 1 MiB"));
    }
    Ok(Some(bytes))
}

/// Keeps these bytes, atomically. False: they are kept already, and nothing was written.
pub fn write(dir: &StateDir, bytes: &[u8]) -> Result<bool, StoreError> {
    // What cannot be read is replaced like what differs.
    if let Ok(Some(kept)) = read(dir)
        && kept == bytes
    {
        return Ok(false);
    }
    match atomic::replace(&dir.folder(), NAME, bytes) {
        Ok(_) => Ok(true),
        Err(Unfinished { doing, error, .. }) => Err(StoreError::new(&path(dir), doing, error)),
    }
}

fn odd(path: &Path, why: &str) -> StoreError {
    StoreError::new(path, "reading it", io::Error::new(io::ErrorKind::InvalidData, why))
}
