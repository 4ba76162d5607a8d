//! The file that names the machine whose state this is, and the setting aside of a journal that is another one's. What the
//! text means, the model knows (`fingerprint`).

use std::path::PathBuf;

use rustix::fs::renameat;
use rustix::io::Errno;

use super::atomic::{self, Unfinished};
use super::{StateDir, StoreError, journal, small};

pub(super) const NAME: &str = "machine";

/// The journal of another machine. The one before it is lost: only the last is of use to anybody.
pub(super) const ASIDE: &str = "journal.of-another-machine";

/// The most bytes that are read: what tells machines apart has some two hundred.
const LARGEST: u64 = 4 << 10;

fn path(dir: &StateDir) -> PathBuf {
    dir.path().join(NAME)
}

/// What was written of the machine whose state this is; `None` if nothing was.
pub fn read(dir: &StateDir) -> Result<Option<String>, StoreError> {
    let bytes = small::read(dir, NAME, LARGEST)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes whose state this is; on disk when this returns.
pub fn write(dir: &StateDir, machine: &str) -> Result<(), StoreError> {
    match atomic::replace(&dir.folder(), NAME, format!("{machine}\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(Unfinished { doing, error, .. }) => Err(StoreError::new(&path(dir), doing, error)),
    }
}

/// Gives the journal another name, so that it is not read any more. Where it lies now; `None` if there was none.
pub fn set_aside(dir: &StateDir) -> Result<Option<PathBuf>, StoreError> {
    let folder = dir.folder();
    match renameat(&**folder, journal::NAME, &**folder, ASIDE) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => {
            return Err(StoreError::new(&dir.path().join(journal::NAME), "setting it aside", errno.into()));
        }
    }
    atomic::sync_folder(&folder).map_err(|error| StoreError::new(dir.path(), "syncing the folder", error))?;
    Ok(Some(dir.path().join(ASIDE)))
}
