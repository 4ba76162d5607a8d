//! At most so many tries a minute, whatever happens.
//!
//! Waits are drawn from zero up, other keys are tried quickly, a changed network cuts a wait short: each is harmless by
//! itself, and no sequence of them may become a hot loop. This bound needs no chance to hold.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::now::BootInstant;

/// Tries in any [`PERIOD`]. A fresh series of failures makes seven or eight, one with three keys about twelve; so it is
/// never felt by a device that is merely unlucky.
pub const MOST: usize = 20;

/// See [`MOST`].
pub const PERIOD: Duration = Duration::from_secs(60);

/// The last tries, [`MOST`] of them at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget(VecDeque<BootInstant>);

impl Budget {
    /// A try is made now.
    pub(super) fn spend(&mut self, now: BootInstant) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// When the next one may be made that is due at `at`.
    pub(super) fn not_before(&self, at: BootInstant) -> BootInstant {
        match self.0.front() {
            Some(oldest) if self.0.len() == MOST => at.max(*oldest + PERIOD),
            _ => at,
        }
    }
}
