//! A connection in a hostile world: ends of every kind, networks and clocks that never rest, answers that nobody asked for.
//!
//! Whatever comes in whatever order, there is one connection at a time, no wait beyond its cap, and a bound on the tries.

#![allow(clippy::print_stdout, reason = "how many tries there were is what these tests show")]

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use twinagent::model::connection::{Connection, MOST_TRIES, Step, TRIES_PERIOD, Terms};
use twinagent::model::device_key::KeySlot;
use twinagent::model::now::BootInstant;
use twinagent::model::wire::{Reason, Schedule, TlsFault};

const BACKOFF_MAX: Duration = Duration::from_secs(300);
const BACKOFF_MAX_REFUSED: Duration = Duration::from_secs(900);

/// Between two acts on a changed network or clock.
const PACE: u64 = 10;

#[derive(Clone, Debug)]
enum Deed {
    Online,
    Offline(Reason),
    Prepared(Result<(), Reason>),
    NetworkChanged,
    ClockStepped,
    Keys(bool, Vec<KeySlot>),
    Hurry,
    Anew,
    Wanted(bool),
    Idle(bool),
    /// The clock is in doubt, and this much longer is waited for it.
    PutOff(Duration),
    GoOn,
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        Just(Reason::Planned),
        Just(Reason::NoLogin(String::new())),
        Just(Reason::Dns(String::new())),
        Just(Reason::Tcp(String::new())),
        Just(Reason::Proxy(String::new())),
        Just(Reason::Tls(TlsFault::Expired, String::new())),
        Just(Reason::CaptivePortal(String::new())),
        prop_oneof![Just(Schedule::Network), Just(Schedule::Busy), Just(Schedule::Refused)]
            .prop_map(|schedule| Reason::WebSocket(schedule, String::new())),
        Just(Reason::TimedOut { stage: "waiting", seconds: 30 }),
        any::<u8>().prop_map(|code| Reason::Refused { code }),
        Just(Reason::ClosedBeforeAnswer),
        Just(Reason::SubscriptionRefused { filter: String::new() }),
        Just(Reason::Closed),
        Just(Reason::Closed),
        Just(Reason::Lost(String::new())),
        Just(Reason::DeadLink { seconds: 9 }),
        Just(Reason::Undecodable(String::new())),
        Just(Reason::Undecodable(String::new())),
        Just(Reason::Protocol(String::new())),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let slots = prop::sample::subsequence(vec![KeySlot::Next, KeySlot::Previous], 0..=2);
    prop_oneof![
        6 => Just(Deed::Online),
        8 => reason().prop_map(Deed::Offline),
        2 => prop_oneof![Just(Ok(())), reason().prop_map(Err)].prop_map(Deed::Prepared),
        3 => Just(Deed::NetworkChanged),
        1 => Just(Deed::ClockStepped),
        1 => (any::<bool>(), slots).prop_map(|(current, others)| Deed::Keys(current, others)),
        1 => Just(Deed::Hurry),
        1 => Just(Deed::Anew),
        1 => prop::bool::weighted(0.8).prop_map(Deed::Wanted),
        1 => any::<bool>().prop_map(Deed::Idle),
        1 => (0..900_000_u64).prop_map(|millis| Deed::PutOff(Duration::from_millis(millis))),
        1 => Just(Deed::GoOn),
    ]
}

fn terms() -> Terms {
    Terms {
        lease: Some(Duration::from_secs(3_600)),
        backoff_max: BACKOFF_MAX,
        backoff_max_refused: BACKOFF_MAX_REFUSED,
        provisioned: false,
    }
}

/// The connection, and what is true of it.
struct World {
    connection: Connection,
    now: BootInstant,
    wanted: bool,
    idle: bool,
    /// A connection was ordered and has not ended.
    ordered: bool,
    /// It stands.
    stands: bool,
    /// Its end was ordered.
    closing: bool,
    /// The last one stood and was ended by us, so that the next may follow at once.
    renewed: bool,
    checked: Option<BootInstant>,
    /// Nothing may begin before this.
    put_off: Option<BootInstant>,
    tries: VecDeque<BootInstant>,
    most: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            connection: Connection::new(terms(), seed),
            now: BootInstant::default(),
            wanted: true,
            idle: true,
            ordered: false,
            stands: false,
            closing: false,
            renewed: false,
            checked: None,
            put_off: None,
            tries: VecDeque::new(),
            most: 0,
        };
        world.step();
        world
    }

    fn live(&mut self, deed: &Deed) {
        match deed {
            Deed::Online if self.ordered && !self.stands => {
                self.stands = self.connection.online(self.now).is_some();
                assert_eq!(self.stands, !self.closing, "only what is to be closed does not stand");
            }
            Deed::Online => {}
            Deed::Offline(reason) => {
                let end = self.connection.offline(reason.clone(), self.idle, self.now);
                assert_eq!(end.is_some(), self.ordered, "an end, if and only if there was something to end");
                if let Some(end) = end {
                    let cap = if self.closing { TRIES_PERIOD } else { BACKOFF_MAX_REFUSED };
                    let put_off = self.put_off.map_or(Duration::ZERO, |until| until.since(self.now));
                    assert!((put_off..=cap.max(put_off)).contains(&end.wait), "{end:?}");
                    self.renewed = self.closing && self.stands;
                    (self.ordered, self.stands, self.closing) = (false, false, false);
                }
            }
            Deed::Prepared(answer) => {
                let is_put_off = self.put_off.is_some_and(|until| self.now < until);
                let stood = self.connection.may_send();
                self.connection.prepared(answer, self.now);
                let ends = stood && !self.connection.may_send();
                assert!(!(is_put_off && ends), "a session ends though the next one would have to wait");
            }
            Deed::NetworkChanged => self.connection.network_changed(self.now),
            Deed::ClockStepped => self.connection.clock_stepped(self.now),
            Deed::Keys(current, others) => self.connection.set_keys(*current, others),
            Deed::Hurry => self.connection.hurry(self.now),
            Deed::Anew => self.connection.set_terms(terms(), true, self.now),
            Deed::Wanted(wanted) => self.wanted = *wanted,
            Deed::Idle(idle) => self.idle = *idle,
            Deed::PutOff(time) => {
                let until = self.now + *time;
                self.put_off = Some(until);
                self.connection.put_off(until);
            }
            Deed::GoOn => {
                self.put_off = None;
                self.connection.go_on();
            }
        }
        self.step();
    }

    fn step(&mut self) {
        let due = self.connection.deadline();
        let is_put_off = self.put_off.is_some_and(|until| self.now < until);
        match self.connection.next(self.wanted, self.idle, self.now) {
            Some(Step::Connect(_)) => {
                assert!(!self.ordered, "a second connection beside the first");
                assert!(self.wanted, "a connection that nobody wants");
                assert!(!is_put_off, "a try while the clock is in doubt");
                self.ordered = true;
                // A session that we ended ourselves stood for good reason; what follows it is no try.
                if !std::mem::take(&mut self.renewed) {
                    self.tries.push_back(self.now);
                }
                while self.tries.front().is_some_and(|first| self.now.since(*first) >= TRIES_PERIOD) {
                    self.tries.pop_front();
                }
                self.most = self.most.max(self.tries.len());
                assert!(self.tries.len() <= MOST_TRIES, "{} tries in {TRIES_PERIOD:?}", self.tries.len());
            }
            Some(Step::Disconnect) => {
                assert!(self.ordered, "the end of nothing");
                self.closing = true;
            }
            Some(Step::Prepare) => {
                assert!(!is_put_off, "a session is renewed though the next one would have to wait");
                assert!(self.stands && !self.closing && self.wanted, "prepared though no session is to be renewed");
            }
            Some(Step::CheckLink) => {
                assert!(self.stands && !self.closing, "no link to check");
                let apart = self.checked.replace(self.now).map(|checked| self.now.since(checked));
                assert!(apart.is_none_or(|apart| apart >= Duration::from_secs(PACE)), "checked after {apart:?}");
            }
            None => {
                let is_past = |due: BootInstant| due <= self.now;
                let again = self.connection.deadline();
                assert!(!(due.is_some_and(is_past) && again.is_some_and(is_past)), "a hot loop: {:?}", self.connection);
            }
        }
        if self.wanted && !self.ordered {
            let due = self.connection.deadline().expect("one that is wanted is tried again");
            assert!(due.since(self.now) <= BACKOFF_MAX_REFUSED, "{:?}", self.connection);
        }
    }

    /// Lets time pass, with a step at every deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            match self.connection.deadline() {
                Some(due) if due <= end => self.now = due.max(self.now),
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.step();
        }
        panic!("the deadline never moves on: a hot loop");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_connection_at_a_time_and_no_hot_loop_whatever_happens(
        seed: u64,
        deeds in prop::collection::vec((prop_oneof![Just(0), 0..500_u64, 0..20_000_u64, 0..2_000_000_u64], deed()), 1..200),
    ) {
        let mut world = World::new(seed);
        for (millis, deed) in &deeds {
            world.pass(Duration::from_millis(*millis));
            world.live(deed);
        }
    }
}

/// Everything at once that makes a device try again: every try fails at once, in turn for another reason, the network
/// changes all the time, there are three keys and somebody who says that it may go better now.
#[test]
fn the_most_tries_in_a_minute_are_those_of_the_budget() {
    let mut most = 0;
    for seed in 0..200 {
        let mut world = World::new(seed);
        let all = [KeySlot::Next, KeySlot::Previous];
        for turn in 0..2_000_u32 {
            let reason = match turn % 3 {
                0 => Reason::Refused { code: 5 },
                1 => Reason::Tcp(String::new()),
                _ => Reason::Undecodable(String::new()),
            };
            for deed in [Deed::Offline(reason), Deed::NetworkChanged, Deed::Keys(true, all.to_vec()), Deed::Anew] {
                world.live(&deed);
            }
            world.pass(Duration::from_millis(100));
        }
        most = most.max(world.most);
    }
    println!(
        "at most {most} tries in {TRIES_PERIOD:?}; the budget allows {MOST_TRIES}, and nothing is tried beyond it but what \
         follows a session that we ended ourselves"
    );
    assert_eq!(most, MOST_TRIES, "the world is hostile enough to use all of it");
}

/// Without somebody who says that it may go better, back-off alone keeps a device below the budget.
#[test]
fn ends_and_networks_alone_do_not_use_the_budget() {
    let mut most = 0;
    for seed in 0..500 {
        let mut world = World::new(seed);
        for _ in 0..1_200 {
            world.live(&Deed::Offline(Reason::Tcp(String::new())));
            world.live(&Deed::NetworkChanged);
            world.pass(Duration::from_millis(100));
        }
        most = most.max(world.most);
    }
    println!(
        "at most {most} tries in {TRIES_PERIOD:?} of a device whose network flaps and whose every try fails at once"
    );
    assert!((7..=MOST_TRIES).contains(&most), "{most}");
}
