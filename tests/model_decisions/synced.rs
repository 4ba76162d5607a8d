//! A cloud whose twin can be read: what it has is read first, and it is sent what has changed.

use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Inbound, Outbound, Road};
use twinagent::model::patch::merge;
use twinagent::model::wire::MessageId;

use crate::desk::{Desk, SIMULATED, done, fetches, patches, sends, starts};
use crate::given::{request, settings};

pub(crate) fn desk() -> Desk {
    Desk::new(Road::Direct, SIMULATED)
}

pub(crate) fn report(desk: &mut Desk, patch: Value) -> Vec<Effect> {
    let Value::Object(patch) = patch else { panic!("no object") };
    desk.take([Input::Asked(Question::Report { patch }, CallerId(1))])
}

/// The document as the agent would have it.
fn ours(desk: &mut Desk) -> Value {
    let effects = desk.take([Input::Asked(Question::Twin, CallerId(9))]);
    let answer = effects.iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Is { answer, .. }) => Some(answer["reported"].clone()),
        _ => None,
    });
    answer.expect("the twin")
}

pub(crate) fn problem(desk: &mut Desk) -> Option<String> {
    let document = ours(desk);
    let problems = document["agent"]["problems"].as_array().expect("problems");
    let reported = problems.iter().find(|problem| problem["code"] == "reported");
    reported.map(|problem| problem["text"].as_str().expect("a text").to_owned())
}

#[test]
fn the_twin_is_read_at_each_connection_and_patched_with_what_has_changed() {
    let mut desk = desk();
    assert_eq!(Value::Object(desk.hub.reported.clone()), ours(&mut desk));
    let effects = report(&mut desk, json!({ "site": { "room": 1 } }));
    assert_eq!(patches(&effects), [json!({ "site": { "room": 1 } })]);
    desk.wait(5);
    assert_eq!(patches(&report(&mut desk, json!({ "site": { "floor": 2 } }))), [json!({ "site": { "floor": 2 } })]);
    desk.wait(5);
    assert_eq!(patches(&report(&mut desk, json!({ "site": null }))), [json!({ "site": null })]);
    desk.cut();
    desk.wait(10);
    let effects = desk.online();
    assert_eq!(fetches(&effects), 1);
    assert_eq!(desk.hub.reported["agent"]["lastDisconnect"]["code"], "kicked-early");
}

#[test]
fn what_the_cloud_has_and_we_have_not_is_removed() {
    let mut desk = desk();
    desk.cut();
    desk.hub.reported.insert("stale".to_owned(), json!({ "deep": [1] }));
    desk.hub.reported["agent"]["old"] = json!(true);
    desk.hub.reported.remove("methods");
    desk.wait(10);
    desk.online();
    desk.wait(2);
    assert_eq!(Value::Object(desk.hub.reported.clone()), ours(&mut desk));
}

#[test]
fn nothing_is_patched_before_the_twin_was_read_and_answers_go_beside_it() {
    let mut desk = desk();
    desk.cut();
    report(&mut desk, json!({ "a": 1 }));
    desk.wait(10);
    desk.acknowledges = false;
    let effects = desk.online();
    assert_eq!((fetches(&effects), patches(&effects).len()), (1, 0));
    let [id] = sends(&effects)[..] else { panic!("one request") };
    // Whoever takes it for acknowledged is wrong.
    let effects = desk.take([Input::Settled(id)]);
    assert_eq!((fetches(&effects), patches(&effects).len()), (0, 0));
    let foreign = Inbound::Twin { id: MessageId(u64::MAX), desired: Map::new(), version: 1, reported: Map::new() };
    let input = desk.delivery(foreign);
    assert!(patches(&desk.take([input])).is_empty(), "nobody asked for that one");
    let reported = desk.hub.reported.clone();
    let input = desk.delivery(Inbound::Twin { id, desired: Map::new(), version: 1, reported });
    let [patch] = &patches(&desk.take([input]))[..] else { panic!("one patch") };
    assert_eq!(patch["a"], 1);
}

#[test]
fn a_patch_is_settled_by_the_clouds_own_answer_alone() {
    let mut desk = desk();
    desk.acknowledges = false;
    let effects = desk.hear(request("nope", Some("n"), json!(null)));
    let [id] = sends(&effects)[..] else { panic!("one patch") };
    desk.take([Input::Settled(id)]);
    report(&mut desk, json!({ "a": 1 }));
    assert!(sends(&desk.wait(20)).is_empty(), "one at a time");
    desk.acknowledges = true;
    let answered = desk.delivery(Inbound::Answered { id, status: 200 });
    let mut effects = desk.take([answered]);
    effects.extend(desk.wait(2));
    assert_eq!(patches(&effects), [json!({ "a": 1 })]);
}

#[test]
fn no_answer_within_thirty_seconds_is_a_loss_and_the_twin_is_read_again() {
    let mut desk = desk();
    desk.acknowledges = false;
    let effects = report(&mut desk, json!({ "a": 1 }));
    let [late] = sends(&effects)[..] else { panic!("one patch") };
    assert!(sends(&desk.wait(29)).is_empty());
    let effects = desk.wait(12);
    assert_eq!((fetches(&effects), patches(&effects).len()), (1, 0), "whether it arrived is not known");
    let answered = desk.delivery(Inbound::Answered { id: late, status: 204 });
    assert!(sends(&desk.take([answered])).is_empty(), "too late to settle anything");
    desk.acknowledges = true;
    desk.wait(60);
    assert_eq!(desk.hub.reported["a"], 1);
}

#[test]
fn a_throttled_patch_is_tried_again_with_doubling_waits() {
    let mut desk = desk();
    desk.hub.statuses = vec![429; 8];
    let mut times = Vec::new();
    let begin = desk.wall;
    let mut effects = report(&mut desk, json!({ "a": 1 }));
    for _ in 0..3_000 {
        if !patches(&effects).is_empty() {
            times.push(desk.wall.saturating_sub(begin).as_secs());
        }
        assert_eq!(fetches(&effects), 0, "what the cloud has is known");
        effects = desk.wait(1);
    }
    assert_eq!(desk.hub.reported["a"], 1);
    // What follows at once says that all is well again.
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).take(8).collect();
    assert_eq!((waits.len(), times.len()), (8, 10), "{waits:?}");
    for (n, wait) in waits.iter().enumerate() {
        let most = (10 << n).min(300);
        assert!((most / 2..=most + 1).contains(wait), "{waits:?}");
    }
    assert_eq!(problem(&mut desk), None);
}

#[test]
fn a_hub_in_trouble_is_asked_again_what_it_has() {
    for (statuses, expected) in [(vec![500], 1), (vec![503, 500, 503], 3)] {
        let mut desk = desk();
        desk.hub.statuses = statuses;
        let mut effects = report(&mut desk, json!({ "a": 1 }));
        effects.extend(desk.wait(200));
        assert_eq!(fetches(&effects), expected);
        assert_eq!(desk.hub.reported["a"], 1);
    }
}

#[test]
fn a_document_that_cannot_be_sent_is_a_problem_and_not_a_loop() {
    for road in [Road::Direct, Road::Reported] {
        let mut desk = Desk::new(road, SIMULATED);
        desk.acknowledges = false;
        let [id] = sends(&report(&mut desk, json!({ "a": 1 })))[..] else { panic!("one document") };
        desk.acknowledges = true;
        let mut effects = desk.take([Input::Unsent(id, "too large".to_owned())]);
        effects.extend(desk.wait(400));
        assert!(sends(&effects).is_empty(), "{road:?}");
        assert!(problem(&mut desk).is_some_and(|text| text.contains("too large")), "{road:?}");
        desk.wait(600);
        let held = if road == Road::Direct { Value::Object(desk.hub.reported.clone()) } else { desk.twin.clone() };
        assert_eq!(held["a"], 1);
    }
}

#[test]
fn a_patch_that_may_have_arrived_is_not_counted_on() {
    let mut desk = desk();
    desk.acknowledges = false;
    let [patch] = &patches(&report(&mut desk, json!({ "a": 1 })))[..] else { panic!("one patch") };
    // It has arrived, and the connection ended before its answer.
    merge(&mut desk.hub.reported, patch.as_object().expect("an object"));
    desk.cut();
    report(&mut desk, json!({ "a": null }));
    desk.acknowledges = true;
    desk.wait(10);
    desk.online();
    desk.wait(2);
    assert!(!desk.hub.reported.contains_key("a"));
    assert_eq!(Value::Object(desk.hub.reported.clone()), ours(&mut desk));
}

#[test]
fn silence_means_something_here_too() {
    let mut given = settings(Road::Direct, SIMULATED);
    given.heartbeat = Duration::from_secs(600);
    let mut desk = Desk::with(given);
    desk.wait(10);
    let beats = patches(&desk.wait(6_000));
    assert!((9..=10).contains(&beats.len()), "{}", beats.len());
    for beat in beats {
        let members: Vec<&String> = beat.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["agent"]);
        assert_eq!(beat["agent"]["health"], "ok");
    }
}

#[test]
fn a_difference_too_large_for_one_patch_goes_in_several_and_tells_at_the_end() {
    let mut desk = desk();
    desk.cut();
    let stale = |n: usize| (format!("stale{n}"), json!("x".repeat(3_000)));
    desk.hub.reported = (0..10).map(stale).collect();
    // Thirty-two thousand bytes of names to be removed, and much to be told.
    desk.hub
        .reported
        .insert("names".to_owned(), (0..900).map(|n| (format!("{n:030}"), json!(1))).collect::<Map<_, _>>().into());
    report(
        &mut desk,
        json!({ "names": { "kept": "y".repeat(4_000) }, "more": "z".repeat(4_000), "most": "w".repeat(4_000) }),
    );
    let effects = desk.hear_all((0..40).map(|n| request("count", Some(&format!("c{n}")), json!(null))));
    for run in starts(&effects) {
        desk.ends(run, done(json!("\\".repeat(500))));
    }
    desk.wait(10);
    let mut effects = desk.online();
    effects.extend(desk.wait(30));
    let sent = patches(&effects);
    assert!(sent.len() > 1 && sent.iter().all(|patch| patch.to_string().len() <= 32 * 1_024));
    assert_eq!(Value::Object(desk.hub.reported.clone()), ours(&mut desk));
    assert_eq!(desk.agent.durable().ledger.untold_len(), 0);
}

#[test]
fn hostile_twins_are_outlived() {
    let nested = (0..11).fold(json!(1), |inner, _| json!({ "d": inner }));
    let hostile = [
        json!({ "a": null, "b": { "c": null, "d": [null] }, "agent": null, "commands": { "x": null } }),
        json!({ "deep": nested }),
        json!({ "large": "x".repeat(33 * 1_024) }),
        json!({ "a.b": 1, "$c": { "d e": 1 }, "agent": { "f.g": 1 }, "commands": { "$x": 1 } }),
        json!({ "agent": [], "methods": {}, "commands": "no", "boot": 1.5 }),
    ];
    for reported in hostile {
        let mut desk = desk();
        desk.cut();
        let Value::Object(members) = reported.clone() else { panic!("no object") };
        desk.hub.reported = members;
        desk.wait(10);
        let mut effects = desk.online();
        effects.extend(desk.wait(30));
        let sent = patches(&effects).into_iter().map(|patch| patch.to_string());
        for patch in sent {
            assert!(
                patch.len() <= 32 * 1_024 && !patch.contains("a.b") && !patch.contains("f.g") && !patch.contains('$')
            );
        }
        // What cannot be named to the cloud stays there; all else is ours.
        let rules = crate::given::hub().document;
        rules.keep_named(&mut desk.hub.reported);
        twinagent::model::patch::without_nulls(&mut desk.hub.reported);
        assert_eq!(Value::Object(desk.hub.reported.clone()), ours(&mut desk), "{}", reported.to_string().len());
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send(_, Outbound::Reported(_)))));
    }
}
