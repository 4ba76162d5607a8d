//! Chance, drawn from one seed: all the randomness that a connection ever uses.
//!
//! No secret may be made from it. It keeps a fleet apart, and a test that knows the seed can live the same life again.

use std::time::Duration;

/// Random numbers from a seed (`SplitMix64`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Any time up to `most`, each as likely: full jitter, so that devices that failed together do not return together.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.throw() % (micros + 1))
    }
}
