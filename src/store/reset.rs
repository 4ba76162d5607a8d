//! Forgetting: takes away what the daemon has kept in its state folder, and nothing else that may lie there.

use std::path::PathBuf;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::{StateDir, StoreError, assignment, atomic, farewell, journal, last_good, machine};

/// Removes the journal, the last good configuration, the mark of an orderly end and what is known of the machine, with drafts
/// that a crash left of them; also a journal that was set aside. Returns what was there.
///
/// The lock in `dir` proves that no daemon is using them.
pub fn forget(dir: &StateDir) -> Result<Vec<PathBuf>, StoreError> {
    remove(dir, &[journal::NAME, last_good::NAME, farewell::NAME, machine::NAME, machine::ASIDE])
}

/// Removes which hub this device was assigned to. Returns what was there. The lock counts as above.
pub fn forget_assignment(dir: &StateDir) -> Result<Vec<PathBuf>, StoreError> {
    remove(dir, &[assignment::NAME])
}

/// Removes these files and their drafts.
fn remove(dir: &StateDir, names: &[&str]) -> Result<Vec<PathBuf>, StoreError> {
    let drafts: Vec<String> = names.iter().map(|name| atomic::draft_of(name)).collect();
    let folder = dir.folder();
    let mut removed = Vec::new();
    for name in names.iter().copied().chain(drafts.iter().map(String::as_str)) {
        let path = dir.path().join(name);
        match unlinkat(&**folder, name, AtFlags::empty()) {
            Ok(()) => removed.push(path),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(StoreError::new(&path, "removing it", errno.into())),
        }
    }
    if !removed.is_empty() {
        atomic::sync_folder(&folder).map_err(|error| StoreError::new(dir.path(), "syncing the folder", error))?;
    }
    Ok(removed)
}
