//! Local programs that serve methods: who may have which, what they are handed, and what becomes of it when they are slow,
//! silent or gone.

use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Refusal, Reply};
use twinagent::model::cloud::Road;
use twinagent::model::command::{Class, MethodSpec, Outcome, Request, Status};
use twinagent::model::durable::Durable;
use twinagent::model::now::Clock;
use twinagent::model::payload::PayloadRules;
use twinagent::model::reboot::Mode;
use twinagent::model::record::Record;

use crate::desk::{Desk, answer, answers, done, is_rebooting, method, starts, status_of, told};
use crate::given::{request, settings};

/// The program that serves.
const PROGRAM: u64 = 100;

fn spec(name: &str) -> MethodSpec {
    MethodSpec { class: Class::Serial(2), time_limit: Duration::from_secs(60), ..MethodSpec::new(method(name)) }
}

fn ask(desk: &mut Desk, caller: u64, question: Question) -> Vec<Effect> {
    desk.take([Input::Asked(question, CallerId(caller))])
}

fn serve(desk: &mut Desk, caller: u64, methods: Vec<MethodSpec>) -> Vec<Effect> {
    ask(desk, caller, Question::Serve { methods })
}

fn desk() -> Desk {
    let mut desk = Desk::new(Road::Own, Mode::Machine);
    assert_eq!(said(&serve(&mut desk, PROGRAM, vec![spec("lamp")]), PROGRAM), [json!({ "serving": ["lamp"] })]);
    desk
}

/// What this caller was told that is not the last.
fn said(effects: &[Effect], caller: u64) -> Vec<Value> {
    let words = |effect: &Effect| match effect {
        Effect::Reply(to, Reply::Is { answer, last: false }) | Effect::Hand(to, _, Reply::Is { answer, .. })
            if *to == CallerId(caller) =>
        {
            Some(Value::Object(answer.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(words).collect()
}

fn handed(effects: &[Effect]) -> Vec<Value> {
    let words = |effect: &Effect| match effect {
        Effect::Hand(_, _, Reply::Is { answer, last: false }) => Some(Value::Object(answer.clone())),
        _ => None,
    };
    effects.iter().filter_map(words).collect()
}

fn refusal(effects: &[Effect]) -> Option<Refusal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Refused(refusal)) => Some(refusal.clone()),
        _ => None,
    })
}

/// This caller is told that it serves nothing any more.
fn is_refused(effects: &[Effect], caller: u64) -> bool {
    let is_it = |effect: &Effect| matches!(effect, Effect::Reply(CallerId(to), Reply::Refused(_)) if *to == caller);
    effects.iter().any(is_it)
}

fn number(handed: &Value) -> u64 {
    handed["run"].as_u64().expect("a number")
}

fn finish(desk: &mut Desk, run: u64, outcome: Outcome) -> Vec<Effect> {
    ask(desk, 7, Question::Finish { run, outcome })
}

fn lamp(id: &str) -> Request {
    request("lamp", Some(id), json!({ "on": true }))
}

fn gone(desk: &mut Desk) -> Vec<Effect> {
    desk.take([Input::Gone(CallerId(PROGRAM))])
}

#[test]
fn a_command_is_handed_over_once_it_is_on_disk_and_its_outcome_is_told() {
    let mut desk = desk();
    desk.wait(5);
    assert!(desk.twin["methods"].as_array().expect("a list").contains(&json!("lamp")));
    let effects = desk.hear(lamp("a"));
    assert!(starts(&effects).is_empty());
    let place = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).expect("it is there");
    let record = place(|effect| matches!(effect, Effect::Record(_)));
    let ack = place(|effect| matches!(effect, Effect::Ack(_)));
    assert!(record < ack && ack < place(|effect| matches!(effect, Effect::Hand(..))));
    let [words] = &handed(&effects)[..] else { panic!("{effects:?}") };
    let run = number(words);
    let expected =
        json!({ "run": run, "id": "a", "method": "lamp", "payload": { "on": true }, "timeLimitSeconds": 60 });
    assert_eq!(*words, expected);
    assert!(run < 1 << 52);
    let progress = ask(&mut desk, 8, Question::Progress { run, text: "half".to_owned() });
    assert_eq!(refusal(&progress), None);
    assert_eq!(answer(&desk.hear(lamp("a"))).payload, json!({ "progress": "half" }), "a repeat is not handed over");
    let effects = finish(&mut desk, run, done(json!("lit")));
    assert_eq!(answer(&effects).payload, json!("lit"));
    for late in
        [finish(&mut desk, run, done(json!(2))), ask(&mut desk, 8, Question::Progress { run, text: "x".into() })]
    {
        assert_eq!((refusal(&late), told(&late).len()), (Some(Refusal::UnknownRun), 0));
    }
}

#[test]
fn methods_are_registered_all_or_none() {
    let mut given = settings(Road::Own, Mode::Machine);
    given.disabled = vec![method("off")];
    given.aliases = [(method("other"), method("echo"))].into();
    let mut desk = Desk::with(given);
    serve(&mut desk, PROGRAM, vec![spec("lamp")]);
    let taken = |name: &str| Some(Refusal::MethodTaken { method: method(name) });
    for (name, expected) in [("lamp", true), ("echo", true), ("rebootDevice", true), ("off", false), ("other", false)] {
        let effects = serve(&mut desk, 2, vec![spec("free"), spec(name)]);
        let refused = refusal(&effects);
        assert!(if expected { refused == taken(name) } else { matches!(refused, Some(Refusal::CannotNow { .. })) });
        assert_eq!(status_of(&desk.hear(request("free", Some(name), json!(null))), name), Some(404), "none of them");
    }
    for reserved in ["reloadConfig", "getLogs", "restartService", "shutdown", "getStatus"] {
        assert_eq!(refusal(&serve(&mut desk, 2, vec![spec(reserved)])), taken(reserved), "though it is not to be had");
    }
    assert_eq!(refusal(&serve(&mut desk, 2, vec![spec("free"), spec("free")])), taken("free"));
    assert!(matches!(refusal(&serve(&mut desk, 2, vec![])), Some(Refusal::CannotNow { .. })));
    let many = |count| (0..count).map(|n| spec(&format!("m{n}"))).collect::<Vec<_>>();
    assert!(matches!(refusal(&serve(&mut desk, 2, many(32))), Some(Refusal::CannotNow { .. })), "with lamp, 33");
    assert_eq!(refusal(&serve(&mut desk, 2, many(31))), None);
}

#[test]
fn what_a_program_asks_for_has_bounds_and_its_rules_hold() {
    let mut desk = Desk::new(Road::Own, Mode::Machine);
    let bold = MethodSpec {
        time_limit: Duration::MAX,
        output_limit: usize::MAX,
        outlives: true,
        payload: Some(PayloadRules::default()),
        ..spec("bold")
    };
    serve(&mut desk, PROGRAM, vec![bold]);
    assert_eq!(answer(&desk.hear(request("bold", Some("x"), json!({ "y": 1 })))).status.0, 422);
    let effects = desk.hear(request("bold", Some("a"), json!(null)));
    let words = handed(&effects).remove(0);
    assert_eq!(words["timeLimitSeconds"], 86_400);
    let effects = finish(&mut desk, number(&words), done(json!("x".repeat(300_000))));
    assert_eq!(answer(&effects).payload["payloadDropped"], true);
}

#[test]
fn what_is_no_outcome_is_a_failure() {
    for status in [0, 100, 202, 600, 65_535] {
        let mut desk = desk();
        let run = number(&handed(&desk.hear(lamp("a")))[0]);
        let effects = finish(&mut desk, run, Outcome::new(Status(status), json!("odd")));
        assert_eq!(answer(&effects).status, Status::FAILED, "{status}");
    }
}

#[test]
fn a_program_that_is_gone_leaves_503_and_nothing_is_run_again() {
    let mut desk = desk();
    let run = number(&handed(&desk.hear(lamp("a")))[0]);
    desk.hear(lamp("b"));
    let effects = gone(&mut desk);
    assert_eq!((status_of(&effects, "a"), status_of(&effects, "b")), (Some(503), None), "b waits for it to come back");
    assert!(answer(&effects).payload["error"].as_str().expect("words").contains("may have taken effect"));
    assert_eq!(answer(&desk.hear(lamp("c"))).status.0, 503, "not unknown, only away");
    assert_eq!(refusal(&finish(&mut desk, run, done(json!(1)))), Some(Refusal::UnknownRun));
    desk.wait(29);
    let effects = serve(&mut desk, PROGRAM + 1, vec![spec("lamp")]);
    let words = handed(&effects);
    assert_eq!((words.len(), &words[0]["id"]), (1, &json!("b")));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Hand(CallerId(101), ..))));
    assert_eq!(status_of(&desk.hear(lamp("a")), "a"), Some(503), "what ran is over");
}

#[test]
fn a_program_that_does_not_come_back_is_not_waited_for() {
    let mut desk = desk();
    desk.hear_all([lamp("a"), lamp("b")]);
    gone(&mut desk);
    assert_eq!(told(&desk.wait(29)), []);
    assert_eq!(status_of(&desk.wait(2), "b"), Some(404));
    let refused = answer(&desk.hear(lamp("c")));
    assert_eq!(refused.status.0, 404);
    assert!(!refused.payload["methods"].as_array().expect("a list").contains(&json!("lamp")));
    desk.wait(5);
    assert!(!desk.twin["methods"].as_array().expect("a list").contains(&json!("lamp")));
}

#[test]
fn a_restart_of_the_agent_interrupts_what_ran_and_what_waits_waits_for_the_program() {
    let mut desk = desk();
    let words = handed(&desk.hear_all([lamp("a"), lamp("b")]));
    let before = number(&words[0]);
    let effects = desk.restarts();
    let resumed = effects.iter().find_map(|effect| match effect {
        Effect::Resume(run, command) => Some((*run, command.key.id.to_string())),
        _ => None,
    });
    let (run, id) = resumed.expect("nobody saw how it ended");
    assert_eq!((id.as_str(), handed(&effects).len()), ("a", 0));
    desk.ends(run, Outcome::failed(Status::FAILED, "interrupted"));
    desk.wait(10);
    let words = handed(&serve(&mut desk, 1, vec![spec("lamp")]));
    assert_eq!((words.len(), &words[0]["id"]), (1, &json!("b")));
    assert_ne!(number(&words[0]), before);
    assert_eq!(refusal(&finish(&mut desk, before, done(json!(1)))), Some(Refusal::UnknownRun), "of a former life");
    // Nobody comes back.
    desk.hear(lamp("c"));
    desk.restarts();
    let effects = desk.wait(40);
    assert_eq!(status_of(&effects, "c"), Some(404));
}

#[test]
fn a_run_that_is_over_its_time_is_told_to_stop_and_keeps_its_place_until_it_has() {
    let own = || Outcome::failed(Status::CANCELLED, "put back");
    let late = "its program ended it with 200, after its time limit of 60 s";
    let endings =
        [(Some(done(json!(1))), late), (Some(own()), "put back"), (None, "its program had not ended it after")];
    for (outcome, expected) in endings {
        let mut desk = desk();
        let run = number(&handed(&desk.hear(lamp("a")))[0]);
        assert_eq!(told(&desk.wait(59)), []);
        let effects = desk.wait(2);
        assert_eq!(said(&effects, PROGRAM), [json!({ "run": run, "stop": "timedOut" })]);
        assert_eq!((status_of(&effects, "a"), handed(&desk.hear(lamp("b"))).len()), (None, 0), "the program is at it");
        let cancel = desk.hear(request("cancelCommand", Some("c"), json!({ "commandId": "a" })));
        assert_eq!((status_of(&cancel, "c"), said(&cancel, PROGRAM).len()), (Some(200), 0), "it was told");
        let effects = match outcome {
            Some(outcome) => finish(&mut desk, run, outcome),
            None => desk.wait(11),
        };
        let told = answers(&effects).into_iter().find(|answer| answer.id.as_str() == "a").expect("its end");
        assert_eq!(told.status.0, 408);
        assert!(told.payload["error"].as_str().expect("words").starts_with(expected), "{}", told.payload);
        assert_eq!(handed(&effects).len(), 1, "now b can have its place");
        assert_eq!(refusal(&finish(&mut desk, run, done(json!(1)))), Some(Refusal::UnknownRun));
    }
}

#[test]
fn a_program_that_goes_when_its_time_is_over_has_408() {
    let mut desk = desk();
    desk.hear(lamp("a"));
    desk.wait(61);
    assert_eq!(status_of(&gone(&mut desk), "a"), Some(408));
}

#[test]
fn a_reboot_waits_for_what_is_over_its_time_and_has_not_ended() {
    let mut desk = desk();
    let run = number(&handed(&desk.hear(lamp("a")))[0]);
    desk.wait(50);
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    assert!(!is_rebooting(&desk.wait(15)));
    let drained = finish(&mut desk, run, done(json!(1)));
    assert!(is_rebooting(&drained) || is_rebooting(&desk.wait(10)));
}

#[test]
fn a_cancelled_run_may_say_how_it_ended_or_is_over_in_a_while() {
    let cancel = || request("cancelCommand", Some("c"), json!({ "commandId": "a" }));
    for answers_in_time in [true, false] {
        let mut desk = desk();
        let run = number(&handed(&desk.hear(lamp("a")))[0]);
        let effects = desk.hear(cancel());
        assert_eq!(said(&effects, PROGRAM), [json!({ "run": run, "stop": "cancelled" })]);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Cancel(_))), "it is no run of ours");
        assert_eq!(said(&desk.hear(cancel()), PROGRAM), Vec::<Value>::new(), "once is enough");
        let effects = if answers_in_time {
            finish(&mut desk, run, Outcome::new(Status::CANCELLED, json!({ "done": "half" })))
        } else {
            desk.wait(11)
        };
        assert_eq!(status_of(&effects, "a"), Some(499), "{answers_in_time}");
    }
}

#[test]
fn harmless_methods_are_served_without_a_record() {
    let mut desk = Desk::new(Road::Own, Mode::Machine);
    let harmless = MethodSpec { harmless: true, class: Class::Parallel(2), ..spec("peek") };
    serve(&mut desk, PROGRAM, vec![harmless]);
    let records = desk.records.len();
    let run = number(&handed(&desk.hear(request("peek", Some("p"), json!(null))))[0]);
    assert_eq!(answer(&finish(&mut desk, run, done(json!(1)))).status.0, 200);
    desk.hear(request("peek", Some("q"), json!(null)));
    assert_eq!(status_of(&gone(&mut desk), "q"), Some(503));
    let is_about_it = |record: &&Record| matches!(record, Record::Accepted { .. });
    assert_eq!(desk.records[records..].iter().filter(is_about_it).count(), 0);
}

#[test]
fn what_cannot_be_recorded_is_not_handed_over() {
    let mut desk = desk();
    let inputs = desk.deliveries([
        lamp("a"),
        request("cancelCommand", Some("c"), json!({ "commandId": "a" })),
        request("count", Some("n"), json!(null)),
    ]);
    let effects = desk.fails(inputs);
    assert_eq!((handed(&effects).len(), status_of(&effects, "a")), (0, Some(503)));
    assert_eq!(said(&effects, PROGRAM), Vec::<Value>::new(), "nor is it told to stop what it never had");
    assert!(!desk.wait(120).iter().any(|effect| matches!(effect, Effect::Reply(..))), "no deadline is left behind");
    desk.heals();
    assert_eq!(handed(&desk.hear(lamp("a"))).len(), 1, "sent again, it is");
}

#[test]
fn the_end_of_a_run_waits_for_the_disk() {
    let mut desk = desk();
    let run = number(&handed(&desk.hear(lamp("a")))[0]);
    let finished = Question::Finish { run, outcome: done(json!(1)) };
    let effects = desk.fails([Input::Asked(finished, CallerId(7))]);
    assert_eq!(status_of(&effects, "a"), None);
    assert_eq!(status_of(&desk.heals(), "a"), Some(200));
    assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
}

#[test]
fn a_reboot_waits_for_what_a_program_runs_or_stops_it_if_it_is_forced() {
    for force in [false, true] {
        let mut given = settings(Road::Own, Mode::Machine);
        given.reboot.allow_force = true;
        let mut desk = Desk::with(given);
        serve(&mut desk, PROGRAM, vec![MethodSpec { time_limit: Duration::from_secs(3_600), ..spec("lamp") }]);
        let run = number(&handed(&desk.hear(lamp("a")))[0]);
        desk.hear(request("rebootDevice", Some("r"), json!({ "force": force })));
        let effects = desk.wait(30);
        assert_eq!(is_rebooting(&effects), force);
        if force {
            assert_eq!(status_of(&effects, "a"), Some(499));
            assert_eq!(said(&effects, PROGRAM), [json!({ "run": run, "stop": "cancelled" })]);
        } else {
            let drained = finish(&mut desk, run, done(json!(1)));
            assert!(is_rebooting(&drained) || is_rebooting(&desk.wait(10)));
        }
    }
}

#[test]
fn a_reboot_is_given_up_when_a_program_never_ends() {
    let mut desk = Desk::new(Road::Own, Mode::Machine);
    serve(&mut desk, PROGRAM, vec![MethodSpec { time_limit: Duration::from_secs(3_600), ..spec("lamp") }]);
    desk.hear(lamp("a"));
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    let effects = desk.wait(300);
    assert_eq!((status_of(&effects, "r"), is_rebooting(&effects)), (Some(423), false));
}

fn reload(desk: &mut Desk, settings: &Settings) -> Vec<Effect> {
    desk.take([Input::Reloaded { settings: Box::new(settings.clone()), anew: false }])
}

#[test]
fn a_manifest_takes_a_name_over_what_runs_goes_on_and_then_its_program_is_told_to_serve_anew() {
    let taken = Some(Refusal::MethodTaken { method: method("lamp") });
    for is_busy in [true, false] {
        let mut desk = Desk::new(Road::Own, Mode::Machine);
        serve(&mut desk, PROGRAM, vec![spec("lamp"), spec("fan")]);
        desk.wait(40);
        let run = is_busy.then(|| number(&handed(&desk.hear(lamp("a")))[0]));
        let mut given = desk.settings.clone();
        given.methods.push(spec("lamp"));
        let effects = reload(&mut desk, &given);
        assert_eq!(refusal(&effects), taken.clone().filter(|_| !is_busy));
        assert_eq!(
            answer(&desk.hear(request("fan", Some("f"), json!(null)))).status.0,
            503,
            "it may come back with that"
        );
        if let Some(run) = run {
            let effects = finish(&mut desk, run, done(json!(1)));
            assert_eq!((status_of(&effects, "a"), is_refused(&effects, PROGRAM)), (Some(200), true));
        }
        let runs = starts(&desk.hear(lamp("b")));
        assert_eq!(runs.len(), 1, "the handler's now");
        desk.ends(runs[0], done(json!(1)));
        assert_eq!(refusal(&serve(&mut desk, 2, vec![spec("lamp"), spec("fan")])), taken);
        given.methods.pop();
        reload(&mut desk, &given);
        assert_eq!(refusal(&serve(&mut desk, 3, vec![spec("lamp"), spec("fan")])), None);
        assert_eq!(handed(&desk.hear(lamp("c"))).len(), 1, "served anew");
        assert!(!is_refused(&desk.wait(60), PROGRAM), "it was told once");
    }
}

#[test]
fn a_program_whose_method_is_forbidden_is_told_and_the_method_is_gone_at_once() {
    let mut desk = desk();
    let run = number(&handed(&desk.hear_all([lamp("a"), lamp("b")]))[0]);
    let mut given = desk.settings.clone();
    given.disabled = vec![method("lamp")];
    assert_eq!(status_of(&reload(&mut desk, &given), "b"), Some(404));
    assert_eq!(answer(&desk.hear(lamp("c"))).status.0, 404);
    // It leaves before it can be told.
    assert_eq!(status_of(&gone(&mut desk), "a"), Some(503));
    assert_eq!(refusal(&finish(&mut desk, run, done(json!(1)))), Some(Refusal::UnknownRun));
    assert!(!is_refused(&desk.wait(60), PROGRAM));
}

#[test]
fn a_method_of_a_program_is_away_for_a_while_after_the_agent_began_anew() {
    let mut desk = desk();
    desk.wait(600);
    desk.restarts();
    let away = answer(&desk.hear(lamp("a")));
    assert!(away.status.0 == 503 && away.payload["retryAfterSeconds"].as_u64().is_some_and(|wait| wait <= 30));
    let unknown = answer(&desk.hear(request("nobodys", Some("n"), json!(null))));
    assert_eq!(unknown.status.0, 404, "nobody ever had it");
    desk.wait(31);
    assert_eq!(answer(&desk.hear(lamp("b"))).status.0, 404);
    serve(&mut desk, 1, vec![spec("lamp")]);
    assert_eq!(handed(&desk.hear(lamp("c"))).len(), 1);
    let is_served = |record: &&Record| matches!(record, Record::Served { .. });
    assert_eq!(desk.records.iter().filter(is_served).count(), 1, "what is known is not written again");
}

#[test]
fn names_that_programs_once_served_do_not_pile_up() {
    let mut desk = desk();
    for round in 0..3 {
        gone(&mut desk);
        serve(&mut desk, PROGRAM, (0..20).map(|n| spec(&format!("m{round}x{n}"))).collect());
        assert!(desk.agent.durable().rest.served.len() <= 32);
        assert!(desk.agent.durable().rest.served.contains(&method(&format!("m{round}x0"))));
    }
}

#[test]
fn a_command_whose_program_is_gone_does_not_wait_for_the_clock_too() {
    let mut given = settings(Road::Own, Mode::Machine);
    given.clock_wait = Duration::from_secs(3_600);
    let mut desk = Desk::with(given);
    serve(&mut desk, PROGRAM, vec![spec("lamp")]);
    desk.clock = Clock::Doubtful;
    let expires = Some(desk.now().wall.saturating_add(Duration::from_secs(7_200)));
    desk.hear(Request { expires, ..lamp("a") });
    gone(&mut desk);
    // A deadline that stays in the past would end this.
    assert_eq!(told(&desk.wait(29)), []);
    assert_eq!(status_of(&desk.wait(2), "a"), Some(404));
}

#[test]
fn other_reloads_leave_programs_alone() {
    let mut desk = desk();
    let settings = Box::new(desk.settings.clone());
    desk.take([Input::Reloaded { settings, anew: false }]);
    assert_eq!(handed(&desk.hear(lamp("a"))).len(), 1);
}

#[test]
fn an_agent_that_stops_takes_on_no_program_and_waits_a_while_for_what_runs() {
    let mut desk = desk();
    desk.hear(lamp("a"));
    let effects = desk.take([Input::Stop]);
    assert!(!effects.contains(&Effect::Disconnect));
    assert!(matches!(refusal(&serve(&mut desk, 2, vec![spec("more")])), Some(Refusal::CannotNow { .. })));
    assert!(desk.wait(11).contains(&Effect::Disconnect), "but not for ever");
}

#[test]
fn an_agent_that_stops_does_not_wait_for_what_outlives_it() {
    for outlives in [true, false] {
        let mut given = settings(Road::Own, Mode::Machine);
        given.methods.push(MethodSpec { outlives, ..spec("upgrade") });
        let mut desk = Desk::with(given);
        assert_eq!(starts(&desk.hear(request("upgrade", Some("u"), json!(null)))).len(), 1);
        let effects = desk.take([Input::Stop]);
        assert_eq!(effects.contains(&Effect::Disconnect), outlives);
        let again = desk.restarts();
        let resumed = again.iter().any(|effect| matches!(effect, Effect::Resume(..)));
        assert!(resumed && starts(&again).is_empty(), "it is found again, and not begun again");
        assert_eq!(desk.take([Input::Stop]).contains(&Effect::Disconnect), outlives, "found again, it is the same");
        assert_eq!(answers(&effects).len(), 0);
    }
}
