//! Direct methods: who waits on this connection is answered on it, in time or never; what follows is in the twin.

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::cloud::{Answer, Inbound, Road};
use twinagent::model::command::{Identity, ReplyTo, Request, Status};
use twinagent::model::digest::Digest;
use twinagent::model::record::{Record, Told};
use twinagent::model::wire::Reason;

use crate::desk::{Desk, SIMULATED, acks, answer, answers, done, is_rebooting, sends, starts};
use crate::given::request;

fn desk() -> Desk {
    Desk::new(Road::Direct, SIMULATED)
}

/// A direct method; the cloud has named nothing but its request.
fn method(name: &str, rid: &str, payload: Value) -> Request {
    Request { identity: Identity::Unique, reply_to: Some(ReplyTo(rid.to_owned())), ..request(name, None, payload) }
}

fn rid(answer: &Answer) -> Option<&str> {
    answer.reply_to.as_ref().map(|reply_to| reply_to.0.as_str())
}

fn told(desk: &Desk) -> Vec<Told> {
    let told = |record: &Record| match record {
        Record::Told { what, .. } => Some(*what),
        _ => None,
    };
    desk.records.iter().filter_map(told).collect()
}

/// What the twin says of this command.
fn shown<'a>(desk: &'a Desk, id: &str) -> &'a Value {
    &desk.hub.reported["commands"][id]
}

#[test]
fn an_outcome_within_three_seconds_is_the_answer() {
    let mut desk = desk();
    let heard = desk.hear(method("count", "1", json!(null)));
    assert_eq!((answers(&heard).len(), acks(&heard)), (0, 1));
    desk.wait(2);
    let answer = answer(&desk.ends(starts(&heard)[0], done(json!({ "n": 1 }))));
    assert_eq!((answer.status, &answer.payload, answer.last), (Status::DONE, &json!({ "n": 1 }), true));
    assert_eq!(rid(&answer), Some("1"));
    assert_eq!(told(&desk), [Told::Outcome]);
    assert!(answers(&desk.wait(100)).is_empty(), "nobody waits any more");
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
}

#[test]
fn after_three_seconds_the_answer_is_a_202_and_the_outcome_is_in_the_twin() {
    let mut desk = desk();
    let run = starts(&desk.hear(method("count", "1", json!(null))))[0];
    assert!(answers(&desk.wait(2)).is_empty());
    let accepted = answer(&desk.wait(1));
    let id = accepted.id.to_string();
    assert_eq!(
        (accepted.status, &accepted.payload, accepted.last),
        (Status::ACCEPTED, &json!({ "commandId": id }), false)
    );
    desk.wait(2);
    assert_eq!(shown(&desk, &id)["status"], 202, "shown while it is under way");
    let ended = desk.ends(run, done(json!("late")));
    assert!(answers(&ended).is_empty());
    desk.wait(2);
    assert_eq!((&shown(&desk, &id)["status"], &shown(&desk, &id)["payload"]), (&json!(200), &json!("late")));
    assert_eq!(told(&desk), [Told::Accepted, Told::Outcome]);
}

#[test]
fn a_reboot_is_accepted_at_once_and_its_outcome_is_in_the_twin() {
    let mut desk = desk();
    let heard = desk.hear(method("rebootDevice", "1", json!(null)));
    let accepted = answer(&heard);
    assert_eq!((accepted.status, rid(&accepted)), (Status::ACCEPTED, Some("1")));
    assert_eq!(accepted.payload["commandId"], json!(accepted.id));
    assert_eq!(told(&desk), [Told::Accepted]);
    let effects = desk.wait(6);
    assert!(effects.contains(&Effect::Disconnect), "a simulated one, after the grace");
    assert!(!is_rebooting(&effects));
    desk.take([Input::Offline(Reason::Planned)]);
    desk.wait(20);
    desk.online();
    desk.wait(2);
    let member = shown(&desk, accepted.id.as_str());
    assert_eq!((&member["status"], &member["payload"]["state"]), (&json!(200), &json!("completed")));
}

#[test]
fn the_reboot_waits_for_its_202_for_ten_seconds_and_no_longer() {
    let mut desk = desk();
    desk.acknowledges = false;
    desk.hear(method("rebootDevice", "1", json!(null)));
    assert!(!desk.wait(14).iter().any(|effect| matches!(effect, Effect::Record(Record::Started { .. }))));
    assert!(desk.wait(2).iter().any(|effect| matches!(effect, Effect::Record(Record::Started { .. }))));
}

#[test]
fn who_waited_on_a_connection_that_is_gone_finds_the_outcome_in_the_twin() {
    let mut desk = desk();
    let run = starts(&desk.hear(method("count", "1", json!(null))))[0];
    desk.cut();
    desk.ends(run, done(json!("n")));
    desk.wait(10);
    let effects = desk.online();
    assert!(answers(&effects).is_empty(), "its request died with its connection");
    desk.wait(2);
    let (_, entry) = desk.agent.durable().ledger.told().next().expect("told by the twin");
    assert_eq!(shown(&desk, entry.key.id.as_str())["status"], 200);
}

#[test]
fn an_answer_that_was_on_its_way_when_the_connection_ended_is_told_by_the_twin() {
    let mut desk = desk();
    desk.acknowledges = false;
    let run = starts(&desk.hear(method("count", "1", json!(null))))[0];
    let id = answer(&desk.ends(run, done(json!("n")))).id;
    desk.acknowledges = true;
    desk.cut();
    desk.wait(10);
    assert!(answers(&desk.online()).is_empty());
    desk.wait(2);
    assert_eq!(shown(&desk, id.as_str())["status"], 200);
    assert_eq!(told(&desk), [Told::Outcome]);
}

#[test]
fn a_restart_forgets_who_waited_and_not_what_they_asked() {
    let mut desk = desk();
    let heard = desk.hear(method("queue", "1", json!(null)));
    assert_eq!(starts(&heard).len(), 1);
    let effects = desk.restarts();
    let resumed = effects.iter().find_map(|effect| match effect {
        Effect::Resume(run, _) => Some(*run),
        _ => None,
    });
    desk.ends(resumed.expect("it had started"), done(json!("after all")));
    desk.wait(5);
    let (_, entry) = desk.agent.durable().ledger.told().next().expect("told by the twin");
    assert_eq!(shown(&desk, entry.key.id.as_str())["payload"], "after all");
}

#[test]
fn refusals_and_harmless_answers_go_by_themselves_and_not_into_the_twin() {
    let mut desk = desk();
    let unknown = answer(&desk.hear(method("nope", "1", json!(null))));
    assert_eq!((unknown.status, rid(&unknown)), (Status::UNKNOWN_METHOD, Some("1")));
    let run = starts(&desk.hear(method("echo", "2", json!("hello"))))[0];
    let echoed = answer(&desk.ends(run, done(json!("hello"))));
    assert_eq!((&echoed.payload, rid(&echoed)), (&json!("hello"), Some("2")));
    let malformed = Inbound::Malformed {
        id: None,
        method: None,
        reply_to: Some(ReplyTo("3".to_owned())),
        status: Status::NOT_A_COMMAND,
        why: "no JSON".to_owned(),
    };
    let input = desk.delivery(malformed);
    assert_eq!(rid(&answer(&desk.take([input]))), Some("3"));
    desk.wait(5);
    assert_eq!(desk.hub.reported["commands"], json!({}));
}

#[test]
fn what_is_harmless_and_late_is_forgotten_with_its_connection() {
    let mut desk = desk();
    let run = starts(&desk.hear(method("echo", "1", json!("hello"))))[0];
    desk.cut();
    desk.wait(10);
    desk.online();
    assert!(answers(&desk.ends(run, done(json!("hello")))).is_empty());
    assert!(answers(&desk.wait(10)).is_empty());
    desk.cut();
    assert!(answers(&desk.hear(method("nope", "2", json!(null)))).is_empty());
    desk.wait(10);
    assert!(answers(&desk.online()).is_empty(), "refused when its connection had ended");
}

#[test]
fn a_message_from_the_cloud_is_answered_in_the_twin() {
    let mut desk = desk();
    let effects = desk.hear_all([request("count", Some("a"), json!(null)), request("nope", Some("b"), json!(null))]);
    desk.ends(starts(&effects)[0], done(json!(1)));
    assert!(answers(&desk.wait(5)).is_empty());
    assert_eq!((&shown(&desk, "a")["status"], &shown(&desk, "b")["status"]), (&json!(200), &json!(404)));
}

#[test]
fn whoever_sends_a_command_again_is_answered_too() {
    let mut desk = desk();
    let again =
        |rid: &str| Request { reply_to: Some(ReplyTo(rid.to_owned())), ..request("count", Some("a"), json!(null)) };
    let run = starts(&desk.hear(again("1")))[0];
    let second = answer(&desk.hear(again("2")));
    assert_eq!((second.status, rid(&second)), (Status::ACCEPTED, Some("2")), "what there is to say");
    let first = answer(&desk.ends(run, done(json!(1))));
    assert_eq!((first.status, rid(&first)), (Status::DONE, Some("1")));
    let third = answer(&desk.hear(again("3")));
    assert_eq!((third.status, rid(&third)), (Status::DONE, Some("3")));
}

#[test]
fn ninety_at_once_are_all_answered() {
    let mut desk = desk();
    desk.acknowledges = false;
    let requests: Vec<Request> = (0..90).map(|n| method("count", &n.to_string(), json!(n))).collect();
    let effects = desk.hear_all(requests);
    let refused = answers(&effects);
    assert_eq!(refused.len(), 26, "more than may be untold");
    assert!(refused.iter().all(|answer| answer.status == Status::TOO_MANY));
    desk.take(sends(&effects).into_iter().map(Input::Settled));
    desk.acknowledges = true;
    let mut accepted: Vec<String> =
        answers(&desk.wait(3)).iter().filter_map(|answer| rid(answer).map(str::to_owned)).collect();
    accepted.sort();
    accepted.dedup();
    assert_eq!(accepted.len(), 64);
}

#[test]
fn an_answer_that_cannot_be_sent_is_told_by_the_twin_or_goes_without_its_payload() {
    let mut desk = desk();
    desk.acknowledges = false;
    let why = || "129 KiB are more than this cloud takes".to_owned();
    let run = starts(&desk.hear(method("count", "1", json!(null))))[0];
    let effects = desk.ends(run, done(json!("x".repeat(60_000))));
    let id = answer(&effects).id;
    desk.acknowledges = true;
    let mut effects = desk.take([Input::Unsent(sends(&effects)[0], why())]);
    effects.extend(desk.wait(2));
    assert!(answers(&effects).is_empty());
    assert_eq!(shown(&desk, id.as_str())["payloadCut"], true);
    assert_eq!(told(&desk), [Told::Outcome]);

    desk.acknowledges = false;
    let run = starts(&desk.hear(method("echo", "2", json!("hello"))))[0];
    let effects = desk.ends(run, done(json!("hello")));
    let effects = desk.take([Input::Unsent(sends(&effects)[0], why())]);
    let short = answer(&effects);
    assert_eq!((short.status, &short.payload), (Status::DONE, &json!({ "payloadDropped": true })));
    let effects = desk.take([Input::Unsent(sends(&effects)[0], why())]);
    assert!(answers(&effects).is_empty(), "and that is the end of it");
}

#[test]
fn a_renewal_waits_for_those_who_wait() {
    let mut settings = crate::given::settings(Road::Direct, SIMULATED);
    settings.terms.lease = Some(std::time::Duration::from_secs(100));
    let mut desk = Desk::with(settings);
    desk.stream = None;
    while !desk.wait(1).contains(&Effect::Prepare) {}
    let run = starts(&desk.hear(method("count", "1", json!(null))))[0];
    assert!(!desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
    desk.wait(1);
    let effects = desk.ends(run, done(json!(1)));
    assert_eq!(rid(&answer(&effects)), Some("1"));
    assert!(effects.contains(&Effect::Disconnect), "and ends when they have been told");
}

#[test]
fn a_renewal_waits_for_what_is_harmless_too_and_for_five_seconds_at_most() {
    for ends in [true, false] {
        let mut settings = crate::given::settings(Road::Direct, SIMULATED);
        settings.terms.lease = Some(std::time::Duration::from_secs(100));
        let mut desk = Desk::with(settings);
        desk.stream = None;
        while !desk.wait(1).contains(&Effect::Prepare) {}
        let run = starts(&desk.hear(method("echo", "1", json!("hello"))))[0];
        assert!(!desk.take([Input::Prepared(Ok(()))]).contains(&Effect::Disconnect));
        assert!(!desk.wait(4).contains(&Effect::Disconnect));
        if ends {
            let effects = desk.ends(run, done(json!("hello")));
            assert_eq!(rid(&answer(&effects)), Some("1"));
            assert!(effects.contains(&Effect::Disconnect));
        } else {
            assert!(desk.wait(1).contains(&Effect::Disconnect));
        }
    }
}

/// A journal that was written for another cloud, whose callers wait for no connection.
#[test]
fn a_command_of_an_older_journal_with_a_caller_is_told_by_the_twin_alone() {
    let mut desk = desk();
    let digest = Digest::of(b"older");
    let boot = desk.now().boot_id;
    let line = format!(
        r#"{{"record":"accepted","target":"gw-1","id":"old","method":"queue","digest":"{digest}","replyTo":"7",
            "started":true,"boot":"{boot}","at":"2026-11-22T00:10:00Z"}}"#
    );
    desk.records.push(serde_json::from_str(&line).expect("a record"));
    let effects = desk.restarts();
    let resumed = effects.iter().find_map(|effect| match effect {
        Effect::Resume(run, _) => Some(*run),
        _ => None,
    });
    let mut effects = desk.ends(resumed.expect("it had started"), done(json!("after all")));
    effects.extend(desk.wait(5));
    assert!(answers(&effects).is_empty());
    assert_eq!((&shown(&desk, "old")["status"], &shown(&desk, "old")["payload"]), (&json!(200), &json!("after all")));
    assert_eq!(told(&desk), [Told::Outcome]);
}

#[test]
fn a_batch_that_cannot_be_written_is_answered_with_503_on_the_same_connection() {
    let mut desk = desk();
    let input = desk.deliveries([method("count", "1", json!(null))]);
    let effects = desk.fails(input);
    let refused = answer(&effects);
    assert_eq!((refused.status, rid(&refused)), (Status::CANNOT_NOW, Some("1")));
    assert!(answers(&desk.wait(5)).is_empty());
}
