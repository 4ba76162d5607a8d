//! Reads a small file of the state folder whole. Follows no link, waits for no pipe, and takes nothing but a regular file of a
//! bounded size: whatever lies in its place must not hold up the start.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{StateDir, StoreError};

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The same for who does not hold the folder: what is not as it should be is not there.
pub(super) fn peek(path: &Path, largest: u64) -> Option<Vec<u8>> {
    let file = File::from(openat(CWD, path, FLAGS, Mode::empty()).ok()?);
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= largest).then_some(bytes)
}

/// The bytes of this file, at most `largest`; `None` if there is none.
pub(super) fn read(dir: &StateDir, name: &str, largest: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let path = dir.path().join(name);
    let failed = |error| StoreError::new(&path, "reading it", error);
    let odd = |why: String| failed(io::Error::new(io::ErrorKind::InvalidData, why));
    let file = match openat(&**dir.folder(), name, FLAGS, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(odd("it is a link".to_owned())),
        Err(errno) => return Err(StoreError::new(&path, "opening it", errno.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(odd("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > largest {
        return Err(odd(format!("it is larger than {} KiB", largest >> 10)));
    }
    Ok(Some(bytes))
}
