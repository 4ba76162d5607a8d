//! What is told of a reboot afterwards: who caused it, when it was, and what was wrong with the clock.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::Effect;
use twinagent::model::cloud::Road;
use twinagent::model::command::Status;
use twinagent::model::durable::Durable;
use twinagent::model::now::Clock;
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::boots::REMEMBERED;
use twinagent::model::record::Record;

use crate::desk::{Desk, answer, is_rebooting, status_of};
use crate::given::request;

fn machine() -> Desk {
    Desk::new(Road::Own, Mode::Machine)
}

fn reboot(desk: &mut Desk, id: &str, payload: Value) -> Vec<Effect> {
    desk.hear(request("rebootDevice", Some(id), payload))
}

#[test]
fn a_commanded_reboot_is_told_whole() {
    let mut desk = machine();
    let requested = desk.now().wall;
    reboot(&mut desk, "r", json!({ "reason": "new kernel" }));
    desk.wait(5);
    let started = desk.now().wall;
    desk.is_orderly = true;
    desk.boots();
    desk.wait(1);
    let told = &desk.twin["reboot"];
    let expected = json!({
        "state": "completed",
        "commandId": "r",
        "cause": "command",
        "reason": "new kernel",
        "requestedAt": requested,
        "startedAt": started,
        "completedAt": started.saturating_add(Duration::from_secs(30)),
        "downSeconds": 30.0,
        "bootId": desk.twin["boot"]["id"],
        "previousBootId": "00000000-0000-0000-0000-000000000001",
        "simulated": false,
    });
    assert_eq!(*told, expected);
    assert_eq!(desk.twin["boot"]["clock"], "synchronized");
}

#[test]
fn a_reboot_that_nobody_asked_for_has_a_cause_too() {
    for (is_orderly, cause) in [(true, "local"), (false, "unexpected")] {
        let mut desk = machine();
        assert!(desk.twin.get("reboot").is_none(), "the first boot that is known follows no other");
        desk.is_orderly = is_orderly;
        desk.boots();
        desk.wait(1);
        let told = &desk.twin["reboot"];
        assert_eq!((&told["state"], &told["cause"]), (&json!("completed"), &json!(cause)));
        assert!(
            told.get("commandId").is_none() && told.get("startedAt").is_none() && told.get("downSeconds").is_none()
        );
        assert_eq!(told["bootId"], desk.twin["boot"]["id"]);
        assert_eq!(desk.twin["rebootTime"], desk.twin["boot"]["time"]);
        desk.records = desk.agent.durable().records();
        desk.restarts();
        assert_eq!(desk.agent.durable().rest.boots.past.len(), 1, "another process is no other boot");
    }
}

#[test]
fn a_reboot_that_waited_and_was_overtaken_says_by_what() {
    for (is_orderly, cause) in [(true, "local"), (false, "unexpected")] {
        let mut desk = machine();
        reboot(&mut desk, "r", json!(null));
        desk.is_orderly = is_orderly;
        let effects = desk.boots();
        let told = answer(&effects);
        assert_eq!((told.status, &told.payload["cause"]), (Status::DONE, &json!(cause)));
        desk.wait(1);
        assert_eq!((&desk.twin["reboot"]["cause"], &desk.twin["reboot"]["commandId"]), (&json!(cause), &json!("r")));
    }
}

#[test]
fn a_reboot_with_a_time_of_its_own_goes_on_waiting() {
    for at_a_moment in [false, true] {
        let mut desk = machine();
        let due = desk.now().wall.saturating_add(Duration::from_secs(3_600));
        let payload = if at_a_moment { json!({ "at": due.to_string() }) } else { json!({ "delay": "1h" }) };
        reboot(&mut desk, "r", payload.clone());
        for _ in 0..2 {
            desk.wait(600);
            let effects = desk.boots();
            assert_eq!(status_of(&effects, "r"), None);
            desk.wait(70);
            assert_eq!(
                (&desk.twin["reboot"]["state"], &desk.twin["reboot"]["commandId"]),
                (&json!("scheduled"), &json!("r"))
            );
        }
        assert_eq!(status_of(&reboot(&mut desk, "r", payload), "r"), Some(202), "sent again, it is the same");
        let left = due.since(desk.now().wall).as_secs();
        assert!(!is_rebooting(&desk.wait(left - 1)));
        assert!(is_rebooting(&desk.wait(1)));
        let effects = desk.boots();
        assert_eq!(answer(&effects).payload["cause"], "command");
        let boots: Vec<String> = desk
            .agent
            .durable()
            .rest
            .boots
            .past
            .iter()
            .map(|past| format!("{:?}", past.cause.expect("known")))
            .collect();
        assert_eq!(boots, ["Unexpected", "Unexpected", "Command"], "none is forgotten");
    }
}

#[test]
fn a_real_reboot_during_a_simulated_one_was_not_ours() {
    let mut desk = Desk::new(Road::Own, crate::desk::SIMULATED);
    reboot(&mut desk, "r", json!(null));
    desk.wait(6);
    let effects = desk.boots();
    let told = answer(&effects);
    assert_eq!(
        (told.status, &told.payload["cause"], &told.payload["simulated"]),
        (Status::DONE, &json!("unexpected"), &json!(false))
    );
}

#[test]
fn a_clock_that_was_wrong_at_the_start_is_corrected_once() {
    let mut desk = machine();
    reboot(&mut desk, "r", json!(null));
    desk.wait(5);
    let started = desk.now().wall;
    desk.steps(-1_000_000);
    desk.clock = Clock::Doubtful;
    let effects = desk.boots();
    assert_eq!(answer(&effects).payload["clock"], "doubtful");
    desk.wait(10);
    assert_eq!(desk.twin["boot"]["clock"], "doubtful");
    assert_eq!(desk.twin["reboot"]["state"], "completed", "the boot id is proof enough");
    assert!(desk.twin["reboot"].get("downSeconds").is_none(), "nobody knows");

    desk.steps(1_000_000);
    desk.clock = Clock::Trusted;
    desk.wait(62);
    let boot = started.saturating_add(Duration::from_secs(10));
    assert_eq!(desk.twin["boot"]["clock"], "synchronized");
    assert_eq!((&desk.twin["boot"]["time"], &desk.twin["rebootTime"]), (&json!(boot), &json!(boot)));
    assert_eq!(desk.twin["reboot"]["completedAt"], json!(started.saturating_add(Duration::from_secs(30))));
    assert_eq!(desk.twin["reboot"]["downSeconds"], 30.0);

    desk.steps(500);
    desk.clock = Clock::Doubtful;
    desk.wait(62);
    desk.restarts();
    desk.clock = Clock::Trusted;
    desk.wait(62);
    desk.restarts();
    desk.wait(2);
    assert_eq!(desk.twin["rebootTime"], json!(boot), "and never again");
    let corrections = desk.records.iter().filter(|record| matches!(record, Record::BootTime { .. })).count();
    assert_eq!(corrections, 1);
}

#[test]
fn boots_are_remembered_within_a_bound() {
    let mut desk = machine();
    for _ in 0..REMEMBERED + 10 {
        desk.boots();
    }
    assert_eq!(desk.agent.durable().rest.boots.past.len(), REMEMBERED);
    assert_eq!(Durable::replay(&desk.agent.durable().records()), *desk.agent.durable());
}

#[test]
fn a_journal_of_an_agent_that_knew_no_causes_is_read() {
    let (b1, b2) = ("00000000-0000-0000-0000-0000000000b1", "00000000-0000-0000-0000-0000000000b2");
    let (t1, t2) = ("2026-11-21T04:00:07.120000Z", "2026-11-21T05:00:07.120000Z");
    let digest = format!("sha256:{}", "0".repeat(64));
    let lines = [
        json!({ "record": "boot", "id": b1, "time": t1, "at": t1 }),
        json!({ "record": "began", "boot": b1, "at": t1 }),
        json!({ "record": "accepted", "target": "gw-1", "id": "r", "method": "rebootDevice", "digest": digest, "boot": b1, "at": t1 }),
        json!({ "record": "started", "target": "gw-1", "id": "r", "boot": b1, "at": t1 }),
        json!({ "record": "boot", "id": b2, "time": t2, "at": t2 }),
        json!({ "record": "finished", "target": "gw-1", "id": "r", "status": 200, "at": t2 }),
        json!({ "record": "boots", "boots": {
            "current": { "id": b2, "time": t2 }, "previous": b1, "rebootTime": t2, "lastAsked": t1, "starts": 1,
            "story": { "key": { "target": "gw-1", "id": "r" }, "state": "completed", "reason": null, "requested": t1,
                "started": t1, "ended": t2, "askedIn": b1, "provedBy": b2, "simulated": false, "local": false },
        } }),
    ];
    let records: Vec<Record> =
        lines.iter().map(|line| serde_json::from_value(line.clone()).expect("a record of an older agent")).collect();
    for records in [&records[..6], &records[6..]] {
        let boots = Durable::replay(records).rest.boots;
        let told = boots.document().expect("a story");
        assert_eq!(
            (&told["state"], &told["commandId"], &told["cause"]),
            (&json!("completed"), &json!("r"), &json!("command"))
        );
        assert_eq!(told["downSeconds"], 3_600.0);
    }
}
