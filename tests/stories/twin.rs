//! Stories of a twin that can be read: both documents at each connect, patches of what changed, versions, throttles.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use twinagent::bridge::{Fault, RawPublish, ReportedChange, Times};
use twinagent::host::clock;

use crate::cloud::Kind;
use crate::cloud::iothub::Cloud;
use crate::device::{Device, Setup};
use crate::log::Log;
use crate::program::{done, problem, status};

fn setup() -> Setup {
    Setup::on(Kind::IotHub)
}

fn hub(device: &Device) -> &Cloud {
    device.cloud.iothub()
}

async fn changes(device: &Device) -> mpsc::Receiver<ReportedChange> {
    hub(device).service.reported_changes().await.expect("a tap")
}

/// Waits until the device says that it has this version of the desired document, and it is this one.
async fn has(device: &mut Device, version: u64, document: &Value) {
    device.twin(|twin| twin["desired"]["version"] == version && twin["desired"]["status"] == 200).await;
    let known: Value = serde_json::from_str(&done(device, &["twin"]).await).expect("JSON");
    assert_eq!(known["desired"], *document);
}

/// Has an answer to what was sent after everything else, and that was told.
async fn is_quiet(device: &mut Device, id: &str) {
    device.send(&format!("echo/{id}"), "").await;
    device.answer(id, 200).await;
}

#[tokio::test]
async fn only_what_changed_is_sent_and_nothing_when_nothing_has() {
    let mut device = Device::online(setup()).await;
    is_quiet(&mut device, "first").await;
    device.hear_until_quiet(Duration::from_secs(3)).await;
    let mut changes = changes(&device).await;
    is_quiet(&mut device, "second").await;
    let patch = changes.recv().await.expect("no change is missed").patch;
    let members: Vec<&String> = patch.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["commands"], "{patch:#}");
    assert!(patch["commands"].get("first").is_none(), "{patch:#}");

    // The same document over another connection is none to be sent.
    device.hear_until_quiet(Duration::from_secs(3)).await;
    while changes.try_recv().is_ok() {}
    let before = device.cloud.reported().await;
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    is_quiet(&mut device, "third").await;
    let mut patches = Vec::new();
    while let Ok(change) = changes.try_recv() {
        patches.push(change.patch);
    }
    // What ended the connection is new, and the command.
    let told =
        |patch: &Value| patch.as_object().expect("an object").keys().all(|key| key == "commands" || key == "agent");
    assert!(!patches.is_empty() && patches.iter().all(told), "{before:?} {patches:#?}");
    device.stop().await;
}

#[tokio::test]
async fn what_the_cloud_still_has_of_a_former_life_is_taken_away() {
    let mut device = Device::online(setup()).await;
    done(&device, &["twin", "report", r#"{"door":{"state":"open"},"lamp":true}"#]).await;
    device.twin(|twin| twin["door"]["state"] == "open" && twin["lamp"] == true).await;
    device.stop().await;
    // The device forgets, the cloud does not.
    std::fs::remove_dir_all(device.path("state")).expect("the state folder");
    std::fs::create_dir(device.path("state")).expect("a new one");
    device.start();
    device.wait_until_ready().await;
    let twin = device.twin(|twin| twin.get("door").is_none() && twin.get("lamp").is_none()).await;
    assert!(twin["agent"]["version"].is_string(), "{twin:#}");
    device.stop().await;
}

#[tokio::test]
async fn a_throttled_twin_is_tried_again_and_not_at_once() {
    let log = Log::listen();
    // The wait is drawn from 5 to 10 seconds. Without a throttle nothing waits.
    for (what, faults) in [("once", 1), ("never", 0)] {
        let mut device = Device::new(setup()).await;
        if faults > 0 {
            hub(&device).service.throttle_twins(&hub(&device).name, faults, 429).await.expect("the device");
        }
        let began = clock::boot();
        device.start();
        device.wait_until_ready().await;
        // Who waits for an answer of its own is not held up by that.
        assert_eq!(hub(&device).invoke("echo", json!(1)).await, Ok((200, json!(1))), "{what}");
        device.send("count/c-1", "").await;
        device.answer("c-1", 200).await;
        let took = clock::boot().since(began);
        assert!(faults == 0 || took >= Duration::from_secs(5), "{what}: {took:?} {}", log.text());
        assert_eq!((device.logins().await, device.counted().len()), (1, 1), "{what}");
        device.stop().await;
    }
}

#[tokio::test]
async fn a_report_that_is_not_answered_is_told_again_and_its_command_not_run_again() {
    let mut device = Device::online(setup()).await;
    is_quiet(&mut device, "first").await;
    device.cloud.add_fault(Fault::WithholdTwinAnswers, Times::Always).await;
    device.send("count/w-1", "").await;
    // The cloud has it, and the device does not know.
    device.answer("w-1", 200).await;
    device.cloud.disconnect().await;
    device.cloud.clear_faults().await;
    device.wait_until_ready().await;
    is_quiet(&mut device, "second").await;
    assert_eq!(device.counted(), [("w-1".to_owned(), 1)].into());
    status(&device, |status| status["commands"]["untold"] == 0).await;
    device.stop().await;
}

#[tokio::test]
async fn desired_changes_are_followed_by_their_versions_here_and_while_away() {
    let mut device = Device::online(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    let patch = async |patch: Value| service.patch_desired(&name, patch).await.expect("a version");
    let version = patch(json!({ "interval": 5, "led": { "color": "red", "on": true } })).await;
    has(&mut device, version, &json!({ "interval": 5, "led": { "color": "red", "on": true } })).await;
    let version = patch(json!({ "led": { "color": "blue", "on": null } })).await;
    has(&mut device, version, &json!({ "interval": 5, "led": { "color": "blue" } })).await;
    let version = service.replace_desired(&name, json!({ "led": { "on": false } })).await.expect("a version");
    has(&mut device, version, &json!({ "led": { "on": false } })).await;

    // What was changed while the device was away is not sent to it later: it has to look.
    device.stop().await;
    for n in 0..3 {
        patch(json!({ "n": n, "interval": null })).await;
    }
    let version = patch(json!({ "led": null })).await;
    device.start();
    device.wait_until_ready().await;
    has(&mut device, version, &json!({ "n": 2 })).await;
    // A hundred in a row, of which it is told each.
    let mut version = version;
    for n in 0..100 {
        version = patch(json!({ "n": n })).await;
    }
    has(&mut device, version, &json!({ "n": 99 })).await;
    assert_eq!(device.logins().await, 2);
    device.stop().await;
}

fn notice(version: &str, body: impl Into<bytes::Bytes>) -> RawPublish {
    RawPublish {
        qos: 0,
        ..RawPublish::new(format!("$iothub/twin/PATCH/properties/desired/?$version={version}"), body, 0)
    }
}

#[tokio::test]
async fn gaps_repeats_and_nonsense_among_the_versions_end_in_what_the_cloud_has() {
    let log = Log::listen();
    let mut device = Device::online(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    let version = service.patch_desired(&name, json!({ "n": 1 })).await.expect("a version");
    has(&mut device, version, &json!({ "n": 1 })).await;
    let deep = format!("{}1{}", "{\"a\":".repeat(2_000), "}".repeat(2_000));
    let large = json!({ "a": "x".repeat(200_000) }).to_string();
    let next = (version + 1).to_string();
    let messages = [
        // Old news, and news from a future that this cloud does not have.
        notice("1", r#"{"n":"old","$version":1}"#),
        notice(&version.to_string(), r#"{"n":"again"}"#),
        notice("7000", r#"{"n":"a gap","$version":7000}"#),
        notice("18446744073709551615", r#"{"n":"the end of numbers"}"#),
        notice("18446744073709551616", r#"{"n":"beyond"}"#),
        notice("-1", r#"{"n":"below"}"#),
        notice("", r#"{"n":"no version"}"#),
        // The right version, and nothing that could be a patch.
        notice(&next, ""),
        notice(&next, "["),
        notice(&next, "null"),
        notice(&next, "[1]"),
        notice(&next, b"{\"a\":\"\xff\"}".as_slice()),
        notice(&next, deep),
        notice(&next, large),
        notice(&next, format!(r#"{{"n":"two minds","$version":{}}}"#, version + 9)),
    ];
    device.cloud.publish(&messages).await;
    is_quiet(&mut device, "after").await;
    let version = service.patch_desired(&name, json!({ "m": 2 })).await.expect("a version");
    has(&mut device, version, &json!({ "n": 1, "m": 2 })).await;
    assert_eq!((device.logins().await, device.complaint().await), (1, None), "{}", log.text());
    device.stop().await;
}

/// As after a restore of the hub: what the cloud says when it is asked counts.
#[tokio::test]
async fn a_version_that_went_back_counts_when_the_twin_is_read() {
    let mut device = Device::online(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    for n in 0..5 {
        service.patch_desired(&name, json!({ "n": n })).await.expect("a version");
    }
    device.twin(|twin| twin["desired"]["version"].as_u64().is_some_and(|version| version > 5)).await;
    device.stop().await;
    // Another device of this name, with the same key.
    service.delete(&name).await.expect("the device");
    service.create_device(&name.device, crate::cloud::iothub::shared()).await.expect("a device");
    let version = service.patch_desired(&name, json!({ "n": "anew" })).await.expect("a version");
    assert!(version < 5, "{version}");
    device.listen().await;
    device.start();
    device.wait_until_ready_anew().await;
    has(&mut device, version, &json!({ "n": "anew" })).await;
    device.stop().await;
}

#[tokio::test]
async fn members_that_no_twin_takes_are_refused_where_they_are_made() {
    let mut device = Device::online(setup()).await;
    let mut nested = json!(1);
    for _ in 0..11 {
        nested = json!({ "a": nested });
    }
    for (patch, rule) in [
        (json!({ "a.b": 1 }), "."),
        (json!({ "$a": 1 }), "$"),
        (json!({ "a b": 1 }), "space"),
        (json!({ "deep": nested }), "deep"),
        (json!({ "text": "x".repeat(5_000) }), "4096"),
        (json!({ "number": 1_u64 << 53 }), "number"),
    ] {
        let told = crate::program::run(&device, &["twin", "report", &patch.to_string()]).await;
        assert!(told.code == 1 && told.err.contains(rule), "{patch}: {told:?}");
    }
    done(&device, &["twin", "report", r#"{"good":{"a":[1,2]}}"#]).await;
    let twin = device.twin(|twin| twin["good"]["a"] == json!([1, 2])).await;
    assert_eq!(problem(&twin["agent"]["problems"], "reported"), None);
    device.stop().await;
}

/// What a caller sent may be told as text, but must not keep the twin from being told at all.
#[tokio::test]
async fn answers_that_no_twin_takes_are_told_in_another_form() {
    let mut device = Device::online(setup()).await;
    let deep = format!("{}1{}", "[".repeat(30), "]".repeat(30));
    let odd = r#"{"a.b":1,"$c":null,"d e":9007199254740993}"#;
    let in_array = r#"{"a":[{"b":null}]}"#;
    for (id, payload) in [("deep", deep.as_str()), ("odd", odd), ("null", r#"{"a":null}"#), ("in-array", in_array)] {
        device.send(&format!("echo/{id}"), payload).await;
        let answer = device.answer(id, 200).await;
        assert_eq!(answer["payloadText"], true, "{id}: {answer}");
        let text = answer["payload"].as_str().expect("JSON as a text");
        let sent: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), sent, "{id}");
    }
    device.send("echo/even", r#"{"a":[1]}"#).await;
    let answer = device.answer("even", 200).await;
    assert_eq!((&answer["payload"], &answer["payloadText"]), (&json!({ "a": [1] }), &Value::Null));
    device.send("count/good", "").await;
    device.answer("good", 200).await;
    assert_eq!((device.logins().await, device.complaint().await), (1, None));
    device.stop().await;
}
