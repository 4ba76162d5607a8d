//! What a cloud takes for a reported document: never more than it says, whatever there is to report.

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Refusal, Reply};
use twinagent::model::cloud::{DocumentRules, Road};
use twinagent::model::durable::Durable;
use twinagent::model::problems::Code;
use twinagent::model::record::Record;

use crate::desk::{Desk, SIMULATED, documents, done, starts};
use crate::given::{request, settings};

const ROADS: [Road; 2] = [Road::Reported, Road::Direct];

fn rules(road: Road) -> DocumentRules {
    settings(road, SIMULATED).cloud.expect("a cloud").document
}

fn ask(desk: &mut Desk, patch: Value) -> Result<Vec<Effect>, Refusal> {
    let Value::Object(patch) = patch else { panic!("no object") };
    let effects = desk.take([Input::Asked(Question::Report { patch }, CallerId(1))]);
    let refused = effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Refused(refusal)) => Some(refusal.clone()),
        _ => None,
    });
    refused.map_or(Ok(effects), Err)
}

/// The document that the cloud has.
fn held(desk: &Desk) -> Value {
    if desk.hub.reported.is_empty() { desk.twin.clone() } else { Value::Object(desk.hub.reported.clone()) }
}

fn text(document: &Value) -> &str {
    let problems = document["agent"]["problems"].as_array().expect("problems");
    let reported = problems.iter().find(|problem| problem["code"] == "reported");
    reported.and_then(|problem| problem["text"].as_str()).unwrap_or_default()
}

/// An agent whose members another cloud has taken before.
fn with_members(road: Road, members: &Value) -> Desk {
    let mut desk = Desk::new(road, SIMULATED);
    let Value::Object(patch) = members.clone() else { panic!("no object") };
    desk.records.push(Record::Reported { patch });
    desk.restarts();
    desk.wait(5);
    desk
}

#[test]
fn a_member_that_does_not_fit_is_refused_by_name_and_rule() {
    let mut desk = Desk::new(Road::Direct, SIMULATED);
    let deep = (0..11).fold(json!({}), |inner, _| json!({ "d": inner }));
    let cases = [
        (json!({ "room.1": 1 }), "room.1", "`.`"),
        (json!({ "site": { "room 1": 1 } }), "site/room 1", "space"),
        (json!({ "site": { "list": [1, null] } }), "site/list", "null"),
        (json!({ "n": 1_i64 << 53 }), "n", "2^52"),
        (json!({ "deep": deep }), "deep/d/d/d/d/d/d/d/d/d/d", "10 levels"),
        (json!({ "long": "x".repeat(5_000) }), "long", "4096 bytes"),
    ];
    for (patch, expected, words) in cases {
        let Err(Refusal::Unfit { member, rule }) = ask(&mut desk, patch.clone()) else { panic!("{patch} was taken") };
        assert_eq!(member, expected);
        assert!(rule.contains(words), "{rule}");
        assert!(ask(&mut Desk::new(Road::Reported, SIMULATED), patch).is_ok(), "another cloud takes it");
    }
    assert!(ask(&mut desk, json!({ "site": { "room": null }, "gone": null })).is_ok(), "a removal is no null");
    // A part that fits does not make the whole fit.
    ask(&mut desk, json!({ "a": { "b": "x".repeat(4_000) }, "c": "y".repeat(4_000), "d": "z".repeat(4_000) }))
        .expect("room");
    assert_eq!(
        ask(&mut desk, json!({ "e": "w".repeat(4_000), "f": "v".repeat(4_000) })),
        Err(Refusal::TooLarge { limit: 16 * 1_024 })
    );
}

#[test]
fn members_of_another_cloud_that_do_not_fit_are_left_out_and_named() {
    let members = json!({ "good": 1, "bad.name": 2, "worse": { "x": [null] } });
    let mut desk = with_members(Road::Direct, &members);
    let document = held(&desk);
    assert_eq!((&document["good"], document.get("bad.name"), document.get("worse")), (&json!(1), None, None));
    let text = text(&document);
    assert!(text.contains("`bad.name`") && text.contains("`worse/x`"), "{text}");
    assert_eq!(document["agent"]["health"], "degraded");
    assert_eq!(desk.agent.durable().rest.members.len(), 3, "they are kept for the cloud that takes them");
    ask(&mut desk, json!({ "bad.name": null, "worse": null })).expect("it can be removed");
    desk.wait(5);
    assert_eq!(held(&desk)["agent"]["health"], "ok");
    let other = with_members(Road::Reported, &members);
    assert_eq!(held(&other)["bad.name"], 2);
}

#[test]
fn the_document_keeps_its_size_whatever_members_and_commands_hold() {
    for road in ROADS {
        let limit = rules(road).bytes;
        let members: Map<String, Value> = (0..40).map(|n| (format!("m{n}"), json!("x".repeat(50 * n)))).collect();
        let mut desk = with_members(road, &Value::Object(members));
        for burst in 0..4 {
            let ids: Vec<String> = (0..60).map(|n| format!("c{burst}-{n}")).collect();
            let effects = desk.hear_all(ids.iter().map(|id| request("count", Some(id), json!(null))));
            let mut effects: Vec<Effect> =
                starts(&effects).into_iter().flat_map(|run| desk.ends(run, done(json!("\"".repeat(600))))).collect();
            effects.extend(desk.wait(60));
            for document in documents(&effects) {
                assert!(document.to_string().len() <= limit, "{road:?}");
            }
            let bytes = held(&desk).to_string().len();
            assert!(bytes <= limit && bytes > limit / 2, "{road:?}: {bytes} bytes");
            assert_eq!(desk.agent.durable().ledger.untold_len(), 0, "{road:?}: all were told");
        }
    }
}

#[test]
fn the_largest_members_give_way_and_the_rest_stays() {
    for road in ROADS {
        let limit = rules(road).bytes;
        let large = || json!({ "x": vec!["y".repeat(4_000); 4] });
        let members: Map<String, Value> = (0..limit / 8_192).map(|n| (format!("large{n}"), large())).collect();
        let mut members = Value::Object(members);
        members["small"] = json!("kept");
        let mut desk = with_members(road, &members);
        let document = held(&desk);
        assert!(document.to_string().len() <= limit);
        assert_eq!(document["small"], "kept");
        assert!(text(&document).contains("`large"), "{}", text(&document));
        // And a command is told even so.
        let run = starts(&desk.hear(request("count", Some("c"), json!(null))))[0];
        desk.ends(run, done(json!("\"".repeat(2_000))));
        desk.wait(5);
        let document = held(&desk);
        assert!(document.to_string().len() <= limit);
        assert_eq!(document["commands"]["c"]["payloadCut"], true);
    }
}

/// What a hub counts: names and texts by their length, numbers as 8, truth values as 4.
fn counted(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(counted).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + counted(value)).sum(),
    }
}

#[test]
fn numbers_count_as_the_cloud_counts_them() {
    // Each is two bytes of JSON, and eight for a hub.
    let numbers = |count: usize| json!(vec![1; count]);
    assert_eq!(
        ask(&mut Desk::new(Road::Direct, SIMULATED), json!({ "n": numbers(2_100) })),
        Err(Refusal::TooLarge { limit: 16 * 1_024 })
    );
    assert!(ask(&mut Desk::new(Road::Reported, SIMULATED), json!({ "n": numbers(2_100) })).is_ok());
    let mut desk = with_members(Road::Direct, &json!({ "most": numbers(3_000), "more": numbers(2_000), "one": 1 }));
    let run = starts(&desk.hear(request("count", Some("c"), json!(null))))[0];
    desk.ends(run, done(numbers(500)));
    desk.wait(5);
    let document = held(&desk);
    assert!((16 * 1_024..=32 * 1_024).contains(&counted(&document)));
    assert_eq!((document.get("most"), &document["one"]), (None, &json!(1)));
    assert!(text(&document).contains("`most`"));
    let member = &document["commands"]["c"];
    assert_eq!((&member["payload"], &member["payloadText"]), (&json!(numbers(500).to_string()), &json!(true)));
}

#[test]
fn what_is_too_large_for_this_cloud_can_be_made_smaller_step_by_step() {
    let large = || json!({ "x": vec!["y".repeat(4_000); 4] });
    let mut desk = with_members(Road::Direct, &json!({ "a": large(), "b": large(), "c": large() }));
    assert_eq!(ask(&mut desk, json!({ "d": 1 })), Err(Refusal::TooLarge { limit: 16 * 1_024 }));
    ask(&mut desk, json!({ "a": null })).expect("smaller, though still too large");
    ask(&mut desk, json!({ "b": { "x": [] } })).expect("smaller");
    ask(&mut desk, json!({ "d": 1 })).expect("room");
}

#[test]
fn long_problems_leave_room_for_the_rest() {
    for road in ROADS {
        let mut desk = Desk::new(road, SIMULATED);
        let codes = [Code::Config, Code::AnotherMachine, Code::Key, Code::Journal, Code::Clock, Code::Poison];
        desk.take(codes.map(|code| Input::Problem { code, text: Some("x".repeat(60_000)) }));
        ask(&mut desk, json!({ "small": "kept" })).expect("room");
        desk.wait(5);
        let document = held(&desk);
        assert!(document.to_string().len() <= rules(road).bytes);
        assert_eq!((&document["small"], document["methods"].is_array()), (&json!("kept"), true), "{road:?}");
    }
}

#[test]
fn a_list_of_methods_beyond_all_measure_gives_way_too() {
    let mut given: Settings = settings(Road::Direct, SIMULATED);
    let spec = given.methods[0].clone();
    for n in 0..700 {
        let name = twinagent::model::command::Method::parse(&format!("m{n:055}")).expect("a name");
        given.methods.push(twinagent::model::command::MethodSpec { name, ..spec.clone() });
    }
    let desk = Desk::with(given);
    let document = held(&desk);
    assert!(document.get("methods").is_none() && document.to_string().len() <= 32 * 1_024);
    assert!(text(&document).contains("`methods`"));
}

#[test]
fn payloads_that_do_not_fit_are_told_as_text() {
    let deep = (0..9).fold(json!(1), |inner, _| json!({ "d": inner }));
    for payload in [json!({ "a.b": 1 }), json!({ "n": null }), deep, json!([1_i64 << 60])] {
        for (road, is_text) in [(Road::Direct, true), (Road::Reported, false)] {
            let mut desk = Desk::new(road, SIMULATED);
            let run = starts(&desk.hear(request("count", Some("c"), json!(null))))[0];
            desk.ends(run, done(payload.clone()));
            desk.wait(5);
            let member = &held(&desk)["commands"]["c"];
            if is_text {
                assert_eq!((&member["payload"], &member["payloadText"]), (&json!(payload.to_string()), &json!(true)));
            } else {
                assert_eq!((&member["payload"], member.get("payloadText")), (&payload, None));
            }
        }
    }
    let mut desk = Desk::new(Road::Direct, SIMULATED);
    let run = starts(&desk.hear(request("count", Some("c"), json!(null))))[0];
    desk.ends(run, done(json!({ "a.b": "x".repeat(2_000) })));
    desk.wait(5);
    let member = &held(&desk)["commands"]["c"];
    assert_eq!((&member["payloadCut"], member.get("payloadText")), (&json!(true), None));
}

#[test]
fn what_another_cloud_kept_survives_the_journal() {
    let line = r#"{"record":"reported","patch":{"bad.name":{"x":1}}}"#;
    let record: Record = serde_json::from_str(line).expect("a record");
    assert_eq!(Durable::replay([&record]).rest.members["bad.name"], json!({ "x": 1 }));
}
