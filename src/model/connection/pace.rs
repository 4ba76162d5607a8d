//! News that come in bursts (a changed network, a clock that was set) and are acted on at once, but not all the time.
//!
//! The first of a burst is acted on when it comes, the last of it when the pace allows; none is forgotten.

use std::time::Duration;

use super::super::now::BootInstant;

/// From one act to the next. An interface that flaps must be no hot loop; a device that moves to another network shall be
/// back within seconds.
const APART: Duration = Duration::from_secs(10);

/// One kind of news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// The newest that was not acted on.
    heard: Option<BootInstant>,
    acted: Option<BootInstant>,
}

impl Pace {
    pub(super) fn hear(&mut self, now: BootInstant) {
        self.heard = Some(now);
    }

    /// When the news is to be acted on, if there is some.
    pub(super) fn due(&self) -> Option<BootInstant> {
        let heard = self.heard?;
        Some(self.acted.map_or(heard, |acted| heard.max(acted + APART)))
    }

    /// When the newest of the news came, if it is to be acted on now. It has been, from here on.
    pub(super) fn take(&mut self, now: BootInstant) -> Option<BootInstant> {
        if self.due()? > now {
            return None;
        }
        self.acted = Some(now);
        self.heard.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_of_a_burst_counts_at_once_and_the_last_in_its_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(at(0)), None);
        pace.hear(at(5));
        assert_eq!(pace.take(at(5)), Some(at(5)));
        for second in 6..=9 {
            pace.hear(at(second));
            assert_eq!(pace.take(at(second)), None);
        }
        assert_eq!((pace.due(), pace.take(at(14))), (Some(at(15)), None));
        assert_eq!(pace.take(at(15)), Some(at(9)), "and it is known when it came");
        assert_eq!((pace.due(), pace.take(at(99))), (None, None));
    }

    #[test]
    fn news_that_never_end_are_acted_on_all_the_same() {
        let mut pace = Pace::default();
        let acts = (0..60).filter(|second| {
            pace.hear(at(*second));
            pace.take(at(*second)).is_some()
        });
        assert_eq!(acts.count(), 6);
    }
}
