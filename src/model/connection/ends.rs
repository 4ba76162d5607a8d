//! What a run of bad ends means: a device with our identity, or a packet that nobody can read.
//!
//! One end by itself says little. This file counts them, gives the ends their true names, and says how soon another try is
//! of use. It decides no wait.

use std::time::Duration;

use super::super::now::BootInstant;
use super::super::wire::{Reason, Schedule};

/// A session that lasted this long was a good one: failures before it do not count any more.
pub(super) const GOOD_AFTER: Duration = Duration::from_secs(60);

/// So many sessions in a row that the broker closes early, while it owes us nothing, are no accident: MQTT 3.1.1 section
/// 3.1.4 makes it close the older of two connections with one client id.
const KICKS: u32 = 3;

/// There must be sessions for this long, one after the other and each ended by ourselves, before nobody else seems to have
/// our identity. It is as long as the longest wait after a refusal by default: two devices that take turns never stand that
/// long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// So many connections in a row that end over bytes that cannot be read: the broker will send them again.
const UNREADABLE: u32 = 3;

/// What was dropped stays told for so long. The loss is over in a second and nothing else shows it; people look at a fleet
/// once a day.
const TOLD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The runs of ends that go on now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// Sessions in a row that the broker closed early.
    kicks: u32,
    /// How many it was when another client with our identity was found, and those since.
    taken: Option<u32>,
    /// Connections in a row that ended early over what could not be read.
    unreadable: u32,
    poison: Option<Poison>,
}

/// What cannot be read comes again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Poison {
    /// What the decoder says of it.
    words: String,
    cure: Cure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// The next session begins with dropping what the broker keeps for us.
    Ordered,
    /// It was dropped.
    Done { at: BootInstant },
    /// It was dropped, or that was tried, and the packet came again.
    Failed,
}

/// An end by its true name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub reason: Reason,
    pub schedule: Schedule,
    /// What failed before does not count any more.
    pub is_good: bool,
}

impl Ends {
    /// One more end that was not planned. `stood`: for how long there was a session, if there was one. `is_idle`: nothing of
    /// ours waited to be acknowledged; else it may be that which the broker did not like.
    pub(super) fn judge(&mut self, reason: Reason, stood: Option<Duration>, is_idle: bool) -> Verdict {
        if let Some(lasted) = stood {
            self.stands(lasted);
        }
        let reason = self.named(reason, stood, is_idle);
        let schedule = self.count_unreadable(&reason, stood).unwrap_or(reason.schedule());
        let is_good = stood.is_some_and(|lasted| lasted >= GOOD_AFTER) && self.taken.is_none();
        Verdict { reason, schedule, is_good }
    }

    fn named(&mut self, reason: Reason, stood: Option<Duration>, is_idle: bool) -> Reason {
        let Some(lasted) = stood.filter(|_| reason == Reason::Closed) else {
            // A broker that crashes over and over closes sessions too, but then it cannot be reached in between.
            self.kicks = 0;
            return reason;
        };
        if let Some(times) = &mut self.taken {
            *times = times.saturating_add(1);
            return Reason::TakenOver { times: *times };
        }
        if lasted >= GOOD_AFTER {
            return reason;
        }
        self.kicks += u32::from(is_idle);
        if self.kicks >= KICKS {
            self.taken = Some(self.kicks);
            return Reason::TakenOver { times: self.kicks };
        }
        Reason::KickedEarly { seconds: lasted.as_secs() }
    }

    /// A schedule of its own, for what goes on even so.
    fn count_unreadable(&mut self, reason: &Reason, stood: Option<Duration>) -> Option<Schedule> {
        let is_early = stood.is_none_or(|lasted| lasted < GOOD_AFTER);
        match reason {
            Reason::Undecodable(words) if is_early => {
                let is_new = self.unreadable < UNREADABLE;
                self.unreadable = self.unreadable.saturating_add(1);
                match &mut self.poison {
                    Some(poison) if poison.cure == Cure::Failed || !is_new => poison.cure = Cure::Failed,
                    _ if self.unreadable >= UNREADABLE => {
                        self.poison = Some(Poison { words: words.clone(), cure: Cure::Ordered });
                    }
                    _ => {}
                }
                let has_failed = self.poison.as_ref().is_some_and(|poison| poison.cure == Cure::Failed);
                has_failed.then_some(Schedule::Refused)
            }
            _ => {
                // A try that never came to a session says nothing of what is in it.
                if stood.is_some() {
                    self.unreadable = 0;
                }
                None
            }
        }
    }

    /// From now on it is another device, or another broker: the runs of the old one are over. What was dropped stays told.
    pub(super) fn anew(&mut self) {
        self.poison.take_if(|poison| !matches!(poison.cure, Cure::Done { .. }));
        *self = Self { poison: self.poison.take(), ..Self::default() };
    }

    /// A session begins.
    pub(super) fn begins(&mut self, now: BootInstant) {
        if let Some(Poison { cure: cure @ Cure::Ordered, .. }) = &mut self.poison {
            *cure = Cure::Done { at: now };
        }
    }

    /// A session stands, and has lasted for so long.
    pub(super) fn stands(&mut self, lasted: Duration) {
        if lasted >= GOOD_AFTER {
            (self.kicks, self.unreadable) = (0, 0);
            self.poison.take_if(|poison| poison.cure == Cure::Failed);
        }
    }

    /// For so long no session has ended but by our own will, to be renewed.
    pub(super) fn unbroken(&mut self, lasted: Duration) {
        if lasted >= FORGIVEN_AFTER {
            self.taken = None;
        }
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, now: BootInstant) {
        self.poison.take_if(|poison| matches!(poison.cure, Cure::Done { at } if now >= at + TOLD_FOR));
    }

    /// When any of this changes by itself. `since`: when the session began that stands, if one does; `unbroken`:
    /// when the first of those began that it renews one after the other.
    pub(super) fn deadline(&self, since: Option<BootInstant>, unbroken: Option<BootInstant>) -> Option<BootInstant> {
        let forgiven = unbroken.filter(|_| self.taken.is_some()).map(|unbroken| unbroken + FORGIVEN_AFTER);
        let cured = self.poison.as_ref().and_then(|poison| match poison.cure {
            Cure::Ordered => None,
            Cure::Done { at } => Some(at + TOLD_FOR),
            Cure::Failed => since.map(|since| since + GOOD_AFTER),
        });
        [forgiven, cured].into_iter().flatten().min()
    }

    /// Whether what the broker keeps for us is to be dropped.
    pub(super) fn is_to_drop(&self) -> bool {
        self.poison.as_ref().is_some_and(|poison| poison.cure == Cure::Ordered)
    }

    pub(super) fn is_taken_over(&self) -> bool {
        self.taken.is_some()
    }

    /// What is to be said of a packet that nobody can read.
    pub(super) fn poison(&self) -> Option<String> {
        let Poison { words, cure } = self.poison.as_ref()?;
        let what = format!("{UNREADABLE} connections in a row ended over a packet that cannot be read ({words})");
        Some(match cure {
            Cure::Ordered => format!("{what}; the next one drops what the broker keeps for this device"),
            Cure::Done { .. } => format!(
                "{what}; so what the broker had kept for this device was dropped, with any commands that waited there"
            ),
            Cure::Failed => {
                format!(
                    "{what}, and others after what the broker keeps for this device was dropped; see the broker's log"
                )
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(ends: &mut Ends, lasted: u64, is_idle: bool) -> Reason {
        ends.judge(Reason::Closed, Some(Duration::from_secs(lasted)), is_idle).reason
    }

    fn unreadable(ends: &mut Ends) -> Schedule {
        ends.judge(Reason::Undecodable("a length".to_owned()), None, true).schedule
    }

    #[test]
    fn a_session_that_is_closed_early_says_so_and_a_good_one_does_not() {
        let mut ends = Ends::default();
        assert_eq!(closed(&mut ends, 59, true), Reason::KickedEarly { seconds: 59 });
        assert_eq!(closed(&mut ends, 60, true), Reason::Closed);
        let lost = ends.judge(Reason::Lost("reset".to_owned()), Some(Duration::from_secs(3)), true);
        assert_eq!(lost.reason, Reason::Lost("reset".to_owned()), "only a broker kicks");
    }

    #[test]
    fn three_kicks_in_a_row_are_another_with_our_identity() {
        let mut ends = Ends::default();
        for lasted in [0, 5] {
            assert_eq!(closed(&mut ends, lasted, true), Reason::KickedEarly { seconds: lasted });
        }
        assert_eq!(closed(&mut ends, 30, true), Reason::TakenOver { times: 3 });
        // Two that take turns wait ever longer for each other, so the sessions between grow long.
        for (lasted, times) in [(300, 4), (899, 5)] {
            let verdict = ends.judge(Reason::Closed, Some(Duration::from_secs(lasted)), true);
            assert_eq!(verdict.reason, Reason::TakenOver { times });
            assert!(!verdict.is_good && verdict.schedule == Schedule::Refused, "{verdict:?}");
        }
        let start = Some(BootInstant::default());
        assert_eq!((ends.deadline(None, None), ends.deadline(start, start)), (None, Some(BootInstant(FORGIVEN_AFTER))));
        ends.stands(FORGIVEN_AFTER);
        assert!(ends.is_taken_over(), "the session that stands is not what counts");
        ends.unbroken(FORGIVEN_AFTER);
        assert!(!ends.is_taken_over());
    }

    #[test]
    fn what_breaks_the_row_or_may_be_our_own_fault_is_no_takeover() {
        let breaks: [fn(&mut Ends); 3] = [
            |ends| drop(closed(ends, 60, true)),
            |ends| drop(ends.judge(Reason::Lost(String::new()), Some(Duration::from_secs(5)), true)),
            |ends| drop(ends.judge(Reason::Tcp(String::new()), None, true)),
        ];
        for breaks in breaks {
            let mut ends = Ends::default();
            for _ in 0..4 {
                closed(&mut ends, 1, true);
                closed(&mut ends, 1, true);
                breaks(&mut ends);
            }
            assert!(!ends.is_taken_over());
        }
        let mut ends = Ends::default();
        for _ in 0..10 {
            assert_eq!(closed(&mut ends, 1, false), Reason::KickedEarly { seconds: 1 });
        }
    }

    #[test]
    fn poison_is_cured_once_and_told_for_a_day() {
        let mut ends = Ends::default();
        for _ in 0..2 {
            unreadable(&mut ends);
            // A try that comes to no session does not break the row.
            ends.judge(Reason::Tcp(String::new()), None, true);
            assert!(!ends.is_to_drop() && ends.poison().is_none());
        }
        assert_eq!(unreadable(&mut ends), Schedule::Network);
        assert!(ends.is_to_drop() && ends.poison().is_some_and(|text| text.contains("a length")));
        ends.judge(Reason::Tcp(String::new()), None, true);
        assert!(ends.is_to_drop(), "the broker has not heard of it yet");
        ends.begins(BootInstant::default());
        assert!(!ends.is_to_drop() && ends.poison().is_some_and(|text| text.contains("was dropped")));
        ends.stands(GOOD_AFTER);
        assert_eq!(ends.deadline(Some(BootInstant::default()), None), Some(BootInstant(TOLD_FOR)));
        ends.pass(BootInstant(TOLD_FOR));
        assert_eq!(ends.poison(), None);
    }

    #[test]
    fn poison_that_comes_again_is_not_dropped_again_until_a_session_was_good() {
        for comes_to_a_session in [false, true] {
            let mut ends = Ends::default();
            for _ in 0..3 {
                unreadable(&mut ends);
            }
            if comes_to_a_session {
                ends.begins(BootInstant::default());
            }
            for _ in 0..5 {
                assert_eq!(unreadable(&mut ends), Schedule::Refused);
                assert!(!ends.is_to_drop());
            }
            ends.stands(GOOD_AFTER);
            assert_eq!(ends.poison(), None, "nothing more is wrong");
            for _ in 0..3 {
                assert_eq!(unreadable(&mut ends), Schedule::Network);
            }
            assert!(ends.is_to_drop(), "another poison, another cure");
        }
    }

    #[test]
    fn another_identity_has_a_clean_record() {
        let mut ends = Ends::default();
        for _ in 0..3 {
            closed(&mut ends, 1, true);
        }
        for _ in 0..3 {
            unreadable(&mut ends);
        }
        assert!(ends.is_taken_over() && ends.is_to_drop());
        ends.anew();
        assert_eq!(ends, Ends::default());
        for _ in 0..3 {
            unreadable(&mut ends);
        }
        ends.begins(BootInstant::default());
        ends.anew();
        assert!(ends.poison().is_some(), "what was dropped stays told");
    }

    #[test]
    fn what_cannot_be_read_after_a_minute_is_no_poison() {
        let mut ends = Ends::default();
        for _ in 0..9 {
            ends.judge(Reason::Undecodable(String::new()), Some(Duration::from_secs(60)), true);
        }
        assert_eq!(ends.poison(), None);
    }
}
