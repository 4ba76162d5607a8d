//! What of the policy holds a reboot back: its own time, spacing, windows; and what force goes over.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::command::Status;
use twinagent::model::now::Clock;

use crate::desk::{answer, answers, done, is_rebooting, starts, status_of};
use crate::given::request;
use crate::orders::{HOUR, at, cancel, count, desk, inhibited, outlook, reboot, reboots, told_of, window};

// === Its own time

#[test]
fn a_delay_is_waited_for_and_holds_up_nobody() {
    let mut desk = desk(|_| {});
    let due = at(&desk, HOUR);
    let effects = desk.hear(reboot(json!({ "delay": "1h" })));
    assert_eq!(answer(&effects).payload["rebootAt"], json!(due));
    assert_eq!(answer(&effects).payload["heldBy"], json!([]));
    assert_eq!(desk.twin["reboot"]["rebootAt"], json!(due));
    assert_eq!(reboots(&desk.wait(HOUR - 1)), 0);
    assert_eq!(starts(&desk.hear(count("a"))).len(), 1, "others are done meanwhile");
    let second = desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    assert_eq!((answer(&second).status, &answer(&second).payload["commandId"]), (Status::CONFLICT, &json!("r")));
    desk.wait(1);
    assert_eq!(status_of(&desk.hear(count("b")), "b"), Some(409), "but not once it is due");
}

#[test]
fn a_delay_is_as_long_as_it_says_wherever_the_wall_clock_goes() {
    for step in [-100_000, 100_000] {
        let mut desk = desk(|_| {});
        desk.hear(reboot(json!({ "delay": "1h" })));
        desk.wait(1_800);
        desk.steps(step);
        assert_eq!(reboots(&desk.wait(1_799)), 0, "{step}");
        assert_eq!(reboots(&desk.wait(1)), 1, "{step}");
    }
}

#[test]
fn a_moment_is_that_of_the_wall_clock() {
    let mut desk = desk(|_| {});
    let moment = at(&desk, HOUR);
    desk.hear(reboot(json!({ "at": moment.to_string() })));
    desk.steps(-600);
    assert_eq!(reboots(&desk.wait(HOUR + 599)), 0);
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn a_moment_needs_a_clock() {
    let mut desk = desk(|_| {});
    desk.clock = Clock::Doubtful;
    let moment = at(&desk, HOUR).to_string();
    assert_eq!(status_of(&desk.hear(reboot(json!({ "at": moment }))), "r"), Some(503));
    desk.clock = Clock::Trusted;
    assert_eq!(status_of(&desk.hear(reboot(json!({ "at": moment }))), "r"), Some(202));
    desk.clock = Clock::Doubtful;
    assert_eq!(reboots(&desk.wait(60)), 0);
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["clock"]));
    desk.clock = Clock::Trusted;
    assert_eq!(reboots(&desk.wait(HOUR)), 1);
}

#[test]
fn a_waiting_reboot_can_be_cancelled_and_its_method_taken_away() {
    let mut desk = desk(|_| {});
    desk.hear(reboot(json!({ "delay": "1d" })));
    desk.wait(HOUR);
    let effects = desk.hear(cancel());
    assert_eq!((status_of(&effects, "r"), status_of(&effects, "cancel")), (Some(499), Some(200)));
    desk.hear(request("rebootDevice", Some("r2"), json!({ "delay": "1d" })));
    let mut settings = desk.settings.clone();
    settings.disabled = vec![crate::desk::method("rebootDevice")];
    let effects = desk.take([Input::Reloaded { settings: Box::new(settings), anew: false }]);
    assert_eq!(status_of(&effects, "r2"), Some(404));
    assert!(desk.twin["reboot"].get("rebootAt").is_none(), "nothing is foreseen any more");
}

// === Spacing

#[test]
fn what_comes_too_soon_is_put_off_to_the_very_moment() {
    let mut desk = desk(|settings| settings.reboot.min_interval = Duration::from_secs(600));
    desk.hear(reboot(json!(null)));
    let asked = at(&desk, 5);
    desk.wait(5);
    desk.boots();
    let due = asked.saturating_add(Duration::from_secs(600));
    let effects = desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    let accepted = answers(&effects).into_iter().find(|answer| answer.id.as_str() == "r2").expect("an answer");
    assert_eq!((accepted.status, &accepted.payload["heldBy"]), (Status::ACCEPTED, &json!(["minInterval"])));
    assert_eq!(accepted.payload["rebootAt"], json!(due));
    let left = due.since(desk.now().wall).as_secs();
    assert_eq!(reboots(&desk.wait(left - 1)), 0);
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn a_clock_that_came_up_wrong_is_no_way_around_the_spacing() {
    for (step, clock) in [(-1_000_000, Clock::Trusted), (-1_000_000, Clock::Doubtful), (1_000_000, Clock::Doubtful)] {
        let mut desk = desk(|settings| settings.reboot.min_interval = Duration::from_secs(600));
        desk.hear(reboot(json!(null)));
        assert_eq!(reboots(&desk.wait(5)), 1);
        desk.steps(step);
        desk.clock = clock;
        desk.boots();
        desk.hear(request("rebootDevice", Some("r2"), json!(null)));
        assert_eq!(reboots(&desk.wait(600 - 21)), 0, "{step} {clock:?}");
        assert_eq!(reboots(&desk.wait(1)), 1, "as soon as this boot is that old: {step} {clock:?}");
    }
}

#[test]
fn force_goes_over_spacing_and_windows_where_it_is_allowed_and_over_nothing_else() {
    let forced = || reboot(json!({ "force": true }));
    let closed = |settings: &mut Settings| {
        settings.reboot.windows.list = vec![window("Wed 02:00-04:00 UTC")];
        settings.reboot.min_interval = Duration::from_secs(86_400);
        settings.reboot.allow_force = true;
    };
    let mut wide = desk(closed);
    wide.hear(forced());
    assert_eq!(reboots(&wide.wait(5)), 1);
    wide.boots();
    wide.hear(request("rebootDevice", Some("r2"), json!({ "force": true })));
    assert_eq!(reboots(&wide.wait(6)), 1);

    let mut young = desk(|settings| {
        closed(settings);
        settings.reboot.min_uptime = Duration::from_secs(60);
    });
    young.boots();
    young.hear(forced());
    assert_eq!(reboots(&young.wait(39)), 0, "it started a minute ago");
    assert_eq!(reboots(&young.wait(1)), 1);

    let mut held = desk(closed);
    held.facts = Some(inhibited());
    held.hear(forced());
    assert_eq!(reboots(&held.wait(100)), 0);
}

#[test]
fn force_stops_what_still_runs() {
    let mut desk = desk(|settings| settings.reboot.allow_force = true);
    let run = starts(&desk.hear(count("a")))[0];
    desk.hear(reboot(json!({ "force": true })));
    let effects = desk.wait(5);
    assert_eq!(status_of(&effects, "a"), Some(499));
    let stops = effects.iter().position(|effect| *effect == Effect::Cancel(run)).expect("it is stopped");
    assert!(!is_rebooting(&effects[..stops]) && is_rebooting(&effects[stops..]));
    assert_eq!(told_of(&desk.ends(run, done(json!(null)))), 0, "its own end means nothing any more");
}

// === Windows

#[test]
fn a_window_is_waited_for_and_told() {
    let mut desk = desk(|settings| settings.reboot.windows.list = vec![window("02:00-04:00 UTC")]);
    let effects = desk.hear(reboot(json!(null)));
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::ACCEPTED, &json!(["window"])));
    assert_eq!(answer.payload["rebootAt"], "2026-11-22T02:00:00.000000Z");
    assert_eq!(desk.twin["reboot"]["heldBy"], json!(["window"]));
    let opens = 2 * HOUR - desk.wall.as_secs();
    assert_eq!(reboots(&desk.wait(opens - 1)), 0);
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn the_grace_and_the_drain_do_not_carry_a_reboot_out_of_its_window() {
    let mut desk = desk(|settings| settings.reboot.windows.list = vec![window("02:00-02:01 UTC")]);
    desk.hear(reboot(json!(null)));
    desk.wait(2 * HOUR - desk.wall.as_secs() - 1);
    let run = starts(&desk.hear(count("a")))[0];
    assert_eq!(reboots(&desk.wait(59)), 0);
    desk.wait(5);
    assert_eq!(reboots(&desk.ends(run, done(json!(null)))), 0, "the window has closed");
    assert_eq!(outlook(&mut desk)["rebootAt"], "2026-11-23T02:00:00.000000Z");
    assert_eq!(reboots(&desk.wait(23 * HOUR + 3_540)), 1);
}

#[test]
fn spacing_that_ends_in_no_window_waits_for_the_next() {
    let mut desk = desk(|settings| {
        settings.reboot.windows.list = vec![window("00:00-00:30 UTC")];
        settings.reboot.min_interval = Duration::from_secs(1_000);
    });
    desk.hear(reboot(json!(null)));
    assert_eq!(reboots(&desk.wait(5)), 1);
    desk.boots();
    desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    let outlook = outlook(&mut desk);
    assert_eq!(outlook["heldBy"], json!(["minInterval", "window"]));
    assert_eq!(outlook["rebootAt"], "2026-11-23T00:00:00.000000Z");
}

#[test]
fn a_window_needs_a_clock_and_waits_for_it_only_so_long() {
    let mut desk = desk(|settings| settings.reboot.windows.list = vec![window("00:00-24:00 UTC")]);
    desk.clock = Clock::Doubtful;
    desk.hear(reboot(json!(null)));
    assert_eq!(reboots(&desk.wait(119)), 0);
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["clock"]));
    let effects = desk.wait(1);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::CANNOT_NOW, &json!(["clock"])));
    desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    desk.clock = Clock::Trusted;
    assert_eq!(reboots(&desk.wait(6)), 1);
}

#[test]
fn a_command_that_was_accepted_on_a_clock_far_ahead_waits_for_no_such_time() {
    let mut desk = desk(|settings| {
        settings.reboot.windows.list = vec![window("02:00-04:00 UTC")];
        settings.reboot.windows.spread = Duration::from_secs(600);
    });
    desk.steps(400_000_000);
    desk.clock = Clock::Doubtful;
    desk.hear(reboot(json!(null)));
    desk.wait(10);
    desk.steps(-400_000_000);
    desk.clock = Clock::Trusted;
    desk.wait(40);
    let told = outlook(&mut desk)["rebootAt"].clone();
    assert!(told.as_str().is_some_and(|at| at.starts_with("2026-11-22T02:0")), "{told}");
    assert_eq!(reboots(&desk.wait(2 * HOUR - 1_000 + 600)), 1);
}

#[test]
fn a_plain_reboot_that_was_accepted_on_a_clock_far_ahead_is_done_at_once() {
    let mut desk = desk(|_| {});
    desk.steps(400_000_000);
    desk.hear(reboot(json!(null)));
    desk.steps(-400_000_000);
    assert_eq!(reboots(&desk.wait(5)), 1);
}
