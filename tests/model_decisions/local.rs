//! Decisions about callers on this machine: what they are told, and what the cloud is not.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Attempt, Effect, Input};
use twinagent::model::ask::{CallerId, Question, Refusal, Reply};
use twinagent::model::cloud::{Inbound, Outbound, Road};
use twinagent::model::command::{CommandId, Method};
use twinagent::model::record::Record;
use twinagent::model::telemetry::Subfolder;

use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, answers, documents, done, starts};
use crate::given::{request, settings};

fn desk() -> Desk {
    Desk::new(Road::Own, SIMULATED)
}

fn ask(desk: &mut Desk, caller: u64, question: Question) -> Vec<Effect> {
    desk.take([Input::Asked(question, CallerId(caller))])
}

fn invoke(method: &str, id: Option<&str>, follow: bool) -> Question {
    Question::Invoke {
        method: Method::parse(method).expect("a method name"),
        payload: json!({ "n": id }),
        id: id.map(|id| CommandId::parse(id).expect("an id")),
        follow,
    }
}

/// What this caller was told, and whether it was the last.
fn replies(effects: &[Effect], caller: u64) -> Vec<(Value, bool)> {
    let reply = |effect: &Effect| match effect {
        Effect::Reply(to, Reply::Is { answer, last }) if *to == CallerId(caller) => {
            Some((Value::Object(answer.clone()), *last))
        }
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

fn refusal(effects: &[Effect]) -> Refusal {
    let refusal = |effect: &Effect| match effect {
        Effect::Reply(_, Reply::Refused(refusal)) => Some(refusal.clone()),
        _ => None,
    };
    effects.iter().find_map(refusal).expect("a refusal")
}

fn patch(patch: Value) -> Question {
    let Value::Object(patch) = patch else { panic!("a patch is an object") };
    Question::Report { patch }
}

#[test]
fn a_caller_has_its_outcome_once_it_is_on_disk_and_the_cloud_hears_nothing() {
    let mut desk = desk();
    let begun = ask(&mut desk, 1, invoke("count", Some("l"), true));
    assert_eq!(replies(&begun, 1), [(json!({ "id": "l", "method": "count", "status": 202, "final": false }), false)]);
    let ended = desk.ends(starts(&begun)[0], done(json!({ "n": 1 })));
    assert_eq!(replies(&ended, 1), [], "its record is only being written");
    let told = desk.wait(0);
    let outcome = json!({ "id": "l", "method": "count", "status": 200, "payload": { "n": 1 }, "final": true });
    assert_eq!(replies(&told, 1), [(outcome.clone(), true)]);
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
    let again = ask(&mut desk, 2, invoke("count", Some("l"), false));
    assert_eq!(starts(&again), []);
    assert_eq!(replies(&desk.wait(0), 2), [(outcome, true)], "the same command, asked again");
    for effects in [begun, ended, told] {
        assert_eq!(answers(&effects).len(), 0);
    }
    let history = ask(&mut desk, 3, Question::History { id: None });
    let (history, _) = replies(&history, 3).remove(0);
    assert_eq!((&history["commands"][0]["id"], &history["commands"][0]["local"]), (&json!("l"), &json!(true)));
}

#[test]
fn what_is_not_taken_on_is_answered_at_once() {
    let mut desk = desk();
    for (method, id, status) in [("nonsense", None, 404), ("cancelReboot", None, 409)] {
        let effects = ask(&mut desk, 1, invoke(method, id, false));
        let (answer, last) = replies(&effects, 1).remove(0);
        assert_eq!((answer["status"].as_u64(), last), (Some(status), true), "{method}");
    }
    let run = starts(&ask(&mut desk, 2, invoke("echo", None, false)))[0];
    let (answer, last) = replies(&desk.ends(run, done(json!("hello"))), 2).remove(0);
    assert_eq!((&answer["payload"], last), (&json!("hello"), true));
}

#[test]
fn a_caller_that_is_gone_is_owed_nothing_and_its_command_is_over() {
    let mut desk = desk();
    let run = starts(&ask(&mut desk, 1, invoke("count", Some("l"), true)))[0];
    desk.take([Input::Gone(CallerId(1))]);
    desk.ends(run, done(json!(1)));
    assert_eq!(replies(&desk.wait(0), 1), []);
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
}

#[test]
fn a_local_command_that_cannot_be_recorded_is_refused_and_not_run() {
    let mut desk = desk();
    let effects = desk.fails([Input::Asked(invoke("count", Some("l"), false), CallerId(1))]);
    let (answer, last) = replies(&effects, 1).remove(0);
    assert_eq!((answer["status"].as_u64(), last, starts(&effects).len()), (Some(503), true, 0));
    desk.heals();
    assert_eq!(starts(&ask(&mut desk, 2, invoke("count", Some("l"), false))).len(), 1);
}

#[test]
fn a_local_reboot_is_told_as_such_and_proved() {
    let mut desk = desk();
    ask(&mut desk, 1, invoke("rebootDevice", Some("r"), false));
    desk.wait(10);
    assert_eq!(desk.twin["reboot"]["state"], "rebooting");
    desk.take([Input::Offline(Reason::Planned)]);
    desk.wait(30);
    let back = desk.online();
    assert_eq!(answers(&back).len(), 0);
    desk.wait(5);
    assert_eq!((&desk.twin["reboot"]["state"], &desk.twin["reboot"]["cause"]), (&json!("completed"), &json!("local")));
}

#[test]
fn a_waiting_reboot_is_cancelled_by_its_id_alone() {
    let mut desk = desk();
    ask(&mut desk, 1, invoke("rebootDevice", Some("r"), false));
    let cancel = |id| Question::Cancel { id: CommandId::parse(id).expect("an id") };
    let wrong = ask(&mut desk, 2, cancel("other"));
    assert_eq!(replies(&wrong, 2)[0].0["status"], 409);
    let right = ask(&mut desk, 3, cancel("r"));
    assert_eq!(replies(&right, 3)[0].0["status"], 200);
    assert_eq!(replies(&desk.wait(1), 1)[0].0["status"], 499);
}

#[test]
fn members_are_merged_and_the_agents_own_are_refused() {
    let mut desk = desk();
    ask(&mut desk, 1, patch(json!({ "door": { "open": true, "code": 7 } })));
    desk.wait(2);
    assert_eq!(desk.twin["door"], json!({ "open": true, "code": 7 }));
    ask(&mut desk, 1, patch(json!({ "door": { "code": null, "open": false } })));
    desk.wait(2);
    assert_eq!(desk.twin["door"], json!({ "open": false }));
    let written = desk.records.len();
    ask(&mut desk, 1, patch(json!({ "door": { "open": false } })));
    assert_eq!((desk.records.len(), documents(&desk.wait(5)).len()), (written, 0), "nothing is new");
    for member in ["rebootTime", "agent", "commands", "desired"] {
        let refused = ask(&mut desk, 1, patch(json!({ "door": null, (member): {} })));
        assert_eq!(refusal(&refused), Refusal::OwnMember { member: member.to_owned() });
    }
    let large = ask(&mut desk, 1, patch(json!({ "x": "y".repeat(40_000) })));
    assert_eq!(refusal(&large), Refusal::TooLarge { limit: 32 * 1_024 });
    desk.boots();
    desk.wait(5);
    assert_eq!(desk.twin["door"], json!({ "open": false }), "kept over a boot");
}

fn telemetry(subfolder: &str, text: &str) -> Question {
    Question::Telemetry {
        subfolder: Subfolder::parse(subfolder).expect("a subfolder"),
        payload: text.to_owned().into(),
    }
}

fn sent(effects: &[Effect]) -> Vec<String> {
    let text = |effect: &Effect| match effect {
        Effect::Send(_, Outbound::Telemetry(message)) => Some(String::from_utf8_lossy(&message.payload).into_owned()),
        _ => None,
    };
    effects.iter().filter_map(text).collect()
}

#[test]
fn telemetry_waits_for_a_connection_and_survives_the_loss_of_one() {
    let mut desk = desk();
    assert_eq!(sent(&ask(&mut desk, 1, telemetry("a/b", "1"))), ["1"]);
    desk.acknowledges = false;
    assert_eq!(sent(&ask(&mut desk, 1, telemetry("", "2"))), ["2"]);
    desk.cut();
    assert_eq!(sent(&ask(&mut desk, 1, telemetry("", "3"))), Vec::<String>::new());
    desk.acknowledges = true;
    desk.wait(10);
    assert_eq!(sent(&desk.online()), ["2", "3"]);
}

#[test]
fn telemetry_that_the_cloud_closes_on_does_not_cost_the_device_its_session_for_ever() {
    let mut desk = desk();
    desk.acknowledges = false;
    assert_eq!(sent(&ask(&mut desk, 1, telemetry("", "1"))), ["1"]);
    for _ in 0..2 {
        desk.take([Input::Offline(Reason::Closed)]);
        desk.wait(10);
        assert_eq!(sent(&desk.online()), ["1"], "it may have been something else");
    }
    desk.take([Input::Offline(Reason::Closed)]);
    desk.wait(10);
    assert_eq!(sent(&desk.online()), Vec::<String>::new());
    let status = ask(&mut desk, 2, Question::Status { follow: false });
    assert_eq!(replies(&status, 2)[0].0["telemetry"]["dropped"], 1);
    // What ended for other reasons says nothing about telemetry.
    assert_eq!(sent(&ask(&mut desk, 1, telemetry("", "2"))), ["2"]);
    for _ in 0..5 {
        desk.take([Input::Offline(Reason::Lost("cut".to_owned()))]);
        desk.wait(60);
        assert_eq!(sent(&desk.online()), ["2"]);
    }
}

#[test]
fn telemetry_is_bounded_while_there_is_no_connection() {
    let mut desk = desk();
    desk.cut();
    for n in 0..256 {
        ask(&mut desk, 1, telemetry("", &n.to_string()));
    }
    ask(&mut desk, 1, telemetry("", "more"));
    let status = ask(&mut desk, 2, Question::Status { follow: false });
    assert_eq!(replies(&status, 2)[0].0["telemetry"], json!({ "waiting": 256, "dropped": 1 }));
    desk.wait(10);
    let first = sent(&desk.online());
    assert_eq!(first.first().map(String::as_str), Some("1"), "the oldest was dropped");
}

#[test]
fn followers_are_told_what_is_new_and_nothing_else() {
    let mut desk = desk();
    let begun = ask(&mut desk, 1, Question::Status { follow: true });
    assert_eq!(replies(&begun, 1)[0].0["state"], "connected");
    assert_eq!(replies(&desk.wait(60), 1), []);
    let cut = desk.cut();
    assert_eq!(replies(&cut, 1)[0].0["state"], "not connected");
    desk.take([Input::Gone(CallerId(1))]);
    assert_eq!(replies(&desk.online(), 1), []);

    ask(&mut desk, 2, Question::Desired { follow: true });
    for (body, expected) in [("{\"a\":1}", 1), ("{\"a\":1}", 0), ("text", 1), ("", 1)] {
        let input = desk.delivery(Inbound::Desired { body: body.into(), version: None });
        assert_eq!(replies(&desk.take([input]), 2).len(), expected, "{body}");
    }
    let twin = ask(&mut desk, 3, Question::Twin);
    let (twin, last) = replies(&twin, 3).remove(0);
    assert!(last && twin["desired"].is_null() && twin["reported"]["agent"].is_object(), "{twin}");
}

#[test]
fn a_document_that_is_a_day_old_is_sent_again() {
    let mut desk = desk();
    assert_eq!(documents(&desk.wait(24 * 60 * 60 - 60)).len(), 0);
    assert_eq!(documents(&desk.wait(120)).len(), 1);
    assert_eq!(documents(&desk.wait(60)).len(), 0);
}

#[test]
fn problems_are_told_until_they_are_gone() {
    let mut desk = desk();
    assert_eq!((&desk.twin["agent"]["health"], &desk.twin["agent"]["problems"]), (&json!("ok"), &json!([])));
    let problem = |text: Option<&str>| Input::Problem {
        code: twinagent::model::problems::Code::Config,
        text: text.map(str::to_owned),
    };
    desk.take([problem(Some("twinagent.toml:3: unknown key"))]);
    desk.wait(2);
    let since = desk.twin["agent"]["problems"][0]["since"].clone();
    assert_eq!(desk.twin["agent"]["health"], "degraded");
    desk.take([problem(Some("twinagent.toml:4: unknown key"))]);
    desk.wait(2);
    let told = &desk.twin["agent"]["problems"][0];
    assert_eq!((&told["code"], &told["since"]), (&json!("config"), &since));
    assert_eq!(told["text"], "twinagent.toml:4: unknown key");
    desk.take([problem(None)]);
    desk.wait(2);
    assert_eq!(desk.twin["agent"]["health"], "ok");
}

#[test]
fn a_new_configuration_holds_at_once_and_reconnects_only_if_a_login_says_something_else() {
    let mut desk = desk();
    let mut settings = desk.settings.clone();
    settings.disabled = vec![Method::parse("count").expect("a name")];
    settings.aliases = [(Method::parse("e").expect("a name"), Method::parse("echo").expect("a name"))].into();
    let reloaded = |anew| Input::Reloaded { settings: Box::new(settings.clone()), anew };
    assert!(!desk.take([reloaded(false)]).contains(&Effect::Disconnect));
    assert_eq!(answers(&desk.hear(request("count", Some("a"), json!(null))))[0].status.0, 404);
    assert_eq!(starts(&desk.hear(request("e", Some("b"), json!(null)))).len(), 1);
    desk.wait(2);
    desk.take([reloaded(true)]);
    assert!(desk.wait(5).contains(&Effect::Disconnect), "in its own time, but within seconds");
}

#[test]
fn who_asks_for_a_reload_wants_the_next_try_soon() {
    let tries_within_seconds = |asked: Vec<Input>| {
        let mut settings = settings(Road::Own, SIMULATED);
        settings.terms.backoff_max_refused = Duration::from_secs(900);
        let mut desk = Desk::with(settings);
        for _ in 0..12 {
            desk.take([Input::Offline(Reason::Refused { code: 5 })]);
            desk.wait(900);
        }
        desk.take([Input::Offline(Reason::Refused { code: 5 })]);
        desk.take(asked);
        desk.wait(5).contains(&Effect::Connect(Attempt::default()))
    };
    assert!(!tries_within_seconds(Vec::new()), "a login that was refused for hours waits");
    assert!(tries_within_seconds(vec![Input::Hurry]));
    assert!(tries_within_seconds(vec![Input::Asked(Question::Reload, CallerId(1))]));
}

#[test]
fn a_start_is_counted_and_a_boot_begins_anew() {
    let mut desk = desk();
    desk.restarts();
    desk.wait(5);
    assert_eq!(desk.twin["agent"]["restarts"], 1);
    desk.boots();
    desk.wait(5);
    assert_eq!(desk.twin["agent"]["restarts"], 0);
    let is_start = |record: &&Record| matches!(record, Record::Began { .. });
    assert_eq!(desk.records.iter().filter(is_start).count(), 3);
}
