//! How long to wait before another try: truncated exponential back-off with full jitter, from the first try on.
//!
//! Knows no clock and no connection. Each schedule counts its own failures: a broker that refuses us after an outage of the
//! network is asked again soon, and two kinds of failure that take turns do not make each other forget.

use std::time::Duration;

use super::super::wire::Schedule;
use super::Terms;
use super::dice::Dice;

/// First ceiling after trouble with the network.
const FIRST: Duration = Duration::from_secs(1);

/// First ceiling when the broker asked for patience, or refused who we are: asking again at once only gets a device banned.
const FIRST_OF_BROKER: Duration = Duration::from_secs(8);

/// Failures in a row, by schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    network: u32,
    busy: u32,
    refused: u32,
}

impl Backoff {
    /// One more failure: the time to wait after it.
    pub(super) fn wait(&mut self, schedule: Schedule, terms: &Terms, dice: &mut Dice) -> Duration {
        let (first, longest, failures) = match schedule {
            Schedule::Network => (FIRST, terms.backoff_max, &mut self.network),
            Schedule::Busy => (FIRST_OF_BROKER, terms.backoff_max, &mut self.busy),
            Schedule::Refused => (FIRST_OF_BROKER, terms.backoff_max_refused, &mut self.refused),
        };
        let wait = dice.up_to(ceiling(first, longest, *failures));
        *failures = failures.saturating_add(1);
        wait
    }

    pub(super) fn has_failed(&self) -> bool {
        *self != Self::default()
    }
}

/// The most that is waited after so many failures in a row.
fn ceiling(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = first.checked_mul(2_u32.saturating_pow(failures)).unwrap_or(longest);
    doubled.min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms() -> Terms {
        Terms {
            lease: None,
            backoff_max: Duration::from_secs(300),
            backoff_max_refused: Duration::from_secs(900),
            provisioned: false,
        }
    }

    #[test]
    fn each_schedule_doubles_from_its_first_step_to_its_own_end() {
        let most = |schedule| -> Vec<Duration> {
            let mut backoff = Backoff::default();
            let ceilings = (0..12).map(|_| {
                // The longest wait of many devices at the same point comes near its ceiling.
                let longest = (0..400).map(|seed| backoff.clone().wait(schedule, &terms(), &mut Dice::new(seed))).max();
                backoff.wait(schedule, &terms(), &mut Dice::new(0));
                longest.unwrap_or_default()
            });
            ceilings.collect()
        };
        let near = |seen: &[Duration], right: &[u64]| {
            let right = right.iter().map(|seconds| Duration::from_secs(*seconds));
            seen.iter().zip(right).all(|(seen, right)| *seen <= right && *seen >= right / 100 * 95)
        };
        let network = most(Schedule::Network);
        assert!(near(&network, &[1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]), "{network:?}");
        let busy = most(Schedule::Busy);
        assert!(near(&busy, &[8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300, 300]), "{busy:?}");
        let refused = most(Schedule::Refused);
        assert!(near(&refused, &[8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900]), "{refused:?}");
    }

    #[test]
    fn failures_of_one_kind_do_not_lengthen_the_waits_of_another() {
        let mut backoff = Backoff::default();
        let mut dice = Dice::new(1);
        for _ in 0..30 {
            backoff.wait(Schedule::Network, &terms(), &mut dice);
        }
        assert!(backoff.wait(Schedule::Refused, &terms(), &mut dice) <= FIRST_OF_BROKER);
    }

    proptest! {
        #[test]
        fn waits_stay_below_their_ceiling_and_use_all_of_it(seed: u64, failures in 0_u32..40) {
            let most = ceiling(FIRST, terms().backoff_max, failures);
            prop_assert!(most <= terms().backoff_max);
            let mut dice = Dice::new(seed);
            let waits: Vec<Duration> =
                (0..64).map(|_| Backoff { network: failures, ..Backoff::default() }.wait(Schedule::Network, &terms(), &mut dice)).collect();
            prop_assert!(waits.iter().all(|wait| *wait <= most));
            prop_assert!(waits.iter().any(|wait| *wait < most / 4) && waits.iter().any(|wait| *wait > most / 4 * 3));
        }
    }
}
