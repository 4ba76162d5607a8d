//! Devices and modules: made, read, changed, listed, deleted.

use serde_json::{Value, json};

use super::super::device::{HubWorld, KEY, good, token};
use super::Service;
use crate::raw::Seen;

#[tokio::test]
async fn a_device_lives_from_put_to_delete() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let body = json!({
        "deviceId": "gw-1",
        "status": "enabled",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY}},
        "capabilities": {"iotEdge": false},
    });
    let made = service.done("PUT", "/devices/gw-1", body.clone()).await;
    assert_eq!(made["authentication"]["symmetricKey"]["primaryKey"], KEY);
    assert_eq!(made["authentication"]["symmetricKey"]["secondaryKey"].as_str().map(str::len), Some(44));
    assert_eq!((&made["status"], &made["connectionState"]), (&json!("enabled"), &json!("Disconnected")));
    assert_eq!(
        (&made["lastActivityTime"], &made["cloudToDeviceMessageCount"]),
        (&json!("0001-01-01T00:00:00Z"), &json!(0))
    );
    assert_eq!(service.refused("PUT", "/devices/gw-1", &[], &body).await, 409_001);

    let read = service.call("GET", "/devices/gw-1", &[], "").await;
    assert_eq!(read.body, made);
    let etag = read.headers["etag"].clone();
    assert_eq!(etag, format!("\"{}\"", made["etag"].as_str().expect("a tag")));
    let matching = format!("if-match: {etag}");
    let changed = service.call("PUT", "/devices/gw-1", &[&matching], r#"{"status":"disabled"}"#).await;
    assert_eq!((changed.status, &changed.body["status"]), (200, &json!("disabled")));
    let late = service.refused("PUT", "/devices/gw-1", &[&matching], &json!({"status": "enabled"})).await;
    assert_eq!(late, 412_001);

    assert_eq!(service.refused("DELETE", "/devices/gw-1", &[], &Value::Null).await, 400_004);
    assert_eq!(service.refused("DELETE", "/devices/gw-1", &[&matching], &Value::Null).await, 412_001);
    let deleted = service.call("DELETE", "/devices/gw-1", &["if-match: *"], "").await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    for (method, path) in [("GET", "/devices/gw-1"), ("GET", "/twins/gw-1"), ("GET", "/devices/gw-1/modules")] {
        assert_eq!(service.refused(method, path, &[], &Value::Null).await, 404_001, "{path}");
    }
}

#[tokio::test]
async fn a_device_that_is_disabled_or_deleted_is_sent_away() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let mut raw = world.online(&[]).await;
    assert_eq!(service.done("GET", "/devices/dev1", Value::Null).await["connectionState"], "Connected");
    assert_eq!(service.done("GET", "/statistics/service", Value::Null).await, json!({"connectedDeviceCount": 1}));
    let reply = service.call("PUT", "/devices/dev1", &["if-match: *"], r#"{"status":"disabled"}"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(raw.next().await, Seen::Closed);
    assert_eq!(world.login(good()).await, 5);
    let counts = json!({"totalDeviceCount": 1, "enabledDeviceCount": 0, "disabledDeviceCount": 1});
    assert_eq!(service.done("GET", "/statistics/devices", Value::Null).await, counts);

    service.call("PUT", "/devices/dev1", &["if-match: *"], r#"{"status":"enabled"}"#).await;
    let mut raw = world.online(&[]).await;
    assert_eq!(service.call("DELETE", "/devices/dev1", &["if-match: *"], "").await.status, 204);
    assert_eq!(raw.next().await, Seen::Closed);
    assert_eq!(world.login(good()).await, 5);
}

#[tokio::test]
async fn new_keys_are_the_keys_from_then_on() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let body = json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": null, "secondaryKey": null}}});
    let reply = service.call("PUT", "/devices/dev1", &["if-match: *"], &body.to_string()).await;
    let key = reply.body["authentication"]["symmetricKey"]["secondaryKey"].as_str().expect("a key");
    assert_eq!(world.login(good()).await, 5, "the key from before");
    assert_eq!(world.login(super::super::device::connect(&token(key, "localhost/devices/dev1", 60))).await, 0);
}

#[tokio::test]
async fn modules_are_listed_and_go_with_their_device() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    assert_eq!(service.refused("PUT", "/devices/none/modules/app", &[], &json!({})).await, 404_001);
    let made = service.done("PUT", "/devices/dev1/modules/app", json!({"moduleId": "app", "managedBy": "us"})).await;
    assert_eq!(
        (&made["deviceId"], &made["moduleId"], &made["managedBy"]),
        (&json!("dev1"), &json!("app"), &json!("us"))
    );
    assert_eq!(service.refused("PUT", "/devices/dev1/modules/app", &[], &json!({})).await, 409_301);
    assert_eq!(service.refused("GET", "/devices/dev1/modules/none", &[], &Value::Null).await, 404_010);
    assert_eq!(service.done("GET", "/devices/dev1/modules", Value::Null).await, json!([made]));
    assert_eq!(service.call("DELETE", "/devices/dev1/modules/app", &["if-match: *"], "").await.status, 204);
    assert_eq!(service.done("GET", "/devices/dev1/modules", Value::Null).await, json!([]));
}

#[tokio::test]
async fn lists_have_as_many_devices_as_are_asked_for() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    for device in ["a", "b"] {
        service.call("PUT", &format!("/devices/{device}"), &[], "{}").await;
    }
    for (path, expected) in [
        ("/devices", &["a", "b", "dev1"][..]),
        ("/devices?top=2", &["a", "b"]),
        ("/devices?top=0", &["a", "b", "dev1"]),
        ("/devices?top=1001", &["a", "b", "dev1"]),
    ] {
        let listed = service.done("GET", path, Value::Null).await;
        let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|device| &device["deviceId"]).collect();
        assert_eq!(ids, expected, "{path}");
    }
    assert_eq!(service.refused("GET", "/devices?top=x", &[], &Value::Null).await, 400_004);
}

#[tokio::test]
async fn many_devices_are_changed_each_for_itself() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let good = json!([
        {"id": "a", "importMode": "create", "status": "disabled", "tags": {"site": "x"},
         "properties": {"desired": {"n": 1}}},
        {"id": "dev1", "importMode": "update", "statusReason": "why"},
    ]);
    let answer = json!({"isSuccessful": true, "errors": [], "warnings": []});
    assert_eq!(service.done("POST", "/devices", good).await, answer);
    let twin = service.done("GET", "/twins/a", Value::Null).await;
    assert_eq!((&twin["tags"], &twin["properties"]["desired"]["n"]), (&json!({"site": "x"}), &json!(1)));
    assert_eq!((&twin["status"], &twin["version"]), (&json!("disabled"), &json!(2)));

    let mixed = json!([
        {"id": "a", "importMode": "create"},
        {"id": "b", "importMode": "create", "tags": {"no.good": 1}},
        {"id": "dev1", "importMode": "updateTwin", "tags": {"t": 1}},
        {"id": "c", "importMode": "delete"},
        {"id": "d", "importMode": "sideways"},
        {"id": "e", "importMode": "deleteIfMatchETag"},
    ]);
    let reply = service.call("POST", "/devices", &[], &mixed.to_string()).await;
    assert_eq!((reply.status, &reply.body["isSuccessful"]), (400, &json!(false)));
    let errors = reply.body["errors"].as_array().expect("a list").iter();
    let errors: Vec<_> = errors.map(|error| (error["deviceId"].as_str(), error["errorCode"].as_str())).collect();
    let expected = [
        ("a", "DeviceAlreadyExists"),
        ("b", "ArgumentInvalid"),
        ("c", "DeviceNotFound"),
        ("d", "ArgumentInvalid"),
        ("e", "PreconditionFailed"),
    ];
    assert_eq!(errors, expected.map(|(id, code)| (Some(id), Some(code))));
    assert_eq!(service.refused("GET", "/devices/b", &[], &Value::Null).await, 404_001, "half a device is none");
    assert_eq!(service.done("GET", "/twins/dev1", Value::Null).await["tags"], json!({"t": 1}));

    let twice = json!([{"id": "x", "importMode": "create"}, {"id": "x", "importMode": "delete"}]);
    let many: Vec<_> = (0..101).map(|at| json!({"id": format!("m{at}"), "importMode": "create"})).collect();
    for wrong in [json!([]), json!({}), twice, json!(many)] {
        assert_eq!(service.refused("POST", "/devices", &[], &wrong).await, 400_004);
    }
}

#[tokio::test]
async fn what_is_no_identity_is_refused() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    for wrong in [
        json!({"deviceId": "other"}),
        json!({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "zz"}}}),
        json!({"status": "sleeping"}),
        json!("text"),
    ] {
        assert_eq!(service.refused("PUT", "/devices/gw-2", &[], &wrong).await, 400_004, "{wrong}");
    }
    let mut other = Service::of(&world).await;
    let large = "x".repeat(1_100_000);
    let reply = other.call("PUT", "/devices/gw-2", &[], &large).await;
    assert_eq!(reply.error(), (413_001, "MessageTooLarge"));
}
