//! The file that keeps the last good configuration. What the bytes mean, `config::last_good` knows.
//!
//! Written only when they differ from what is there: a session is reached several times an hour, and flash wears.

use std::path::PathBuf;

use super::atomic::{self, Unfinished};
use super::{StateDir, StoreError, small};

pub(super) const NAME: &str = "config.last-good.json";

/// The most bytes that are read. More than any configuration has; who reads them has a bound of their own.
const LARGEST: u64 = 1 << 20;

/// Where it is kept, for words to people.
pub fn path(dir: &StateDir) -> PathBuf {
    dir.path().join(NAME)
}

/// What is kept; `None` if nothing is. Follows no link, and takes nothing but a regular file of at most 1 MiB.
pub fn read(dir: &StateDir) -> Result<Option<Vec<u8>>, StoreError> {
    small::read(dir, NAME, LARGEST)
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
