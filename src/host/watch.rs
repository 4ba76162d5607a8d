//! Telling when files or folders change, by inotify(7): nothing is asked at intervals, so an idle daemon stays asleep.
//!
//! A path is watched whether there is anything or not. Every folder on the way to it is watched for the next name, links
//! are followed step by step, and after each change the ways are walked anew. So a folder may be removed and made again,
//! an editor may rename, and a link may be turned to another file, without anything getting lost. What has changed is not
//! told: who cares reads everything anew.

mod ways;

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;

use self::ways::{Interest, ways};
use super::burst::Burst;

/// A change is told when nothing more has come for so long: whoever writes several files, or one in steps, is done then.
const SETTLE: Duration = Duration::from_millis(200);
/// But after this at the latest, however much keeps coming.
const LONGEST: Duration = Duration::from_secs(2);
/// The most paths that are watched, and so the bound on memory. A configuration names about ten.
const MOST_PATHS: usize = 64;
/// How often the ways are walked in a row, when they change while they are walked.
const MOST_WALKS: usize = 8;
/// The most events that are taken at once, so that other tasks get their turn. The kernel queues 16 384 (inotify(7)).
const MOST_EVENTS: usize = 1024;
/// Room for some dozen events; the largest takes 272 bytes.
const BUFFER: usize = 4096;

/// Watches paths for as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    inotify: AsyncFd<OwnedFd>,
    paths: Vec<PathBuf>,
    /// By the kernel's number of the watch.
    watches: HashMap<i32, Interest>,
    burst: Burst,
}

impl Watcher {
    /// Watches these paths, of files and of folders with what lies directly in them, there or not. They must be absolute.
    /// A folder on the way that this user may not list is passed over, with a line in the log.
    ///
    /// # Errors
    ///
    /// If there are more than 64 paths, or the machine's limit on inotify is reached (`fs.inotify.max_user_instances`,
    /// `max_user_watches`). Must be called in a tokio runtime.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let paths = checked(paths)?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; an OwnedFd keeps the promise that is asked for there"
        )]
        let inotify =
            AsyncFd::with_interest(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?, Readiness::READABLE)?;
        let mut watcher = Self { inotify, paths, watches: HashMap::new(), burst: Burst::new(SETTLE, LONGEST) };
        watcher.walk()?;
        Ok(watcher)
    }

    /// Watches these paths from now on, in the place of those before; the same errors as with [`new`](Self::new).
    ///
    /// If they are others, that counts as a change: what a new one leads to may have changed between its being found in
    /// a configuration and this call.
    pub fn watch(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
        let paths = checked(paths)?;
        if paths == self.paths {
            return Ok(());
        }
        self.paths = paths;
        self.burst.stir();
        self.walk()
    }

    /// Waits for a change, and then until it has settled: one call for a burst, at most 2 s after its beginning.
    ///
    /// Everything is watched again when it returns, so what is read from then on is either seen by the reader or told by
    /// the next call. May be dropped and called again without loss.
    pub async fn changed(&mut self) {
        loop {
            let wait = self.burst.wait();
            if wait == Some(Duration::ZERO) {
                break;
            }
            tokio::select! {
                ready = self.inotify.readable() => match ready {
                    Ok(mut ready) => {
                        let taken = take(self.inotify.get_ref(), &self.watches);
                        if taken.all {
                            ready.clear_ready();
                        }
                        if taken.matters {
                            self.burst.stir();
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "files are no longer watched");
                        return pending().await;
                    }
                },
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => {}
            }
        }
        self.burst.told();
        if let Err(error) = self.walk() {
            tracing::error!(%error, "not all files are watched");
        }
    }

    /// Walks the ways to all paths and watches what they lead through, until two walks in a row find the same.
    fn walk(&mut self) -> io::Result<()> {
        let mut failed = Ok(());
        for _ in 0..MOST_WALKS {
            failed = Ok(());
            let mut watches: HashMap<i32, Interest> = HashMap::new();
            for (place, interest) in ways(&self.paths) {
                match inotify::add_watch(self.inotify.get_ref(), &place, interest.flags()) {
                    Ok(watch) => watches.entry(watch).or_default().extend(interest),
                    // Gone since, or never there: the next walk tells.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {}
                    Err(Errno::ACCESS) => {
                        tracing::debug!(path = %place.display(), "cannot be watched, since this user may not read it");
                    }
                    Err(errno) => failed = Err(errno.into()),
                }
            }
            let settled = watches == self.watches;
            for old in self.watches.keys().filter(|old| !watches.contains_key(old)) {
                // One whose folder is gone has been removed by the kernel.
                let _ = inotify::remove_watch(self.inotify.get_ref(), *old);
            }
            self.watches = watches;
            if settled {
                return failed;
            }
        }
        // Somebody is at work there. What comes of it is told, and then the ways are walked again.
        self.burst.stir();
        failed
    }
}

fn checked(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = paths.into_iter().take(MOST_PATHS + 1).collect();
    if paths.len() > MOST_PATHS || !paths.iter().all(|path| path.is_absolute()) {
        let why = format!("at most {MOST_PATHS} absolute paths can be watched");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(paths)
}

/// What one reading has found.
struct Taken {
    matters: bool,
    /// Nothing is left to read.
    all: bool,
}

/// Takes what the kernel has to tell, or the beginning of it.
fn take(inotify: &OwnedFd, watches: &HashMap<i32, Interest>) -> Taken {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut events = Reader::new(inotify, &mut buffer);
    let mut matters = false;
    let mut taken = 0;
    while taken < MOST_EVENTS || !events.is_buffer_empty() {
        match events.next() {
            Ok(event) => {
                let interest = watches.get(&event.wd());
                matters |= event.events().contains(ReadFlags::QUEUE_OVERFLOW)
                    || interest.is_some_and(|interest| interest.is_met_by(&event));
                taken += 1;
            }
            Err(Errno::INTR) => {}
            // Anything but WOULDBLOCK cannot happen to a descriptor of ours, and must not become a busy loop.
            Err(_) => return Taken { matters, all: true },
        }
    }
    Taken { matters, all: false }
}

#[cfg(test)]
mod tests;
