//! Whether this service can still do its work: programs run as the same user, and one of them may have spoiled it.
//!
//! What was spoiled is not mended here. The service ends what runs, and then itself with an error; the service manager, which
//! no program reaches, kills what is left and starts it anew.

use std::time::Duration;

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit};

use super::children::Children;
use crate::host::{clock, systemd};

/// How often to look.
pub(super) const LOOKING: Duration = Duration::from_secs(1);
/// How long what programs have left behind may be there after the last of them: killed ones are gone at once.
const HAUNTED: Duration = Duration::from_secs(10);
/// How long nobody may be let in while nothing runs.
const CLOSED: Duration = Duration::from_secs(10);

/// A program can change all of them in a process of its user (prlimit(2)), and programs inherit them.
const LIMITS: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

#[derive(Debug)]
pub(super) struct Health {
    /// As they were at the start.
    limits: [Rlimit; LIMITS.len()],
    /// Since when nobody could be let in, by [`clock::awake`] as all moments here.
    closed: Option<Duration>,
    /// Since when something is left behind, while no program runs.
    haunted: Option<Duration>,
    /// How often the service manager is told that the loop turns, and when it was.
    watchdog: Option<(Duration, Duration)>,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = clock::awake();
        let watchdog = systemd::watchdog_interval().map(|every| (every.saturating_sub(LOOKING), now));
        Self { limits: LIMITS.map(getrlimit), closed: None, haunted: None, watchdog }
    }

    /// Tells the service manager that the loop turns, when it is time for it.
    pub(super) fn tell(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && clock::awake().saturating_sub(*last) >= *every
        {
            *last = clock::awake();
            systemd::alive();
        }
    }

    /// Somebody was let in.
    pub(super) fn let_in(&mut self) {
        self.closed = None;
    }

    /// Nobody can be let in. True for the first time in a row, which is worth a word.
    pub(super) fn shut(&mut self) -> bool {
        let is_first = self.closed.is_none();
        self.closed.get_or_insert_with(clock::awake);
        is_first
    }

    /// Looks at what programs can spoil. Runs that go on are no reason to wait where one of them may have done it, and stays;
    /// a shortage may be the whole machine's, which is no reason to end them. `runs`: so many go on.
    ///
    /// # Errors
    ///
    /// If this process is of no use any more.
    pub(super) fn look(&mut self, children: &Children, runs: usize) -> anyhow::Result<()> {
        let now = clock::awake();
        if children.are_haunted() {
            if now.saturating_sub(*self.haunted.get_or_insert(now)) >= HAUNTED {
                bail!("processes that programs have left behind do not end; systemd ends them with this service");
            }
        } else {
            self.haunted = None;
        }
        if LIMITS.map(getrlimit) != self.limits {
            bail!("a program has changed the limits of this service (prlimit(2)), which begins anew");
        }
        if runs == 0 && self.closed.is_some_and(|since| now.saturating_sub(since) >= CLOSED) {
            bail!("no run could be taken on for {} s, though none goes on", CLOSED.as_secs());
        }
        Ok(())
    }
}
