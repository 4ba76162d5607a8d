//! systemd's watchdog, petted by the loop that does the work: a loop that hangs is ended and started again.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use crate::host::{clock, systemd};
use crate::model::now::BootInstant;

/// So long a write to the journal may take before the loop is taken for hung.
const DISK_PATIENCE: Duration = Duration::from_secs(5 * 60);

pub(super) struct Watchdog {
    interval: Option<Duration>,
    due: BootInstant,
}

impl Watchdog {
    pub(super) fn new(now: BootInstant) -> Self {
        Self { interval: systemd::watchdog_interval(), due: now }
    }

    /// Waits for the disk, which may stall for longer than the watchdog's patience, without being taken for hung.
    ///
    /// A disk that stalls beyond all reason is left to the watchdog.
    pub(super) async fn pet_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let begun = clock::boot();
        let mut work = pin!(work);
        loop {
            let due = self.interval.filter(|_| clock::boot().since(begun) < DISK_PATIENCE);
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)) => self.pet(clock::boot()),
            };
        }
    }

    /// Pets it if that is due, and says when it will be due again.
    pub(super) fn pet(&mut self, now: BootInstant) -> Option<BootInstant> {
        let interval = self.interval?;
        if now >= self.due {
            systemd::alive();
            self.due = now + interval;
        }
        Some(self.due)
    }
}
