//! The desired document, followed change by change: versions that lead on, repeat, leave a gap or go back.

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Inbound, Road};
use twinagent::model::digest::Digest;
use twinagent::model::durable::Durable;
use twinagent::model::record::Record;

use crate::desk::{Desk, SIMULATED, fetches};

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("no object") };
    members
}

/// Online, with a twin that was read, and somebody who follows it.
fn desk() -> Desk {
    let mut desk = Desk::new(Road::Direct, SIMULATED);
    desk.hub.version = 7;
    desk.hub.desired = object(json!({ "a": 1, "b": { "c": 2 } }));
    desk.cut();
    desk.wait(10);
    desk.online();
    desk.wait(10);
    desk.take([Input::Asked(Question::Desired { follow: true }, CallerId(1))]);
    desk
}

fn change(desk: &mut Desk, version: u64, patch: Value) -> Vec<Effect> {
    let input = desk.delivery(Inbound::DesiredPatch { patch: object(patch), version });
    desk.take([input])
}

/// What the follower is told.
fn followed(effects: &[Effect]) -> Vec<(Value, u64)> {
    let told = |effect: &Effect| match effect {
        Effect::Reply(_, Reply::Is { answer, .. }) => Some((answer["document"].clone(), answer["version"].as_u64()?)),
        _ => None,
    };
    effects.iter().filter_map(told).collect()
}

fn noted(desk: &Desk) -> (Option<u64>, Digest) {
    let desired = desk.agent.durable().rest.desired.clone().expect("noted");
    (desired.version, desired.digest)
}

#[test]
fn the_twin_is_noted_with_its_version_and_reported() {
    let mut desk = desk();
    assert_eq!(noted(&desk), (Some(7), Digest::of(br#"{"a":1,"b":{"c":2}}"#)));
    desk.wait(5);
    let shown = &desk.hub.reported["desired"];
    assert_eq!((&shown["version"], &shown["status"]), (&json!(7), &json!(200)));
    let records = desk.records.len();
    desk.cut();
    desk.wait(10);
    desk.online();
    desk.wait(5);
    assert!(
        !desk.records[records..].iter().any(|record| matches!(record, Record::Desired { .. })),
        "read again, and equal"
    );
}

#[test]
fn changes_lead_on_one_version_at_a_time() {
    let mut desk = desk();
    let effects = change(&mut desk, 8, json!({ "b": { "d": 3 }, "a": null }));
    assert_eq!(followed(&effects), [(json!({ "b": { "c": 2, "d": 3 } }), 8)]);
    assert_eq!(noted(&desk), (Some(8), Digest::of(br#"{"b":{"c":2,"d":3}}"#)));
    for repeat in [8, 7, 0] {
        let effects = change(&mut desk, repeat, json!({ "x": 1 }));
        assert_eq!((followed(&effects).len(), fetches(&effects)), (0, 0), "{repeat} is a repeat");
    }
    assert_eq!(followed(&change(&mut desk, 9, json!({ "b": null }))), [(json!({}), 9)]);
}

#[test]
fn a_gap_is_closed_by_reading_the_twin() {
    let mut desk = desk();
    desk.hub.version = 10;
    desk.hub.desired = object(json!({ "all": "new" }));
    let effects = change(&mut desk, 10, json!({ "all": "new" }));
    assert_eq!(fetches(&effects), 1);
    assert_eq!(followed(&effects), [(json!({ "all": "new" }), 10)]);
    assert_eq!(followed(&change(&mut desk, 11, json!({ "n": 1 }))), [(json!({ "all": "new", "n": 1 }), 11)]);
}

/// Not even the next change shows the gap, if there is none for long.
#[test]
fn a_change_that_cannot_be_read_is_read_from_the_twin() {
    let mut desk = desk();
    let unread = |desk: &mut Desk, version| {
        desk.wait(60);
        let input = desk.delivery(Inbound::DesiredUnread { version });
        desk.take([input])
    };
    for known in [0, 7] {
        assert_eq!(fetches(&unread(&mut desk, Some(known))), 0, "{known} is a repeat");
    }
    desk.hub.version = 8;
    desk.hub.desired = object(json!({ "all": "new" }));
    let effects = unread(&mut desk, Some(8));
    assert_eq!((fetches(&effects), followed(&effects)), (1, vec![(json!({ "all": "new" }), 8)]));
    // Which one it was is not known, so the twin says.
    desk.hub.version = 9;
    desk.hub.desired = object(json!({}));
    let effects = unread(&mut desk, None);
    assert_eq!((fetches(&effects), followed(&effects)), (1, vec![(json!({}), 9)]));
    assert_eq!(followed(&change(&mut desk, 10, json!({ "n": 1 }))), [(json!({ "n": 1 }), 10)]);
    let storm: usize = (0..100)
        .map(|_| {
            let input = desk.delivery(Inbound::DesiredUnread { version: None });
            fetches(&desk.take([input]))
        })
        .sum();
    assert!(storm <= 2, "{storm}");
}

#[test]
fn a_storm_of_gaps_is_no_storm_of_questions() {
    let mut desk = desk();
    let mut asked = 0;
    for n in 0..100 {
        asked += fetches(&change(&mut desk, 100 + 2 * n, json!({ "n": n })));
        desk.hub.version = 7;
    }
    assert!(asked <= 2, "{asked}");
    let later = fetches(&desk.wait(60));
    assert!(later <= 2, "{later}: each gap is asked for once, and then the answer counts");
}

#[test]
fn a_change_before_the_twin_was_read_is_not_merged_into_an_old_one() {
    let mut desk = desk();
    desk.cut();
    desk.wait(10);
    desk.acknowledges = false;
    let effects = desk.online();
    assert_eq!(fetches(&effects), 1);
    assert!(followed(&change(&mut desk, 8, json!({ "a": 2 }))).is_empty());
    let id = crate::desk::sends(&effects)[0];
    // The answer was on its way when that change was made.
    let desired = desk.hub.desired.clone();
    let input = desk.delivery(Inbound::Twin { id, desired, version: 7, reported: Map::new() });
    desk.take([input]);
    desk.acknowledges = true;
    desk.hub.desired["a"] = json!(2);
    desk.hub.version = 8;
    // The patch that went out meanwhile has no answer, and must be given up first.
    let effects = desk.wait(60);
    assert_eq!(followed(&effects), [(json!({ "a": 2, "b": { "c": 2 } }), 8)]);
}

#[test]
fn only_the_twin_itself_may_go_back() {
    let mut desk = desk();
    assert!(followed(&change(&mut desk, 3, json!({ "old": true }))).is_empty());
    desk.cut();
    desk.hub.version = 1;
    desk.hub.desired = object(json!({ "made": "anew" }));
    desk.wait(10);
    let effects = desk.online();
    assert_eq!(followed(&effects), [(json!({ "made": "anew" }), 1)]);
    assert_eq!(noted(&desk).0, Some(1));
    assert_eq!(followed(&change(&mut desk, 2, json!({ "made": null }))), [(json!({}), 2)]);
}

#[test]
fn nulls_are_no_members_and_growth_has_an_end() {
    let mut desk = desk();
    let effects = change(&mut desk, 8, json!({ "n": { "x": null, "y": { "z": null } }, "gone": null }));
    assert_eq!(followed(&effects)[0].0["n"], json!({ "y": {} }));
    let mut asked = 0;
    for n in 9..40 {
        desk.wait(60);
        desk.hub.version = n;
        asked += fetches(&change(&mut desk, n, json!({ (format!("k{n}")): "x".repeat(4_000) })));
    }
    assert!(asked >= 1, "beyond 64 KiB the cloud is asked for its own");
    assert_eq!(noted(&desk).0, Some(39));
}

#[test]
fn the_last_version_is_the_largest_number_there_is() {
    let mut desk = desk();
    desk.hub.version = u64::MAX;
    desk.cut();
    desk.wait(10);
    desk.online();
    let effects = change(&mut desk, u64::MAX, json!({ "x": 1 }));
    assert_eq!((followed(&effects).len(), fetches(&effects)), (0, 0));
}

#[test]
fn a_document_that_was_noted_without_a_version_is_read() {
    let digest = Digest::of(b"{}");
    let line = format!(r#"{{"record":"desired","digest":"{digest}","status":200}}"#);
    let record: Record = serde_json::from_str(&line).expect("a record");
    let desired = Durable::replay([&record]).rest.desired.expect("noted");
    assert_eq!((desired.version, desired.digest), (None, digest));
}
