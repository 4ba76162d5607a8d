//! Every story, with the process or the power gone before every single step of it, must keep the promises.
//!
//! And the judge is judged: with one guard taken away at a time it must find something.

#[path = "support/given.rs"]
mod given;
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use given::request;
use serde_json::json;
use twinagent::model::cloud::Road;
use twinagent::model::reboot::Mode;
use world::{Deed, Fault, Sabotage, World};

const ROADS: [Road; 2] = [Road::Own, Road::Reported];

/// The stories, each with a name.
fn stories() -> Vec<(&'static str, Vec<Deed>)> {
    let count = |id: &str| request("count", Some(id), json!({ "n": id }));
    let wait = |seconds| Deed::Wait(Duration::from_secs(seconds));
    vec![
        ("one command", vec![Deed::Send(vec![count("a")])]),
        ("a burst of different commands", vec![Deed::Send(["a", "b", "c", "d"].map(count).to_vec()), wait(1)]),
        ("the same command three times at once, and later", {
            vec![Deed::Send(vec![count("a"), count("a"), count("a")]), wait(3), Deed::Send(vec![count("a")])]
        }),
        (
            "a cut in between",
            vec![Deed::Send(vec![count("a")]), Deed::Cut, wait(6), Deed::Send(vec![count("a"), count("b")])],
        ),
        ("one at a time", {
            let queue = |id: &str| request("queue", Some(id), json!(null));
            vec![Deed::Send(["q1", "q2", "q3"].map(queue).to_vec()), wait(2)]
        }),
        ("harmless among them", {
            let echo = |id: &str| request("echo", Some(id), json!("hello"));
            vec![Deed::Send(vec![echo("e1"), count("a"), echo("e2")]), wait(2)]
        }),
        ("local programs among them", {
            vec![Deed::Invoke("l1"), Deed::Send(vec![count("a")]), Deed::Invoke("l2"), wait(2), Deed::Cut, wait(3)]
        }),
        (
            "a reboot",
            vec![
                wait(30),
                Deed::Send(vec![request("rebootDevice", Some("r1"), json!({ "reason": "test" }))]),
                wait(30),
            ],
        ),
        ("a reboot, sent again and again", {
            let reboot = || Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![wait(30), reboot(), reboot(), wait(3), reboot(), wait(10), reboot(), wait(60), reboot()]
        }),
        ("a stop between commands and before a reboot", {
            let queue = |id: &str| request("queue", Some(id), json!(null));
            let reboot = Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            let commands = Deed::Send(vec![count("a"), queue("q1"), queue("q2")]);
            vec![wait(30), commands, Deed::Stop, wait(1), reboot, wait(2), Deed::Stop, wait(60)]
        }),
        ("a reboot taken back", {
            let cancel = Deed::Send(vec![request("cancelReboot", Some("x1"), json!(null))]);
            let reboot = Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![wait(30), Deed::Send(vec![count("a")]), reboot, wait(2), cancel, wait(60)]
        }),
        ("a nameless reboot, sent again and again", {
            let reboot = || Deed::Send(vec![request("rebootDevice", None, json!(null))]);
            vec![wait(30), reboot(), wait(1), reboot(), wait(30), reboot(), wait(60), reboot()]
        }),
        ("a reboot that is refused", {
            let reboot = || Deed::Send(vec![request("rebootDevice", Some("r1"), json!(null))]);
            vec![
                wait(30),
                Deed::Refuse,
                reboot(),
                wait(30),
                reboot(),
                wait(600),
                Deed::Send(vec![count("a")]),
                reboot(),
            ]
        }),
        ("a reboot between commands", {
            vec![
                wait(30),
                Deed::Send(vec![count("a"), request("rebootDevice", Some("r1"), json!(null)), count("b")]),
                wait(30),
                Deed::Send(vec![count("c")]),
            ]
        }),
    ]
}

/// Every fault that there is to try, given how long the story is without one.
fn faults(steps: usize, syncs: usize) -> impl Iterator<Item = Fault> {
    let flags = |bits: usize| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
    let crashes = (1..=steps).flat_map(move |at| {
        (0..8).map(move |bits| {
            let (power, forgets_unsynced, no_sessions) = flags(bits);
            Fault { crash_at: Some(at), power, forgets_unsynced, no_sessions, ..Fault::default() }
        })
    });
    let failures = (1..=syncs).flat_map(move |at| {
        (0..4).flat_map(move |bits| {
            let (failed_bytes_stay, no_sessions, _) = flags(bits);
            let fault = Fault { sync_fails_at: Some(at), failed_bytes_stay, no_sessions, ..Fault::default() };
            // The process may also end soon after.
            let and_crash = (1..=steps).step_by(5).map(move |crash| Fault { crash_at: Some(crash), ..fault });
            std::iter::once(fault).chain(and_crash)
        })
    });
    crashes.chain(failures)
}

/// Lives through a story under every fault; what was wrong, each with the fault that showed it.
fn wrongs(story: &[Deed], road: Road, reboot: &Mode, sabotage: Sabotage) -> (usize, Vec<String>) {
    let mut calm = World::new(road, reboot.clone(), Fault::default(), sabotage);
    calm.live(story);
    let mut wrongs: Vec<String> = calm.judge().into_iter().map(|wrong| format!("without any fault: {wrong}")).collect();
    let mut tried = 1;
    for fault in faults(calm.steps(), calm.syncs()) {
        let mut world = World::new(road, reboot.clone(), fault, sabotage);
        world.live(story);
        tried += 1;
        wrongs.extend(world.judge().into_iter().map(|wrong| format!("{fault:?}: {wrong}")));
        if world.machine_reboots > 1 {
            wrongs.push(format!("{fault:?}: the machine was rebooted {} times", world.machine_reboots));
        }
        let is_cancelled = world.told.get("x1").is_some_and(|told| told.iter().any(|(status, ..)| *status == 200));
        if is_cancelled && world.machine_reboots > 0 {
            wrongs.push(format!("{fault:?}: the machine was rebooted though the cancellation was confirmed"));
        }
    }
    (tried, wrongs)
}

/// Lives through every story with answers on this road.
fn every_promise_holds(road: Road) {
    let mut tried = 0;
    for (name, story) in stories() {
        for reboot in [Mode::Machine, Mode::Simulated(Duration::from_secs(20))] {
            let (worlds, wrongs) = wrongs(&story, road, &reboot, Sabotage::None);
            tried += worlds;
            assert!(
                wrongs.is_empty(),
                "{name}, {reboot:?}: {} wrongs\n{}",
                wrongs.len(),
                wrongs[..wrongs.len().min(10)].join("\n")
            );
        }
    }
    assert!(tried > 1_000, "only {tried} worlds were tried");
}

#[test]
fn every_promise_holds_whenever_the_process_or_the_power_goes() {
    every_promise_holds(Road::Own);
}

#[test]
fn and_where_answers_travel_in_the_reported_document() {
    every_promise_holds(Road::Reported);
}

/// With a guard taken away, some world must go wrong; else the judge above proves nothing.
fn is_noticed(sabotage: Sabotage) {
    let noticed = stories()
        .iter()
        .any(|(_, story)| ROADS.iter().any(|road| !wrongs(story, *road, &Mode::Machine, sabotage).1.is_empty()));
    assert!(noticed, "{sabotage:?} goes unnoticed");
}

#[test]
fn effects_before_records_are_noticed() {
    is_noticed(Sabotage::EffectsFirst);
}

#[test]
fn a_missing_sync_is_noticed() {
    is_noticed(Sabotage::NoSync);
}

#[test]
fn a_forgotten_ledger_is_noticed() {
    is_noticed(Sabotage::Amnesia);
}

#[test]
fn effects_after_a_failed_sync_are_noticed() {
    is_noticed(Sabotage::IgnoresFailedSync);
}

#[test]
fn a_reboot_is_told_done_and_proved() {
    for road in ROADS {
        let story = [
            Deed::Wait(Duration::from_secs(30)),
            Deed::Send(vec![request("rebootDevice", Some("r1"), json!({ "reason": "new kernel" }))]),
        ];
        let mut world = World::new(road, Mode::Machine, Fault::default(), Sabotage::None);
        world.live(&story);
        assert_eq!(world.machine_reboots, 1);
        let statuses: Vec<u16> = world.told["r1"].iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses.first(), Some(&202));
        assert_eq!(statuses.last(), Some(&200));
        let twin = world.reported.expect("a reported document");
        assert_eq!(twin["reboot"]["state"], "completed");
        assert_eq!(twin["reboot"]["reason"], "new kernel");
        assert_eq!(twin["reboot"]["simulated"], false);
        assert_eq!(twin["rebootTime"], twin["boot"]["time"]);
        assert_eq!(twin["reboot"]["bootId"], twin["boot"]["id"]);
        assert_ne!(twin["reboot"]["previousBootId"], twin["boot"]["id"]);
    }
}
