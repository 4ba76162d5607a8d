//! `rebootDevice` and `cancelReboot`: accept, tell, grace, drain, act, prove.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::cloud::{Outbound, Road};
use twinagent::model::command::{CommandId, Outcome, Request, Status};
use twinagent::model::now::BootInstant;
use twinagent::model::reboot::facts::{Facts, Way};
use twinagent::model::reboot::plan::Plan;
use twinagent::model::reboot::{Mode, TooSoon};
use twinagent::model::record::Record;

use crate::desk::{
    Desk, SIMULATED, acks, answer, answers, documents, done, method, sends, sentences, starts, status_of, told,
};
use crate::given::{request, settings};

fn machine() -> Desk {
    Desk::new(Road::Own, Mode::Machine)
}

/// One that puts nothing off.
fn refusing(mode: Mode) -> Desk {
    let mut settings = settings(Road::Own, mode);
    settings.reboot.too_soon = TooSoon::Refuse;
    Desk::with(settings)
}

fn reboot(id: &str) -> Request {
    request("rebootDevice", Some(id), json!(null))
}

fn cancel() -> Request {
    request("cancelReboot", Some("cancel"), json!(null))
}

fn plan(effect: &Effect) -> Option<&Plan> {
    match effect {
        Effect::Reboot(plan) => Some(plan),
        _ => None,
    }
}

fn reboots(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Reboot(_))).count()
}

fn is_started(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Record(Record::Started { .. })))
}

#[test]
fn the_202_is_told_first_and_the_act_follows_after_the_grace() {
    for road in [Road::Own, Road::Reported] {
        let mut desk = Desk::new(road, Mode::Machine);
        let effects = desk.hear(reboot("r"));
        assert!(!is_started(&effects));
        assert_eq!(desk.twin["reboot"]["state"], "scheduled");
        assert_eq!(reboots(&desk.wait(4)), 0);
        let effects = desk.wait(1);
        let record = effects.iter().position(|effect| matches!(effect, Effect::Record(Record::Started { .. })));
        let act = effects.iter().position(|effect| matches!(effect, Effect::Reboot(_)));
        assert!(record.expect("a record") < act.expect("the act"), "{road:?}");
        assert_eq!(reboots(&desk.wait(60)), 0, "once");
    }
}

#[test]
fn a_silent_cloud_holds_a_reboot_up_for_ten_seconds() {
    let mut desk = machine();
    desk.acknowledges = false;
    desk.hear(reboot("r"));
    assert_eq!(reboots(&desk.wait(14)), 0);
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn the_grace_begins_when_the_cloud_has_both_the_202_and_the_document() {
    let mut desk = machine();
    desk.acknowledges = false;
    let effects = desk.hear(reboot("r"));
    let [Effect::Send(first, _), Effect::Send(second, _)] =
        effects.iter().filter(|effect| matches!(effect, Effect::Send(..))).collect::<Vec<_>>()[..]
    else {
        panic!("{effects:?}");
    };
    desk.wait(2);
    desk.take([Input::Settled(*first)]);
    desk.wait(2);
    desk.take([Input::Settled(*second)]);
    assert_eq!(reboots(&desk.wait(4)), 0);
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn a_document_that_shows_another_reboot_does_not_count() {
    let mut desk = machine();
    desk.acknowledges = false;
    let effects = desk.hear(reboot("r1"));
    let document = effects.iter().find_map(|effect| match effect {
        Effect::Send(id, Outbound::Reported(_)) => Some(*id),
        _ => None,
    });
    desk.hear(cancel());
    let second = sends(&desk.hear(reboot("r2")));
    desk.take(second.into_iter().chain(document).map(Input::Settled).collect::<Vec<_>>());
    assert_eq!(reboots(&desk.wait(14)), 0, "the cloud has not been shown the second");
    assert_eq!(reboots(&desk.wait(1)), 1);
}

#[test]
fn the_202_says_when_and_what_was_ignored() {
    let mut desk = machine();
    let effects = desk.hear(request("rebootDevice", Some("r"), json!({ "reason": "why", "comment": 1 })));
    let answer = answer(&effects);
    assert_eq!((answer.status, answer.last), (Status::ACCEPTED, false));
    assert_eq!(answer.payload["state"], "scheduled");
    assert_eq!(answer.payload["commandId"], "r");
    assert_eq!(answer.payload["ignored"], json!(["comment"]));
    assert_eq!(answer.payload["heldBy"], json!([]));
    let at = desk.now().wall.saturating_add(Duration::from_secs(5));
    assert_eq!(answer.payload["rebootAt"], json!(at));
    assert_eq!(desk.twin["reboot"]["reason"], "why");
}

#[test]
fn payloads_that_do_not_fit_are_422() {
    let mut desk = machine();
    let many: Value = (0..30_000).map(|n| (format!("member-{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let long = json!({ "m".repeat(100_000): 1 });
    let unfit = [
        (json!({ "dealy": "30s" }), "did you mean `delay`"),
        (json!({ "Reason": "x" }), "did you mean `reason`"),
        (json!({ "delay": 30 }), "`delay` is a duration with its unit"),
        (json!({ "delay": "30" }), "`delay` is a duration with its unit"),
        (json!({ "delay": "31d" }), "`delay` is at most 30d"),
        (json!({ "at": "tomorrow" }), "`at` is a time in RFC 3339"),
        (json!({ "at": 1_795_000_000 }), "`at` is a time in RFC 3339"),
        (json!({ "at": "2026-11-22T00:00:00Z" }), "`at` is over"),
        (json!({ "at": "2027-11-22T00:00:00Z" }), "`at` is at most 30d ahead"),
        (json!({ "at": "2026-11-23T00:00:00Z", "delay": "1s" }), "exclude each other"),
        (json!({ "force": 1 }), "`force` is true or false"),
        (json!({ "force": true }), "`force` is not allowed on this device"),
        (json!({ "reason": 1 }), "`reason`"),
        (json!({ "reason": "x".repeat(1_025) }), "`reason`"),
        (json!("now"), "JSON object"),
        (json!([]), "JSON object"),
        (many, "members"),
        (long, "members"),
    ];
    for (number, (payload, words)) in unfit.into_iter().enumerate() {
        let effects = desk.hear(request("rebootDevice", Some(&format!("r{number}")), payload));
        let answer = answer(&effects);
        assert_eq!(answer.status, Status::UNFIT_PAYLOAD, "{words}");
        let error = answer.payload["error"].as_str().expect("a text");
        assert!(error.contains(words) && error.len() < 200, "{error}");
    }
    assert!(desk.agent.durable().ledger.untold_len() == 0);
}

#[test]
fn a_pending_reboot_holds_up_all_but_the_harmless() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    for other in [reboot("r2"), request("count", Some("a"), json!(null))] {
        let effects = desk.hear(other);
        let answer = answer(&effects);
        assert_eq!((answer.status, &answer.payload["commandId"]), (Status::CONFLICT, &json!("r")));
        assert!(starts(&effects).is_empty());
    }
    assert_eq!(starts(&desk.hear(request("echo", Some("e"), json!(null)))).len(), 1);
    assert_eq!(status_of(&desk.hear(reboot("r")), "r"), Some(202), "the same one again gets its 202 again");
}

#[test]
fn running_commands_are_drained() {
    let mut desk = machine();
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    desk.hear(reboot("r"));
    assert_eq!(reboots(&desk.wait(30)), 0);
    let effects = desk.ends(run, done(json!(null)));
    assert_eq!(reboots(&effects), 1, "at once when nothing runs any more");
}

#[test]
fn what_does_not_end_in_time_holds_the_reboot_back_with_423() {
    let mut desk = machine();
    desk.hear_all(["a", "b"].map(|id| request("queue", Some(id), json!(null))));
    desk.hear(reboot("r"));
    assert_eq!(told(&desk.wait(64)), []);
    assert_eq!(desk.twin["reboot"]["heldBy"], json!(["drain"]), "what runs is waited for");
    assert_eq!(told(&desk.wait(1)), []);
    assert_eq!(status_of(&desk.hear(reboot("r")), "r"), Some(202), "it is held back now");
    assert_eq!(desk.twin["reboot"]["heldBy"], json!(["drain"]));
    assert_eq!(told(&desk.wait(119)), []);
    let effects = desk.wait(1);
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::HELD_BACK, &json!(["drain"])));
    assert_eq!(answer.payload["retryAfterSeconds"], 60);
    assert_eq!(desk.twin["reboot"]["state"], "refused");
    assert_eq!(reboots(&desk.wait(600)), 0);
}

#[test]
fn a_waiting_reboot_can_be_cancelled() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    let effects = desk.hear(cancel());
    assert_eq!((status_of(&effects, "r"), status_of(&effects, "cancel")), (Some(499), Some(200)));
    let cancelled = answers(&effects).into_iter().find(|answer| answer.status == Status::DONE).expect("an answer");
    assert_eq!(cancelled.payload, json!({ "cancelled": "r" }));
    assert_eq!(reboots(&desk.wait(600)), 0);
    assert_eq!(desk.twin["reboot"]["state"], "cancelled");
    assert_eq!(status_of(&desk.hear(cancel()), "cancel"), Some(409), "none waits any more");
    assert_eq!(starts(&desk.hear(request("count", Some("a"), json!(null)))).len(), 1);
}

#[test]
fn a_reboot_can_be_cancelled_while_running_commands_are_drained() {
    let mut desk = machine();
    desk.hear(request("count", Some("a"), json!(null)));
    desk.hear(reboot("r"));
    desk.wait(20);
    let effects = desk.hear(cancel());
    assert_eq!((status_of(&effects, "r"), status_of(&effects, "cancel")), (Some(499), Some(200)));
}

#[test]
fn a_reboot_that_has_started_cannot_be_cancelled() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    desk.wait(5);
    assert_eq!(status_of(&desk.hear(cancel()), "cancel"), Some(409));
}

#[test]
fn another_boot_proves_a_reboot_and_nothing_else_does() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    assert_eq!(reboots(&desk.wait(5)), 1);
    let effects = desk.restarts();
    assert_eq!((reboots(&effects), status_of(&effects, "r")), (0, None), "the same boot proves nothing");
    let effects = desk.boots();
    desk.wait(1);
    let answer = answer(&effects);
    assert_eq!(answer.status, Status::DONE);
    assert_eq!(answer.payload["simulated"], false);
    assert_eq!(answer.payload["bootId"], desk.twin["boot"]["id"]);
    assert_eq!(answer.payload["rebootTime"], desk.twin["rebootTime"]);
    assert_eq!(status_of(&desk.hear(reboot("r")), "r"), Some(200), "sent again, it is told again");
    assert_eq!(reboots(&desk.wait(600)), 0);
}

#[test]
fn a_machine_that_will_not_reboot_is_asked_once_and_given_five_minutes() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    assert_eq!(reboots(&desk.wait(5)), 1);
    desk.wait(100);
    assert_eq!(reboots(&desk.restarts()), 0);
    let effects = desk.wait(199);
    assert_eq!((reboots(&effects), status_of(&effects, "r")), (0, None));
    assert_eq!(status_of(&desk.wait(1), "r"), Some(500));
    assert_eq!(desk.twin["reboot"]["state"], "failed");
    assert_eq!(starts(&desk.hear(request("count", Some("a"), json!(null)))).len(), 1, "and it serves again");
}

#[test]
fn whoever_reboots_the_machine_is_told_for_what_and_until_when() {
    let mut desk = machine();
    desk.hear(request("rebootDevice", Some("r"), json!({ "reason": "new kernel" })));
    let effects = desk.wait(5);
    let plans: Vec<&Plan> = effects.iter().filter_map(plan).collect();
    let now = desk.now();
    let expected = Plan {
        way: Way::Logind,
        id: CommandId::parse("r").expect("an id"),
        reason: Some("new kernel".to_owned()),
        boot: now.boot_id,
        until: now.boot + Duration::from_secs(60),
    };
    assert_eq!(plans, [&expected]);
}

#[test]
fn an_answer_to_the_asking_proves_nothing_and_explains_the_failure() {
    let answer = |id: &str, answer: Result<(), &str>| Input::RebootAnswered {
        id: CommandId::parse(id).expect("an id"),
        answer: answer.map_err(str::to_owned),
    };
    let error = |said: &[Input]| {
        let mut desk = machine();
        desk.hear(reboot("r"));
        // Before anybody was asked it means nothing.
        desk.take([answer("r", Err("too early"))]);
        desk.wait(5);
        let effects = desk.take(said.iter().cloned());
        assert!(documents(&effects).is_empty() && told(&effects).is_empty(), "{effects:?}");
        let effects = desk.wait(300);
        assert_eq!(status_of(&effects, "r"), Some(500));
        assert!(desk.agent.durable().rest.boots.story.is_some());
        answers(&effects)[0].payload["error"].as_str().expect("a text").to_owned()
    };
    let plain = "the machine was asked to reboot and still runs 300 s later";
    assert_eq!(error(&[]), plain);
    assert_eq!(error(&[answer("r", Ok(()))]), plain);
    assert_eq!(error(&[answer("r", Err("an update runs"))]), format!("{plain}: an update runs"));
    assert_eq!(error(&[answer("another", Err("an update runs"))]), plain);
    assert_eq!(error(&[answer("r", Err("an update runs")), answer("r", Ok(()))]), plain);

    // It is shown on the machine meanwhile, and not held against the next boot or the next reboot.
    let mut desk = machine();
    desk.hear(reboot("r"));
    desk.wait(5);
    let effects = desk.take([answer("r", Err("an update runs"))]);
    assert_eq!(sentences(&effects), ["no reboot so far: an update runs; connected"]);
    assert_eq!(status_of(&desk.boots(), "r"), Some(200), "the machine rebooted all the same");
    desk.hear(reboot("r2"));
    desk.wait(10);
    assert_eq!(sentences(&desk.take([answer("r2", Err("once more"))])), ["no reboot so far: once more; connected"]);
    assert_eq!(sentences(&desk.wait(300)), ["connected"]);
    desk.hear(reboot("r3"));
    let effects = desk.wait(310);
    assert_eq!(answers(&effects).last().expect("an answer").payload["error"], plain);
}

#[test]
fn another_boot_before_the_act_was_the_reboot() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    let effects = desk.boots();
    assert_eq!((status_of(&effects, "r"), reboots(&effects)), (Some(200), 0));
    assert_eq!(reboots(&desk.wait(600)), 0);
}

#[test]
fn a_nameless_reboot_that_another_boot_has_proved_is_not_done_again() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    let nameless = || request("rebootDevice", None, json!(null));
    desk.hear(nameless());
    desk.boots();
    let effects = desk.hear(nameless());
    assert_eq!(answer(&effects).status, Status::DONE, "it took effect, so its redelivery finds the answer");
}

#[test]
fn a_simulated_reboot_disconnects_waits_and_is_done() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    desk.hear(reboot("r"));
    let effects = desk.wait(5);
    assert!(is_started(&effects) && effects.contains(&Effect::Disconnect) && reboots(&effects) == 0);
    assert_eq!(desk.twin["reboot"]["state"], "rebooting");
    desk.take([Input::Offline(twinagent::model::wire::Reason::Planned)]);
    assert!(!desk.wait(19).contains(&Effect::Connect(Attempt::default())));
    assert!(desk.wait(1).contains(&Effect::Connect(Attempt::default())));
    let effects = desk.online();
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["simulated"]), (Status::DONE, &json!(true)));
    assert_eq!(desk.twin["rebootTime"], answer.payload["rebootTime"]);
    assert_eq!(desk.twin["reboot"]["downSeconds"], json!(20.0));
}

#[test]
fn a_simulated_reboot_goes_on_over_a_restart() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    desk.hear(reboot("r"));
    desk.wait(10);
    let effects = desk.restarts();
    assert!(!effects.contains(&Effect::Connect(Attempt::default())), "still away");
    assert!(!desk.wait(14).contains(&Effect::Connect(Attempt::default())));
    assert!(desk.wait(1).contains(&Effect::Connect(Attempt::default())));
    assert_eq!(status_of(&desk.online(), "r"), Some(200));
}

#[test]
fn a_simulation_of_no_time_at_all_ends_too() {
    let mut desk = Desk::new(Road::Own, Mode::Simulated(Duration::ZERO));
    desk.hear(reboot("r"));
    desk.wait(5);
    desk.take([Input::Offline(twinagent::model::wire::Reason::Planned)]);
    desk.wait(1);
    assert_eq!(status_of(&desk.online(), "r"), Some(200));
}

#[test]
fn a_young_machine_is_not_rebooted_but_a_simulation_does_not_care() {
    let young = |mode| {
        let mut desk = refusing(mode);
        desk.boots();
        desk.wall -= Duration::from_secs(14);
        desk
    };
    let mut desk = young(Mode::Machine);
    let effects = desk.hear(reboot("r"));
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::TOO_MANY, &json!(["minUptime"])));
    assert_eq!(answer.payload["retryAfterSeconds"], 4);
    desk.wait(3);
    assert_eq!(status_of(&desk.hear(reboot("r")), "r"), Some(429));
    desk.wait(1);
    assert_eq!(status_of(&desk.hear(reboot("r")), "r"), Some(202));
    assert_eq!(status_of(&young(SIMULATED).hear(reboot("r")), "r"), Some(202));
}

#[test]
fn reboots_keep_their_distance() {
    let mut desk = machine();
    desk.hear(reboot("r1"));
    desk.wait(5);
    desk.boots();
    assert_eq!(status_of(&desk.hear(reboot("r2")), "r2"), Some(202), "30 s later");

    let mut desk = refusing(Mode::Simulated(Duration::from_secs(2)));
    desk.hear(reboot("r1"));
    desk.wait(5);
    desk.take([Input::Offline(twinagent::model::wire::Reason::Planned)]);
    desk.wait(2);
    desk.online();
    let effects = desk.hear(reboot("r2"));
    let answer = answers(&effects).into_iter().find(|answer| answer.id.as_str() == "r2").expect("an answer");
    assert_eq!((answer.status, &answer.payload["heldBy"]), (Status::TOO_MANY, &json!(["minInterval"])));
    assert_eq!(answer.payload["retryAfterSeconds"], 18);
    // Within one boot the wall clock has no say in it, wherever it goes.
    desk.steps(100_000);
    assert_eq!(status_of(&desk.hear(reboot("r2")), "r2"), Some(429));
    desk.steps(-300_000);
    assert_eq!(status_of(&desk.hear(reboot("r2")), "r2"), Some(429));
    desk.wait(18);
    assert_eq!(status_of(&desk.hear(reboot("r2")), "r2"), Some(202));
}

#[test]
fn a_reboot_that_expires_before_its_time_is_410() {
    let mut desk = machine();
    let mut request = reboot("r");
    request.expires = Some(desk.now().wall.saturating_add(Duration::from_secs(3)));
    desk.hear(request);
    let effects = desk.wait(10);
    assert_eq!((status_of(&effects, "r"), reboots(&effects)), (Some(410), 0));
}

#[test]
fn a_moment_that_passes_while_the_disk_is_slow_is_not_missed() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    desk.wall += Duration::from_secs(7);
    let now = desk.now();
    let deadline = desk.agent.deadline(&now).expect("the act is overdue");
    assert!(deadline <= BootInstant(now.boot.0));
    assert_eq!(reboots(&desk.wait(0)), 1);
}

#[test]
fn a_reboot_found_after_it_was_forbidden_is_not_done() {
    let mut desk = machine();
    desk.hear(reboot("r"));
    desk.facts = Some(Facts { way: Err("not any more".to_owned()), ..Facts::clear(Way::Helper) });
    let mut effects = desk.restarts();
    effects.extend(desk.wait(200));
    assert_eq!((status_of(&effects, "r"), reboots(&effects)), (Some(503), 0));

    let mut desk = machine();
    desk.hear(reboot("r"));
    desk.settings.disabled = vec![method("rebootDevice")];
    let mut effects = desk.restarts();
    effects.extend(desk.wait(30));
    assert_eq!((status_of(&effects, "r"), reboots(&effects)), (Some(404), 0));
}

#[test]
fn a_daemon_that_stops_does_not_reboot_and_the_next_one_goes_on() {
    let mut desk = machine();
    desk.hear(request("count", Some("a"), json!(null)));
    desk.hear(reboot("r"));
    desk.take([Input::Stop]);
    assert_eq!(reboots(&desk.wait(9)), 0);
    let mut effects = desk.restarts();
    let run = effects.iter().find_map(|effect| match effect {
        Effect::Resume(run, _) => Some(*run),
        _ => None,
    });
    effects.extend(desk.ends(run.expect("the cut command"), Outcome::failed(Status::FAILED, "cut")));
    assert_eq!(reboots(&effects), 0, "it begins its grace anew");
    assert_eq!(reboots(&desk.wait(5)), 0, "the document that shows it goes out after a second");
    assert_eq!(reboots(&desk.wait(1)), 1);
    assert_eq!(acks(&desk.hear(reboot("r"))), 1);
}
