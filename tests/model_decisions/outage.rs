//! A journal that cannot be written: what is taken back, what is told, and what happens when it heals.

use serde_json::{Value, json};
use twinagent::model::agent::{Agent, Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::{CommandId, Request, Status};
use twinagent::model::durable::Durable;
use twinagent::model::reboot::Mode;
use twinagent::model::record::Record;

use crate::desk::{Desk, SIMULATED, acks, answer, documents, done, is_rebooting, method, sentences, starts, told};
use crate::given::{request, settings};

fn desk() -> Desk {
    Desk::new(Road::Own, Mode::Machine)
}

fn count(id: &str) -> Request {
    request("count", Some(id), json!(null))
}

/// Fails the writing of a batch that matters to no story.
fn break_journal(desk: &mut Desk) {
    let inputs = desk.deliveries([count("lost")]);
    desk.fails(inputs);
}

fn status_of(effects: &[Effect], id: &str) -> Option<u16> {
    told(effects).into_iter().rev().find(|(told, _)| told == id).map(|(_, status)| status)
}

#[test]
fn a_command_that_could_not_be_recorded_is_acknowledged_with_503_and_forgotten() {
    let mut desk = desk();
    let inputs = desk.deliveries([count("a"), count("b")]);
    let effects = desk.fails(inputs);
    assert_eq!((acks(&effects), starts(&effects).len()), (2, 0));
    assert_eq!(told(&effects), [("a".to_owned(), 503), ("b".to_owned(), 503)]);
    assert!(sentences(&effects)[0].contains("no space left"));
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Record(_) | Effect::Disconnect)));
    assert_eq!(sentences(&desk.heals()), ["connected"]);
    assert_eq!(starts(&desk.hear(count("a"))).len(), 1, "sent again, it runs");
}

#[test]
fn harmless_methods_go_on() {
    let mut desk = desk();
    break_journal(&mut desk);
    let run = starts(&desk.hear(request("echo", Some("e"), json!(null))))[0];
    assert_eq!(told(&desk.ends(run, done(json!(1)))), [("e".to_owned(), 200)]);
}

#[test]
fn a_harmless_run_of_the_failed_batch_is_started_once() {
    let mut desk = desk();
    let inputs = desk.deliveries([count("a"), request("echo", Some("e"), json!(null))]);
    let effects = desk.fails(inputs);
    assert_eq!((starts(&effects).len(), acks(&effects)), (1, 2));
}

#[test]
fn an_outcome_is_told_only_once_it_is_on_disk() {
    for fails_itself in [false, true] {
        let mut desk = desk();
        let run = starts(&desk.hear(count("a")))[0];
        let finished = Input::Finished(run, done(json!("ok")));
        let effects = if fails_itself {
            desk.fails([finished])
        } else {
            break_journal(&mut desk);
            desk.take([finished])
        };
        assert_eq!(status_of(&effects, "a"), None);
        assert_eq!(status_of(&desk.hear(count("a")), "a"), Some(202), "a repeat learns that it was taken on");
        let effects = desk.heals();
        let record = effects.iter().position(|effect| matches!(effect, Effect::Record(Record::Finished { .. })));
        let send = effects.iter().position(|effect| matches!(effect, Effect::Send(..)));
        assert!(record.expect("a record") < send.expect("an answer"));
        assert_eq!(answer(&effects).payload, json!("ok"));
        assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
    }
}

#[test]
fn a_repeat_in_a_failed_batch_still_gets_its_answer() {
    let mut desk = desk();
    let run = starts(&desk.hear(count("a")))[0];
    desk.ends(run, done(json!("ok")));
    let inputs = desk.deliveries([count("a"), count("b")]);
    let effects = desk.fails(inputs);
    assert_eq!(told(&effects), [("a".to_owned(), 200), ("b".to_owned(), 503)]);
}

#[test]
fn a_repeat_of_the_command_that_was_lost_leaves_nothing_behind() {
    let mut desk = desk();
    let inputs = desk.deliveries([count("a"), count("a"), count("a")]);
    let effects = desk.fails(inputs);
    assert_eq!((acks(&effects), told(&effects)), (3, vec![("a".to_owned(), 503)]));
    desk.heals();
    let effects = desk.hear(count("a"));
    assert_eq!((starts(&effects).len(), told(&effects).len()), (1, 0));
}

#[test]
fn a_waiting_command_is_started_when_the_journal_heals() {
    let mut desk = desk();
    let queue = |id| request("queue", Some(id), json!(null));
    let run = starts(&desk.hear(queue("a")))[0];
    desk.hear(queue("b"));
    let effects = desk.fails([Input::Finished(run, done(json!(1)))]);
    assert!(starts(&effects).is_empty());
    let effects = desk.heals();
    assert_eq!((starts(&effects).len(), told(&effects)), (1, vec![("a".to_owned(), 200)]));
}

#[test]
fn a_reboot_waits_for_a_journal_that_can_prove_it() {
    let mut desk = desk();
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    let facts = desk.facts.take().expect("what the machine would say");
    assert!(desk.wait(5).contains(&Effect::Probe));
    let effects = desk.fails([Input::Probed(facts.clone())]);
    desk.facts = Some(facts);
    assert!(!is_rebooting(&effects));
    assert!(!is_rebooting(&desk.wait(600)));
    assert!(is_rebooting(&desk.heals()));
}

#[test]
fn a_reboot_that_could_not_be_recorded_is_not_pending() {
    let mut desk = desk();
    let inputs = desk.deliveries([request("rebootDevice", Some("r"), json!(null))]);
    assert_eq!(told(&desk.fails(inputs)), [("r".to_owned(), 503)]);
    assert!(!is_rebooting(&desk.wait(60)));
    assert!(!is_rebooting(&desk.heals()));
    assert_eq!(starts(&desk.hear(count("a"))).len(), 1);
}

#[test]
fn a_local_cancellation_is_not_confirmed_before_it_is_on_disk_either() {
    let id = CommandId::parse("r").expect("an id");
    let cancel = Question::Cancel { id };
    let cancel_reboot =
        Question::Invoke { method: method("cancelReboot"), payload: json!(null), id: None, follow: false };
    for question in [cancel, cancel_reboot] {
        for fails in [false, true] {
            let mut desk = desk();
            desk.hear(request("rebootDevice", Some("r"), json!(null)));
            let input = Input::Asked(question.clone(), CallerId(1));
            let effects = if fails { desk.fails([input]) } else { desk.take([input]) };
            let replies: Vec<&Reply> = effects
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Reply(_, reply) => Some(reply),
                    _ => None,
                })
                .collect();
            let [Reply::Is { answer, last: true }] = replies[..] else { panic!("{} replies", replies.len()) };
            assert_eq!(answer["status"], if fails { 503 } else { 200 }, "{question:?}");
        }
    }
}

#[test]
fn a_cancellation_is_not_confirmed_before_it_is_on_disk() {
    for road in [Road::Own, Road::Reported] {
        for fails_itself in [false, true] {
            let mut desk = Desk::new(road, Mode::Machine);
            let run = starts(&desk.hear(count("a")))[0];
            desk.hear(request("rebootDevice", Some("r"), json!(null)));
            desk.wait(2);
            let cancel = request("cancelReboot", Some("c"), json!(null));
            let mut effects = if fails_itself {
                let inputs = desk.deliveries([cancel]);
                desk.fails(inputs)
            } else {
                desk.fails([Input::Finished(run, done(Value::Null))]);
                desk.hear(cancel)
            };
            effects.extend(desk.wait(2));
            let documents = documents(&effects);
            let status = status_of(&effects, "c").map(Value::from);
            let status = status.unwrap_or_else(|| documents[0]["commands"]["c"]["status"].clone());
            assert_eq!(status, 503, "{road:?}");
            assert!(documents.iter().all(|document| document["reboot"]["state"] == "scheduled"));
            desk.heals();
            desk.wait(2);
            assert_eq!(desk.twin["reboot"]["state"], "cancelled", "it is taken back all the same");
            assert!(!is_rebooting(&desk.wait(600)));
        }
    }
}

#[test]
fn what_was_told_in_a_failed_batch_is_not_told_again() {
    let mut desk = desk();
    desk.acknowledges = false;
    let run = starts(&desk.hear(count("a")))[0];
    let effects = desk.ends(run, done(json!(1)));
    let [Effect::Send(id, _)] =
        effects.iter().filter(|effect| matches!(effect, Effect::Send(..))).collect::<Vec<_>>()[..]
    else {
        panic!("{effects:?}");
    };
    desk.acknowledges = true;
    assert_eq!(told(&desk.fails([Input::Settled(*id)])), []);
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
    assert_eq!(told(&desk.heals()), []);
}

#[test]
fn an_unusable_journal_refuses_and_says_why_until_it_is_written_anew() {
    let now = desk().now();
    let why = "journal: written by a newer version".to_owned();
    let mut agent = Agent::new(settings(Road::Own, SIMULATED), Durable::default(), Some(why.clone()), 1, &now);
    agent.handle(&now, [Input::Begin { left_clean: Some(false) }]);
    agent.stored();
    for input in [Input::Online { session_kept: false, tls: None }, Input::Tick] {
        agent.handle(&now, [input]);
        agent.stored();
        let mut desk = desk();
        desk.agent = agent.clone();
        let effects = desk.hear(count("a"));
        let answer = answer(&effects);
        assert_eq!((answer.status, &answer.payload["error"]), (Status::CANNOT_NOW, &json!(why)));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Record(_) | Effect::Start(..))));
    }
    agent.handle(&now, [Input::JournalHealed]);
    agent.stored();
    let mut desk = desk();
    desk.agent = agent;
    assert!(desk.hear(count("a")).iter().any(|effect| matches!(effect, Effect::Record(Record::Accepted { .. }))));
}
