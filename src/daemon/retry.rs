//! When to try again what has failed: after a second, then after twice as long, and so on up to a minute.
//!
//! For what lies on this machine, where space, a folder or a right may come back at any time. The connection has a
//! back-off of its own, in the model.

use std::time::Duration;

use crate::model::now::BootInstant;

const FIRST: Duration = Duration::from_secs(1);

/// Never later than this: whoever mends it should see that it is mended.
const LAST: Duration = Duration::from_secs(60);

/// The next try. Due at once, as long as nothing has failed.
#[derive(Debug)]
pub(super) struct Retry {
    wait: Duration,
    due: BootInstant,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { wait: FIRST, due: BootInstant::default() }
    }

    pub(super) fn failed(&mut self, now: BootInstant) {
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(LAST);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.due > BootInstant::default()
    }

    pub(super) fn due(&self) -> BootInstant {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_waits_longer_than_the_one_before_up_to_a_minute() {
        let mut retry = Retry::new();
        let mut now = retry.due();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                retry.failed(now);
                let wait = retry.due().since(now).as_secs();
                now = retry.due();
                wait
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
