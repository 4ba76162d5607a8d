//! Twins: read, reported, desired, refused and throttled.

use rumqttc::mqttbytes::QoS;
use serde_json::{Value, json};
use tokio::time::timeout;
use twinagent::bridge::{Fault, Times};

use super::device::{DESIRED, HubWorld, TWIN_ANSWERS, quiet};
use crate::raw::Raw;
use crate::support::LIMIT;

const GET: &str = "$iothub/twin/GET/?$rid=";
const PATCH: &str = "$iothub/twin/PATCH/properties/reported/?$rid=";

/// What follows `$iothub/twin/res/` in the topic of the next answer, and its body.
async fn answer(raw: &mut Raw) -> (String, Value) {
    let answer = raw.publish().await;
    assert_eq!(answer.qos, QoS::AtMostOnce);
    let body = if answer.payload.is_empty() { Value::Null } else { json_of(&answer.payload) };
    (answer.topic.strip_prefix("$iothub/twin/res/").expect("an answer").to_owned(), body)
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[tokio::test]
async fn a_device_reads_its_twin_reports_and_hears_of_desired_changes() {
    let world = HubWorld::new().await;
    let mut changes = world.hub.reported_changes().await.expect("a tap");
    let mut raw = world.online(&[TWIN_ANSWERS, DESIRED]).await;
    raw.send(quiet(&format!("{GET}a-1"), " ")).await;
    let (topic, twin) = answer(&mut raw).await;
    assert_eq!(topic, "200/?$rid=a-1");
    assert_eq!(twin, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));

    raw.send(quiet(&format!("{PATCH}a-2"), r#"{"rebootTime":"now","a":{"b":1}}"#)).await;
    assert_eq!(answer(&mut raw).await, ("204/?$rid=a-2&$version=2".to_owned(), Value::Null));
    raw.send(quiet(&format!("{PATCH}a-3"), r#"{"a":{"b":null,"c":2}}"#)).await;
    assert_eq!(answer(&mut raw).await.0, "204/?$rid=a-3&$version=3");
    let first = timeout(LIMIT, changes.recv()).await.expect("it comes").expect("the tap is open");
    assert_eq!((first.version, first.reported), (2, json!({"rebootTime": "now", "a": {"b": 1}})));
    let second = timeout(LIMIT, changes.recv()).await.expect("it comes").expect("the tap is open");
    assert_eq!(second.patch, json!({"a": {"b": null, "c": 2}}));
    assert_eq!(second.reported, json!({"rebootTime": "now", "a": {"c": 2}}));

    assert_eq!(world.hub.patch_desired(&world.device, json!({"x": {"y": 1}, "z": 2})).await, Ok(2));
    let notice = raw.publish().await;
    assert_eq!(notice.topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(json_of(&notice.payload), json!({"x": {"y": 1}, "z": 2, "$version": 2}));
    assert_eq!(world.hub.replace_desired(&world.device, json!({"z": 3})).await, Ok(3));
    let notice = json_of(&raw.publish().await.payload);
    assert_eq!((&notice["z"], &notice["$version"]), (&json!(3), &json!(3)));
    let twin = world.hub.twin(&world.device).await.expect("the device is there");
    assert_eq!(twin["desired"], json!({"z": 3, "$version": 3}));
    assert_eq!(twin["reported"], json!({"rebootTime": "now", "a": {"c": 2}, "$version": 3}));
}

#[tokio::test]
async fn what_a_twin_cannot_hold_is_refused_and_changes_nothing() {
    let world = HubWorld::new().await;
    let mut raw = world.online(&[TWIN_ANSWERS]).await;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(12), "}".repeat(12));
    let large = json!({"a": {"b": "x".repeat(4000)}, "c": {"b": "x".repeat(4000)}});
    let large: serde_json::Map<_, _> = (0..5).map(|at| (format!("m{at}"), large.clone())).collect();
    for wrong in [
        "",
        "{",
        "[]",
        "null",
        r#"{"a.b":1}"#,
        r#"{"$a":1}"#,
        r#"{"a b":1}"#,
        r#"{"a":4503599627370496}"#,
        deep.as_str(),
        &Value::Object(large).to_string(),
        &json!({"a": "x".repeat(4097)}).to_string(),
    ] {
        raw.send(quiet(&format!("{PATCH}1"), wrong)).await;
        let (topic, body) = answer(&mut raw).await;
        assert!(topic.starts_with('4') && topic.ends_with("/?$rid=1"), "{topic} for {} bytes", wrong.len());
        assert!(body["errorCode"].is_number(), "{body}");
    }
    let twin = world.hub.twin(&world.device).await.expect("the device is there");
    assert_eq!(twin["reported"], json!({"$version": 1}));
}

#[tokio::test]
async fn a_test_can_throttle_and_lose_answers() {
    let world = HubWorld::new().await;
    let mut raw = world.online(&[TWIN_ANSWERS]).await;
    world.hub.throttle_twins(&world.device, 2, 429).await.expect("asked for");
    raw.send(quiet(&format!("{GET}1"), "")).await;
    assert_eq!(answer(&mut raw).await.0, "429/?$rid=1");
    raw.send(quiet(&format!("{PATCH}2"), r#"{"a":1}"#)).await;
    assert_eq!(answer(&mut raw).await.0, "429/?$rid=2");
    raw.send(quiet(&format!("{GET}3"), "")).await;
    let (topic, twin) = answer(&mut raw).await;
    assert_eq!((topic.as_str(), &twin["reported"]), ("200/?$rid=3", &json!({"$version": 1})));
    // Done, and not answered.
    world.faults.add(&world.device, Fault::WithholdTwinAnswers, Times::Next(1)).await.expect("asked for");
    raw.send(quiet(&format!("{PATCH}4"), r#"{"a":1}"#)).await;
    raw.send(quiet(&format!("{GET}5"), "")).await;
    let (topic, twin) = answer(&mut raw).await;
    assert_eq!((topic.as_str(), &twin["reported"]["a"]), ("200/?$rid=5", &json!(1)));
}

#[tokio::test]
async fn whoever_is_not_subscribed_is_not_told() {
    let world = HubWorld::new().await;
    let mut raw = world.online(&[]).await;
    raw.send(quiet(&format!("{GET}1"), " ")).await;
    world.hub.patch_desired(&world.device, json!({"a": 1})).await.expect("written");
    raw.ping().await;
    // Nor of what happened while it was away: it reads its twin.
    drop(raw);
    world.gone().await;
    world.hub.patch_desired(&world.device, json!({"a": 2})).await.expect("written");
    let mut raw = world.online(&[TWIN_ANSWERS, DESIRED]).await;
    raw.send(quiet(&format!("{GET}2"), " ")).await;
    let (_, twin) = answer(&mut raw).await;
    assert_eq!(twin["desired"], json!({"a": 2, "$version": 3}));
}
