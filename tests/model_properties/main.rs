//! Whatever happens in whatever order, the promises of the model hold: random inputs, judged after every batch.
//!
//! It ends each life calmly, with everything acknowledged, finished and healed: then nothing may be left to do.

mod connections;
#[path = "../support/given.rs"]
mod given;
mod life;
mod reboots;

use std::time::Duration;

use life::Life;
use proptest::prelude::*;
use twinagent::model::cloud::Road;
use twinagent::model::reboot::Mode;

pub(crate) const METHODS: [&str; 10] =
    ["count", "queue", "alone", "echo", "rebootDevice", "cancelReboot", "nope", "lamp", "cancelCommand", "look"];

/// Those that a handler performs and nobody records.
pub(crate) const HARMLESS: [&str; 2] = ["echo", "look"];

#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Hear {
        method: usize,
        id: Option<u8>,
        payload: u8,
        expires: Option<i16>,
    },
    Unique(usize),
    /// More commands at once than may be untold.
    Burst(u8),
    Malformed,
    Desired(u8),
    /// The n-th of those on their way, or one that is not.
    Settle(usize),
    SettleAll,
    /// The request about the twin that is on its way is answered with this status.
    Throttle(u16),
    /// The n-th of those that run, or one that does not.
    Finish(usize, u16),
    /// The same, and it could not do what it was to do.
    Fail(usize),
    /// A local program that serves `lamp` comes, or goes.
    Program(bool),
    /// The n-th of those that the program was handed.
    FinishHanded(usize),
    /// The n-th of those that run, and of those handed over, says how it goes.
    Progress(usize),
    /// The wall clock is not to be believed from now on, or is again.
    Doubt(bool),
    Online,
    Offline,
    /// The connection ends, or there is none and its end is told all the same.
    Ends(u8),
    /// The stream of the next connection is open or not, whether it was asked for or not.
    Prepared(bool),
    NetworkChanged,
    ClockStepped(i64),
    /// Other keys are found.
    Keys(bool),
    /// The machine answers, if it was asked.
    Probed,
    /// A shutdown begins, or is given up.
    ShuttingDown(bool),
    Tick,
}

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub deeds: Vec<Deed>,
    /// Time before it, in milliseconds; the wall clock may go another way.
    pub passes: u32,
    pub wall_steps: i32,
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Written,
    /// Cannot be written, nor can anything until it is healed.
    Fails,
    Heals,
    /// The process ends after it.
    Restart,
    /// The machine does.
    Reboot,
    Stop,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0..METHODS.len(), prop::option::weighted(0.8, 0..5_u8), 0..2_u8, prop::option::weighted(0.2, -5..20_i16))
            .prop_map(|(method, id, payload, expires)| Deed::Hear { method, id, payload, expires }),
        1 => (0..METHODS.len()).prop_map(Deed::Unique),
        1 => (0..2_u8).prop_map(Deed::Burst),
        1 => Just(Deed::Malformed),
        1 => (0..3_u8).prop_map(Deed::Desired),
        4 => (0..6_usize).prop_map(Deed::Settle),
        3 => Just(Deed::SettleAll),
        1 => prop::sample::select(vec![429, 500, 503, 400]).prop_map(Deed::Throttle),
        6 => (0..6_usize, 0..3_u16).prop_map(|(run, size)| Deed::Finish(run, size * 3_000)),
        1 => (0..6_usize).prop_map(Deed::Fail),
        2 => any::<bool>().prop_map(Deed::Program),
        3 => (0..3_usize).prop_map(Deed::FinishHanded),
        2 => (0..4_usize).prop_map(Deed::Progress),
        1 => any::<bool>().prop_map(Deed::Doubt),
        3 => Just(Deed::Online),
        1 => Just(Deed::Offline),
        2 => (0..4_u8).prop_map(Deed::Ends),
        1 => any::<bool>().prop_map(Deed::Prepared),
        1 => Just(Deed::NetworkChanged),
        1 => prop_oneof![Just(500_000), any::<i64>()].prop_map(Deed::ClockStepped),
        1 => any::<bool>().prop_map(Deed::Keys),
        3 => Just(Deed::Probed),
        1 => any::<bool>().prop_map(Deed::ShuttingDown),
        2 => Just(Deed::Tick),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let fate = prop_oneof![
        20 => Just(Fate::Written),
        2 => Just(Fate::Fails),
        3 => Just(Fate::Heals),
        1 => Just(Fate::Restart),
        1 => Just(Fate::Reboot),
        1 => Just(Fate::Stop),
    ];
    let passes = prop_oneof![3 => Just(0), 3 => 0..3_000_u32, 2 => 0..70_000_u32, 1 => 0..700_000_u32];
    let steps = prop_oneof![20 => Just(0), 1 => -100_000..100_000_i32];
    (prop::collection::vec(deed(), 0..6), passes, steps, fate).prop_map(|(deeds, passes, wall_steps, fate)| Batch {
        deeds,
        passes,
        wall_steps,
        fate,
    })
}

fn roads() -> impl Strategy<Value = Road> {
    prop_oneof![Just(Road::Own), Just(Road::Reported), Just(Road::Direct)]
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Machine), Just(Mode::Simulated(Duration::from_secs(20)))]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(
        road in roads(),
        mode in modes(),
        batches in prop::collection::vec(batch(), 1..30),
    ) {
        let mut life = Life::new(road, mode);
        for batch in &batches {
            life.live(batch);
        }
        life.calm_down();
    }
}

#[test]
#[should_panic(expected = "run again for the same value")]
fn a_handler_that_runs_again_for_what_was_applied_is_noticed() {
    let mut life = Life::new(Road::Own, Mode::Machine);
    life.forgets_applications = true;
    let deeds = [Deed::Online, Deed::Desired(0), Deed::Finish(0, 0)];
    for fate in [Fate::Written, Fate::Restart, Fate::Written] {
        life.live(&Batch { deeds: deeds.to_vec(), passes: 10_000, wall_steps: 0, fate });
    }
}

#[test]
fn what_could_not_be_done_is_done_before_a_life_is_calm() {
    for road in [Road::Own, Road::Direct] {
        let mut life = Life::new(road, Mode::Machine);
        let (fail, pass) = (vec![Deed::Fail(0)], vec![Deed::Tick]);
        let begin = vec![Deed::Online, Deed::SettleAll, Deed::Desired(0)];
        for deeds in [begin, fail.clone(), pass.clone(), fail.clone(), pass, fail] {
            life.live(&Batch { deeds, passes: 10_500, wall_steps: 0, fate: Fate::Written });
        }
        life.calm_down();
    }
}

#[test]
#[should_panic(expected = "the journal leads to the same state")]
fn a_journal_that_loses_outcomes_is_noticed() {
    let mut life = Life::new(Road::Own, Mode::Machine);
    life.loses_outcomes = true;
    for deed in [Deed::Online, Deed::Hear { method: 0, id: None, payload: 0, expires: None }, Deed::Finish(0, 0)] {
        life.live(&Batch { deeds: vec![deed], passes: 1_000, wall_steps: 0, fate: Fate::Written });
    }
}
