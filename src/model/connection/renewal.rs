//! When a session is renewed: a share of its lease, each device and each session its own.
//!
//! First the stream of the next connection is opened beside the session, and only when it is open does the session end. A
//! network that is broken for newcomers must not end a session that works.

use std::time::Duration;

use super::super::now::BootInstant;
use super::super::wire::Reason;
use super::Terms;
use super::backoff::Backoff;
use super::dice::Dice;

/// The earliest renewal, in hundredths of the lease; what is left of it is for trouble with the renewal itself.
const EARLIEST: u32 = 75;

/// The latest one. A fleet that was started together does not renew together.
const LATEST: u32 = 90;

/// Whoever opens the stream has limits of its own (`session.connect_timeout` is ten minutes at most). One that has not
/// answered by then never will.
const PREPARED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// The renewal of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    stage: Stage,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The login does not end.
    Never,
    Due(BootInstant),
    /// The stream of the next connection was asked for.
    Preparing {
        until: BootInstant,
    },
}

impl Renewal {
    pub(super) fn new(lease: Option<Duration>, dice: &mut Dice, now: BootInstant) -> Self {
        let stage = lease.map_or(Stage::Never, |lease| {
            let spread = dice.up_to(lease / 100 * (LATEST - EARLIEST));
            Stage::Due(now + lease / 100 * EARLIEST + spread)
        });
        Self { stage, backoff: Backoff::default() }
    }

    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<BootInstant> {
        match self.stage {
            Stage::Never => None,
            Stage::Due(at) => Some(at),
            Stage::Preparing { until } => Some(until),
        }
    }

    /// When it is due, unless it is under way.
    pub(super) fn due(&self) -> Option<BootInstant> {
        match self.stage {
            Stage::Due(at) => Some(at),
            Stage::Never | Stage::Preparing { .. } => None,
        }
    }

    /// Whether the stream of the next connection is to be asked for now; it has been, from here on.
    pub(super) fn begins(&mut self, now: BootInstant) -> bool {
        let is_due = self.deadline().is_some_and(|due| now >= due);
        if is_due {
            self.stage = Stage::Preparing { until: now + PREPARED_WITHIN };
        }
        is_due
    }

    /// The answer to that, if it was asked for. True: the session may end.
    pub(super) fn prepared(
        &mut self,
        answer: &Result<(), Reason>,
        terms: &Terms,
        dice: &mut Dice,
        now: BootInstant,
    ) -> bool {
        let Stage::Preparing { .. } = self.stage else { return false };
        if let Err(reason) = answer {
            self.stage = Stage::Due(now + self.backoff.wait(reason.schedule(), terms, dice));
        }
        answer.is_ok()
    }

    /// What the session was made with is no longer true, so it is renewed by then at the latest. A stream that was opened
    /// for it may lead to the wrong place, and is asked for again.
    pub(super) fn anew(&mut self, at: BootInstant) {
        self.stage = Stage::Due(self.due().map_or(at, |due| due.min(at)));
    }

    /// The times of the login are wrong: it is renewed now. A stream has no part in that, so one that is being opened will do.
    pub(super) fn at_once(&mut self, now: BootInstant) {
        if let Stage::Due(at) = &mut self.stage {
            *at = now.min(*at);
        }
    }

    /// What made it impossible may be gone.
    pub(super) fn hasten(&mut self, at: BootInstant) {
        if self.backoff.has_failed() {
            self.at_once(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    #[test]
    fn one_that_is_due_is_not_put_off_by_what_comes_later() {
        let mut renewal = Renewal::new(Some(Duration::from_secs(1_000)), &mut Dice::new(1), at(0));
        let due = renewal.due().expect("a lease ends");
        renewal.anew(due + Duration::from_secs(5));
        renewal.at_once(due + Duration::from_secs(5));
        assert_eq!(renewal.due(), Some(due));
        renewal.anew(at(10));
        assert_eq!(renewal.due(), Some(at(10)));
    }

    #[test]
    fn one_that_has_not_failed_is_not_hastened() {
        let mut renewal = Renewal::new(Some(Duration::from_secs(1_000)), &mut Dice::new(1), at(0));
        let due = renewal.due();
        renewal.hasten(at(1));
        assert_eq!(renewal.due(), due);
        assert!(renewal.begins(at(900)));
        let (backoff_max, backoff_max_refused) = (Duration::from_secs(300), Duration::MAX);
        let terms = Terms { lease: None, backoff_max, backoff_max_refused, provisioned: false };
        assert!(!renewal.prepared(&Err(Reason::Closed), &terms, &mut Dice::new(1), at(901)));
        renewal.hasten(at(901));
        assert_eq!(renewal.due(), Some(at(901)));
    }
}
