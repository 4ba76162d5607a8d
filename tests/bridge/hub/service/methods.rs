//! Direct methods as the service calls them.

use serde_json::{Value, json};

use super::super::device::{HubWorld, METHODS, quiet};
use super::Service;
use crate::raw::Raw;

/// The device answers the next method with this status and body; what it was asked.
async fn answer(raw: &mut Raw, status: &str, body: &str) -> (String, Vec<u8>) {
    let request = raw.publish().await;
    let (method, rid) = request.topic.split_once("/?$rid=").expect("a request id");
    let method = method.strip_prefix("$iothub/methods/POST/").expect("a method").to_owned();
    raw.send(quiet(&format!("$iothub/methods/res/{status}/?$rid={rid}"), body)).await;
    (method, request.payload.to_vec())
}

#[tokio::test]
async fn a_devices_answer_is_the_body_whatever_its_status() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let mut raw = world.online(&[METHODS]).await;
    for (call, asked, status, body, payload) in [
        (json!({"methodName": "rebootDevice"}), "", "200", r#"{"ok":true}"#, json!({"ok": true})),
        (json!({"methodName": "rebootDevice", "payload": null}), "null", "404", "", Value::Null),
        (
            json!({"methodName": "m", "payload": {"a": 1}, "connectTimeoutInSeconds": 300}),
            r#"{"a":1}"#,
            "500",
            "7",
            json!(7),
        ),
        (
            json!({"methodName": "m", "payload": "{}", "responseTimeoutInSeconds": 300}),
            r#""{}""#,
            "-1",
            "[]",
            json!([]),
        ),
    ] {
        let method = call["methodName"].as_str().expect("a name").to_owned();
        let (reply, seen) =
            tokio::join!(service.done("POST", "/twins/dev1/methods", call), answer(&mut raw, status, body));
        assert_eq!(seen, (method, asked.as_bytes().to_vec()));
        assert_eq!(reply, json!({"status": status.parse::<i64>().expect("a number"), "payload": payload}));
    }
}

#[tokio::test]
async fn a_device_that_is_not_there_or_takes_no_methods_is_not_online() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let call = json!({"methodName": "rebootDevice", "responseTimeoutInSeconds": 5}).to_string();
    let nobody = service.call("POST", "/twins/dev1/methods", &[], &call).await;
    assert_eq!((nobody.status, nobody.error()), (404, (404_103, "DeviceNotOnline")));
    assert_eq!(nobody.waited(), "00:00:00");
    let _raw = world.online(&[]).await;
    let deaf = service.call("POST", "/twins/dev1/methods", &[], &call).await;
    assert_eq!(deaf.error(), (404_103, "DeviceNotOnline"));
    let waited = json!({"methodName": "rebootDevice", "connectTimeoutInSeconds": 1}).to_string();
    let late = service.call("POST", "/twins/dev1/methods", &[], &waited).await;
    assert_eq!((late.error().0, late.waited()), (404_103, json!("00:00:01")));
}

#[tokio::test]
async fn a_device_that_comes_in_time_is_asked() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let call = json!({"methodName": "m", "connectTimeoutInSeconds": 60});
    let device = async {
        let mut raw = world.online(&[METHODS]).await;
        answer(&mut raw, "200", "1").await
    };
    let (reply, (method, _)) = tokio::join!(service.done("POST", "/twins/dev1/methods", call), device);
    assert_eq!((reply, method.as_str()), (json!({"status": 200, "payload": 1}), "m"));
}

/// Takes five seconds: the shortest time that a caller may give.
#[tokio::test]
async fn a_silent_device_is_timed_out() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let mut raw = world.online(&[METHODS]).await;
    let call = json!({"methodName": "m", "responseTimeoutInSeconds": 5}).to_string();
    let reply = service.call("POST", "/twins/dev1/methods", &[], &call).await;
    assert_eq!((reply.status, reply.error()), (504, (504_101, "GatewayTimeout")));
    assert_eq!(reply.waited(), "00:00:05");
    // Its late answer is nobody's, and the next call has one of its own.
    answer(&mut raw, "200", "1").await;
    let next = service.done("POST", "/twins/dev1/methods", json!({"methodName": "m"}));
    let (next, _) = tokio::join!(next, answer(&mut raw, "200", "2"));
    assert_eq!(next["payload"], 2);
}

#[tokio::test]
async fn a_module_is_asked_and_not_its_device() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    service.done("PUT", "/devices/dev1/modules/app", json!({})).await;
    let _raw = world.online(&[METHODS]).await;
    let call = json!({"methodName": "m"});
    assert_eq!(service.refused("POST", "/twins/dev1/modules/app/methods", &[], &call).await, 404_103);
    assert_eq!(service.refused("POST", "/twins/dev1/modules/none/methods", &[], &call).await, 404_010);
    assert_eq!(service.refused("POST", "/twins/none/methods", &[], &call).await, 404_001);
}

#[tokio::test]
async fn calls_beyond_the_limits_are_refused() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let _raw = world.online(&[METHODS]).await;
    for (wrong, code) in [
        (json!({"methodName": "m", "responseTimeoutInSeconds": 4}), 400_004),
        (json!({"methodName": "m", "responseTimeoutInSeconds": 301}), 400_004),
        (json!({"methodName": "m", "connectTimeoutInSeconds": 301}), 400_004),
        (json!({"methodName": "m", "connectTimeoutInSeconds": -1}), 400_004),
        (json!({"methodName": ""}), 400_004),
        (json!({"payload": 1}), 400_004),
        (Value::Null, 400_004),
        (json!({"methodName": "m", "payload": "x".repeat(128 * 1_024)}), 413_001),
    ] {
        assert_eq!(service.refused("POST", "/twins/dev1/methods", &[], &wrong).await, code);
    }
}
