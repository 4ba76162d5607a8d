//! The breaker, and what stands in its place where nothing is remembered.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::Status;
use twinagent::model::now::Clock;
use twinagent::model::reboot::Mode;
use twinagent::model::record::Record;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, answer, answers, status_of};
use crate::given::{request, settings};
use crate::orders::{HOUR, desk, reboot, reboots, window};

/// The machine reboots on its own, so many times, `apart` seconds each, and its daemon is never online for long.
fn flap(desk: &mut Desk, times: u32, apart: u64) {
    for _ in 0..times {
        desk.wait(apart.saturating_sub(30));
        desk.boots();
    }
}

fn guard(desk: &mut Desk, reset: bool) -> Value {
    let effects = desk.take([Input::Asked(Question::Guard { reset }, CallerId(1))]);
    let reply = |effect: &Effect| match effect {
        Effect::Reply(_, Reply::Is { answer, last: true }) => Some(Value::Object(answer.clone())),
        _ => None,
    };
    effects.iter().find_map(reply).expect("an answer")
}

#[test]
fn too_many_reboots_trip_the_breaker_until_the_machine_was_well_for_a_while() {
    let mut desk = desk(|_| {});
    flap(&mut desk, 2, 40);
    assert_eq!(guard(&mut desk, false)["tripped"], false);
    flap(&mut desk, 1, 40);
    desk.wait(2);
    assert_eq!(desk.twin["agent"]["problems"][0]["code"], "guard");
    let effects = desk.hear(reboot(json!({ "delay": "1d" })));
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::TOO_MANY, &json!(["guard"])));
    assert_eq!(answer.payload["retryAfterSeconds"], 58);
    assert!(answer.payload["error"].as_str().is_some_and(|error| error.contains("3 reboots within 10m")), "{answer:?}");
    // Another process in between is no way around it, nor is a shortened journal.
    desk.records = desk.agent.durable().records();
    desk.restarts();
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(429));
    desk.wait(59);
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(429));
    desk.wait(1);
    assert_eq!(desk.twin["agent"]["problems"], json!([]));
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(202));
}

#[test]
fn neither_time_nor_force_ends_it_but_a_session_or_a_person_does() {
    let mut desk = desk(|settings| settings.reboot.allow_force = true);
    flap(&mut desk, 3, 40);
    desk.cut();
    desk.wait(2 * HOUR);
    desk.online();
    desk.wait(40);
    assert_eq!(status_of(&desk.hear(reboot(json!({ "force": true }))), "r"), Some(429));
    desk.cut();
    desk.wait(5);
    desk.online();
    desk.wait(40);
    assert_eq!(guard(&mut desk, false)["tripped"], true, "two halves are no whole");
    desk.take([Input::Offline(Reason::Planned)]);
    desk.online();
    desk.wait(20);
    assert_eq!(guard(&mut desk, false)["tripped"], false, "a renewal does not count as an end");

    flap(&mut desk, 3, 40);
    let before = guard(&mut desk, false);
    assert_eq!((&before["tripped"], before["reboots"].as_array().map(Vec::len)), (&json!(true), Some(3)));
    assert!(before["why"].as_str().is_some_and(|why| why.contains("reboot-guard reset")));
    assert_eq!(guard(&mut desk, true)["tripped"], false);
    assert!(desk.records.iter().any(|record| matches!(record, Record::GuardCleared { by_hand: true, .. })));
    desk.restarts();
    assert_eq!(guard(&mut desk, false)["reboots"], json!([]));
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(202));
}

#[test]
fn reboots_that_lie_far_apart_are_not_too_many() {
    let mut desk = desk(|settings| settings.reboot.healthy = Duration::from_secs(86_400));
    flap(&mut desk, 20, 301);
    assert_eq!(guard(&mut desk, false)["tripped"], false);
    flap(&mut desk, 2, 299);
    assert_eq!(guard(&mut desk, false)["tripped"], true);
    // Judged anew by another configuration.
    let mut settings = desk.settings.clone();
    settings.reboot.max_reboots = 4;
    desk.take([Input::Reloaded { settings: Box::new(settings), anew: false }]);
    assert_eq!(guard(&mut desk, false)["tripped"], false);
}

#[test]
fn what_a_doubtful_clock_has_noted_counts_as_near() {
    let mut desk = desk(|_| {});
    desk.clock = Clock::Doubtful;
    for _ in 0..3 {
        desk.steps(100_000);
        desk.boots();
    }
    assert_eq!(guard(&mut desk, false)["tripped"], true);
}

#[test]
fn a_breaker_that_trips_while_a_reboot_waits_ends_it() {
    let mut desk = desk(|_| {});
    desk.hear(reboot(json!({ "delay": "5m" })));
    flap(&mut desk, 3, 40);
    desk.cut();
    let before = desk.now().wall;
    desk.wait(300);
    let effects = desk.online();
    assert_eq!((reboots(&effects), status_of(&effects, "r")), (0, Some(429)), "since {before}");
}

#[test]
fn simulated_reboots_count_too() {
    let mut settings = settings(Road::Own, Mode::Simulated(Duration::from_secs(2)));
    settings.reboot.healthy = Duration::from_secs(86_400);
    let mut desk = Desk::with(settings);
    for number in 0..3 {
        let id = format!("r{number}");
        assert_eq!(status_of(&desk.hear(request("rebootDevice", Some(&id), json!(null))), &id), Some(202));
        desk.wait(30);
        desk.take([Input::Offline(Reason::Planned)]);
        desk.wait(3);
        desk.online();
    }
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(429));
}

// === Where nothing lasts

#[test]
fn where_state_is_lost_nothing_is_put_off_and_the_uptime_is_the_spacing() {
    let volatile = |settings: &mut Settings| {
        settings.volatile = Some("/var/lib/twinagent is on a tmpfs".to_owned());
        settings.reboot.min_interval = Duration::from_secs(600);
        settings.reboot.allow_force = true;
    };
    let mut desk = desk(volatile);
    assert_eq!(desk.twin["reboot"], json!({ "state": "unknown" }));
    assert_eq!(desk.twin["agent"]["problems"][0]["code"], "volatile");
    desk.hear(reboot(json!(null)));
    assert_eq!(reboots(&desk.wait(5)), 1, "up for longer than that");
    for _ in 0..10 {
        desk.records.clear();
        desk.boots();
        for payload in [json!(null), json!({ "delay": "20m" }), json!({ "force": true })] {
            let effects = desk.hear(reboot(payload));
            let refused = answers(&effects).into_iter().next_back().expect("an answer");
            assert_eq!((refused.status, &refused.payload["heldBy"]), (Status::TOO_MANY, &json!(["minInterval"])));
        }
        assert_eq!(reboots(&desk.wait(60)), 0, "heard again after each start, it is refused");
    }
    desk.wait(600);
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(202));

    let mut closed = self::desk(|settings| {
        volatile(settings);
        settings.reboot.windows.list = vec![window("02:00-04:00 UTC")];
    });
    let effects = closed.hear(reboot(json!(null)));
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["window"])));
    assert_eq!(answer.payload["retryAfterSeconds"], 2 * HOUR - closed.wall.as_secs());
}
