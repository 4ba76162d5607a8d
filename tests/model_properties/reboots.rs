//! No life, however hard, makes more reboots than the policy allows, in the time that has truly passed.
//!
//! The wall clock of these machines lies while it is doubtful, daemons and machines go down at any moment, journals are
//! lost, commands come again under old and new ids. What is judged is the act, by books that nobody can lose.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use twinagent::model::agent::{Agent, Effect, Input, Settings};
use twinagent::model::cloud::{Inbound, Road};
use twinagent::model::command::Key;
use twinagent::model::durable::Durable;
use twinagent::model::ledger::REMEMBERED_FOR;
use twinagent::model::now::{BootInstant, Clock, Now};
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Inhibitor, Way};
use twinagent::model::reboot::window::{Window, Windows};
use twinagent::model::wire::{Delivery, Reason};

use crate::given::{moment, request, settings};

#[derive(Clone, Debug)]
enum Deed {
    Hear {
        id: Option<u16>,
        payload: usize,
    },
    Pass(u64),
    /// The wall clock is off by so much, and known to be doubtful.
    Doubt(i64),
    /// It is set.
    Set,
    /// Another process.
    Restart,
    /// The machine loses power, or is rebooted by somebody else.
    Cut {
        clean: bool,
    },
    /// The journal is lost with the process.
    Forget,
    Network(bool),
    /// Somebody holds the machine, or lets go.
    Hold(bool),
    /// Whether the machine says anything when it is asked, and reboots when it is told to.
    Obeys {
        answers: bool,
        reboots: bool,
    },
}

const PAYLOADS: usize = 5;

fn payload(number: usize, now: &Now) -> Value {
    match number {
        0 => json!(null),
        1 => json!({ "delay": "90s" }),
        2 => json!({ "at": now.wall.saturating_add(Duration::from_secs(300)).to_string() }),
        3 => json!({ "force": true }),
        _ => json!({ "reason": "again" }),
    }
}

/// What the judge goes by. The agent may have been given something else.
fn policy() -> Settings {
    let mut given = settings(Road::Own, Mode::Machine);
    given.reboot.allow_force = true;
    given.reboot.min_interval = Duration::from_secs(60);
    given.reboot.min_uptime = Duration::from_secs(20);
    given
}

fn windows() -> Windows {
    let window = |text| Window::parse(text, |_| Ok(jiff::tz::TimeZone::UTC)).expect("a window");
    Windows { list: vec![window("00:00-00:20 UTC"), window("01:00-01:10 UTC")], ..Windows::default() }
}

struct Life {
    agent: Agent,
    /// What the agent was given.
    given: Settings,
    /// What it is judged by.
    law: Settings,
    disk: Durable,
    /// Redelivers this at every connect, as a broker with a retained message of an old kind would.
    haunted: bool,

    // The truth.
    time: Duration,
    kernel_start: Duration,
    boot: u128,
    off: i64,
    clock: Clock,
    network: bool,
    held: bool,
    answers: bool,
    reboots: bool,
    deliveries: u64,

    // The books.
    asked: Vec<Duration>,
    /// When the machine was last asked, as far as the agent can know.
    last: Option<Duration>,
    /// Boots that the agent has seen since the machine was last well.
    boots: Vec<Duration>,
    online_since: Option<Duration>,
    done: BTreeSet<Key>,
    /// The wall clock was off by so much that commands may have been forgotten before their time.
    astray: bool,
}

impl Life {
    fn new(given: Settings, law: Settings) -> Self {
        let now = moment(Duration::from_secs(100), Duration::ZERO, 1);
        let mut life = Self {
            agent: Agent::new(given.clone(), Durable::default(), None, 1, &now),
            given,
            law,
            disk: Durable::default(),
            haunted: false,
            time: Duration::from_secs(100),
            kernel_start: Duration::ZERO,
            boot: 1,
            off: 0,
            clock: Clock::Trusted,
            network: true,
            held: false,
            answers: true,
            reboots: true,
            deliveries: 0,
            asked: Vec::new(),
            last: None,
            boots: Vec::new(),
            online_since: None,
            done: BTreeSet::new(),
            astray: false,
        };
        life.turn(vec![Input::Begin { left_clean: Some(false) }]);
        life
    }

    fn now(&self) -> Now {
        let mut now = moment(self.time, self.kernel_start, self.boot);
        now.boot = BootInstant(self.time.checked_sub(self.kernel_start).expect("the kernel has started"));
        let off = Duration::from_secs(self.off.unsigned_abs());
        now.wall = if self.off < 0 { now.wall.saturating_sub(off) } else { now.wall.saturating_add(off) };
        now.clock = self.clock;
        now
    }

    fn live(&mut self, deed: &Deed) {
        match deed {
            Deed::Hear { id, payload: number } => {
                let payload = payload(*number, &self.now());
                let id = id.map(|id| format!("r{id}"));
                self.hear(id.as_deref(), payload);
            }
            Deed::Pass(seconds) => self.pass(Duration::from_secs(*seconds)),
            Deed::Doubt(off) => {
                (self.off, self.clock) = (*off, Clock::Doubtful);
                self.astray |= Duration::from_secs(off.unsigned_abs()) > REMEMBERED_FOR / 2;
            }
            Deed::Set => (self.off, self.clock) = (0, Clock::Trusted),
            Deed::Restart => self.begin(false),
            Deed::Cut { clean } => self.boots(*clean),
            Deed::Forget => {
                self.disk = Durable::default();
                self.last = None;
                self.boots.clear();
                self.done.clear();
                self.begin(false);
            }
            Deed::Network(up) => {
                self.network = *up;
                if !up && self.online_since.take().is_some() {
                    self.turn(vec![Input::Offline(Reason::Closed)]);
                }
            }
            Deed::Hold(held) => self.held = *held,
            Deed::Obeys { answers, reboots } => (self.answers, self.reboots) = (*answers, *reboots),
        }
    }

    fn hear(&mut self, id: Option<&str>, payload: Value) {
        if self.online_since.is_some() {
            self.deliveries += 1;
            let request = request("rebootDevice", id, payload);
            self.turn(vec![Input::Cloud(Inbound::Command(request), Delivery(self.deliveries))]);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.time + time;
        for _ in 0..2_000 {
            let now = self.now();
            let due = self.agent.deadline(&now).map(|due| self.kernel_start + due.0).filter(|due| *due <= end);
            self.time = due.unwrap_or(end).max(self.time);
            self.turn(vec![Input::Tick]);
            if due.is_none() {
                return;
            }
        }
        panic!("the deadline never moves on: a hot loop");
    }

    fn begin(&mut self, left_clean: bool) {
        self.online_since = None;
        self.time += Duration::from_secs(1);
        self.agent = Agent::new(self.given.clone(), self.disk.clone(), None, 2, &self.now());
        self.turn(vec![Input::Begin { left_clean: Some(left_clean) }]);
    }

    fn boots(&mut self, clean: bool) {
        self.time += Duration::from_secs(3);
        self.kernel_start = self.time;
        self.boot += 1;
        // A boot that follows none that is remembered is no reboot that the agent could know of.
        if self.disk.rest.boots.current.is_some() {
            self.boots.push(self.kernel_start);
        }
        self.time += Duration::from_secs(2);
        self.begin(clean);
    }

    fn turn(&mut self, mut inputs: Vec<Input>) {
        for _ in 0..100 {
            if inputs.is_empty() {
                return;
            }
            if self.online_since.is_some_and(|since| self.time.saturating_sub(since) >= self.law.reboot.healthy) {
                self.boots.clear();
            }
            let effects = self.agent.handle(&self.now(), std::mem::take(&mut inputs));
            for effect in &effects {
                if let Effect::Record(record) = effect {
                    self.disk.apply(record);
                    self.disk.settle();
                }
            }
            self.agent.stored();
            for effect in effects {
                match effect {
                    Effect::Send(id, _) => inputs.push(Input::Settled(id)),
                    Effect::Probe if self.answers => {
                        let inhibitor = Inhibitor { who: "apt".to_owned(), why: "an upgrade".to_owned() };
                        let inhibitors = self.held.then_some(inhibitor).into_iter().collect();
                        inputs.push(Input::Probed(Facts { inhibitors, ..Facts::clear(Way::Logind) }));
                    }
                    Effect::Connect(_) if self.network => {
                        self.online_since = Some(self.time);
                        inputs.push(Input::Online { session_kept: true, tls: None });
                        if self.haunted {
                            self.deliveries += 1;
                            let again = request("rebootDevice", Some("ghost"), json!(null));
                            inputs.push(Input::Cloud(Inbound::Command(again), Delivery(self.deliveries)));
                        }
                    }
                    Effect::Connect(_) => inputs.push(Input::Offline(Reason::Closed)),
                    Effect::Reboot(_) => {
                        self.judge();
                        if self.reboots {
                            // The daemon is told to stop before the machine goes down.
                            return self.boots(true);
                        }
                    }
                    _ => {}
                }
            }
        }
        panic!("batches never end: a hot loop");
    }

    /// The machine is about to be rebooted: may it?
    fn judge(&mut self) {
        let law = &self.law.reboot;
        let (now, boots) = (self.now(), &self.disk.rest.boots);
        let key = boots.story.as_ref().and_then(|story| story.key.clone()).expect("a command asked for it");
        let (_, entry) = self.disk.ledger.find(&key).expect("on disk");
        let forced = entry.payload["force"] == true;
        assert!(now.boot.0 >= law.min_uptime, "too young: {:?}", now.boot);
        assert!(!self.held, "held back");
        assert!(self.done.insert(key.clone()) || self.astray, "{key} was done before");
        if let (Some(last), false) = (self.last, forced) {
            let passed = self.time.checked_sub(last).expect("later");
            assert!(passed >= law.min_interval, "too soon: {passed:?} after the last");
        }
        let most = usize::try_from(law.max_reboots).expect("a small number");
        let near = |some: &[Duration]| some[some.len() - 1].checked_sub(some[0]).expect("later") <= law.per;
        assert!(!self.boots.windows(most).any(near), "too many: {:?} before {:?}", self.boots, self.time);
        if !forced && self.clock == Clock::Trusted {
            assert_eq!(law.windows.next(now.wall, now.wall), now.wall, "outside its window");
        }
        self.last = Some(self.time);
        self.asked.push(self.time);
    }
}

fn deed() -> impl Strategy<Value = Deed> {
    let off = prop_oneof![-2_000_000_000_i64..2_000_000_000, -600_i64..600];
    prop_oneof![
        8 => (prop::option::weighted(0.9, 0..60_u16), 0..PAYLOADS).prop_map(|(id, payload)| Deed::Hear { id, payload }),
        8 => prop_oneof![0..30_u64, 0..120_u64, 0..900_u64].prop_map(Deed::Pass),
        1 => off.prop_map(Deed::Doubt),
        2 => Just(Deed::Set),
        1 => Just(Deed::Restart),
        1 => any::<bool>().prop_map(|clean| Deed::Cut { clean }),
        1 => any::<bool>().prop_map(Deed::Network),
        1 => any::<bool>().prop_map(Deed::Hold),
        1 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(answers, reboots)| Deed::Obeys { answers, reboots }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_life_makes_more_reboots_than_are_allowed(
        deeds in prop::collection::vec(deed(), 1..80),
        forgets in prop::collection::vec(0..80_usize, 0..3),
        is_windowed: bool,
        haunted: bool,
    ) {
        let mut law = policy();
        if is_windowed {
            law.reboot.windows = windows();
        }
        let mut life = Life::new(law.clone(), law);
        life.haunted = haunted;
        for (number, deed) in deeds.iter().enumerate() {
            life.live(deed);
            if forgets.contains(&number) {
                life.live(&Deed::Forget);
            }
        }
        // Once the clock is set, everybody knows when this boot began.
        life.live(&Deed::Set);
        life.pass(Duration::from_secs(61));
        let boot = life.disk.rest.boots.current.expect("a boot");
        prop_assert_eq!(boot.time, moment(life.kernel_start, life.kernel_start, 1).wall);
        prop_assert!(!boot.doubtful);
    }
}

/// A machine that is asked again and again for six hours, every time as another command.
fn besieged(given: Settings, forgetful: bool) -> Life {
    let mut life = Life::new(given, policy());
    for number in 0..2_160_u16 {
        life.hear(Some(&format!("s{number}")), json!(null));
        life.pass(Duration::from_secs(10));
        if forgetful && number % 7 == 0 {
            life.live(&Deed::Forget);
        }
    }
    life
}

#[test]
fn a_siege_makes_reboots_at_the_pace_that_is_allowed() {
    let life = besieged(policy(), false);
    // Each is a minute after the last, and has a minute of health between.
    let reboots = life.asked.len();
    assert!((200..=360).contains(&reboots), "{reboots} reboots");
}

#[test]
fn a_journal_that_is_lost_again_and_again_leaves_the_age_of_the_machine() {
    let life = besieged(policy(), true);
    let apart = life.asked.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min().expect("some");
    assert!(apart >= policy().reboot.min_uptime, "{apart:?}");
}

#[test]
#[should_panic(expected = "too soon")]
fn a_missing_interval_is_noticed() {
    let mut loose = policy();
    loose.reboot.min_interval = Duration::ZERO;
    besieged(loose, false);
}

#[test]
#[should_panic(expected = "too young")]
fn a_missing_age_is_noticed() {
    let mut loose = policy();
    loose.reboot.min_uptime = Duration::ZERO;
    besieged(loose, true);
}

#[test]
#[should_panic(expected = "too many")]
fn a_missing_breaker_is_noticed() {
    let mut loose = policy();
    loose.reboot.max_reboots = 20;
    let mut life = Life::new(loose, policy());
    for number in 0..20 {
        life.hear(Some(&format!("f{number}")), json!({ "force": true }));
        life.pass(Duration::from_secs(40));
    }
}
