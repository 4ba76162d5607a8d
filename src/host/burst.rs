//! News that come in bursts, told once: when they have settled, or have gone on for long enough.
//!
//! Counts on the boot clock, so that a suspend in the middle ends the waiting. Waits for nothing itself.

use std::time::Duration;

use super::clock;
use crate::model::now::BootInstant;

/// News that have come and have not been told yet, if there are any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// How long nothing more must have come.
    settle: Duration,
    /// But after this at the latest, however much keeps coming.
    longest: Duration,
    /// When the first and the last of them came.
    came: Option<(BootInstant, BootInstant)>,
}

impl Burst {
    pub(super) fn new(settle: Duration, longest: Duration) -> Self {
        Self { settle, longest, came: None }
    }

    /// A burst begins, or goes on.
    pub(super) fn stir(&mut self) {
        let now = clock::boot();
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
    }

    /// How long to wait until it is to be told, zero if that is now; `None` if there is nothing to tell.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (first, last) = self.came?;
        Some((last + self.settle).min(first + self.longest).since(clock::boot()))
    }

    pub(super) fn told(&mut self) {
        self.came = None;
    }
}
