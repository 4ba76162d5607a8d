//! Commands: what is taken on, what is refused with which status, and what a repeat gets.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::{Inbound, Road};
use twinagent::model::command::{Class, CommandId, Identity, ReplyTo, Request, Status};
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Way};
use twinagent::model::record::{Record, Told};
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, acks, answer, answer_ids, answers, done, method, sends, started, starts, told};
use crate::given::{request, settings};

fn desk() -> Desk {
    Desk::new(Road::Own, SIMULATED)
}

fn count(id: &str) -> Request {
    request("count", Some(id), json!({ "n": 1 }))
}

fn queue(id: &str) -> Request {
    request("queue", Some(id), json!(null))
}

fn ok() -> twinagent::model::command::Outcome {
    done(json!("ok"))
}

#[test]
fn an_answer_that_cannot_be_sent_goes_without_its_payload_and_then_not_at_all() {
    let mut desk = Desk::new(Road::Own, SIMULATED);
    desk.acknowledges = false;
    let why = || "too large".to_owned();
    let run = starts(&desk.hear(request("count", Some("a"), json!(null))))[0];
    let effects = desk.ends(run, done(json!("x".repeat(60_000))));
    let [id] = answer_ids(&effects)[..] else { panic!("one answer") };
    let effects = desk.take([Input::Unsent(id, why())]);
    assert_eq!(answer(&effects).payload, json!({ "payloadDropped": true }));
    let [id] = answer_ids(&effects)[..] else { panic!("one answer") };
    assert!(answers(&desk.take([Input::Unsent(id, why())])).is_empty());
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
}

#[test]
fn a_command_is_recorded_then_acknowledged_then_started_then_told() {
    let mut desk = desk();
    let effects = desk.hear(count("a"));
    let [Effect::Record(Record::Accepted { started: true, .. }), Effect::Ack(_), Effect::Start(run, command)] =
        &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(command.payload, json!({ "n": 1 }));
    let effects = desk.ends(*run, ok());
    let [Effect::Record(Record::Finished { .. }), Effect::Send(..), Effect::Record(Record::Told { what, .. })] =
        &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(*what, Told::Outcome);
    let answer = answer(&effects);
    assert_eq!((answer.status, answer.payload, answer.last), (Status::DONE, json!("ok"), true));
}

#[test]
fn an_unknown_method_is_404_and_the_known_ones_are_named() {
    let mut desk = desk();
    let effects = desk.hear(request("conut", Some("a"), json!(null)));
    let answer = answer(&effects);
    assert_eq!(answer.status, Status::UNKNOWN_METHOD);
    assert_eq!(
        answer.payload["methods"],
        json!([
            "cancelCommand",
            "cancelReboot",
            "count",
            "echo",
            "getStatus",
            "listMethods",
            "queue",
            "rebootDevice",
            "refreshState"
        ])
    );
    assert!(starts(&effects).is_empty() && acks(&effects) == 1 && desk.agent.durable().ledger.untold_len() == 0);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Refused { status: Status(404), .. })));
}

#[test]
fn a_disabled_method_is_unknown() {
    let mut settings = settings(Road::Own, SIMULATED);
    settings.disabled = vec![method("rebootDevice"), method("echo")];
    let mut desk = Desk::with(settings);
    assert_eq!(told(&desk.hear(request("rebootDevice", Some("r"), json!(null)))), [("r".to_owned(), 404)]);
    assert_eq!(told(&desk.hear(request("echo", Some("e"), json!(null)))), [("e".to_owned(), 404)]);
}

#[test]
fn the_id_of_another_command_is_409_and_does_not_run() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    for different in [request("count", Some("a"), json!({ "n": 2 })), queue("a")] {
        let effects = desk.hear(different);
        assert_eq!(told(&effects), [("a".to_owned(), 409)]);
        assert!(starts(&effects).is_empty());
    }
    assert_eq!(told(&desk.ends(run, ok())), [("a".to_owned(), 200)], "the first is not disturbed");
}

#[test]
fn what_expired_before_it_arrived_is_410() {
    let mut desk = desk();
    let mut late = count("a");
    late.expires = Some(desk.now().wall.saturating_sub(Duration::from_micros(1)));
    assert_eq!(told(&desk.hear(late)), [("a".to_owned(), 410)]);
    let mut just = count("b");
    just.expires = Some(desk.now().wall);
    assert_eq!(starts(&desk.hear(just)).len(), 1);
}

#[test]
fn what_expires_while_it_waits_is_410_and_never_runs() {
    let mut desk = desk();
    let run = starts(&desk.hear(queue("a")))[0];
    let mut waits = queue("b");
    waits.expires = Some(desk.now().wall.saturating_add(Duration::from_secs(5)));
    assert_eq!(told(&desk.hear(waits.clone())), []);
    assert_eq!(told(&desk.wait(5)), []);
    assert_eq!(told(&desk.wait(1)), [("b".to_owned(), 410)], "without waiting for the one before it");
    let effects = desk.ends(run, ok());
    assert!(starts(&effects).is_empty());
    assert_eq!(told(&effects), [("a".to_owned(), 200)]);
    assert_eq!(told(&desk.hear(waits)), [("b".to_owned(), 410)], "the same answer again");
}

#[test]
fn a_malformed_command_gets_its_status_and_an_id_if_it_has_none() {
    let mut desk = desk();
    let malformed = |id: Option<&str>| Inbound::Malformed {
        id: id.map(|id| CommandId::parse(id).expect("an id")),
        method: None,
        reply_to: None,
        status: Status::TOO_LARGE,
        why: "too large".to_owned(),
    };
    let input = desk.delivery(malformed(Some("a")));
    assert_eq!(told(&desk.take([input])), [("a".to_owned(), 413)]);
    let input = desk.delivery(malformed(None));
    let effects = desk.take([input]);
    assert!(answer(&effects).id.as_str().starts_with('x'));
    assert_eq!(acks(&effects), 1);
}

#[test]
fn at_most_64_may_be_untold_and_the_next_is_429() {
    let mut desk = desk();
    desk.acknowledges = false;
    for n in 0..64 {
        let run = starts(&desk.hear(count(&format!("c{n}"))))[0];
        desk.ends(run, ok());
    }
    desk.hear(count("late"));
    assert_eq!(desk.agent.durable().ledger.untold_len(), 64);
    // Nothing more may be on its way, so the refusal follows when the cloud acknowledges again.
    desk.acknowledges = true;
    desk.cut();
    desk.take([Input::Tick]);
    let effects = desk.online();
    let late = answers(&effects).into_iter().find(|answer| answer.id.as_str() == "late").expect("an answer");
    assert_eq!((late.status, &late.payload["retryAfterSeconds"]), (Status::TOO_MANY, &json!(1)));
    assert_eq!(starts(&desk.hear(count("late"))).len(), 1, "it may be tried again");
}

#[test]
fn a_serial_method_runs_one_at_a_time_in_order_and_so_many_may_wait() {
    let mut desk = desk();
    let effects = desk.hear_all((0..6).map(|n| queue(&format!("q{n}"))));
    let answer = answer(&effects);
    assert_eq!((answer.id.as_str(), answer.status), ("q5", Status::TOO_MANY));
    assert!(answer.payload["retryAfterSeconds"].is_number());
    let mut running = started(&effects);
    for n in 0..5 {
        let [(run, command)] = &running[..] else { panic!("{} run at once", running.len()) };
        assert_eq!(command.key.id.as_str(), format!("q{n}"));
        running = started(&desk.ends(*run, ok()));
    }
    assert!(running.is_empty());
}

#[test]
fn too_many_of_a_harmless_method_is_429() {
    let mut desk = desk();
    let effects = desk.hear_all((0..65).map(|n| request("echo", Some(&format!("e{n}")), json!(null))));
    assert_eq!(starts(&effects).len(), 64);
    assert_eq!(told(&effects), [("e64".to_owned(), 429)]);
}

#[test]
fn a_method_that_must_be_alone_runs_beside_harmless_ones_only() {
    let mut settings = settings(Road::Own, SIMULATED);
    let mut alone = settings.methods[1].clone();
    (alone.name, alone.class) = (method("alone"), Class::Exclusive);
    settings.methods.push(alone);
    let mut desk = Desk::with(settings);
    let run = starts(&desk.hear(request("alone", Some("x"), json!(null))))[0];
    let effects = desk.hear_all([count("a"), queue("q"), request("echo", Some("e"), json!(null))]);
    let names: Vec<String> = started(&effects).iter().map(|(_, command)| command.method.to_string()).collect();
    assert_eq!(names, ["echo"]);
    let effects = desk.ends(run, ok());
    assert_eq!(starts(&effects).len(), 2, "the others follow");
    assert_eq!(told(&desk.hear(request("alone", Some("y"), json!(null)))), [("y".to_owned(), 429)]);
}

#[test]
fn three_things_are_503() {
    let mut stopping = desk();
    starts(&stopping.hear(count("runs")));
    stopping.take([Input::Stop]);
    assert_eq!(told(&stopping.hear(count("a"))), [("a".to_owned(), 503)]);

    let mut broken = desk();
    let inputs = broken.deliveries([count("a")]);
    assert_eq!(told(&broken.fails(inputs)), [("a".to_owned(), 503)]);
    let effects = broken.hear(count("b"));
    assert_eq!(answer(&effects).payload["error"], "no space left");

    let mut unable = Desk::new(Road::Own, Mode::Machine);
    unable.take([Input::Probed(Facts { way: Err("not on this machine".to_owned()), ..Facts::clear(Way::Helper) })]);
    let effects = unable.hear(request("rebootDevice", Some("r"), json!(null)));
    let answer = answer(&effects);
    assert_eq!((answer.status, &answer.payload["error"]), (Status::CANNOT_NOW, &json!("not on this machine")));
}

#[test]
fn a_repeat_of_a_finished_command_gets_the_same_answer_again() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    let first = answer(&desk.ends(run, ok()));
    for _ in 0..3 {
        let effects = desk.hear(count("a"));
        assert_eq!((answer(&effects), acks(&effects), starts(&effects).len()), (first.clone(), 1, 0));
    }
    desk.restarts();
    assert_eq!(answer(&desk.hear(count("a"))), first);
}

#[test]
fn a_repeat_of_a_running_command_gets_202_and_then_the_outcome() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    let effects = desk.hear(count("a"));
    let accepted = answer(&effects);
    assert_eq!((accepted.status, accepted.last, starts(&effects).len()), (Status::ACCEPTED, false, 0));
    assert_eq!(told(&desk.ends(run, ok())), [("a".to_owned(), 200)]);
}

#[test]
fn a_thousand_in_one_batch_are_one_run_and_one_outcome() {
    let mut desk = desk();
    let effects = desk.hear_all((0..1_000).map(|_| count("a")));
    assert_eq!((acks(&effects), starts(&effects).len()), (1_000, 1));
    assert_eq!(told(&effects), [("a".to_owned(), 202)]);
    assert_eq!(told(&desk.ends(starts(&effects)[0], ok())), [("a".to_owned(), 200)]);
}

#[test]
fn an_answer_told_again_survives_the_loss_of_the_connection() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    desk.ends(run, ok());
    desk.acknowledges = false;
    assert_eq!(told(&desk.hear(count("a"))), [("a".to_owned(), 200)]);
    desk.cut();
    desk.wait(6);
    assert_eq!(told(&desk.online()), [("a".to_owned(), 200)], "the repeat was acknowledged, so it is owed its answer");
}

#[test]
fn an_answer_goes_where_the_repeat_wants_it() {
    let mut desk = desk();
    let to = |place: &str| Request { reply_to: Some(ReplyTo(place.to_owned())), ..count("a") };
    let run = starts(&desk.hear(to("1")))[0];
    assert_eq!(answer(&desk.ends(run, ok())).reply_to, Some(ReplyTo("1".to_owned())));
    assert_eq!(answer(&desk.hear(to("2"))).reply_to, Some(ReplyTo("2".to_owned())));
}

#[test]
fn equal_content_without_an_id_is_the_same_command_for_ten_minutes() {
    let mut desk = desk();
    let nameless = || request("count", None, json!({ "b": 1, "a": 2 }));
    let effects = desk.hear(nameless());
    let (run, first) = started(&effects).remove(0);
    assert!(first.key.id.as_str().starts_with('x'));
    assert_eq!(starts(&desk.hear(nameless())).len(), 0, "while it runs");
    assert_eq!(starts(&desk.hear(request("count", None, json!({ "b": 1, "a": 3 })))).len(), 1, "other content");
    desk.ends(run, ok());
    desk.wait(599);
    let again = desk.hear(nameless());
    assert_eq!((answer(&again).id, starts(&again).len()), (first.key.id.clone(), 0));
    desk.wait(1);
    let (_, second) = started(&desk.hear(nameless())).remove(0);
    assert_ne!(second.key.id, first.key.id, "after ten minutes it is meant again");
}

#[test]
fn a_clock_set_back_does_not_swallow_what_is_sent_anew() {
    let mut desk = desk();
    let nameless = || request("count", None, json!(null));
    let run = starts(&desk.hear(nameless()))[0];
    desk.ends(run, ok());
    for back in [20, 900] {
        desk.steps(-back);
        assert!(starts(&desk.hear(nameless())).is_empty(), "no step changes anything");
    }
    desk.wait(600);
    assert_eq!(starts(&desk.hear(nameless())).len(), 1, "or it would be swallowed until the clock is there again");
}

#[test]
fn what_ended_without_starting_does_not_stand_for_a_repeat() {
    let mut desk = desk();
    let nameless = || request("queue", None, json!("same"));
    let run = starts(&desk.hear(queue("first")))[0];
    let mut waits = nameless();
    waits.expires = Some(desk.now().wall.saturating_add(Duration::from_secs(1)));
    desk.hear(waits);
    desk.wait(2);
    desk.ends(run, ok());
    assert_eq!(starts(&desk.hear(nameless())).len(), 1);
}

#[test]
fn what_cannot_come_twice_is_never_taken_for_a_repeat() {
    let mut desk = desk();
    let unique = || Request { identity: Identity::Unique, ..request("count", None, json!(null)) };
    assert_eq!(starts(&desk.hear_all([unique(), unique()])).len(), 2);
    assert_eq!(starts(&desk.hear(request("count", None, json!(null)))).len(), 1);
}

#[test]
fn harmless_methods_always_run_and_are_not_recorded() {
    let mut desk = desk();
    let echo = || request("echo", Some("e"), json!("hello"));
    let records = desk.records.len();
    let effects = desk.hear_all([echo(), echo()]);
    let runs = starts(&effects);
    assert_eq!(runs.len(), 2);
    assert_eq!(told(&desk.ends(runs[0], ok())), [("e".to_owned(), 200)]);
    assert_eq!(desk.records.len(), records);
}

#[test]
fn a_large_payload_is_told_whole_and_remembered_by_its_status() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    let large = json!("x".repeat(5_000));
    assert_eq!(answer(&desk.ends(run, done(large.clone()))).payload, large);
    let again = answer(&desk.hear(count("a")));
    assert_eq!((again.status, again.payload), (Status::DONE, json!({ "payloadDropped": true })));
}

#[test]
fn no_more_than_the_window_is_on_its_way_and_refusals_are_bounded() {
    let mut desk = desk();
    desk.acknowledges = false;
    let effects = desk.hear_all((0..200).map(|n| request("nope", Some(&format!("n{n}")), Value::Null)));
    assert_eq!((acks(&effects), sends(&effects).len()), (200, 16));
    for n in 0..64 {
        let run = starts(&desk.hear(count(&format!("c{n}"))))[0];
        desk.ends(run, ok());
    }
    let all = desk.take([Input::Tick]);
    assert!(sends(&all).is_empty(), "16 refusals and 48 outcomes are on their way");
}

#[test]
fn a_command_cut_by_a_restart_is_resumed_and_never_started_again() {
    let mut desk = desk();
    desk.hear(count("a"));
    let effects = desk.restarts();
    let [run] = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Resume(run, _) => Some(*run),
            _ => None,
        })
        .collect::<Vec<_>>()[..]
    else {
        panic!("{effects:?}");
    };
    assert!(starts(&effects).is_empty() && starts(&desk.hear(count("a"))).is_empty());
    assert_eq!(told(&desk.ends(run, ok())), [("a".to_owned(), 200)]);
}

#[test]
fn a_waiting_command_whose_method_is_gone_is_404() {
    let mut desk = desk();
    desk.hear_all([queue("a"), queue("b")]);
    desk.settings.disabled = vec![method("queue")];
    assert_eq!(told(&desk.restarts()), [("b".to_owned(), 404)]);
}

#[test]
fn an_outcome_waits_for_the_connection() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    desk.take([Input::Offline(Reason::Closed)]);
    assert_eq!(told(&desk.ends(run, ok())), []);
    desk.wait(6);
    assert_eq!(told(&desk.online()), [("a".to_owned(), 200)]);
}
