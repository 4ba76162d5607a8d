//! The reported document: what it holds, how large it grows, and when it is sent.

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::{Inbound, Road};
use twinagent::model::record::Record;
use twinagent::model::runs::RunId;
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, acks, documents, done, starts};
use crate::given::request;

fn desk() -> Desk {
    Desk::new(Road::Reported, SIMULATED)
}

fn count(desk: &mut Desk, id: &str) -> RunId {
    starts(&desk.hear(request("count", Some(id), json!(null))))[0]
}

fn refused(desk: &mut Desk, id: &str) -> Vec<Effect> {
    desk.hear(request("nope", Some(id), json!(null)))
}

fn desired(desk: &mut Desk, body: &'static str) -> Vec<Effect> {
    let input = desk.delivery(Inbound::Desired { body: body.into(), version: None });
    desk.take([input])
}

/// The ids in `commands` whose answer has this status.
fn members(document: &Value, status: u16) -> Vec<&String> {
    let commands = document["commands"].as_object().expect("commands");
    commands.iter().filter(|(_, member)| member["status"] == status).map(|(id, _)| id).collect()
}

fn commands_bytes(document: &Value) -> usize {
    document["commands"].to_string().len()
}

#[test]
fn many_changes_are_one_document_a_second() {
    let mut desk = desk();
    let mut effects = Vec::new();
    for n in 0..60 {
        let run = count(&mut desk, &format!("c{n}"));
        effects.extend(desk.ends(run, done(json!(n))));
    }
    assert_eq!(documents(&effects).len(), 1, "the first at once, the others wait");
    assert_eq!(documents(&desk.wait(1)).len(), 1, "and follow together");
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
    assert_eq!(documents(&desk.wait(1_000)).len(), 0);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    desk.ends(run, done(json!(1)));
    assert_eq!(documents(&desk.wait(10)).len(), 0);
    desk.take([Input::Offline(Reason::Planned)]);
    desk.wait(10);
    assert_eq!(documents(&desk.online()).len(), 0, "the cloud keeps it over sessions");
    desk.cut();
    desk.wait(10);
    desk.online();
    let last = &desk.twin["agent"]["lastDisconnect"];
    assert_eq!(
        (&last["code"], &last["reason"]),
        (&json!("kicked-early"), &json!("closed by the broker 0 s after the login"))
    );
    assert_eq!(documents(&desk.wait(10)).len(), 0);
    let again = desk.hear(request("count", Some("a"), json!(null)));
    assert_eq!((documents(&again).len(), acks(&again)), (0, 1), "its answer is in the document that the cloud has");
}

#[test]
fn a_stop_waits_until_the_last_answers_have_gone_out_in_a_document() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    // The cloud's rate holds the next document back.
    assert_eq!(documents(&refused(&mut desk, "b")).len(), 1);
    desk.take([Input::Stop]);
    let effects = desk.ends(run, done(json!(1)));
    assert_eq!((documents(&effects).len(), effects.contains(&Effect::Disconnect)), (0, false));
    let effects = desk.wait(1);
    assert_eq!(documents(&effects)[0]["commands"]["a"]["status"], 200);
    assert!(effects.contains(&Effect::Disconnect));
}

#[test]
fn a_moment_that_passes_while_the_disk_is_slow_is_not_missed() {
    let mut desk = desk();
    refused(&mut desk, "a");
    let input = desk.deliveries([request("nope", Some("b"), json!(null))]);
    desk.take(input);
    desk.wall += std::time::Duration::from_secs(5);
    let documents = documents(&desk.wait(0));
    assert_eq!(documents.len(), 1);
    assert_eq!(members(&documents[0], 404), ["a", "b"]);
}

#[test]
fn the_interval_counts_over_a_lost_connection() {
    let mut desk = desk();
    desk.acknowledges = false;
    assert_eq!(documents(&refused(&mut desk, "a")).len(), 1);
    desk.wait(30);
    desk.cut();
    desk.wait(0);
    assert_eq!(documents(&desk.online()).len(), 0, "it may have arrived just now");
    assert_eq!(documents(&desk.wait(1)).len(), 1);
}

#[test]
fn a_document_that_may_have_arrived_is_taken_back_by_another() {
    let mut desk = desk();
    desired(&mut desk, r#"{"a":1}"#);
    let first = desk.twin.clone();
    desk.wait(10);
    desk.acknowledges = false;
    assert_eq!(documents(&desired(&mut desk, r#"{"a":2}"#)).len(), 1);
    desk.take([Input::Offline(Reason::Planned)]);
    desk.acknowledges = true;
    desired(&mut desk, r#"{"a":1}"#);
    desk.wait(10);
    desk.online();
    desk.wait(10);
    let sent = desk.twin.clone();
    assert_eq!(sent, first);
    let second = desired(&mut desk, r#"{"a":2}"#);
    assert_eq!(documents(&second).len(), 1);
}

#[test]
fn an_answer_is_in_the_document_until_newer_ones_need_the_room() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    desk.ends(run, done(json!({ "n": 1 })));
    let member = &desk.twin["commands"]["a"];
    assert_eq!(
        (&member["status"], &member["payload"], &member["method"]),
        (&json!(200), &json!({ "n": 1 }), &json!("count"))
    );
    assert!(member["receivedAt"].is_string() && member["time"].is_string());
    assert_eq!(desk.twin["commandsDropped"], 0);
}

#[test]
fn a_202_stays_until_the_outcome_is_there() {
    let mut desk = desk();
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    assert_eq!(members(&desk.twin, 202), ["r"]);
    desk.wait(2);
    let effects = desired(&mut desk, r#"{"new":true}"#);
    assert_eq!(documents(&effects).len(), 1);
    assert_eq!(members(&desk.twin, 202), ["r"], "an acknowledged 202 is no final status");
}

#[test]
fn a_long_payload_is_cut_and_marked() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    desk.ends(run, done(json!("ä".repeat(2_000))));
    let member = &desk.twin["commands"]["a"];
    assert_eq!(member["payloadCut"], true);
    let text = member["payload"].as_str().expect("the beginning of its JSON");
    assert!(text.len() <= 1_024 && text.starts_with("\"ää"));
}

#[test]
fn of_a_long_list_and_a_long_status_the_document_has_what_is_of_use() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    desk.take([Input::Progress(run, "🦀".repeat(200))]);
    desk.hear(request("listMethods", Some("l"), json!(null)));
    desk.hear(request("getStatus", Some("s"), json!(null)));
    desk.wait(5);
    let member = |id: &str| {
        let member = &desk.twin["commands"][id];
        assert_eq!((&member["status"], &member["payloadCut"]), (&json!(200), &json!(true)), "{member}");
        assert!(member["payload"].to_string().len() <= 1_024, "{member}");
        member["payload"].clone()
    };
    assert_eq!(member("l"), json!({ "methods": desk.twin["methods"] }));
    let status = member("s");
    assert_eq!((&status["state"], &status["problems"]), (&json!("connected"), &json!([])), "{status}");
    assert!(status["sentence"].is_string() && status["commands"]["waiting"] == 0, "{status}");
}

#[test]
fn outcomes_that_do_not_fit_follow_after_the_acknowledgement() {
    let mut desk = desk();
    desk.cut();
    desk.wait(10);
    let ids: Vec<String> = (10..60).map(|n| format!("c{n}")).collect();
    for id in &ids {
        let run = count(&mut desk, id);
        desk.ends(run, done(json!("\"".repeat(600))));
    }
    desk.acknowledges = false;
    let mut seen = Vec::new();
    let mut effects = desk.online();
    for _ in 0..20 {
        let [Effect::Send(id, _)] =
            effects.iter().filter(|effect| matches!(effect, Effect::Send(..))).collect::<Vec<_>>()[..]
        else {
            break;
        };
        let [document] = &documents(&effects)[..] else { panic!("not one document") };
        assert!(commands_bytes(document) <= 17 * 1_024, "{} bytes", commands_bytes(document));
        seen.extend(members(document, 200).into_iter().cloned());
        let id = *id;
        effects = desk.take([Input::Settled(id)]);
        effects.extend(desk.wait(1));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ids);
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
}

#[test]
fn sixteen_refusals_have_a_place_and_the_rest_is_counted() {
    let mut desk = desk();
    desk.acknowledges = false;
    let requests: Vec<_> = (0..20).map(|n| request("nope", Some(&format!("n{n}")), json!(null))).collect();
    let effects = desk.hear_all(requests);
    assert_eq!(acks(&effects), 20);
    let document = &documents(&effects)[0];
    assert_eq!((members(document, 404).len(), &document["commandsDropped"]), (16, &json!(4)));
}

#[test]
fn a_new_refusal_takes_the_place_of_one_that_was_told() {
    let mut desk = desk();
    for n in 0..40 {
        refused(&mut desk, &format!("n{n}"));
        desk.wait(2);
    }
    assert_eq!(members(&desk.twin, 404).len(), 16);
    assert!(desk.twin["commands"]["n39"].is_object() && desk.twin["commandsDropped"] == 0);
}

#[test]
fn what_nobody_has_seen_comes_before_what_was_told() {
    let mut desk = desk();
    let large = || done(json!("\\".repeat(1_000)));
    for n in 10..24 {
        let id = format!("e{n}");
        let run = starts(&desk.hear(request("echo", Some(&id), json!(null))))[0];
        desk.ends(run, large());
        desk.wait(2);
        assert!(members(&desk.twin, 200).contains(&&id), "{id} would never be told");
    }
    assert!(commands_bytes(&desk.twin) <= 17 * 1_024);
}

#[test]
fn a_refusal_does_not_hide_the_command_whose_id_it_names() {
    let mut desk = desk();
    let run = count(&mut desk, "a");
    let other = || request("count", Some("a"), json!("other"));
    desk.ends(run, done(json!(1)));
    desk.wait(2);
    desk.hear(other());
    desk.wait(2);
    let member = &desk.twin["commands"]["a"];
    assert_eq!((&member["status"], &member["conflict"]["status"]), (&json!(200), &json!(409)), "told before");

    desk.cut();
    let run = count(&mut desk, "b");
    desk.hear(request("count", Some("b"), json!("other")));
    desk.ends(run, done(json!(1)));
    desk.wait(10);
    desk.online();
    let member = &desk.twin["commands"]["b"];
    assert_eq!((&member["status"], &member["conflict"]["status"]), (&json!(200), &json!(409)), "told with it");
}

#[test]
fn a_refusal_is_gone_once_the_same_command_is_taken_on() {
    let mut desk = desk();
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    desk.hear(request("count", Some("a"), json!(null)));
    desk.wait(2);
    assert_eq!(desk.twin["commands"]["a"]["status"], 409, "refused while the reboot is pending");
    desk.hear(request("cancelReboot", Some("c"), json!(null)));
    let run = count(&mut desk, "a");
    desk.ends(run, done(json!(1)));
    desk.wait(2);
    let member = &desk.twin["commands"]["a"];
    assert_eq!((&member["status"], member.get("conflict")), (&json!(200), None));
}

#[test]
fn every_repeat_finds_its_answer_in_a_document_however_many_there_are() {
    let mut desk = desk();
    let ids: Vec<String> = (0..60).map(|n| format!("c{n}")).collect();
    for id in &ids {
        let run = count(&mut desk, id);
        desk.ends(run, done(json!("\"".repeat(600))));
        desk.wait(2);
    }
    let mut effects = desk.hear_all(ids.iter().map(|id| request("count", Some(id), json!(null))));
    effects.extend(desk.wait(30));
    let documents = documents(&effects);
    for id in &ids {
        assert!(documents.iter().any(|document| document["commands"][id]["status"] == 200), "{id} was not told again");
    }
}

#[test]
fn a_desired_document_is_noted_once() {
    let mut desk = desk();
    let records = |effects: &[Effect]| {
        effects.iter().filter(|effect| matches!(effect, Effect::Record(Record::Desired { .. }))).count()
    };
    let effects = desired(&mut desk, r#"{"a":1}"#);
    assert_eq!((records(&effects), acks(&effects), documents(&effects).len()), (1, 1, 1));
    assert_eq!(desk.twin["desired"]["status"], 200);
    let digest = desk.twin["desired"]["digest"].as_str().expect("a digest").to_owned();
    assert!(digest.starts_with("sha256:"));
    desk.wait(5);
    let effects = desired(&mut desk, r#"{"a":1}"#);
    assert_eq!((records(&effects), acks(&effects)), (0, 1), "the same again after a reconnect");
    assert_eq!(documents(&desk.wait(5)).len(), 0);
    desired(&mut desk, "");
    desk.wait(5);
    assert_eq!(desk.twin["desired"]["status"], 204);
    let input = desk.delivery(Inbound::Desired { body: "{}".into(), version: Some(7) });
    desk.take([input]);
    desk.wait(5);
    assert_eq!(desk.twin["desired"]["version"], 7);
}

#[test]
fn the_document_tells_of_boots_and_methods_and_stays_equal_over_a_restart() {
    let mut desk = desk();
    assert_eq!(
        desk.twin["methods"],
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
    assert_eq!(desk.twin["agent"]["rebootMode"], "simulate");
    assert!(desk.twin.get("rebootTime").is_none(), "no boot has followed another yet");
    let before = desk.twin.clone();
    desk.restarts();
    desk.wait(5);
    assert_eq!((&before["agent"]["restarts"], &desk.twin["agent"]["restarts"]), (&json!(0), &json!(1)));
    let mut expected = before.clone();
    expected["agent"]["restarts"] = json!(1);
    assert_eq!(desk.twin, expected);
    desk.boots();
    desk.wait(5);
    assert_eq!(desk.twin["rebootTime"], desk.twin["boot"]["time"]);
    assert_ne!(desk.twin["boot"], before["boot"]);
}
