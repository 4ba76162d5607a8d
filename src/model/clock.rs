//! What follows from the wall clock: that it is not to be believed yet, that it was set, and that time passes in which
//! what was told may be forgotten.
//!
//! Reads no clock: [`Now`] says what time it is and whether to believe it. What a step means to the connection is the
//! connection's business.

use std::time::Duration;

use super::agent::{Agent, Effect};
use super::ledger::Entry;
use super::now::{BootInstant, Clock, Now, Timestamp};
use super::problems::Code;
use super::record::Record;

/// What is noted of the time is noted after so much time in which the agent runs: four lines a day wear out no card.
const SEEN_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// A moment that was noted and lies further ahead than this was noted on a clock that was wrong.
const AHEAD: Duration = Duration::from_secs(60);

/// What a device with a doubtful clock is told to do.
const DOUBTFUL: &str = "the clock of this machine is not known to be right; hint: `timedatectl` shows whether something \
                        sets it; where nothing does, set it right and say `clock_wait = \"0s\"` under [session]";

/// Why a command that may expire was not run.
pub(super) const NOT_SET: &str =
    "the clock of this device is not set, so it does not know whether this has expired; it was not run";

/// The clock as this run of the daemon knows it.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    /// When this run of the daemon began.
    pub(super) began: BootInstant,
    /// So long a login waits for a clock to be believed; zero: it is used as it is.
    pub(super) wait: Duration,
    /// It was to be believed in the last turn; unknown before the first.
    believed: Option<bool>,
    /// A login waits for it.
    awaited: bool,
    /// Nobody says that it is right, nor that it is wrong.
    unchecked: bool,
    /// The time was last noted then.
    noted: BootInstant,
    /// How long the agent had run before, in seconds.
    ran_before: u64,
    /// It has been to be believed in this run of the daemon.
    was_believed: bool,
}

/// Whether a command may still start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    InTime,
    Over,
    /// The clock is not set.
    Unknown,
}

impl Expiry {
    /// Whether a command that expires then may start now.
    pub(super) fn of(expires: Option<Timestamp>, now: &Now) -> Self {
        match expires {
            Some(_) if !now.clock.is_believed() => Self::Unknown,
            Some(expires) if now.wall > expires => Self::Over,
            Some(_) | None => Self::InTime,
        }
    }
}

/// When a command that expires then may start no more: at that very moment it still could.
pub(super) fn over_at(expires: Timestamp, now: &Now) -> BootInstant {
    now.boot + expires.saturating_add(Duration::from_micros(1)).since(now.wall)
}

impl ClockWatch {
    /// `ran`: how long the agent has run before this, in seconds.
    pub fn new(wait: Duration, ran: u64, now: &Now) -> Self {
        Self {
            began: now.boot,
            wait,
            believed: None,
            awaited: false,
            unchecked: false,
            noted: now.boot,
            ran_before: ran,
            was_believed: false,
        }
    }

    /// When a login does not wait any longer.
    pub(super) fn wait_ends(&self) -> BootInstant {
        self.began + self.wait
    }

    /// For how long the agent has run, in all its lives, in seconds.
    pub(super) fn ran(&self, now: &Now) -> u64 {
        self.ran_before.saturating_add(now.boot.since(self.began).as_secs())
    }
}

impl Agent {
    // === Whether it is to be believed

    /// Takes note of what is to be thought of the clock.
    pub(super) fn note_clock(&mut self, now: &Now) {
        let believed = now.clock.is_believed();
        if believed && self.clock.believed == Some(false) {
            // What was refused may have been refused for the time that it named.
            self.connection.hurry(now.boot);
        }
        self.clock.believed = Some(believed);
        self.clock.awaited = self.is_clock_awaited(now);
        let unchecked = now.clock == Clock::Unchecked;
        if std::mem::replace(&mut self.clock.unchecked, unchecked) != unchecked {
            self.outbox.changed();
        }
        self.note(Code::Clock, (!believed).then_some(DOUBTFUL), now);
    }

    /// Whether a login is to wait for the clock. A session that stands is left alone.
    pub(super) fn is_clock_awaited(&self, now: &Now) -> bool {
        now.clock == Clock::Doubtful && now.boot < self.clock.wait_ends()
    }

    /// Whether what the clock shows is used though nobody says that it is right.
    pub(super) fn is_clock_unchecked(&self) -> bool {
        self.clock.unchecked
    }

    /// Whether no connection is tried for the clock's sake, as far as the last turn knows.
    pub(super) fn waits_for_clock(&self) -> bool {
        self.clock.awaited && self.connection.is_at_rest()
    }

    /// Until when a command that waits for the clock goes on waiting.
    pub(super) fn clock_given_up(&self, entry: &Entry, now: &Now) -> BootInstant {
        let since = entry.up.filter(|_| entry.boot == now.boot_id).unwrap_or(self.clock.began);
        since + self.clock.wait
    }

    // === That it was set

    /// Moves what this run of the daemon has noted by the wall clock, which was set ahead by so many microseconds. What
    /// is in the journal is put right once it is known when this boot began.
    pub(super) fn shift_times(&mut self, by: i64) {
        self.about.started = self.about.started.shifted(by);
        if let Some(session) = &mut self.session {
            session.since = session.since.shifted(by);
        }
        if let Some((_, time)) = &mut self.last_disconnect {
            *time = time.shifted(by);
        }
        if let Some((time, _)) = &mut self.renewals.last {
            *time = time.shifted(by);
        }
        self.problems.shift_times(by);
        self.outbox.shift_times(by);
        self.queue.shift_times(by);
        self.outbox.changed();
    }

    // === That it goes on

    /// Notes, now and then, for how long the agent has run, and what time it is if that can be believed.
    pub(super) fn note_time(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let believed = now.clock.is_believed();
        let is_first = believed && !self.clock.was_believed;
        self.clock.was_believed |= believed;
        let is_off = match self.durable.rest.seen {
            Some(seen) => {
                let is_ahead = believed && seen > now.wall.saturating_add(AHEAD);
                is_ahead || (is_first && seen.apart(now.wall) >= SEEN_EVERY)
            }
            None => is_first,
        };
        if is_off || now.boot >= self.time_due() {
            self.see(now, out);
        }
    }

    /// Notes it now.
    pub(super) fn see(&mut self, now: &Now, out: &mut Vec<Effect>) {
        self.clock.noted = now.boot;
        let at = now.clock.is_believed().then_some(now.wall);
        self.record(Record::Seen { ran: self.clock.ran(now), at }, out);
    }

    fn time_due(&self) -> BootInstant {
        self.clock.noted + SEEN_EVERY
    }

    /// When any of this is due by itself. A device without a cloud is not woken for it.
    pub(super) fn clock_due(&self) -> Option<BootInstant> {
        let wait = self.clock.awaited.then(|| self.clock.wait_ends());
        let time = self.not_configured().is_none().then(|| self.time_due());
        wait.into_iter().chain(time).min()
    }
}
