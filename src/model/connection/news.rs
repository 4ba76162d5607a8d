//! What changes outside of the connection: networks, the clock, keys, terms; and what that means for the try or the session
//! that there is.
//!
//! Cuts waits short, gives tries up and holds them back. What is done next, and when, the state machine decides.

use super::rehoming::Rehoming;
use super::slots::Slots;
use super::{After, Backoff, Begun, Connection, SOON, SPREAD, State, Step, Terms};
use crate::model::device_key::KeySlot;
use crate::model::now::BootInstant;
use crate::model::wire::Reason;

impl Connection {
    /// Addresses or routes of this machine have changed.
    pub fn network_changed(&mut self, now: BootInstant) {
        self.network.hear(now);
    }

    /// The wall clock was set by so much that the times of a login made before are wrong.
    pub fn clock_stepped(&mut self, now: BootInstant) {
        self.clock.hear(now);
    }

    /// Other keys are there: the first that can be used is tried first. A session goes on with the one that it has.
    pub fn set_keys(&mut self, has_current: bool, others: &[KeySlot]) {
        self.slots = Slots::new(has_current, others);
        if let State::Connecting(begun) = &mut self.state {
            begun.outdated = true;
        }
    }

    /// The terms have changed, and with `anew` so has what a login says: an old session is renewed and a new one is
    /// tried within `SPREAD`, whatever failed before.
    pub fn set_terms(&mut self, terms: Terms, anew: bool, now: BootInstant) {
        self.terms = terms;
        if anew {
            self.backoff = Backoff::default();
            self.ends.anew();
            self.rehoming = Rehoming::default();
            let soon = now + self.dice.up_to(SPREAD);
            match &mut self.state {
                State::Waiting { until, .. } => *until = soon.min(*until),
                State::Online(standing) => standing.renewal.anew(soon),
                // It began with what is no longer true.
                State::Connecting(_) => self.state = State::Closing { until: now, before: After::Failure },
                State::Off | State::Settling { .. } | State::Closing { .. } => {}
            }
        }
    }

    /// What made a login impossible may be gone: there is no reason to wait longer than `SPREAD`.
    pub fn hurry(&mut self, now: BootInstant) {
        // What failed before still counts: should this change be none, or one of many, the waits go on growing.
        let soon = now + self.dice.up_to(SPREAD);
        self.hasten(soon);
    }

    pub(super) fn hasten_soon(&mut self, now: BootInstant) {
        let soon = now + self.dice.up_to(SOON);
        self.hasten(soon);
    }

    pub(super) fn hasten(&mut self, at: BootInstant) {
        match &mut self.state {
            State::Waiting { until, .. } => *until = at.min(*until),
            State::Online(standing) => standing.renewal.hasten(at),
            State::Connecting(begun) => begun.outdated = true,
            State::Off | State::Settling { .. } | State::Closing { .. } => {}
        }
    }

    /// A try or a renewal that is due is not made before `until`; no other wait becomes shorter. Does nothing to what has
    /// begun.
    pub fn put_off(&mut self, until: BootInstant) {
        self.put_off = Some(until);
    }

    /// What a try was put off for is over.
    pub fn go_on(&mut self) {
        self.put_off = None;
    }

    pub(super) fn is_put_off(&self, now: BootInstant) -> bool {
        self.put_off.is_some_and(|until| now < until)
    }

    /// What follows from a changed network or clock.
    pub(super) fn act_on_news(&mut self, now: BootInstant) -> Option<Step> {
        let mut step = None;
        if let Some(changed) = self.network.take(now) {
            let is_to_blame = self.why.as_ref().is_some_and(Reason::is_of_network);
            match self.state {
                State::Online(_) => {
                    self.hasten_soon(now);
                    step = Some(Step::CheckLink);
                }
                State::Waiting { .. } if is_to_blame => self.hasten_soon(now),
                // It may wait for ever on an interface that is gone.
                State::Connecting(begun) => self.begin_anew(begun, changed, now),
                _ => {}
            }
        }
        if let Some(stepped) = self.clock.take(now) {
            let is_to_blame = self.why.as_ref().is_some_and(Reason::is_of_clock);
            match &mut self.state {
                State::Online(standing) if standing.begun.at <= stepped && self.terms.lease.is_some() => {
                    standing.renewal.at_once(now);
                }
                State::Waiting { .. } if is_to_blame => self.hasten_soon(now),
                // Its login has the old times.
                &mut State::Connecting(begun) => self.begin_anew(begun, stepped, now),
                _ => {}
            }
        }
        step
    }

    /// Gives a try up for another one, unless it began after these news. One that has itself followed a try that was given
    /// up comes to its end, and the next one follows soon.
    fn begin_anew(&mut self, begun: Begun, news: BootInstant, now: BootInstant) {
        if begun.at > news {
            return;
        }
        if begun.after == After::Try {
            self.hasten_soon(now);
        } else {
            self.state = State::Closing { until: now, before: After::Try };
        }
    }
}
