//! Replacing a file so that after a crash or a loss of power the name leads to the old content or to the new, never to a
//! mixture: write a draft beside it, fsync it, rename it, fsync the folder.
//!
//! All names are looked up from the folder's own descriptor, so nobody can swap the folder in between.

use std::fs::File;
use std::io::{self, Write as _};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// A replacement that did not come to its end.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// What could not be done.
    pub(super) doing: &'static str,
    pub(super) error: io::Error,
    /// The name leads to the new file already, but that may not be on disk: neither content can be relied on.
    pub(super) renamed: bool,
}

/// Puts `bytes` under `name` and returns the new file, open for writing, once all of it is on disk.
pub(super) fn replace(folder: &File, name: &str, bytes: &[u8]) -> Result<File, Unfinished> {
    let draft = draft_of(name);
    discard_draft(folder, name);
    let written = write_draft(folder, &draft, bytes).and_then(|file| {
        renameat(folder, &draft, folder, name).map_err(|errno| Unfinished {
            doing: "renaming the draft",
            error: errno.into(),
            renamed: false,
        })?;
        Ok(file)
    });
    let file = written.inspect_err(|_| discard_draft(folder, name))?;
    sync_folder(folder).map_err(|error| Unfinished { doing: "syncing the folder", error, renamed: true })?;
    Ok(file)
}

/// Removes the draft that a crash left beside `name`. One that stays costs space and nothing else.
pub(super) fn discard_draft(folder: &File, name: &str) {
    let _ = unlinkat(folder, draft_of(name), AtFlags::empty());
}

/// A new or renamed file is found again after a loss of power only if its folder was synced too (fsync(2)).
pub(super) fn sync_folder(folder: &File) -> io::Result<()> {
    folder.sync_all()
}

pub(super) fn draft_of(name: &str) -> String {
    format!("{name}.draft")
}

fn write_draft(folder: &File, draft: &str, bytes: &[u8]) -> Result<File, Unfinished> {
    let failed = |doing| move |error| Unfinished { doing, error, renamed: false };
    let mut file = openat(
        folder,
        draft,
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR | Mode::RGRP,
    )
    .map(File::from)
    .map_err(|errno: Errno| failed("making a draft")(errno.into()))?;
    file.write_all(bytes).map_err(failed("writing the draft"))?;
    file.sync_all().map_err(failed("syncing the draft"))?;
    Ok(file)
}
