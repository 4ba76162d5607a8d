//! Where things are on the host, and the files that hold a place for one user at a time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::patience::within;

/// Machines that run at once; more would only wait for each other's disk.
const AT_ONCE: usize = 3;
/// How long a story may wait for its turn.
const TURN: Duration = Duration::from_secs(600);

/// The bases, which outlive a checkout.
pub(super) fn cache() -> PathBuf {
    made(std::env::var_os("TWINAGENT_TEST_CACHE").map_or("/var/cache/twinagent-tests".into(), PathBuf::from))
}

/// The machines, which live as long as their stories.
pub(super) fn machines() -> PathBuf {
    made(target().join("system"))
}

/// The packages under test.
pub(super) fn packages() -> PathBuf {
    std::env::var_os("TWINAGENT_DEB_DIR").map_or_else(|| target().join("debian"), PathBuf::from)
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

fn made(folder: PathBuf) -> PathBuf {
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
    folder
}

/// Holds a place until it is dropped or its process ends. Waits for whoever holds it now.
#[derive(Debug)]
pub(super) struct Hold {
    _file: File,
}

impl Hold {
    pub(super) fn of(path: &Path) -> Self {
        let file = open(path);
        flock(&file, FlockOperation::LockExclusive).expect("a lock on an open file");
        Self { _file: file }
    }

    /// `None`: somebody else holds it.
    pub(super) fn try_of(path: &Path) -> Option<Self> {
        let file = open(path);
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| Self { _file: file })
    }

    /// One of the places of machines that run.
    pub(super) fn of_a_machine() -> Self {
        let folder = machines();
        let free = || (0..AT_ONCE).find_map(|place| Self::try_of(&folder.join(format!("place-{place}"))));
        within(TURN, "the stories before this one end", free)
    }
}

fn open(path: &Path) -> File {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}
