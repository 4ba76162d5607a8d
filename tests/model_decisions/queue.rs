//! Harmless commands that wait for room in a serial method: in order, a bounded number of them, and not for ever.

use std::time::Duration;

use serde_json::json;
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::{Class, Identity, MethodSpec, Origin, ReplyTo, Request, Status};
use twinagent::model::now::Clock;
use twinagent::model::record::Record;
use twinagent::model::runs::RunId;

use crate::desk::{Desk, SIMULATED, answer, answers, done, method, started, starts, status_of, told};
use crate::given::{request, settings};

fn spec(name: &str, class: Class) -> MethodSpec {
    MethodSpec { harmless: true, class, time_limit: Duration::from_secs(60), ..MethodSpec::new(method(name)) }
}

/// With a harmless method `look`, one at a time.
fn given(road: Road, places: usize) -> Settings {
    let mut settings = settings(road, SIMULATED);
    settings.methods.push(spec("look", Class::Serial(places)));
    settings
}

fn look(id: &str) -> Request {
    request("look", Some(id), json!(id))
}

/// `a` runs, and `b` waits.
fn with_one_waiting() -> (Desk, RunId) {
    let mut desk = Desk::with(given(Road::Own, 2));
    let [run] = starts(&desk.hear_all([look("a"), look("b")]))[..] else { panic!("one runs") };
    (desk, run)
}

#[test]
fn they_run_one_after_the_other_in_their_order_and_without_a_record() {
    let mut desk = Desk::with(given(Road::Own, 3));
    let records = desk.records.len();
    let effects = desk.hear_all(["a", "b", "c", "d", "e"].map(look));
    let refused = answer(&effects);
    assert_eq!((refused.id.as_str(), refused.status), ("e", Status::TOO_MANY));
    assert!(refused.payload["retryAfterSeconds"].is_number());
    let mut running = started(&effects);
    for id in ["a", "b", "c", "d"] {
        let [(run, command)] = &running[..] else { panic!("{} run at once", running.len()) };
        assert_eq!((command.key.id.as_str(), &command.payload), (id, &json!(id)));
        let effects = desk.ends(*run, done(json!(id)));
        assert_eq!(told(&effects), [(id.to_owned(), 200)]);
        running = started(&effects);
    }
    assert!(running.is_empty());
    let is_of_one = |record: &Record| matches!(record, Record::Accepted { .. } | Record::Started { .. });
    assert!(!desk.records[records..].iter().any(is_of_one), "{:?}", desk.records);
}

#[test]
fn who_comes_when_there_is_room_again_waits_behind_those_who_waited() {
    let mut desk = Desk::with(given(Road::Own, 1));
    let run = starts(&desk.hear_all([look("a"), look("b")]))[0];
    let inputs: Vec<Input> =
        [Input::Finished(run, done(json!(1)))].into_iter().chain(desk.deliveries([look("c"), look("d")])).collect();
    let effects = desk.take(inputs);
    assert_eq!(told(&effects), [("a".to_owned(), 200), ("d".to_owned(), 429)]);
    let [(run, second)] = &started(&effects)[..] else { panic!("one runs") };
    assert_eq!(second.key.id.as_str(), "b");
    let [(_, third)] = &started(&desk.ends(*run, done(json!(1))))[..] else { panic!("one runs") };
    assert_eq!(third.key.id.as_str(), "c");
}

#[test]
fn other_classes_and_a_serial_one_without_places_refuse_at_once() {
    for class in [Class::Serial(0), Class::Parallel(1), Class::Exclusive] {
        let mut settings = settings(Road::Own, SIMULATED);
        settings.methods.push(spec("look", class));
        let mut desk = Desk::with(settings);
        desk.hear(if class == Class::Exclusive { request("count", Some("a"), json!(null)) } else { look("a") });
        assert_eq!(told(&desk.hear(look("b"))), [("b".to_owned(), 429)], "{class:?}");
    }
}

#[test]
fn of_all_methods_together_64_wait() {
    let mut settings = given(Road::Own, 64);
    settings.methods.push(spec("listen", Class::Serial(64)));
    let mut desk = Desk::with(settings);
    let listen = |n: usize| request("listen", Some(&format!("listen-{n}")), json!(null));
    let effects = desk.hear_all((0..41).map(|n| look(&format!("look-{n}"))).chain((0..41).map(listen)));
    assert_eq!(starts(&effects).len(), 2);
    assert_eq!(told(&effects).len(), 82 - 2 - 64);
}

#[test]
fn one_that_waits_is_taken_back_and_never_runs() {
    let (mut desk, _) = with_one_waiting();
    let cancel = |id: &str| request("cancelCommand", Some("x"), json!({ "commandId": id }));
    let effects = desk.hear(cancel("b"));
    assert_eq!((status_of(&effects, "b"), status_of(&effects, "x")), (Some(499), Some(200)));
    let answers = answers(&effects);
    let confirmed = answers.iter().find(|answer| answer.id.as_str() == "x").expect("an answer");
    assert_eq!(confirmed.payload, json!({ "cancelled": "b" }));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Cancel(_))), "what runs is left alone");
    assert_eq!(status_of(&desk.hear(cancel("b")), "x"), Some(409));
    // Of one id, what runs is told to stop and what waits is taken back.
    let effects = desk.hear_all([look("a"), cancel("a")]);
    assert_eq!((status_of(&effects, "a"), status_of(&effects, "x")), (Some(499), Some(200)));
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Cancel(_))).count(), 1);
}

#[test]
fn one_that_expires_is_told_so_at_that_moment() {
    let mut desk = Desk::with(given(Road::Own, 2));
    let expires = Some(desk.now().wall.saturating_add(Duration::from_secs(20)));
    let run = starts(&desk.hear(look("a")))[0];
    desk.hear_all([Request { expires, ..look("b") }, look("c")]);
    assert_eq!(status_of(&desk.wait(19), "b"), None);
    assert_eq!(status_of(&desk.wait(2), "b"), Some(410));
    let [(_, next)] = &started(&desk.ends(run, done(json!(1))))[..] else { panic!("one runs") };
    assert_eq!(next.key.id.as_str(), "c");
}

#[test]
fn the_end_of_the_agent_or_of_the_machine_ends_the_waiting() {
    for end in [Input::Stop, Input::ShuttingDown(true)] {
        let (mut desk, _) = with_one_waiting();
        assert_eq!(status_of(&desk.take([end]), "b"), Some(503));
    }
}

#[test]
fn it_waits_for_no_method_that_is_gone_or_that_is_recorded_now() {
    let gone = settings(Road::Own, SIMULATED);
    let mut recorded = given(Road::Own, 2);
    recorded.methods.iter_mut().for_each(|spec| spec.harmless = false);
    for (settings, status) in [(gone, 404), (recorded, 503)] {
        let (mut desk, _) = with_one_waiting();
        let settings = Box::new(settings);
        assert_eq!(status_of(&desk.take([Input::Reloaded { settings, anew: false }]), "b"), Some(status));
    }
}

#[test]
fn a_program_that_serves_is_waited_for_while_it_is_restarted() {
    let serve = || {
        let methods = vec![MethodSpec { origin: Origin::Program, ..spec("peek", Class::Serial(2)) }];
        Input::Asked(Question::Serve { methods }, CallerId(100))
    };
    let peek = |id: &str| request("peek", Some(id), json!(null));
    for is_back in [true, false] {
        let mut desk = Desk::new(Road::Own, SIMULATED);
        desk.take([serve()]);
        desk.hear_all([peek("a"), peek("b")]);
        let effects = desk.take([Input::Gone(CallerId(100))]);
        assert_eq!((status_of(&effects, "a"), status_of(&effects, "b")), (Some(503), None));
        if is_back {
            desk.wait(29);
            let effects = desk.take([serve()]);
            assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Hand(..))).count(), 1);
        } else {
            assert_eq!(status_of(&desk.wait(31), "b"), Some(404));
        }
    }
}

fn direct(rid: &str) -> Request {
    let reply_to = Some(ReplyTo(rid.to_owned()));
    Request { identity: Identity::Unique, reply_to, ..request("look", None, json!(rid)) }
}

#[test]
fn who_waits_on_a_connection_is_told_on_that_one_and_else_it_does_not_run() {
    for is_cut in [false, true] {
        let mut desk = Desk::with(given(Road::Direct, 2));
        let first = starts(&desk.hear_all([direct("1"), direct("2")]))[0];
        if is_cut {
            desk.cut();
            desk.wait(10);
            desk.online();
        }
        let effects = desk.ends(first, done(json!(1)));
        let next = starts(&effects);
        assert_eq!((answers(&effects).len(), next.len()), if is_cut { (0, 0) } else { (1, 1) });
        if let [second] = next[..] {
            assert_eq!(answers(&desk.ends(second, done(json!(2)))).len(), 1);
        }
    }
}

#[test]
fn who_waits_on_a_connection_is_told_within_three_seconds() {
    let mut desk = Desk::with(given(Road::Direct, 2));
    let first = starts(&desk.hear_all([direct("1"), direct("2")]))[0];
    assert_eq!(answers(&desk.wait(2)).len(), 0);
    let refused = answer(&desk.wait(1));
    assert_eq!((refused.status, refused.reply_to), (Status::TOO_MANY, Some(ReplyTo("2".to_owned()))));
    assert!(refused.payload["retryAfterSeconds"].is_number());
    assert_eq!(starts(&desk.ends(first, done(json!(1)))), [], "it was told that it has not run");
}

#[test]
fn each_of_many_that_are_ended_at_once_is_told() {
    let mut desk = Desk::with(given(Road::Own, 64));
    desk.hear_all((0..65).map(|n| look(&format!("l{n}"))));
    let told = told(&desk.take([Input::Stop]));
    assert!(told.len() == 64 && told.iter().all(|(_, status)| *status == 503), "{told:?}");
}

/// A local caller asks for `look`.
fn invoke(caller: u64) -> Input {
    let question = Question::Invoke { method: method("look"), payload: json!(null), id: None, follow: false };
    Input::Asked(question, CallerId(caller))
}

/// How many local callers were told that there are too many.
fn refused(effects: &[Effect]) -> usize {
    let is_429 = |effect: &&Effect| match effect {
        Effect::Reply(_, Reply::Is { answer, .. }) => answer["status"] == 429,
        _ => false,
    };
    effects.iter().filter(is_429).count()
}

#[test]
fn callers_of_this_machine_and_the_cloud_do_not_keep_each_other_out() {
    let mut settings = given(Road::Own, 64);
    settings.methods.push(spec("listen", Class::Serial(64)));
    let mut desk = Desk::with(settings);
    let listen = |n: usize| request("listen", Some(&format!("listen-{n}")), json!(null));
    assert_eq!(starts(&desk.hear_all([look("runs"), listen(100)])).len(), 2);
    assert_eq!(refused(&desk.take((0..64).map(invoke))), 0);
    assert_eq!(told(&desk.hear_all((0..64).map(listen))), []);
}

#[test]
fn what_waits_for_a_caller_that_is_gone_does_not_run() {
    let mut desk = Desk::with(given(Road::Own, 1));
    let run = starts(&desk.hear(look("runs")))[0];
    assert_eq!(refused(&desk.take([invoke(1), invoke(2)])), 1);
    desk.take([Input::Gone(CallerId(1))]);
    assert_eq!(refused(&desk.take([invoke(3)])), 0, "there is room again");
    let [next] = starts(&desk.ends(run, done(json!(1))))[..] else { panic!("one runs") };
    let effects = desk.ends(next, done(json!(2)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Reply(CallerId(3), _))));
    assert_eq!(starts(&effects), []);
}

#[test]
fn payloads_that_wait_are_bounded_together() {
    let mut desk = Desk::with(given(Road::Own, 64));
    let large = |id: &str| request("look", Some(id), json!("x".repeat(300 * 1024)));
    let effects = desk.hear_all([look("a"), large("b"), large("c"), large("d"), large("e"), look("f")]);
    assert_eq!(told(&effects), [("e".to_owned(), 429)]);
}

#[test]
fn without_a_clock_to_believe_what_expires_does_not_wait() {
    let mut desk = Desk::with(given(Road::Own, 2));
    let expires = Some(desk.now().wall.saturating_add(Duration::from_secs(20)));
    desk.hear_all([look("a"), Request { expires, ..look("b") }, look("c")]);
    desk.clock = Clock::Doubtful;
    assert_eq!(told(&desk.take([Input::Tick])), [("b".to_owned(), 503)]);
}

#[test]
fn a_local_caller_is_told_too() {
    let mut desk = Desk::with(given(Road::Own, 2));
    let first = starts(&desk.hear(look("a")))[0];
    desk.take([invoke(3)]);
    let second = starts(&desk.ends(first, done(json!(1))))[0];
    let effects = desk.ends(second, done(json!("seen")));
    let replied = effects.iter().find_map(|effect| match effect {
        Effect::Reply(CallerId(3), Reply::Is { answer, last: true }) => Some(answer["payload"].clone()),
        _ => None,
    });
    assert_eq!(replied, Some(json!("seen")));
}

#[test]
fn they_go_on_without_a_journal_and_beside_a_reboot_that_is_pending() {
    let (mut desk, run) = with_one_waiting();
    let inputs = desk.deliveries([request("count", Some("n"), json!(null)), look("c")]);
    assert_eq!(status_of(&desk.fails(inputs), "n"), Some(503));
    let mut running = run;
    for id in ["b", "c"] {
        let [(run, next)] = &started(&desk.ends(running, done(json!(1))))[..] else { panic!("one runs") };
        assert_eq!(next.key.id.as_str(), id);
        running = *run;
    }
    let (mut desk, run) = with_one_waiting();
    assert_eq!(status_of(&desk.hear(request("rebootDevice", Some("r"), json!(null))), "r"), Some(202));
    assert_eq!(starts(&desk.ends(run, done(json!(1)))).len(), 1);
}
