//! Direct methods: called, answered, and all the ways in which they are not.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use twinagent::bridge::HubError;

use super::device::{HubWorld, KEY, METHODS, good, quiet, token};
use crate::raw::{Raw, Seen};
use crate::support::LIMIT;

type Outcome = Result<(i64, Value), HubError>;

/// Calls in the background, with these times.
fn call(world: &HubWorld, payload: Option<Value>, connect: Duration, response: Duration) -> JoinHandle<Outcome> {
    let (hub, device) = (world.hub.clone(), world.device.clone());
    tokio::spawn(async move { hub.invoke(&device, "rebootDevice", payload, connect, response).await })
}

async fn outcome(call: JoinHandle<Outcome>) -> Outcome {
    timeout(LIMIT, call).await.expect("it ends").expect("no panic")
}

/// The request id of the next method, and its payload.
async fn request(raw: &mut Raw) -> (String, String) {
    let request = raw.publish().await;
    let rid = request.topic.strip_prefix("$iothub/methods/POST/rebootDevice/?$rid=").expect("a method").to_owned();
    assert_eq!((request.qos, request.retain), (QoS::AtMostOnce, false));
    (rid, String::from_utf8(request.payload.to_vec()).expect("JSON"))
}

/// The main road, with rumqttc's own client.
#[tokio::test]
async fn a_device_answers_a_method() {
    let world = HubWorld::new().await;
    let port = world.bridge.addresses().mqtt.expect("it is on").port();
    let mut options = MqttOptions::new("dev1", "127.0.0.1", port);
    options.set_credentials("localhost/dev1/?api-version=2021-04-12", token(KEY, "localhost/devices/dev1", 3600));
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe(METHODS, QoS::AtLeastOnce).await.expect("queued");
    let device = tokio::spawn(async move {
        loop {
            if let Event::Incoming(Incoming::Publish(request)) = events.poll().await.expect("the connection stays") {
                let rid = request.topic.split_once("$rid=").expect("a request id").1;
                let topic = format!("$iothub/methods/res/200/?$rid={rid}");
                let answer = json!({ "echo": request.payload.to_vec() }).to_string();
                client.publish(topic, QoS::AtLeastOnce, false, answer).await.expect("queued");
            }
        }
    });
    let string = json!("{\"method_number\":\"42\"}");
    for payload in [None, Some(Value::Null), Some(json!({"a": [1]})), Some(string)] {
        let sent = payload.as_ref().map(Value::to_string).unwrap_or_default();
        let (status, answer) = outcome(call(&world, payload, LIMIT, LIMIT)).await.expect("answered");
        assert_eq!((status, answer), (200, json!({ "echo": sent.as_bytes() })));
    }
    device.abort();
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_told_apart() {
    let world = HubWorld::new().await;
    let short = Duration::from_millis(300);
    let absent = outcome(call(&world, None, Duration::ZERO, LIMIT)).await.expect_err("nobody is there");
    assert_eq!((absent.status, absent.code), (404, 404_103));
    let waited = outcome(call(&world, None, short, LIMIT)).await.expect_err("nobody came");
    assert_eq!(waited.code, 404_103);
    // Connected and not subscribed is not there.
    let mut raw = world.online(&[]).await;
    let deaf = outcome(call(&world, None, Duration::ZERO, LIMIT)).await.expect_err("nobody listens");
    assert_eq!(deaf.code, 404_103);
    raw.subscribe(&[(METHODS.to_owned(), QoS::AtLeastOnce)]).await;
    let silent = call(&world, None, Duration::ZERO, short);
    let (rid, _) = request(&mut raw).await;
    let silent = outcome(silent).await.expect_err("no answer");
    assert_eq!((silent.status, silent.code), (504, 504_101));
    // A late answer is taken and belongs to nobody; the connection goes on.
    raw.publish_acknowledged(&format!("$iothub/methods/res/200/?$rid={rid}"), "{}").await;
    raw.ping().await;
}

#[tokio::test]
async fn a_caller_may_wait_for_the_device() {
    let world = HubWorld::new().await;
    let calling = call(&world, Some(json!(1)), LIMIT, LIMIT);
    let mut raw = world.online(&[METHODS]).await;
    let (rid, payload) = request(&mut raw).await;
    assert_eq!(payload, "1");
    raw.send(quiet(&format!("$iothub/methods/res/202/?$rid={rid}"), "")).await;
    assert_eq!(outcome(calling).await, Ok((202, Value::Null)), "no payload is null");
}

#[tokio::test]
async fn an_answer_counts_on_the_connection_of_its_request_alone() {
    let world = HubWorld::new().await;
    let mut first = world.online(&[METHODS]).await;
    let calling = call(&world, None, Duration::ZERO, Duration::from_secs(2));
    let (rid, _) = request(&mut first).await;
    let mut second = world.online(&[METHODS]).await;
    second.publish_acknowledged(&format!("$iothub/methods/res/200/?$rid={rid}"), "{}").await;
    assert_eq!(outcome(calling).await.expect_err("its connection is gone").code, 504_101);
}

#[tokio::test]
async fn an_answer_that_is_none_ends_the_connection() {
    let world = HubWorld::new().await;
    for (topic, payload) in [("res/200/?$rid=1", "{"), ("res/200", "{}"), ("res/ok/?$rid=1", "{}")] {
        let (mut raw, _) = world.online_with(good(), &[METHODS]).await;
        raw.send(quiet(&format!("$iothub/methods/{topic}"), payload)).await;
        assert_eq!(raw.next().await, Seen::Closed, "{topic} {payload}");
    }
    let large = Some(json!("x".repeat(128 * 1024)));
    assert_eq!(outcome(call(&world, large, LIMIT, LIMIT)).await.expect_err("too large").status, 413);
    let name = world.hub.invoke(&world.device, "a#", None, LIMIT, LIMIT).await.expect_err("no name of a method");
    assert_eq!(name.status, 400);
}
