//! When to connect, when to renew the login (lease), and how long to wait after a failure (back-off).
//!
//! One connection is one order: this file says when it is given and when it is taken back, never how it is made.

use std::time::Duration;

use super::now::BootInstant;
use super::wire::{Reason, Schedule};

/// A session that lasted this long was a good one: the next failure starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// First step of the back-off after trouble with the network.
const FIRST: Duration = Duration::from_secs(1);

/// First step when the broker refused who we are: asking again at once only gets a device banned.
const FIRST_REFUSED: Duration = Duration::from_secs(8);

/// Before a planned DISCONNECT, what is on its way gets this long to be acknowledged.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// A planned DISCONNECT that has not ended the connection by then never will.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A fleet is given a new configuration or new roots at one moment; its devices take at most this long to act on it, each
/// its own time, so that they do not all come at once.
const SPREAD: Duration = Duration::from_secs(5);

/// What the operator and the cloud allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how long one login is good; `None` if it does not end.
    pub lease: Option<Duration>,
    /// Longest wait after trouble with the network.
    pub backoff_max: Duration,
    /// Longest wait after a refusal.
    pub backoff_max_refused: Duration,
}

/// The one connection to the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    terms: Terms,
    state: State,
    /// Failures in a row, of the network and of the login.
    failures: u32,
    dice: Dice,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not wanted.
    Off,
    Waiting {
        until: BootInstant,
    },
    Connecting,
    Online {
        since: BootInstant,
        renew: Option<BootInstant>,
    },
    /// Still connected, but nothing more is sent.
    Settling {
        since: BootInstant,
        until: BootInstant,
    },
    /// DISCONNECT was ordered.
    Closing {
        until: BootInstant,
    },
}

/// What the loop has to do about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Connect,
    Disconnect,
}

impl Connection {
    /// A connection that is due at once. `seed` is all the randomness it will ever need.
    pub fn new(terms: Terms, seed: u64) -> Self {
        Self { terms, state: State::Waiting { until: BootInstant::default() }, failures: 0, dice: Dice(seed) }
    }

    /// Messages may be sent.
    pub fn may_send(&self) -> bool {
        matches!(self.state, State::Online { .. })
    }

    /// There is a session, though perhaps nothing more may be sent on it.
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online { .. } | State::Settling { .. })
    }

    pub fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// There is none, not even one that has begun or is being closed.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Off | State::Waiting { .. })
    }

    /// The session stands: CONNACK and every SUBACK were good.
    ///
    /// One that is to be closed stays so: it was made with what no longer holds, or is not wanted any more.
    pub fn online(&mut self, now: BootInstant) {
        if matches!(self.state, State::Closing { .. }) {
            return;
        }
        let renew = self.terms.lease.map(|lease| now + lease / 5 * 4);
        self.state = State::Online { since: now, renew };
    }

    /// The connection ended, or never came to be.
    pub fn offline(&mut self, reason: &Reason, now: BootInstant) {
        let lasted = match self.state {
            State::Online { since, .. } | State::Settling { since, .. } => now.since(since),
            // Whatever the broker made of our DISCONNECT, this end was planned.
            State::Closing { .. } => {
                self.state = State::Waiting { until: now };
                return;
            }
            State::Off => return,
            State::Waiting { .. } | State::Connecting => Duration::ZERO,
        };
        if lasted >= GOOD_AFTER {
            self.failures = 0;
        }
        let (first, longest) = match reason.schedule() {
            Schedule::Refused => (FIRST_REFUSED, self.terms.backoff_max_refused),
            Schedule::Network | Schedule::Busy => (FIRST, self.terms.backoff_max),
        };
        let wait = self.dice.up_to(ceiling(first, longest, self.failures));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting { until: now + wait };
    }

    /// What is due now. `wanted`: there should be a session. `idle`: nothing that was sent waits for its acknowledgement.
    pub fn next(&mut self, wanted: bool, idle: bool, now: BootInstant) -> Option<Step> {
        match self.state {
            State::Off if wanted => {
                self.state = State::Waiting { until: now };
                self.next(wanted, idle, now)
            }
            State::Waiting { .. } if !wanted => {
                self.state = State::Off;
                None
            }
            State::Waiting { until } if now >= until => {
                self.state = State::Connecting;
                Some(Step::Connect)
            }
            State::Connecting if !wanted => Some(self.close(now)),
            State::Online { since, renew } if !wanted || renew.is_some_and(|renew| now >= renew) => {
                self.state = State::Settling { since, until: now + SETTLE_WITHIN };
                self.next(wanted, idle, now)
            }
            State::Settling { since, until } if idle || now >= until => {
                if now.since(since) >= GOOD_AFTER {
                    self.failures = 0;
                }
                Some(self.close(now))
            }
            // The order to disconnect is repeated until the end of the connection is reported.
            State::Closing { until } if now >= until => Some(self.close(now)),
            _ => None,
        }
    }

    fn close(&mut self, now: BootInstant) -> Step {
        self.state = State::Closing { until: now + CLOSE_WITHIN };
        Step::Disconnect
    }

    /// When [`Connection::next`] must be asked again, if nothing happens before.
    pub fn deadline(&self) -> Option<BootInstant> {
        match self.state {
            State::Waiting { until } | State::Settling { until, .. } | State::Closing { until } => Some(until),
            State::Online { renew, .. } => renew,
            State::Off | State::Connecting => None,
        }
    }
}

impl Connection {
    /// The terms have changed, and with `anew` so has what a login says: an old session is renewed and a new one is
    /// tried within `SPREAD`, whatever failed before.
    pub fn set_terms(&mut self, terms: Terms, anew: bool, now: BootInstant) {
        self.terms = terms;
        if anew {
            self.failures = 0;
            let soon = now + self.dice.up_to(SPREAD);
            match &mut self.state {
                State::Waiting { until } => *until = soon.min(*until),
                State::Online { renew, .. } => *renew = Some(renew.map_or(soon, |renew| soon.min(renew))),
                // It began with what is no longer true.
                State::Connecting => self.state = State::Closing { until: now },
                State::Off | State::Settling { .. } | State::Closing { .. } => {}
            }
        }
    }

    /// The wall clock was set: what the last login said of the time is not true any more.
    pub fn renew_soon(&mut self, now: BootInstant) {
        if let State::Online { renew, .. } = &mut self.state {
            *renew = Some(renew.map_or(now, |renew| renew.min(now)));
        }
        self.hurry(now);
    }

    /// What made a login impossible may be gone: there is no reason to wait longer than `SPREAD`.
    pub fn hurry(&mut self, now: BootInstant) {
        let soon = now + self.dice.up_to(SPREAD);
        if let State::Waiting { until } = &mut self.state {
            // What failed before still counts: should this change be none, or one of many, the waits go on growing.
            *until = soon.min(*until);
        }
    }

    /// When this session began, and when it will be renewed.
    pub fn session(&self) -> Option<(BootInstant, Option<BootInstant>)> {
        match self.state {
            State::Online { since, renew } => Some((since, renew)),
            State::Settling { since, .. } => Some((since, None)),
            State::Off | State::Waiting { .. } | State::Connecting | State::Closing { .. } => None,
        }
    }

    /// The stage, in words for people.
    pub fn stage(&self) -> &'static str {
        match self.state {
            State::Off => "disconnected on purpose",
            State::Waiting { .. } => "not connected yet",
            State::Connecting => "connecting",
            State::Online { .. } => "connected",
            State::Settling { .. } | State::Closing { .. } => "closing the connection as planned",
        }
    }
}

/// Truncated exponential back-off: the most that is waited after so many failures in a row.
fn ceiling(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = first.checked_mul(2_u32.saturating_pow(failures)).unwrap_or(longest);
    doubled.min(longest)
}

/// Random numbers from a seed (SplitMix64): good enough to keep a fleet apart, and equal in every replay of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Any time up to `most`, each as likely: full jitter, so that devices that failed together do not return together.
    fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.throw() % (micros + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms() -> Terms {
        Terms {
            lease: Some(Duration::from_secs(3_600)),
            backoff_max: Duration::from_secs(300),
            backoff_max_refused: Duration::from_secs(900),
        }
    }

    fn at(seconds: u64) -> BootInstant {
        BootInstant(Duration::from_secs(seconds))
    }

    fn online(seed: u64) -> Connection {
        let mut connection = Connection::new(terms(), seed);
        assert_eq!(connection.next(true, true, at(0)), Some(Step::Connect));
        connection.online(at(0));
        connection
    }

    #[test]
    fn a_lease_is_renewed_at_four_fifths_once_nothing_is_on_its_way() {
        let mut connection = online(1);
        assert_eq!(connection.deadline(), Some(at(2_880)));
        assert_eq!(connection.next(true, true, at(2_879)), None);
        assert_eq!(connection.next(true, false, at(2_880)), None);
        assert!(!connection.may_send() && connection.is_online());
        assert_eq!(connection.next(true, true, at(2_881)), Some(Step::Disconnect));
        connection.offline(&Reason::Planned, at(2_882));
        assert_eq!(connection.next(true, true, at(2_882)), Some(Step::Connect), "a planned end is followed at once");
    }

    #[test]
    fn a_good_session_that_ended_as_planned_resets_the_back_off_too() {
        let mut connection = online(7);
        connection.failures = 20;
        assert_eq!(connection.next(true, true, at(2_880)), Some(Step::Disconnect));
        assert_eq!(connection.failures, 0);
    }

    #[test]
    fn what_is_never_acknowledged_does_not_hold_up_a_renewal() {
        let mut connection = online(1);
        assert_eq!(connection.next(true, false, at(2_880)), None);
        assert_eq!(connection.next(true, false, at(2_885)), Some(Step::Disconnect));
    }

    #[test]
    fn an_unwanted_session_is_closed_and_a_wanted_one_comes_back() {
        let mut connection = online(1);
        assert_eq!(connection.next(false, true, at(5)), Some(Step::Disconnect));
        connection.offline(&Reason::Planned, at(5));
        assert_eq!(connection.next(false, true, at(5)), None);
        assert!(connection.is_off());
        assert_eq!(connection.next(true, true, at(9)), Some(Step::Connect));
    }

    #[test]
    fn a_short_session_does_not_reset_the_back_off_and_a_long_one_does() {
        let mut connection = online(7);
        for round in 0..20 {
            connection.offline(&Reason::Closed, at(round));
            connection.online(at(round));
        }
        assert_eq!(connection.failures, 20);
        connection.offline(&Reason::Closed, at(19 + 60));
        assert_eq!(connection.failures, 1);
    }

    #[test]
    fn a_fleet_that_is_given_one_configuration_does_not_come_back_at_one_moment() {
        let mut moments: Vec<Duration> = (0..1_000)
            .map(|seed| {
                let (mut standing, mut waiting) = (online(seed), online(seed));
                for _ in 0..20 {
                    waiting.offline(&Reason::Refused { code: 5 }, at(100));
                }
                standing.set_terms(terms(), true, at(100));
                waiting.set_terms(terms(), true, at(100));
                let mut hurried = waiting.clone();
                hurried.hurry(at(100));
                for connection in [&standing, &waiting, &hurried] {
                    assert!(connection.deadline().is_some_and(|due| due <= at(105)), "{connection:?}");
                }
                standing.deadline().expect("a renewal").since(at(100))
            })
            .collect();
        moments.sort();
        for (tenth, most) in (1..=10).zip((500..).step_by(500)) {
            let come = moments.partition_point(|moment| *moment <= Duration::from_millis(most));
            assert!((tenth * 70..=tenth * 130).contains(&come), "after {most} ms: {come} of 1000");
        }
    }

    #[test]
    fn a_renewal_that_is_due_is_not_put_off_by_a_new_configuration() {
        let mut connection = online(3);
        connection.set_terms(terms(), true, at(2_880));
        assert_eq!(connection.deadline(), Some(at(2_880)));
    }

    #[test]
    fn a_session_that_stands_too_late_does_not_outlive_what_it_was_made_with() {
        let mut connection = Connection::new(terms(), 1);
        assert_eq!(connection.next(true, true, at(0)), Some(Step::Connect));
        connection.set_terms(terms(), true, at(1));
        connection.online(at(1));
        assert!(!connection.is_online(), "what it logged in with is no longer true");
        assert_eq!(connection.next(true, true, at(1)), Some(Step::Disconnect));
        connection.offline(&Reason::Planned, at(1));
        assert_eq!(connection.next(true, true, at(1)), Some(Step::Connect));
    }

    proptest! {
        #[test]
        fn waits_stay_below_their_ceiling_and_use_all_of_it(seed: u64, failures in 0_u32..40) {
            let mut connection = Connection::new(terms(), seed);
            for _ in 0..failures {
                connection.offline(&Reason::Tcp(String::new()), at(0));
            }
            let most = ceiling(FIRST, terms().backoff_max, failures);
            prop_assert!(most <= terms().backoff_max);
            let waits: Vec<Duration> = (0..64).map(|_| connection.dice.up_to(most)).collect();
            prop_assert!(waits.iter().all(|wait| *wait <= most));
            prop_assert!(waits.iter().any(|wait| *wait < most / 4) && waits.iter().any(|wait| *wait > most / 4 * 3));
        }
    }
}
