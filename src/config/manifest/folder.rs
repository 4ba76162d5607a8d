//! The files of `handlers.d`: which of them hold, and that only the administrator can have written them.
//!
//! A manifest is a file by itself. A link is not followed, so that what is trusted is what was opened; one to `/dev/null`
//! switches a method off.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::config::fault::{Fault, Place};
use crate::config::trust::{Distrust, Owners};
use crate::config::{Folders, file};

/// More methods than these nobody can oversee, and each is part of the reported document.
pub(super) const MOST: usize = 256;
/// The most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 4096;
/// The largest manifest, in bytes. One that uses every key has a hundredth of it.
pub(super) const LARGEST: u64 = 64 << 10;
/// Of the name of a file (`NAME_MAX` of Linux, limits.h).
const LONGEST_NAME: usize = 255;

/// The manifests of both folders by their names, of two of the same name that in the configuration folder; those that are
/// switched off among them.
pub(super) fn list(folders: &Folders) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let mut found = BTreeMap::new();
    for folder in [&folders.vendor_handlers, &folders.handlers()] {
        add(folder, &mut found)?;
    }
    if found.len() > MOST {
        let text = format!("holds more than {MOST} handlers, with those of {}", folders.vendor_handlers.display());
        return Err(fault(&folders.handlers(), text));
    }
    Ok(found)
}

fn add(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Fault> {
    let unlisted = |error: io::Error| fault(folder, format!("cannot be listed: {error}"));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unlisted(error)),
    };
    for (at, entry) in entries.enumerate() {
        let path = entry.map_err(unlisted)?.path();
        if at == MOST_ENTRIES {
            return Err(fault(folder, format!("holds more than {MOST_ENTRIES} entries")));
        }
        if crate::config::is_drop_in(&path)
            && let Some(name) = path.file_name()
        {
            found.insert(name.to_string_lossy().into_owned(), path);
        }
    }
    Ok(())
}

/// The manifest of this name that holds, switched off or not.
pub(super) fn find(folders: &Folders, name: &str) -> Option<PathBuf> {
    let is_absent =
        |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    // One that cannot be looked at masks the other all the same.
    let both = [folders.handlers(), folders.vendor_handlers.clone()];
    both.into_iter().map(|folder| folder.join(name)).find(|path| !is_absent(path))
}

/// Whether a file of this name is looked for. Names come from other programs, too: none leads out of the folder.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= LONGEST_NAME
        && name.bytes().all(fits)
        && !name.starts_with('.')
        && name.strip_suffix(".toml").is_some_and(|stem| !stem.is_empty())
}

pub(super) fn is_off(path: &Path) -> bool {
    path.is_symlink() && fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// The text of a manifest; nothing if it has gone meanwhile.
pub(super) fn read(path: &Path, owners: &Owners) -> Result<Option<String>, Fault> {
    owners.judge_way(path).map_err(|distrust| distrusted(&distrust))?;
    // A pipe in the place of a file must not hold up the reading, so it is opened without waiting and then refused.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if path.is_symlink() => {
            let text = "is a link, which is not followed; hint: put the file itself here (a link to /dev/null switches \
                        the method off)";
            return Err(fault(path, text));
        }
        Err(error) => return Err(fault(path, format!("cannot be opened: {error}"))),
    };
    let facts = file.metadata().map_err(|error| fault(path, format!("cannot be examined: {error}")))?;
    if !facts.is_file() {
        return Err(fault(path, "is not a regular file"));
    }
    owners.judge(path, &facts).map_err(|distrust| distrusted(&distrust))?;
    file::text(path, file, LARGEST).map(Some)
}

fn distrusted(distrust: &Distrust) -> Fault {
    fault(&distrust.path, distrust.words())
}

pub(super) fn fault(path: &Path, text: impl Into<String>) -> Fault {
    Fault::new(Place::File { path: path.display().to_string(), line: None }, text)
}
