//! Twins as the service writes and reads them, and what the device hears of it.

use serde_json::{Map, Value, json};

use super::super::device::{DESIRED, HubWorld, TWIN_ANSWERS, quiet};
use super::Service;

async fn notice(raw: &mut crate::raw::Raw) -> (String, Value) {
    let publish = raw.publish().await;
    (publish.topic.clone(), serde_json::from_slice(&publish.payload).expect("JSON"))
}

#[tokio::test]
async fn a_patch_merges_a_put_replaces_and_the_device_hears_of_both() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let mut raw = world.online(&[TWIN_ANSWERS, DESIRED]).await;
    let body = json!({"tags": {"site": "x"}, "properties": {"desired": {"a": {"b": 1, "c": 2}, "d": "e"}}});
    let twin = service.done("PATCH", "/twins/dev1", body).await;
    assert_eq!((&twin["version"], &twin["tags"]), (&json!(2), &json!({"site": "x"})));
    assert!(twin["properties"]["desired"]["$metadata"]["a"]["b"]["$lastUpdated"].is_string());
    let (topic, told) = notice(&mut raw).await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(told, json!({"a": {"b": 1, "c": 2}, "d": "e", "$version": 2}));

    // Of tags the device hears nothing, so the next notice is of the next patch.
    service.done("PATCH", "/twins/dev1", json!({"tags": {"site": null, "floor": 3}})).await;
    service.done("PATCH", "/twins/dev1", json!({"properties": {"desired": {"a": {"b": null}, "none": null}}})).await;
    let (topic, told) = notice(&mut raw).await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=3");
    assert_eq!(told, json!({"a": {"b": null}, "none": null, "$version": 3}));

    let twin = service.done("PUT", "/twins/dev1", json!({"properties": {"desired": {"a": {"f": 1}}}})).await;
    assert_eq!(twin["tags"], json!({"floor": 3}), "what is not named stays");
    let (topic, told) = notice(&mut raw).await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=4");
    assert_eq!(told, json!({"a": {"c": null, "f": 1}, "d": null, "$version": 4}));
    let desired = world.hub.twin(&world.device).await.expect("a twin")["desired"].clone();
    assert_eq!(desired, json!({"a": {"f": 1}, "$version": 4}));
}

#[tokio::test]
async fn what_the_device_reports_is_read_with_its_times() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let before = service.call("GET", "/twins/dev1", &[], "").await;
    let mut raw = world.online(&[TWIN_ANSWERS]).await;
    raw.send(quiet("$iothub/twin/PATCH/properties/reported/?$rid=1", r#"{"rebootTime":"now"}"#)).await;
    raw.publish().await;
    let twin = service.call("GET", "/twins/dev1", &[], "").await;
    let reported = &twin.body["properties"]["reported"];
    assert_eq!((&reported["rebootTime"], &reported["$version"]), (&json!("now"), &json!(2)));
    assert!(reported["$metadata"]["rebootTime"]["$lastUpdated"].is_string());
    assert_eq!(twin.headers["etag"], before.headers["etag"], "it is no write of the service");
    assert_eq!(twin.body["connectionState"], "Connected");
    assert_eq!(twin.body["authenticationType"], "sas");
    assert!(twin.body["deviceEtag"].is_string() && twin.body["x509Thumbprint"]["primaryThumbprint"].is_null());
    // A twin that was read can be written back as it is.
    let matching = format!("if-match: {}", twin.headers["etag"]);
    let again = service.call("PATCH", "/twins/dev1", &[&matching], &twin.body.to_string()).await;
    assert_eq!((again.status, &again.body["version"]), (200, &json!(2)));
    assert_eq!(again.body["properties"]["reported"]["rebootTime"], "now");
}

#[tokio::test]
async fn of_two_writers_the_second_is_told() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let etag = service.call("GET", "/twins/dev1", &[], "").await.headers["etag"].clone();
    let (matching, body) = (format!("if-match: {etag}"), r#"{"tags":{"a":1}}"#);
    assert_eq!(service.call("PATCH", "/twins/dev1", &[&matching], body).await.status, 200);
    for method in ["PATCH", "PUT"] {
        let late = service.call(method, "/twins/dev1", &[&matching], body).await;
        assert_eq!(late.error(), (412_001, "PreconditionFailed"));
        assert_eq!(service.call(method, "/twins/dev1", &["if-match: \"*\""], body).await.status, 200);
    }
}

#[tokio::test]
async fn what_a_twin_must_not_hold_is_refused_as_a_whole() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let large = |bytes: usize| -> Map<String, Value> {
        (0..bytes / 4_000).map(|at| (format!("k{at}"), json!("x".repeat(4_000)))).collect()
    };
    let deep = (0..12).fold(json!(1), |inner, _| json!({ "a": inner }));
    for wrong in [
        json!({"tags": large(12_000)}),
        json!({"tags": {"a": 1}, "properties": {"desired": large(36_000)}}),
        json!({"properties": {"desired": deep}}),
        json!({"properties": {"desired": {"a": "x".repeat(4_097)}}}),
        json!({"properties": {"desired": {"a": 1_u64 << 53}}}),
        json!({"properties": {"desired": {"a.b": 1}}}),
        json!({"properties": {"desired": {"a": [null]}}}),
        json!({"properties": {"desired": []}}),
        json!({"tags": "x"}),
        json!(1),
    ] {
        for method in ["PATCH", "PUT"] {
            assert_eq!(service.refused(method, "/twins/dev1", &[], &wrong).await, 400_004);
        }
    }
    assert_eq!(service.refused("PATCH", "/twins/none", &[], &json!({})).await, 404_001);
    let twin = service.done("GET", "/twins/dev1", Value::Null).await;
    assert_eq!((&twin["version"], &twin["tags"]), (&json!(1), &json!({})));
    // As much as may be.
    let most = json!({"tags": large(8_000), "properties": {"desired": large(32_000)}});
    service.done("PATCH", "/twins/dev1", most).await;
}

#[tokio::test]
async fn a_module_has_a_twin_of_its_own() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    service.done("PUT", "/devices/dev1/modules/app", json!({})).await;
    let path = "/twins/dev1/modules/app";
    let twin = service.done("PATCH", path, json!({"properties": {"desired": {"a": 1}}})).await;
    assert_eq!((&twin["moduleId"], &twin["properties"]["desired"]["a"]), (&json!("app"), &json!(1)));
    let device = service.done("GET", "/twins/dev1", Value::Null).await;
    assert_eq!((&device["properties"]["desired"]["$version"], device.get("moduleId")), (&json!(1), None));
    assert_eq!(service.refused("GET", "/twins/dev1/modules/none", &[], &Value::Null).await, 404_010);
}
