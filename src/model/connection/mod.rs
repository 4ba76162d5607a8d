//! When to connect and with which key, when to renew the login (lease), how long to wait after a failure (back-off).
//!
//! One connection is one order: this module says when it is given and when it is taken back, never how it is made. This
//! file is the state machine. Beside it stands one file for each question: how long to wait (`backoff`), what a run of ends
//! means (`ends`), which key is next (`slots`), when to renew (`renewal`), what news from outside change (`news`) and how
//! often they may be acted on (`pace`), when a hub is asked for anew (`rehoming`).
//!
//! Each end has a reason, and each reason a schedule of waits with full jitter, from the first try; whatever comes
//! together, `budget` bounds the tries of a minute.
//!
//! A new token needs a new connection, since MQTT 3.1.1 cannot renew one. The next stream is opened beside the session
//! ([`Effect::Prepare`](super::turn::Effect::Prepare)); only when it is open does the model stop sending, wait until
//! nothing is in flight, disconnect and connect over it. So a network that is broken for newcomers ends no session that
//! works.

mod backoff;
mod budget;
mod dice;
mod ends;
mod news;
mod pace;
mod rehoming;
mod renewal;
mod slots;
mod view;

use std::time::Duration;

use super::device_key::KeySlot;
use super::now::BootInstant;
use super::turn::Attempt;
use super::wire::{Reason, Schedule};
use backoff::Backoff;
use budget::Budget;
use dice::Dice;
use ends::{Ends, GOOD_AFTER, Verdict};
use pace::Pace;
use rehoming::Rehoming;
use renewal::Renewal;
use slots::Slots;

pub use budget::{MOST as MOST_TRIES, PERIOD as TRIES_PERIOD};

/// Before a planned DISCONNECT, what is on its way gets this long to be acknowledged.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// A planned DISCONNECT that has not ended the connection by then never will.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A fleet is given a new configuration or new roots at one moment; its devices take at most this long to act on it, each
/// its own time, so that they do not all come at once.
const SPREAD: Duration = Duration::from_secs(5);

/// A try that is promising takes at most this long to begin: with another key, over another network, by another clock.
const SOON: Duration = Duration::from_secs(1);

/// What the operator and the cloud allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how long one login is good; `None` if it does not end.
    pub lease: Option<Duration>,
    /// Longest wait after trouble with the network.
    pub backoff_max: Duration,
    /// Longest wait after a refusal.
    pub backoff_max_refused: Duration,
    /// A service assigns the hub, and may assign another one.
    pub provisioned: bool,
}

/// The one connection to the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    terms: Terms,
    state: State,
    /// Why there is no session, if there is none and there was one or was to be one.
    why: Option<Reason>,
    backoff: Backoff,
    budget: Budget,
    ends: Ends,
    slots: Slots,
    rehoming: Rehoming,
    /// Changes of the machine's addresses and routes.
    network: Pace,
    /// Steps of the wall clock.
    clock: Pace,
    /// Nothing is tried before this, and no session is renewed; whatever the state, for it outlives every one of them.
    put_off: Option<BootInstant>,
    /// When nothing more was sent for the sake of a renewal that has not ended in a new session yet.
    stopped: Option<BootInstant>,
    /// Since when every session that ended did so to be renewed.
    unbroken: Option<BootInstant>,
    dice: Dice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not wanted.
    Off,
    Waiting {
        until: BootInstant,
        after: After,
    },
    Connecting(Begun),
    Online(Standing),
    /// Still connected, but nothing more is sent.
    Settling {
        standing: Standing,
        until: BootInstant,
    },
    /// DISCONNECT was ordered.
    Closing {
        until: BootInstant,
        /// What the next try will follow.
        before: After,
    },
}

/// What a try follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The start, or what failed.
    Failure,
    /// A session that was ended for it. So it is no try that could be one too many.
    Session,
    /// A try that was given up for it. So it is not given up itself: where the network changes all the time, one must be
    /// allowed to come to its end.
    Try,
}

/// A try, and the session it may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    at: BootInstant,
    key: KeySlot,
    after: After,
    /// What it was made with has changed since, so its failure says little of the next one.
    outdated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    begun: Begun,
    since: BootInstant,
    renewal: Renewal,
}

/// What the loop has to do about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open the stream of the next connection beside the session.
    Prepare,
    Connect(Attempt),
    Disconnect,
    /// Find out whether the session is still alive.
    CheckLink,
}

/// The session that stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub since: BootInstant,
    /// When it will be renewed; nothing while that is under way.
    pub renew: Option<BootInstant>,
    pub key: KeySlot,
}

/// A connection that has ended, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// By its true name: the edge cannot know what a run of ends means.
    pub reason: Reason,
    /// Until the next try, if nothing happens before.
    pub wait: Duration,
}

/// A session that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// For how long nothing was sent, if it is the renewal of another one.
    pub gap: Option<Duration>,
}

// === What happens

impl Connection {
    /// A connection that is due at once. `seed` is all the randomness it will ever need.
    pub fn new(terms: Terms, seed: u64) -> Self {
        Self {
            terms,
            state: State::waiting(BootInstant::default()),
            why: None,
            backoff: Backoff::default(),
            budget: Budget::default(),
            ends: Ends::default(),
            slots: Slots::default(),
            rehoming: Rehoming::default(),
            network: Pace::default(),
            clock: Pace::default(),
            put_off: None,
            stopped: None,
            unbroken: None,
            dice: Dice::new(seed),
        }
    }

    /// The session stands: CONNACK and every SUBACK were good. Nothing, if that is not to be: one that is to be closed was made
    /// with what no longer holds, or is not wanted any more.
    pub fn online(&mut self, now: BootInstant) -> Option<Beginning> {
        let begun = match self.state {
            State::Connecting(begun) => begun,
            State::Off | State::Waiting { .. } => {
                Begun { at: now, key: self.slots.using(), after: After::Failure, outdated: false }
            }
            State::Online(_) | State::Settling { .. } | State::Closing { .. } => return None,
        };
        self.why = None;
        self.slots.worked();
        self.rehoming.worked();
        self.ends.begins(now);
        self.unbroken.get_or_insert(now);
        let renewal = Renewal::new(self.terms.lease, &mut self.dice, now);
        self.state = State::Online(Standing { begun, since: now, renewal });
        Some(Beginning { gap: self.stopped.take().map(|stopped| now.since(stopped)) })
    }

    /// The connection ended, or never came to be. Nothing, if none was ordered.
    ///
    /// `is_idle`: nothing that was sent waits for its acknowledgement.
    pub fn offline(&mut self, reason: Reason, is_idle: bool, now: BootInstant) -> Option<End> {
        let (stood, tried) = match &self.state {
            State::Online(standing) | State::Settling { standing, .. } => (Some(now.since(standing.since)), None),
            State::Connecting(begun) => (None, Some(*begun)),
            State::Closing { before, .. } => {
                // Whatever the broker made of our DISCONNECT, this end was planned.
                let before = *before;
                if before != After::Session {
                    self.unbroken = None;
                }
                self.state = State::Waiting { until: now, after: before };
                self.why = Some(Reason::Planned);
                return Some(self.end(now));
            }
            State::Off | State::Waiting { .. } => return None,
        };
        if let Some(unbroken) = self.unbroken.take().filter(|_| stood.is_some()) {
            self.ends.unbroken(now.since(unbroken));
        }
        let Verdict { reason, mut schedule, is_good } = self.ends.judge(reason, stood, is_idle);
        if is_good {
            self.backoff = Backoff::default();
        }
        let is_outdated = tried.is_some_and(|begun| begun.outdated);
        // What was refused to an old key is nothing against the new one in its place.
        let refused = tried.filter(|_| reason.doubts_identity() && !is_outdated);
        // What was refused to an old key or over another network is nothing against the hub either.
        let failed = tried.filter(|_| self.terms.provisioned && !is_outdated);
        let is_rehomed = failed.is_some() && self.rehoming.failed(&reason, now);
        // Where no name is found it may be the network that is down: the hub's has not been refused.
        if is_rehomed && !matches!(reason, Reason::Dns(_)) {
            schedule = Schedule::Refused;
        }
        let has_another_key = refused.is_some_and(|begun| self.slots.was_refused(begun.key));
        let wait = if has_another_key && !is_rehomed {
            self.dice.up_to(SOON)
        } else {
            // What failed before still counts: should the change be none, or one of many, the waits go on growing.
            let wait = self.backoff.wait(schedule, &self.terms, &mut self.dice);
            if is_outdated { wait.min(self.dice.up_to(SOON)) } else { wait }
        };
        self.state = State::waiting(now + wait);
        self.why = Some(reason);
        Some(self.end(now))
    }

    fn end(&self, now: BootInstant) -> End {
        let wait = self.try_due().map_or(Duration::ZERO, |due| due.since(now));
        End { reason: self.why.clone().unwrap_or(Reason::Planned), wait }
    }

    /// The answer to [`Step::Prepare`]. Where the stream could not be opened the session stays, and it is tried again.
    pub fn prepared(&mut self, answer: &Result<(), Reason>, now: BootInstant) {
        let is_put_off = self.is_put_off(now);
        let State::Online(standing) = &mut self.state else { return };
        if !standing.renewal.prepared(answer, &self.terms, &mut self.dice, now) {
            return;
        }
        if is_put_off {
            // The session would end, and the next one would have to wait.
            standing.renewal.anew(now);
        } else {
            self.stopped = Some(now);
            self.state = State::Settling { standing: standing.clone(), until: now + SETTLE_WITHIN };
        }
    }
}

// === What is due

impl Connection {
    /// What is due now. `wanted`: there should be a session. `is_idle`: nothing that was sent waits for its acknowledgement.
    pub fn next(&mut self, wanted: bool, is_idle: bool, now: BootInstant) -> Option<Step> {
        self.ends.pass(now);
        if !wanted {
            self.stopped = None;
        }
        let check = self.act_on_news(now);
        let is_put_off = self.is_put_off(now);
        let step = match &mut self.state {
            State::Off if wanted => {
                self.state = State::waiting(now);
                return self.next(wanted, is_idle, now);
            }
            State::Waiting { .. } if !wanted => {
                self.unbroken = None;
                self.state = State::Off;
                None
            }
            State::Waiting { .. } => self.try_due().is_some_and(|due| now >= due).then(|| self.connect(now)),
            State::Connecting(_) if !wanted => Some(self.close(After::Failure, now)),
            State::Online(standing) if !wanted => {
                self.state = State::Settling { standing: standing.clone(), until: now + SETTLE_WITHIN };
                return self.next(wanted, is_idle, now);
            }
            State::Online(standing) => {
                self.ends.stands(now.since(standing.since));
                if let Some(unbroken) = self.unbroken {
                    self.ends.unbroken(now.since(unbroken));
                }
                (!is_put_off && standing.renewal.begins(now)).then_some(Step::Prepare)
            }
            State::Settling { standing, until } if is_idle || now >= *until => {
                let lasted = now.since(standing.since);
                self.ends.stands(lasted);
                if lasted >= GOOD_AFTER && !self.ends.is_taken_over() {
                    self.backoff = Backoff::default();
                }
                Some(self.close(After::Session, now))
            }
            // The order to disconnect is repeated until the end of the connection is reported.
            State::Closing { until, before } if now >= *until => {
                let before = *before;
                Some(self.close(before, now))
            }
            State::Off | State::Connecting(_) | State::Settling { .. } | State::Closing { .. } => None,
        };
        step.or(check)
    }

    /// Any time up to this one, drawn with this connection's own dice: what must not come from all devices at once.
    pub fn chance(&mut self, most: Duration) -> Duration {
        self.dice.up_to(most)
    }

    fn connect(&mut self, now: BootInstant) -> Step {
        let after = if let State::Waiting { after, .. } = self.state { after } else { After::Failure };
        if after != After::Session {
            self.budget.spend(now);
        }
        let key = self.slots.using();
        self.state = State::Connecting(Begun { at: now, key, after, outdated: false });
        Step::Connect(Attempt { key, drop_session: self.ends.is_to_drop(), provision: self.rehoming.is_due() })
    }

    fn close(&mut self, before: After, now: BootInstant) -> Step {
        self.state = State::Closing { until: now + CLOSE_WITHIN, before };
        Step::Disconnect
    }

    /// When the next try is made, if one waits.
    fn try_due(&self) -> Option<BootInstant> {
        match self.state {
            State::Waiting { until, after } => {
                let due = self.not_before(until);
                Some(if after == After::Session { due } else { self.budget.not_before(due) })
            }
            _ => None,
        }
    }

    /// When what is due at `at` may be done.
    fn not_before(&self, at: BootInstant) -> BootInstant {
        self.put_off.map_or(at, |put_off| put_off.max(at))
    }

    /// When [`Connection::next`] must be asked again, if nothing happens before.
    pub fn deadline(&self) -> Option<BootInstant> {
        let (state, since) = match &self.state {
            State::Off | State::Connecting(_) => (None, None),
            State::Waiting { .. } => (self.try_due(), None),
            State::Settling { until, .. } | State::Closing { until, .. } => (Some(*until), None),
            State::Online(standing) => {
                (standing.renewal.deadline().map(|due| self.not_before(due)), Some(standing.since))
            }
        };
        let unbroken = self.unbroken.filter(|_| since.is_some());
        [state, self.network.due(), self.clock.due(), self.ends.deadline(since, unbroken)].into_iter().flatten().min()
    }
}

impl State {
    fn waiting(until: BootInstant) -> Self {
        Self::Waiting { until, after: After::Failure }
    }
}
