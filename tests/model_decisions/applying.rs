//! Handlers of desired state: run once for each change of their member, whatever is repeated, cut off or in the way.

use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::application::Application;
use twinagent::model::applying::MEMBERS;
use twinagent::model::ask::{CallerId, Question};
use twinagent::model::cloud::{Inbound, Road};
use twinagent::model::command::{Class, Command, MethodSpec, Origin, Outcome, Status};
use twinagent::model::durable::Durable;
use twinagent::model::now::Clock;
use twinagent::model::payload::{Member, PayloadRules, Shape};
use twinagent::model::reboot::Mode;
use twinagent::model::record::Record;
use twinagent::model::runs::RunId;

use crate::desk::{Desk, SIMULATED, answer, done, is_rebooting, method, patches, started, starts, told};
use crate::given::{request, settings};

/// A cloud that says the whole document at each login, and one whose document is followed.
const ROADS: [Road; 2] = [Road::Reported, Road::Direct];

fn spec(name: &str, member: &str) -> MethodSpec {
    MethodSpec {
        desired: Some(member.to_owned()),
        origin: Origin::File("/etc/twinagent/handlers.d/a.toml".to_owned()),
        ..MethodSpec::new(method(name))
    }
}

fn with(road: Road, specs: impl IntoIterator<Item = MethodSpec>) -> Settings {
    let mut settings = settings(road, SIMULATED);
    settings.methods.extend(specs);
    settings
}

/// With `setMode`, which is run for the member `mode`, as this makes it.
fn desk(road: Road, make: fn(&mut MethodSpec)) -> Desk {
    let mut spec = spec("setMode", "mode");
    make(&mut spec);
    Desk::with(with(road, [spec]))
}

fn document(value: Value) -> Map<String, Value> {
    let Value::Object(document) = value else { panic!("no object") };
    document
}

/// The cloud says what the device is to be, from now on.
fn wants(desk: &mut Desk, value: Value) -> Vec<Effect> {
    let document = document(value);
    let input = if is_followed(desk) {
        let mut patch: Map<String, Value> = desk.hub.desired.keys().map(|name| (name.clone(), Value::Null)).collect();
        patch.extend(document.clone());
        desk.hub.version += 1;
        let version = desk.hub.version;
        desk.delivery(Inbound::DesiredPatch { patch, version })
    } else {
        let body = Value::Object(document.clone()).to_string().into();
        desk.delivery(Inbound::Desired { body, version: None })
    };
    desk.hub.desired = document;
    desk.take([input])
}

fn is_followed(desk: &Desk) -> bool {
    desk.settings.cloud.as_ref().is_ok_and(|cloud| cloud.answers == Road::Direct)
}

/// What the cloud says by itself after a login.
fn says_again(desk: &mut Desk) -> Vec<Effect> {
    if is_followed(desk) {
        return Vec::new();
    }
    let body = Value::Object(desk.hub.desired.clone()).to_string().into();
    let input = desk.delivery(Inbound::Desired { body, version: None });
    desk.take([input])
}

/// Another process, which is told what is wanted as soon as it is connected.
fn restarts(desk: &mut Desk) -> Vec<Effect> {
    let mut effects = desk.restarts();
    effects.extend(desk.wait(2));
    effects.extend(says_again(desk));
    effects
}

fn resumed(effects: &[Effect]) -> Vec<(RunId, Command)> {
    let resume = |effect: &Effect| match effect {
        Effect::Resume(run, command) => Some((*run, command.clone())),
        _ => None,
    };
    effects.iter().filter_map(resume).collect()
}

#[track_caller]
fn run_of(effects: &[Effect]) -> (RunId, Value) {
    let [(run, command)] = &started(effects)[..] else { panic!("not one start: {:?}", started(effects)) };
    (*run, command.payload.clone())
}

fn interrupted() -> Outcome {
    Outcome::new(Status::FAILED, json!({ "error": "cut off", "interrupted": true }))
}

/// What the cloud has been told of a member.
fn shown(desk: &mut Desk, member: &str) -> Value {
    desk.wait(3);
    let document = if is_followed(desk) { Value::Object(desk.hub.reported.clone()) } else { desk.twin.clone() };
    document["desired"]["members"][member].clone()
}

fn status(desk: &mut Desk) -> Value {
    shown(desk, "mode")["status"].clone()
}

#[test]
fn a_change_is_recorded_run_and_acknowledged() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        let effects = wants(&mut desk, json!({ "mode": { "speed": 3 }, "other": 1 }));
        let (run, payload) = run_of(&effects);
        assert_eq!(payload, json!({ "speed": 3 }));
        let recorded = effects.iter().position(|effect| matches!(effect, Effect::Record(Record::Applying(_))));
        let started = effects.iter().position(|effect| matches!(effect, Effect::Start(..)));
        assert!(recorded.is_some() && recorded < started);
        assert!(desk.records.iter().any(|record| matches!(record, Record::Applying(_)) && record.must_be_synced()));
        assert_eq!(status(&mut desk), 202);
        desk.ends(run, done(json!("told to nobody")));
        let shown = shown(&mut desk, "mode");
        let digest = twinagent::model::digest::Digest::of(br#"{"speed":3}"#);
        assert_eq!((&shown["status"], &shown["digest"]), (&json!(200), &json!(digest)));
        assert!(shown["time"].is_string() && shown.get("error").is_none() && shown.get("payload").is_none());
        assert_eq!(shown.get("version").is_some(), road == Road::Direct);
        assert!(starts(&wants(&mut desk, json!({ "mode": { "speed": 3 }, "other": 2 }))).is_empty(), "another member");
    }
}

#[test]
fn what_is_said_again_runs_nothing() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": "a" })));
        desk.ends(run, Outcome::failed(Status::FAILED, "no motor\u{1b}[2J"));
        let shown = shown(&mut desk, "mode");
        assert_eq!((&shown["status"], &shown["error"]), (&json!(500), &json!("no motor[2J")));
        for _ in 0..3 {
            desk.cut();
            let mut effects = desk.wait(10);
            effects.extend(desk.online());
            effects.extend(says_again(&mut desk));
            effects.extend(restarts(&mut desk));
            assert!(starts(&effects).is_empty() && resumed(&effects).is_empty(), "also of what has failed");
        }
        assert_eq!(status(&mut desk), 500);
        let (_, payload) = run_of(&wants(&mut desk, json!({ "mode": "b" })));
        assert_eq!(payload, "b", "the next change is another matter");
    }
}

#[test]
fn what_was_never_there_was_not_removed() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        assert!(starts(&wants(&mut desk, json!({ "other": 1 }))).is_empty());
        if road != Road::Direct {
            assert!(starts(&wants(&mut desk, json!({ "mode": null }))).is_empty());
        }
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
        desk.ends(run, done(json!(null)));
        let (run, payload) = run_of(&wants(&mut desk, json!({})));
        assert_eq!(payload, Value::Null);
        desk.ends(run, done(json!(null)));
        assert_eq!(status(&mut desk), 200);
        assert!(starts(&wants(&mut desk, json!({ "other": 1 }))).is_empty(), "removed once");
        assert_eq!(run_of(&wants(&mut desk, json!({ "mode": 1 }))).1, 1, "and there again");
    }
}

#[test]
fn a_document_that_is_no_object_says_nothing_of_members() {
    let mut desk = desk(Road::Own, |_| {});
    let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
    for body in [&b""[..], b"\xff\xfe", b"[1]", b"\"mode\"", b"{\"mode\":"] {
        let input = desk.delivery(Inbound::Desired { body: body.into(), version: None });
        assert!(starts(&desk.take([input])).is_empty());
    }
    assert!(starts(&desk.ends(run, done(json!(null)))).is_empty());
    assert!(starts(&wants(&mut desk, json!({ "mode": 1 }))).is_empty());
}

#[test]
fn the_newest_value_wins_while_one_runs() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
        for value in [json!(2), json!("three"), json!({ "four": [4] })] {
            assert!(starts(&wants(&mut desk, json!({ "mode": value }))).is_empty());
        }
        let effects = desk.ends(run, Outcome::failed(Status::TIMED_OUT, "too slow"));
        let (run, payload) = run_of(&effects);
        assert_eq!(payload, json!({ "four": [4] }));
        wants(&mut desk, json!({ "mode": 5 }));
        wants(&mut desk, json!({ "mode": { "four": [4] } }));
        assert!(starts(&desk.ends(run, done(json!(null)))).is_empty(), "there and back is no change");
        assert_eq!(status(&mut desk), 200);
    }
}

#[test]
fn a_run_that_was_cut_off_is_not_run_again_until_the_next_change() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        wants(&mut desk, json!({ "mode": 1 }));
        let before = desk.agent.durable().clone();
        let effects = restarts(&mut desk);
        assert_eq!(desk.agent.durable().rest.applications, before.rest.applications);
        let [(run, command)] = &resumed(&effects)[..] else { panic!("not asked for") };
        assert_eq!((&command.payload, starts(&effects).len()), (&Value::Null, 0));
        assert_eq!(command.key.id, before.rest.applications[&method("setMode")].id, "by the id that it had");
        assert!(starts(&desk.ends(*run, interrupted())).is_empty());
        assert_eq!(status(&mut desk), 500);
        assert!(starts(&restarts(&mut desk)).is_empty());
        assert_eq!(run_of(&wants(&mut desk, json!({ "mode": 2 }))).1, 2);
    }
}

#[test]
fn one_that_is_harmless_is_run_again_once_the_cloud_has_said_what_it_wants() {
    for road in ROADS {
        let mut desk = desk(road, |spec| spec.harmless = true);
        wants(&mut desk, json!({ "mode": 1 }));
        for value in [1, 1, 2] {
            desk.hub.desired = document(json!({ "mode": value }));
            desk.hub.version += 1;
            let effects = desk.restarts();
            let [(run, _)] = resumed(&effects)[..] else { panic!("not asked for") };
            let mut effects = desk.ends(run, interrupted());
            effects.extend(desk.wait(5));
            effects.extend(says_again(&mut desk));
            // The cloud that is read by itself may have said it before the end came.
            let (run, payload) = run_of(&effects);
            assert_eq!(payload, value);
            assert_eq!(status(&mut desk), 202);
            if value == 2 {
                desk.ends(run, done(json!(null)));
            }
        }
        assert_eq!(status(&mut desk), 200);
        assert!(starts(&restarts(&mut desk)).is_empty());
        // So is one whose service has died under it, though not at once: it may be what the service died of.
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 3 })));
        assert!(starts(&desk.ends(run, interrupted())).is_empty());
        assert_eq!(status(&mut desk), 500);
        let (run, payload) = run_of(&desk.wait(8));
        assert_eq!(payload, 3);
        // Who had it stopped wanted that.
        assert!(starts(&desk.ends(run, Outcome::failed(Status::CANCELLED, "stopped"))).is_empty());
        assert!(starts(&desk.wait(3_600)).is_empty());
        assert_eq!(status(&mut desk), 499);
    }
}

#[test]
fn one_that_was_cut_off_does_not_seem_to_run_while_nobody_says_what_is_wanted() {
    let mut desk = desk(Road::Own, |spec| spec.harmless = true);
    wants(&mut desk, json!({ "mode": 1 }));
    let [(run, _)] = resumed(&desk.restarts())[..] else { panic!("not asked for") };
    assert!(starts(&desk.ends(run, interrupted())).is_empty());
    let known = &desk.agent.durable().rest.applications[&method("setMode")];
    assert_eq!(known.document()["status"], 500);
    assert_eq!(run_of(&says_again(&mut desk)).1, 1);
}

#[test]
fn what_could_not_be_done_is_tried_again_after_longer_and_longer_waits() {
    let unreached = |status: u16| Outcome::failed(Status(status), "the service is not reached");
    let missing = Outcome::failed(Status::FAILED, "the program is missing").not_run();
    for (road, outcome) in [
        (Road::Own, unreached(503)),
        (Road::Direct, unreached(503)),
        (Road::Own, unreached(404)),
        (Road::Own, missing.clone()),
        (Road::Direct, missing),
    ] {
        let mut desk = desk(road, |_| {});
        let (status, fails) = (outcome.status.0, || outcome.clone());
        let (mut run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
        for wait in [10, 20, 40, 80, 160, 320, 640, 900, 900] {
            assert!(starts(&desk.ends(run, fails())).is_empty());
            let shown = shown(&mut desk, "mode");
            assert_eq!((&shown["status"], &shown["error"]), (&json!(status), &outcome.payload["error"]));
            assert!(starts(&desk.wait(wait - 5)).is_empty(), "not yet after {wait} s");
            run = run_of(&desk.wait(5)).0;
        }
        desk.ends(run, fails());
        assert_eq!(run_of(&wants(&mut desk, json!({ "mode": 2 }))).1, 2, "another value does not wait");
    }
}

#[test]
fn a_reload_and_a_restart_try_again_at_once_what_could_not_be_done() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
        desk.ends(run, Outcome::failed(Status::CANNOT_NOW, "no D-Bus"));
        let settings = Box::new(desk.settings.clone());
        let (run, _) = run_of(&desk.take([Input::Reloaded { settings, anew: false }]));
        desk.ends(run, Outcome::failed(Status::FAILED, "the manifest has changed").not_run());
        let settings = Box::new(desk.settings.clone());
        let (run, _) = run_of(&desk.take([Input::Reloaded { settings, anew: false }]));
        // Whoever has mended a program says so, though nothing that is read again has changed.
        let mut run = run;
        for says in [Input::Hurry, Input::Asked(Question::Reload, CallerId(1))] {
            desk.ends(run, Outcome::failed(Status::FAILED, "the program is missing").not_run());
            run = run_of(&desk.take([says])).0;
        }
        desk.ends(run, Outcome::failed(Status::CANNOT_NOW, "no D-Bus"));
        let (run, payload) = run_of(&restarts(&mut desk));
        assert_eq!(payload, 1);
        desk.ends(run, done(json!(null)));
        assert!(starts(&desk.wait(3_600)).is_empty(), "until it is done");
        assert_eq!(status(&mut desk), 200);
        assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
    }
}

/// The control: it has to be said that nothing was begun, and not by the program's own word or by a person's.
#[test]
fn what_was_begun_or_stopped_or_does_not_fit_waits_for_the_next_change() {
    let ends = [
        Outcome::failed(Status::FAILED, "the program is missing"),
        Outcome::new(Status::FAILED, json!({ "error": "no", "notRun": true })),
        Outcome::failed(Status::CANCELLED, "stopped before the program began").not_run(),
        Outcome::failed(Status::UNFIT_PAYLOAD, "no port").not_run(),
        Outcome::failed(Status::TOO_LARGE, "too long").not_run(),
    ];
    for end in ends {
        let mut desk = desk(Road::Direct, |_| {});
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
        desk.ends(run, end.clone());
        assert!(starts(&desk.wait(3_600)).is_empty(), "{end:?}");
        let settings = Box::new(desk.settings.clone());
        assert!(starts(&desk.take([Input::Reloaded { settings, anew: false }])).is_empty(), "{end:?}");
        assert!(starts(&restarts(&mut desk)).is_empty(), "{end:?}");
        assert_eq!(status(&mut desk), end.status.0);
    }
}

#[test]
fn while_there_is_no_room_nothing_is_due() {
    let mut desk = desk(Road::Own, |_| {});
    let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
    desk.hear(request("setMode", Some("a"), json!(null)));
    let effects = desk.ends(run, Outcome::failed(Status::CANNOT_NOW, "later"));
    let (command, _) = run_of(&effects);
    assert!(starts(&desk.wait(60)).is_empty());
    let now = desk.now();
    assert!(desk.agent.deadline(&now).is_none_or(|due| due > now.boot), "a turn that does nothing would follow");
    assert_eq!(run_of(&desk.ends(command, done(json!(null)))).1, 1);
}

#[test]
fn one_that_outlives_the_agent_is_found_again_and_its_end_counts() {
    for road in ROADS {
        let mut desk = desk(road, |spec| spec.outlives = true);
        wants(&mut desk, json!({ "mode": 1 }));
        let [(run, _)] = resumed(&restarts(&mut desk))[..] else { panic!("not asked for") };
        assert!(starts(&wants(&mut desk, json!({ "mode": 2 }))).is_empty(), "the first still runs");
        let (run, payload) = run_of(&desk.ends(run, done(json!(null))));
        assert_eq!(payload, 2);
        desk.ends(run, done(json!(null)));
        assert_eq!(status(&mut desk), 200);
    }
}

#[test]
fn a_value_that_breaks_the_rules_is_refused_once_and_never_run() {
    for road in ROADS {
        let mut desk = desk(road, |spec| {
            let shape = Shape::Integer { min: 1, max: 9 };
            let members = [("speed".to_owned(), Member { required: true, shape })].into();
            spec.payload = Some(PayloadRules { members, others: false });
        });
        let effects = wants(&mut desk, json!({ "mode": { "speed": 10 } }));
        assert!(starts(&effects).is_empty());
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Refused { status: Status::UNFIT_PAYLOAD, .. })));
        let shown = shown(&mut desk, "mode");
        assert_eq!(shown["status"], 422);
        assert!(shown["error"].as_str().is_some_and(|error| error.contains("speed")), "{shown}");
        let again = restarts(&mut desk);
        assert!(!again.iter().any(|effect| matches!(effect, Effect::Refused { .. } | Effect::Start(..))));
        assert_eq!(run_of(&wants(&mut desk, json!({ "mode": { "speed": 9 } }))).1, json!({ "speed": 9 }));
    }
}

#[test]
fn a_value_that_was_refused_is_judged_again_by_other_rules() {
    let rules = |max: i64| {
        let members = [("speed".to_owned(), Member { required: true, shape: Shape::Integer { min: 1, max } })].into();
        MethodSpec { payload: Some(PayloadRules { members, others: false }), ..spec("setMode", "mode") }
    };
    for reloads in [true, false] {
        let mut desk = Desk::with(with(Road::Own, [rules(9)]));
        assert!(starts(&wants(&mut desk, json!({ "mode": { "speed": 10 } }))).is_empty());
        let mut mended = |max: i64| {
            desk.settings = with(Road::Own, [rules(max)]);
            let settings = Box::new(desk.settings.clone());
            if reloads { desk.take([Input::Reloaded { settings, anew: false }]) } else { restarts(&mut desk) }
        };
        assert!(starts(&mended(8)).is_empty(), "other words of refusal are no news");
        let (run, payload) = run_of(&mended(10));
        assert_eq!(payload, json!({ "speed": 10 }));
        desk.ends(run, Outcome::failed(Status::UNFIT_PAYLOAD, "its own word"));
        let settings = Box::new(with(Road::Own, [rules(11)]));
        let again = desk.take([Input::Reloaded { settings, anew: false }]);
        assert!(starts(&again).is_empty(), "what was run and did not take it has judged by itself");
    }
}

#[test]
fn it_takes_its_turn_among_commands() {
    let mut desk = desk(Road::Own, |_| {});
    let run = starts(&desk.hear(request("setMode", Some("a"), json!(null))))[0];
    assert!(starts(&wants(&mut desk, json!({ "mode": 1 }))).is_empty(), "one at a time");
    desk.hear(request("setMode", Some("b"), json!(null)));
    let (run, payload) = run_of(&desk.ends(run, done(json!(null))));
    assert_eq!(payload, 1, "what is wanted does not wait for a queue of commands");
    let effects = desk.ends(run, done(json!(null)));
    assert_eq!(started(&effects)[0].1.key.id.as_str(), "b");

    let mut alone = self::desk(Road::Own, |spec| spec.class = Class::Exclusive);
    let run = starts(&alone.hear(request("count", Some("a"), json!(null))))[0];
    assert!(starts(&wants(&mut alone, json!({ "mode": 1 }))).is_empty());
    let (run, _) = run_of(&alone.ends(run, done(json!(null))));
    assert!(starts(&alone.hear(request("count", Some("b"), json!(null)))).is_empty(), "nothing beside it");
    assert_eq!(starts(&alone.hear(request("echo", Some("e"), json!(null)))).len(), 1, "but what is harmless");
    assert_eq!(starts(&alone.ends(run, done(json!(null)))).len(), 1);
}

#[test]
fn a_reboot_waits_for_it_and_it_for_the_reboot() {
    let mut desk = desk(Road::Own, |_| {});
    desk.wait(60);
    let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
    desk.hear(request("rebootDevice", Some("r"), json!(null)));
    assert!(told(&desk.wait(30)).iter().all(|(_, status)| *status == 202), "what runs is drained");
    assert!(starts(&wants(&mut desk, json!({ "mode": 2 }))).is_empty());
    let effects = desk.ends(run, done(json!(null)));
    assert!(starts(&effects).is_empty(), "no more is begun before it");
    desk.wait(5);
    desk.cut();
    let mut effects = desk.wait(60);
    effects.extend(desk.online());
    effects.extend(says_again(&mut desk));
    assert_eq!(run_of(&effects).1, 2);
}

#[test]
fn a_forced_reboot_stops_it_and_says_so() {
    let mut settings = with(Road::Own, [spec("setMode", "mode")]);
    settings.reboot.mode = Mode::Machine;
    settings.reboot.allow_force = true;
    let mut desk = Desk::with(settings);
    desk.wait(60);
    let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1 })));
    desk.hear(request("rebootDevice", Some("r"), json!({ "force": true })));
    let effects = desk.wait(200);
    assert!(is_rebooting(&effects) && effects.contains(&Effect::Cancel(run)));
    assert!(desk.ends(run, done(json!(null))).iter().all(|effect| !matches!(effect, Effect::Record(_))));
    let mut effects = desk.boots();
    effects.extend(says_again(&mut desk));
    assert!(starts(&effects).is_empty() && resumed(&effects).is_empty());
    assert_eq!(status(&mut desk), 499);
}

#[test]
fn one_that_is_harmless_is_run_again_after_the_reboot_that_stopped_it() {
    let mut settings = with(Road::Own, [MethodSpec { harmless: true, ..spec("setMode", "mode") }]);
    settings.reboot.mode = Mode::Machine;
    settings.reboot.allow_force = true;
    let mut desk = Desk::with(settings);
    desk.wait(60);
    wants(&mut desk, json!({ "mode": 1 }));
    desk.hear(request("rebootDevice", Some("r"), json!({ "force": true })));
    assert!(is_rebooting(&desk.wait(200)));
    let mut effects = desk.boots();
    effects.extend(says_again(&mut desk));
    assert_eq!(run_of(&effects).1, 1);
}

#[test]
fn an_agent_that_stops_and_a_machine_that_shuts_down_begin_nothing() {
    let mut desk = desk(Road::Own, |_| {});
    desk.take([Input::ShuttingDown(true)]);
    assert!(starts(&wants(&mut desk, json!({ "mode": 1 }))).is_empty());
    assert_eq!(run_of(&desk.take([Input::ShuttingDown(false)])).1, 1);
    let mut desk = self::desk(Road::Own, |_| {});
    desk.take([Input::Stop]);
    assert!(starts(&wants(&mut desk, json!({ "mode": 1 }))).is_empty());
    assert_eq!(run_of(&restarts(&mut desk)).1, 1, "the next one does");
}

#[test]
fn a_broken_journal_holds_it_up_and_no_end_is_told_before_it_is_on_disk() {
    let mut desk = desk(Road::Own, |_| {});
    desk.hub.desired = document(json!({ "mode": 1 }));
    let input = desk.delivery(Inbound::Desired { body: br#"{"mode":1}"#[..].into(), version: None });
    assert!(starts(&desk.fails([input])).is_empty(), "its record was taken back");
    assert!(desk.agent.durable().rest.applications.is_empty());
    let (run, _) = run_of(&desk.heals());
    let effects = desk.fails([Input::Finished(run, done(json!(null)))]);
    assert!(effects.iter().all(|effect| !matches!(effect, Effect::Record(_))));
    assert_eq!(status(&mut desk), 202, "nobody may be told of an end that a loss of power would change");
    wants(&mut desk, json!({ "mode": 2 }));
    let effects = desk.heals();
    assert_eq!(run_of(&effects).1, 2);
    let ends: Vec<u16> = desk
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Applied(application) => Some(application.end.as_ref()?.status.0),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [200]);
    assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
}

#[test]
fn manifests_come_and_go() {
    for road in ROADS {
        let mut desk = desk(road, |_| {});
        let reload = |desk: &mut Desk, specs: Vec<MethodSpec>| {
            desk.settings = with(desk.settings.cloud.as_ref().map_or(Road::Own, |cloud| cloud.answers), specs);
            let settings = Box::new(desk.settings.clone());
            desk.take([Input::Reloaded { settings, anew: false }])
        };
        let (run, _) = run_of(&wants(&mut desk, json!({ "mode": 1, "name": "n" })));
        desk.ends(run, done(json!(null)));
        assert_eq!(status(&mut desk), 200);
        reload(&mut desk, vec![]);
        assert_eq!(status(&mut desk), Value::Null, "nobody answers for it any more");
        let changed = MethodSpec { time_limit: Duration::from_secs(9), ..spec("setMode", "mode") };
        assert!(starts(&reload(&mut desk, vec![changed.clone()])).is_empty(), "the value is the same");
        assert_eq!(status(&mut desk), 200);
        let effects = reload(&mut desk, vec![changed, spec("setName", "name")]);
        let (run, payload) = run_of(&effects);
        assert_eq!(payload, "n", "a new one is run at once");
        // In its midst it goes, and comes back.
        reload(&mut desk, vec![]);
        desk.ends(run, done(json!(null)));
        assert!(starts(&reload(&mut desk, vec![spec("setName", "name")])).is_empty());
        assert_eq!(shown(&mut desk, "name")["status"], 200);
        let moved = reload(&mut desk, vec![spec("setName", "mode")]);
        assert_eq!(run_of(&moved).1, 1, "another member is another matter");
    }
}

/// Should it come back, it is not begun once more.
#[test]
fn a_run_whose_manifest_went_while_the_agent_was_away_is_over() {
    let mut desk = desk(Road::Own, |_| {});
    wants(&mut desk, json!({ "mode": 1 }));
    desk.settings = with(Road::Own, []);
    let [(run, _)] = resumed(&restarts(&mut desk))[..] else { panic!("not asked for") };
    desk.ends(run, interrupted());
    desk.settings = with(Road::Own, [spec("setMode", "mode")]);
    assert!(starts(&restarts(&mut desk)).is_empty());
    assert_eq!(status(&mut desk), 500);
}

#[test]
fn neither_the_agents_own_methods_nor_programs_are_run_for_desired_state() {
    let mut specs = vec![spec("rebootDevice", "a"), spec("cancelReboot", "b"), spec("served", "c"), spec("own", "d")];
    specs[2].origin = Origin::Program;
    specs[3].origin = Origin::Agent;
    let mut desk = Desk::with(with(Road::Own, specs));
    let effects = wants(&mut desk, json!({ "a": 1, "b": 2, "c": 3, "d": 4 }));
    assert!(starts(&effects).is_empty());
    assert!(!desk.records.iter().any(|record| matches!(record, Record::Accepted { .. } | Record::Applying(_))));
    desk.wait(5);
    assert!(desk.twin["desired"].get("members").is_none());
}

#[test]
fn two_methods_for_one_member_are_one() {
    let mut desk = Desk::with(with(Road::Own, [spec("second", "mode"), spec("first", "mode")]));
    let effects = wants(&mut desk, json!({ "mode": 1 }));
    assert_eq!(started(&effects)[0].1.method.as_str(), "first");
    assert_eq!(starts(&effects).len(), 1);
}

#[test]
fn so_many_are_run_and_remembered_and_what_is_told_fits_into_the_document() {
    let member = |n: usize| format!("{n:064}");
    let specs = (0..MEMBERS + 6).map(|n| MethodSpec { ..spec(&format!("m{n:03}"), &member(n)) });
    for road in ROADS {
        let mut desk = Desk::with(with(road, specs.clone()));
        let all: Map<String, Value> = (0..MEMBERS + 6).map(|n| (member(n), json!(n))).collect();
        let runs = starts(&wants(&mut desk, Value::Object(all.clone())));
        assert_eq!(runs.len(), MEMBERS);
        let error = Outcome::failed(Status::FAILED, "\u{1f525}\"".repeat(200));
        desk.take(runs.into_iter().map(|run| Input::Finished(run, error.clone())));
        desk.wait(10);
        let document = if road == Road::Direct { Value::Object(desk.hub.reported.clone()) } else { desk.twin.clone() };
        let members = document["desired"]["members"].as_object().expect("members").len();
        assert!((30..=MEMBERS).contains(&members), "{members}");
        let limit = if road == Road::Direct { 8 } else { 16 } * 1_024;
        assert!(document["desired"]["members"].to_string().len() <= limit);
        assert!(document["commands"].is_object() && document["methods"].is_array(), "others have room too");
        let problems = document["agent"]["problems"].to_string();
        assert_eq!(problems.contains("desired/members/"), members < MEMBERS, "{problems}");
        assert_eq!(patches(&desk.wait(60)), Vec::<Value>::new(), "nothing is sent again and again");

        // Others take their place, and those that are gone are forgotten one by one.
        let others: Vec<MethodSpec> = (0..MEMBERS).map(|n| spec(&format!("n{n:03}"), &member(n))).collect();
        desk.settings = with(road, others);
        let settings = Box::new(desk.settings.clone());
        let runs = starts(&desk.take([Input::Reloaded { settings, anew: false }]));
        assert_eq!(runs.len(), MEMBERS);
        desk.take(runs.into_iter().map(|run| Input::Finished(run, done(json!(null)))));
        let applications = &desk.agent.durable().rest.applications;
        assert_eq!(applications.len(), MEMBERS);
        assert!(applications.keys().all(|method| method.as_str().starts_with('n')));
        assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
        assert_eq!(Durable::replay(&desk.agent.durable().records()), *desk.agent.durable());
        assert!(starts(&restarts(&mut desk)).is_empty());
    }
}

#[test]
fn the_time_of_a_doubtful_clock_is_put_right() {
    let mut settings = with(Road::Own, [spec("setMode", "mode")]);
    settings.clock_wait = Duration::ZERO;
    let mut desk = Desk::offline(settings);
    desk.clock = Clock::Doubtful;
    desk.steps(-900);
    desk.boots();
    desk.wait(5);
    desk.online();
    let effects = wants(&mut desk, json!({ "mode": 1 }));
    let Some((run, _)) = started(&effects).first().cloned() else { panic!("not started") };
    desk.ends(run, done(json!(null)));
    let wrong = desk.agent.durable().rest.applications[&method("setMode")].clone();
    assert!(wrong.doubt.is_some());
    desk.steps(900);
    desk.clock = Clock::Trusted;
    desk.take([Input::Tick]);
    let right = desk.agent.durable().rest.applications[&method("setMode")].clone();
    assert_eq!((right.doubt, right.at.since(wrong.at)), (None, Duration::from_secs(900)));
    assert_eq!(Durable::replay(&desk.records), *desk.agent.durable());
}

#[test]
fn a_command_of_the_same_method_is_no_application() {
    let mut desk = desk(Road::Own, |_| {});
    let effects = desk.hear(request("setMode", Some("a"), json!(7)));
    let (run, _) = run_of(&effects);
    let effects = desk.ends(run, done(json!(8)));
    assert_eq!(answer(&effects).payload, 8);
    assert!(desk.agent.durable().rest.applications.is_empty());
}

#[test]
fn records_are_lines_that_can_be_read_again() {
    let line = r#"{"record":"applying","method":"setMode","member":"mode","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","id":"x1","at":"2026-11-22T00:00:00.000000Z"}"#;
    let record: Record = serde_json::from_str(line).expect("a record");
    assert_eq!(serde_json::to_string(&record).expect("JSON"), line);
    let Record::Applying(application) = record else { panic!("another record") };
    assert_eq!(*application, Application { version: None, doubt: None, end: None, ..(*application).clone() });
    assert!(!format!("{:?}", Record::Applied(application)).contains("sha256"));
    let line = r#"{"record":"finished","target":"d","id":"x1","status":500,"payload":{"error":"no"},"notRun":true,"at":"2026-11-22T00:00:00.000000Z"}"#;
    let record: Record = serde_json::from_str(line).expect("a record");
    assert_eq!(serde_json::to_string(&record).expect("JSON"), line);
    assert!(matches!(&record, Record::Finished { outcome, .. } if outcome.not_run));
    let older: Record = serde_json::from_str(&line.replace(r#""notRun":true,"#, "")).expect("a record");
    assert!(matches!(&older, Record::Finished { outcome, .. } if !outcome.not_run), "nobody said so then");
}
