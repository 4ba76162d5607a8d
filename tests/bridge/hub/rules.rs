//! What a device may publish and subscribe to.

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish, SubscribeReasonCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::device::{DESIRED, HubWorld, MESSAGES, METHODS, TWIN_ANSWERS, quiet};
use crate::raw::{Seen, publish, subscribe};
use crate::support::LIMIT;

fn property(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn telemetry_carries_its_properties() {
    let world = HubWorld::new().await;
    let mut messages = world.hub.messages().await.expect("a tap");
    let mut raw = world.online(&[]).await;
    raw.publish_acknowledged("devices/dev1/messages/events/%24.mid=m1&%24.ct=application%2Fjson&a%20b=c%2Fd", "{}")
        .await;
    raw.publish_acknowledged("devices/dev1/messages/events/", vec![7; 256 * 1024]).await;
    // A property of the cloud's counts by its value, one of ours by its name too.
    raw.publish_acknowledged("devices/dev1/messages/events/%24.mid=1&a=b", vec![7; 256 * 1024 - 3]).await;
    let mut retained = Publish::new("devices/dev1/messages/events/", QoS::AtLeastOnce, "kept?");
    (retained.retain, retained.pkid) = (true, 3);
    raw.send(Packet::Publish(retained)).await;
    assert_eq!(raw.next().await, Seen::Packet(Packet::PubAck(PubAck::new(3))));
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(timeout(LIMIT, messages.recv()).await.expect("it comes").expect("the tap is open"));
    }
    let typed = property("$.ct", "application/json");
    assert_eq!(taken[0].properties, [property("$.mid", "m1"), typed, property("a b", "c/d")]);
    assert_eq!((taken[0].device.to_string().as_str(), &taken[0].payload[..]), ("dev1", &b"{}"[..]));
    assert_eq!((taken[1].properties.len(), taken[1].payload.len()), (0, 256 * 1024));
    assert_eq!(taken[2].properties, [property("$.mid", "1"), property("a", "b")]);
    assert_eq!(taken[3].properties, [property("mqtt-retain", "true")]);
}

#[tokio::test]
async fn telemetry_is_in_the_event_log_when_it_is_acknowledged_and_the_bridge_has_ended() {
    let world = HubWorld::with(|options| options.event_log = true).await;
    let mut raw = world.online(&[]).await;
    raw.publish_acknowledged("devices/dev1/messages/events/a=b", "{}").await;
    world.bridge.stop().await;
    let log = std::fs::read_to_string(world.folder.path().join("events.jsonl")).expect("the log");
    let line: Value = serde_json::from_str(log.trim_end()).expect("one line of JSON");
    assert_eq!(line["systemProperties"]["iothub-connection-device-id"], "dev1");
    assert_eq!((&line["properties"], &line["data"]), (&json!({"a": "b"}), &json!("e30=")));
}

#[tokio::test]
async fn what_is_not_allowed_ends_the_connection() {
    let world = HubWorld::new().await;
    let mut twice = Publish::new("devices/dev1/messages/events/", QoS::ExactlyOnce, "x");
    twice.pkid = 1;
    let filter = |path: &str| subscribe(&[(path.to_owned(), QoS::AtLeastOnce)]);
    for (packet, why) in [
        (publish("a/b", "x"), "not one of the device's"),
        (publish("devices/dev2/messages/events/", "x"), "not one of the device's"),
        (publish("/devices/dev1/state", "x"), "not one of the device's"),
        (quiet("$iothub/twin/GET/", ""), "not one of the device's"),
        (publish("devices/dev1/messages/events/", vec![7; 256 * 1024 + 1]), "too large"),
        (publish("devices/dev1/messages/events/a=b", vec![7; 256 * 1024 - 1]), "too large"),
        (publish("devices/dev1/messages/events/%24.mid=1", vec![7; 256 * 1024]), "too large"),
        (Packet::Publish(twice), "QoS 2"),
        (filter("#"), "the filter"),
        (filter("devices/dev2/messages/devicebound/#"), "the filter"),
        (filter("$iothub/#"), "the filter"),
    ] {
        let mut raw = world.online(&[]).await;
        let what = format!("{packet:?}");
        raw.send(packet).await;
        assert_eq!(raw.next().await, Seen::Closed, "{what}");
        let error = world.last_error().await;
        assert!(error.contains(why), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_sixth_subscription_is_refused_and_the_five_stay() {
    let world = HubWorld::new().await;
    let mut raw = world.online(&[METHODS, TWIN_ANSWERS, DESIRED, MESSAGES, "$iothub/streams/POST/#"]).await;
    let sixth = [("$iothub/streams/res/#".to_owned(), QoS::AtLeastOnce)];
    assert_eq!(raw.subscribe(&sixth).await, [SubscribeReasonCode::Failure]);
    // What stands already is no sixth, and there is room again after an UNSUBSCRIBE.
    let again = [(METHODS.to_owned(), QoS::AtMostOnce)];
    assert_eq!(raw.subscribe(&again).await, [SubscribeReasonCode::Success(QoS::AtMostOnce)]);
    let mut leave = rumqttc::mqttbytes::v4::Unsubscribe::new("$iothub/streams/POST/#");
    leave.pkid = 9;
    raw.send(Packet::Unsubscribe(leave)).await;
    assert!(matches!(raw.next().await, Seen::Packet(Packet::UnsubAck(ack)) if ack.pkid == 9));
    assert_eq!(raw.subscribe(&sixth).await, [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
    assert!(world.hub.ready(&world.device).await.expect("the device is there"));
}
