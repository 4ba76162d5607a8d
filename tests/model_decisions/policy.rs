//! What holds a reboot back: its own time, windows, spacing, the machine's inhibitors and vetoes, what still runs, and the
//! breaker.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::{Request, Status};
use twinagent::model::now::{Clock, Timestamp};
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Inhibitor, Veto, Way};
use twinagent::model::reboot::window::Window;
use twinagent::model::record::Record;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, answer, answers, done, starts, status_of};
use crate::given::{request, settings};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn desk(change: impl FnOnce(&mut Settings)) -> Desk {
    let mut settings = settings(Road::Own, Mode::Machine);
    change(&mut settings);
    Desk::with(settings)
}

fn reboot(payload: Value) -> Request {
    request("rebootDevice", Some("r"), payload)
}

fn count(id: &str) -> Request {
    request("count", Some(id), json!(null))
}

fn cancel() -> Request {
    request("cancelReboot", Some("cancel"), json!(null))
}

fn reboots(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| **effect == Effect::Reboot).count()
}

fn probes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| **effect == Effect::Probe).count()
}

/// The payload of the 202, as it would be told now.
fn outlook(desk: &mut Desk) -> Value {
    let id = desk.agent.durable().rest.boots.story.as_ref().and_then(|story| story.key.clone()).expect("a command").id;
    let payload = desk.agent.durable().ledger.untold().map(|(_, entry)| entry.payload.clone()).next();
    let effects = desk.hear(request("rebootDevice", Some(id.as_str()), payload.expect("it waits")));
    let answer = answer(&effects);
    assert_eq!(answer.status, Status::ACCEPTED);
    answer.payload
}

fn at(desk: &Desk, seconds: u64) -> Timestamp {
    desk.now().wall.saturating_add(Duration::from_secs(seconds))
}

/// 22 November 2026 is a Sunday, and the desk begins 1 000 s after its midnight.
fn window(text: &str) -> Window {
    Window::parse(text, |_| Ok(jiff::tz::TimeZone::UTC)).expect("a window")
}

fn inhibited() -> Facts {
    let inhibitor = Inhibitor { who: "apt".to_owned(), why: "an upgrade".to_owned() };
    Facts { inhibitors: vec![inhibitor], ..Facts::clear(Way::Logind) }
}

fn vetoed(expires: Option<Timestamp>) -> Facts {
    let veto = Veto { name: "harvest".to_owned(), reason: "not before noon".to_owned(), expires };
    Facts { vetoes: vec![veto], ..Facts::clear(Way::Logind) }
}

fn clear() -> Facts {
    Facts::clear(Way::Logind)
}

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
    let place = |wanted: &Effect| effects.iter().position(|effect| effect == wanted).expect("an effect");
    assert!(place(&Effect::Cancel(run)) < place(&Effect::Reboot));
    assert_eq!(told_of(&desk.ends(run, done(json!(null)))), 0, "its own end means nothing any more");
}

fn told_of(effects: &[Effect]) -> usize {
    answers(effects).len()
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

// === The machine

#[test]
fn an_inhibitor_is_waited_for_and_named() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(60);
    assert_eq!(reboots(&effects), 0);
    assert!((4..=7).contains(&probes(&effects)), "asked {} times in a minute", probes(&effects));
    let held = outlook(&mut desk);
    assert_eq!(held["heldBy"], json!(["inhibitor"]));
    assert_eq!(held["inhibitors"], json!([{ "who": "apt", "why": "an upgrade" }]));
    assert!(held.get("rebootAt").is_none(), "nobody knows when");
    assert_eq!(desk.twin["reboot"]["inhibitors"][0]["who"], "apt");
    let run = starts(&desk.hear(count("a")))[0];
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(58)), 0, "what has begun meanwhile is waited for");
    assert_eq!(reboots(&desk.ends(run, done(json!(null)))), 1);
}

#[test]
fn an_inhibitor_that_stays_ends_the_reboot_with_423() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    desk.hear(reboot(json!(null)));
    assert_eq!(told_of(&desk.wait(124)), 0);
    let effects = desk.wait(1);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["inhibitor"])));
    assert_eq!(answer.payload["inhibitors"], json!([{ "who": "apt", "why": "an upgrade" }]));
    assert_eq!(answer.payload["retryAfterSeconds"], 60);
    assert!(answer.payload["error"].as_str().is_some_and(|error| error.contains("reboot.inhibitor_wait")));
    assert_eq!(desk.twin["reboot"]["state"], "refused");
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(HOUR)), 0);
}

#[test]
fn an_inhibitor_that_comes_and_goes_cannot_hold_for_ever() {
    let mut desk = desk(|_| {});
    desk.facts = Some(inhibited());
    let run = starts(&desk.hear(count("a")))[0];
    desk.hear(reboot(json!(null)));
    desk.wait(50);
    desk.facts = Some(clear());
    desk.wait(20);
    desk.facts = Some(inhibited());
    assert_eq!(reboots(&desk.ends(run, done(json!(null)))), 0);
    let effects = desk.wait(60);
    assert_eq!((reboots(&effects), status_of(&effects, "r")), (0, Some(423)), "what it was held before counts");
}

#[test]
fn a_veto_is_heeded_until_it_ends_and_shown_by_itself() {
    let mut desk = desk(|_| {});
    let ends = at(&desk, 100);
    desk.facts = Some(vetoed(Some(ends)));
    desk.hear(reboot(json!(null)));
    desk.wait(20);
    let held = outlook(&mut desk);
    assert_eq!((&held["heldBy"], &held["rebootAt"]), (&json!(["veto"]), &json!(ends)));
    assert_eq!(held["vetoes"], json!([{ "name": "harvest", "reason": "not before noon", "expires": ends }]));
    assert_eq!(reboots(&desk.wait(79)), 0);
    assert_eq!(reboots(&desk.wait(60)), 1, "asked again after it ended, whoever takes the file away");
}

#[test]
fn a_veto_without_an_end_ends_the_reboot_with_423() {
    let mut desk = desk(|_| {});
    desk.facts = Some(Facts { inhibitors: inhibited().inhibitors, ..vetoed(None) });
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(125);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["inhibitor", "veto"])));
    assert_eq!(answer.payload["vetoes"], json!([{ "name": "harvest", "reason": "not before noon" }]));
}

#[test]
fn hostile_names_do_not_make_an_answer_long() {
    let mut desk = desk(|_| {});
    let inhibitor = Inhibitor { who: "\u{1b}[31m".repeat(10_000), why: "x".repeat(1_000_000) };
    desk.facts = Some(Facts { inhibitors: vec![inhibitor; 1_000], ..clear() });
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(125);
    let payload = answer(&effects).payload;
    assert_eq!(payload["inhibitorsUnnamed"], 992);
    let text = payload.to_string();
    assert!(text.len() < 5_000 && !text.contains("\\u001b"), "{} bytes", text.len());
}

#[test]
fn a_machine_that_does_not_answer_is_asked_again_and_not_rebooted_blindly() {
    let mut desk = desk(|settings| settings.reboot.inhibitor_wait = Duration::from_secs(300));
    desk.facts = None;
    desk.hear(reboot(json!(null)));
    let effects = desk.wait(300);
    assert_eq!(reboots(&effects), 0);
    assert!((5..12).contains(&probes(&effects)), "asked {} times", probes(&effects));
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["noAnswer"]));
    let effects = desk.wait(60);
    assert_eq!(status_of(&effects, "r"), Some(503));

    desk.hear(request("rebootDevice", Some("r2"), json!(null)));
    desk.wait(60);
    assert_eq!(reboots(&desk.take([Input::Probed(clear())])), 1, "a late answer is an answer");
}

#[test]
fn a_machine_that_nobody_may_reboot_says_so_before_anybody_asks() {
    let mut desk = desk(|_| {});
    let nobody = || Facts { way: Err("polkit does not let this user reboot".to_owned()), ..clear() };
    desk.facts = Some(nobody());
    let effects = desk.restarts();
    assert_eq!(probes(&effects), 1);
    desk.wait(2);
    assert!(probes(&desk.wait(3_600)) < 25);
    let problem = &desk.twin["agent"]["problems"][0];
    assert_eq!(
        (&problem["code"], &problem["text"]),
        (&json!("reboot-not-permitted"), &json!("polkit does not let this user reboot"),)
    );
    let effects = desk.hear(reboot(json!(null)));
    assert_eq!(answer(&effects).status, Status::CANNOT_NOW);
    assert_eq!(answer(&effects).payload["error"], "polkit does not let this user reboot");
    // Somebody mends it; found without a restart.
    desk.facts = Some(clear());
    desk.wait(301);
    assert_eq!(desk.twin["agent"]["problems"], json!([]));
    assert_eq!(desk.twin["agent"]["rebootMode"], "logind");
    assert_eq!(status_of(&desk.hear(reboot(json!(null))), "r"), Some(202));
    // And somebody breaks it before the act. That may pass, as when the bus is restarted.
    desk.facts = Some(nobody());
    desk.wait(40);
    assert_eq!(outlook(&mut desk)["heldBy"], json!(["notPermitted"]));
    desk.facts = Some(clear());
    assert_eq!(reboots(&desk.wait(50)), 1);

    let mut desk = self::desk(|_| {});
    desk.hear(reboot(json!(null)));
    desk.facts = Some(nobody());
    let effects = desk.wait(125);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::CANNOT_NOW, &json!(["notPermitted"])));
    assert!(
        answer.payload["error"].as_str().is_some_and(|error| error.starts_with("polkit does not let")),
        "{answer:?}"
    );
}

#[test]
fn a_simulated_reboot_is_held_back_as_a_real_one() {
    let mut desk = Desk::new(Road::Own, crate::desk::SIMULATED);
    desk.facts = Some(Facts { way: Err("nobody could".to_owned()), ..inhibited() });
    desk.hear(reboot(json!(null)));
    let started =
        |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Record(Record::Started { .. })));
    assert!(!started(&desk.wait(60)));
    desk.facts = Some(Facts { way: Err("nobody could".to_owned()), ..clear() });
    assert!(started(&desk.wait(60)), "nobody is needed for it");
}

// === The breaker

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
    };
    let mut desk = desk(volatile);
    assert_eq!(desk.twin["reboot"], json!({ "state": "unknown" }));
    assert_eq!(desk.twin["agent"]["problems"][0]["code"], "volatile");
    desk.hear(reboot(json!(null)));
    assert_eq!(reboots(&desk.wait(5)), 1, "up for longer than that");
    for _ in 0..10 {
        desk.records.clear();
        desk.boots();
        for payload in [json!(null), json!({ "delay": "20m" })] {
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
