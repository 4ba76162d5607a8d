//! `cancelCommand`: what waits is taken back, what runs is told to stop, and nothing is confirmed before it is certain.

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::{CommandId, DeviceId, Outcome, Request, Status};
use twinagent::model::reboot::Mode;
use twinagent::model::runs::RunId;

use crate::desk::{Desk, answer, done, is_rebooting, starts, status_of};
use crate::given::request;

fn desk() -> Desk {
    Desk::new(Road::Own, Mode::Machine)
}

fn queue(id: &str) -> Request {
    request("queue", Some(id), json!(null))
}

fn cancel(id: &str) -> Request {
    request("cancelCommand", Some(&format!("cancel-{id}")), json!({ "commandId": id }))
}

fn cancelled(effects: &[Effect]) -> Vec<RunId> {
    let run = |effect: &Effect| match effect {
        Effect::Cancel(run) => Some(*run),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

fn payload(effects: &[Effect], id: &str) -> Value {
    let answers = crate::desk::answers(effects);
    answers.into_iter().find(|answer| answer.id.as_str() == id).map(|answer| answer.payload).unwrap_or_default()
}

#[test]
fn a_waiting_command_ends_with_499_and_never_runs() {
    let mut desk = desk();
    let first = starts(&desk.hear(queue("a")))[0];
    desk.hear(queue("b"));
    let effects = desk.hear(cancel("b"));
    assert_eq!((status_of(&effects, "b"), status_of(&effects, "cancel-b")), (Some(499), Some(200)));
    assert_eq!(payload(&effects, "cancel-b"), json!({ "cancelled": "b" }));
    assert_eq!(cancelled(&effects), []);
    assert_eq!(starts(&desk.ends(first, done(json!(1)))), [], "nothing waits any more");
    assert_eq!(status_of(&desk.hear(cancel("b")), "cancel-b"), Some(409), "it has ended");
    assert_eq!(status_of(&desk.hear(queue("b")), "b"), Some(499), "a repeat learns the same");
    desk.restarts();
    assert_eq!(starts(&desk.wait(60)), []);
}

#[test]
fn a_running_command_is_told_to_stop_once_and_its_outcome_is_its_own() {
    for (outcome, expected) in
        [(Outcome::failed(Status::CANCELLED, "stopped"), 499), (Outcome::new(Status::DONE, json!("in time")), 200)]
    {
        let mut desk = desk();
        let run = starts(&desk.hear(queue("a")))[0];
        let effects = desk.hear(cancel("a"));
        assert_eq!((payload(&effects, "cancel-a"), cancelled(&effects)), (json!({ "cancelling": "a" }), vec![run]));
        let again = desk.hear(cancel("a"));
        assert_eq!((status_of(&again, "cancel-a"), cancelled(&again)), (Some(200), vec![]), "it was told");
        assert_eq!(status_of(&desk.ends(run, outcome), "a"), Some(expected));
        assert_eq!(status_of(&desk.hear(cancel("a")), "cancel-a"), Some(409));
    }
}

#[test]
fn a_harmless_command_that_runs_is_found_by_its_id() {
    let mut desk = desk();
    let run = starts(&desk.hear(request("echo", Some("e"), json!(null))))[0];
    assert_eq!(cancelled(&desk.hear(cancel("e"))), [run]);
    assert_eq!(status_of(&desk.hear(cancel("nobody")), "cancel-nobody"), Some(409));
}

#[test]
fn of_harmless_commands_with_one_id_all_are_stopped_and_none_of_another_device() {
    let mut desk = desk();
    let mut echo = |target: &str, text: &str| {
        let target = DeviceId::parse(target).expect("an id");
        starts(&desk.hear(Request { target, ..request("echo", Some("e"), json!(text)) }))[0]
    };
    let own = cancel("e").target.to_string();
    let (first, other, second) = (echo(&own, "1"), echo("another", "2"), echo(&own, "3"));
    assert_eq!(cancelled(&desk.hear(cancel("e"))), [first, second]);
    let elsewhere = Request { target: DeviceId::parse("another").expect("an id"), ..cancel("e") };
    assert_eq!(cancelled(&desk.hear(elsewhere)), [other]);
}

#[test]
fn a_harmless_command_is_stopped_though_a_recorded_one_of_its_id_has_ended() {
    let mut desk = desk();
    let harmless = starts(&desk.hear(request("echo", Some("a"), json!(null))))[0];
    let run = starts(&desk.hear(queue("a")))[0];
    desk.ends(run, done(json!(1)));
    assert_eq!(cancelled(&desk.hear(cancel("a"))), [harmless]);
}

#[test]
fn a_waiting_reboot_is_taken_back_and_one_that_has_begun_is_not() {
    let mut desk = desk();
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    let effects = desk.hear(cancel("r"));
    assert_eq!((status_of(&effects, "cancel-r"), status_of(&effects, "r")), (Some(200), Some(499)));
    assert!(!is_rebooting(&desk.wait(600)));
    desk.hear(request("rebootDevice", Some("s"), json!(null)));
    assert!(is_rebooting(&desk.wait(60)));
    assert_eq!(status_of(&desk.hear(cancel("s")), "cancel-s"), Some(409));
}

#[test]
fn a_local_caller_cancels_by_the_same_road() {
    let mut desk = desk();
    let run = starts(&desk.hear(queue("a")))[0];
    let question = Question::Cancel { id: CommandId::parse("a").expect("an id") };
    let effects = desk.take([Input::Asked(question, CallerId(1))]);
    assert_eq!(cancelled(&effects), [run]);
    let replied = effects.iter().any(
        |effect| matches!(effect, Effect::Reply(_, Reply::Is { answer, last: true }) if answer["status"] == json!(200)),
    );
    assert!(replied);
}

#[test]
fn a_cancellation_that_is_not_on_disk_is_not_confirmed_and_holds_all_the_same() {
    for fails_itself in [true, false] {
        let mut desk = desk();
        let first = starts(&desk.hear(queue("a")))[0];
        desk.hear(queue("b"));
        let effects = if fails_itself {
            let inputs = desk.deliveries([cancel("b")]);
            desk.fails(inputs)
        } else {
            let lost = desk.deliveries([request("count", Some("lost"), json!(null))]);
            desk.fails(lost);
            desk.hear(cancel("b"))
        };
        assert_eq!((status_of(&effects, "cancel-b"), status_of(&effects, "b")), (Some(503), None));
        assert_eq!(status_of(&desk.hear(cancel("b")), "cancel-b"), Some(409), "its end waits to be written");
        assert_eq!(starts(&desk.ends(first, done(json!(1)))), []);
        let healed = desk.heals();
        assert_eq!((status_of(&healed, "b"), starts(&healed).len()), (Some(499), 0), "it never runs");
    }
}

#[test]
fn two_in_one_failed_batch_are_both_unconfirmed() {
    let mut desk = desk();
    starts(&desk.hear(queue("a")));
    desk.hear_all([queue("b"), queue("c")]);
    let inputs = desk.deliveries([cancel("b"), cancel("c")]);
    let effects = desk.fails(inputs);
    assert_eq!((status_of(&effects, "cancel-b"), status_of(&effects, "cancel-c")), (Some(503), Some(503)));
}

#[test]
fn a_command_of_the_same_batch_can_be_cancelled() {
    let mut desk = desk();
    let effects = desk.hear_all([queue("a"), queue("b"), cancel("a"), cancel("b")]);
    let run = starts(&effects)[0];
    assert_eq!(cancelled(&effects), [run]);
    assert_eq!((status_of(&effects, "b"), status_of(&effects, "cancel-a")), (Some(499), Some(200)));
    assert_eq!(answer(&desk.ends(run, Outcome::failed(Status::CANCELLED, "stopped"))).status.0, 499);
}
