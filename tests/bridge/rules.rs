//! What a device may send and ask for; each broken rule ends the connection and is the device's last error.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, PubRec, Publish, SubscribeReasonCode, Unsubscribe};

use twinagent::bridge::RawPublish;

use crate::raw::{Raw, Seen, connect, publish, subscribe};
use crate::support::World;

fn qos1(filter: &str) -> Packet {
    subscribe(&[(filter.to_owned(), QoS::AtLeastOnce)])
}

#[tokio::test]
async fn a_broken_rule_ends_the_connection_and_says_why() {
    let world = World::new().await;
    let with = |change: fn(&mut Publish)| {
        let mut message = Publish::new("/devices/gw-1/events", QoS::AtLeastOnce, "x");
        message.pkid = 1;
        change(&mut message);
        Packet::Publish(message)
    };
    for (packet, error) in [
        (publish("/devices/gw-1/other", "x"), r#"the topic "/devices/gw-1/other" is not one"#),
        (publish("/devices/gw-1/eventsx", "x"), r#"the topic "/devices/gw-1/eventsx" is not one"#),
        (publish("/devices/gw-1/state/x", "x"), r#"the topic "/devices/gw-1/state/x" is not one"#),
        (publish("/devices/gw-12/state", "x"), r#"the topic "/devices/gw-12/state" is not one"#),
        (publish("devices/gw-1/state", "x"), r#"the topic "devices/gw-1/state" is not one"#),
        (publish("/devices/gw-1/commands/echo", "x"), r#"the topic "/devices/gw-1/commands/echo" is not one"#),
        (publish("/devices/gw-1/attach", "{}"), r#"the topic "/devices/gw-1/attach" is not one"#),
        (publish("/devices/gw-1/events/#", "x"), r#"the topic "/devices/gw-1/events/#" is not one"#),
        (with(|message| message.qos = QoS::ExactlyOnce), "QoS 2 is not supported"),
        (with(|message| message.retain = true), "retained messages are not supported"),
        (publish("/devices/gw-1/state", vec![b'x'; 64 * 1024 + 1]), "the state is too large: 65537 bytes"),
        (publish("/devices/gw-1/events", vec![b'x'; 256 * 1024 + 1]), "event is too large: 262145 bytes"),
        (qos1("#"), "the filter \"#\" is not one"),
        (qos1("/devices/gw-1/#"), r#"the filter "/devices/gw-1/#" is not one"#),
        (qos1("/devices/gw-1/commands"), r#"the filter "/devices/gw-1/commands" is not one"#),
        (qos1("/devices/gw-1/commands/echo/#"), r#"the filter "/devices/gw-1/commands/echo/#" is not one"#),
        (qos1("/devices/gw-2/config"), r#"the filter "/devices/gw-2/config" is not one"#),
        (Packet::Connect(connect(&world)), "unexpected packet"),
        (Packet::PubRec(PubRec::new(1)), "unexpected packet"),
    ] {
        let mut raw = Raw::login(&world).await;
        raw.send(packet).await;
        assert_eq!(raw.next().await, Seen::Closed, "{error}");
        world.last_error(error).await;
    }
}

#[tokio::test]
async fn the_largest_messages_and_deep_subfolders_are_taken() {
    let world = World::with(|options| options.state_interval = Duration::ZERO).await;
    let mut telemetry = world.cloud.telemetry().await.expect("a tap");
    let mut raw = Raw::login(&world).await;
    raw.publish_acknowledged("/devices/gw-1/state", vec![b'x'; 64 * 1024]).await;
    raw.publish_acknowledged("/devices/gw-1/state", "").await;
    for (topic, subfolder) in [
        ("/devices/gw-1/events", ""),
        ("/devices/gw-1/events/", ""),
        ("/devices/gw-1/events/a", "a"),
        ("/devices/gw-1/events/a/b/c", "a/b/c"),
    ] {
        raw.publish_acknowledged(topic, vec![b'x'; 256 * 1024]).await;
        let event = telemetry.recv().await.expect("an event");
        assert_eq!((event.subfolder.as_str(), event.payload.len()), (subfolder, 256 * 1024));
    }
}

#[tokio::test]
async fn a_packet_beyond_all_limits_or_with_a_topic_that_is_no_text_ends_the_connection() {
    let world = World::new().await;
    for bytes in [&b"\x30\xff\xff\xff\x7f"[..], b"\x30\x05\0\x03\xff\xfe\xfdx", b"\x32\x07\0\x03a/b\0\0", b"\xf0\0"] {
        let mut raw = Raw::login(&world).await;
        raw.send_bytes(bytes).await;
        assert_eq!(raw.next().await, Seen::Closed, "{bytes:?}");
    }
}

#[tokio::test]
async fn state_comes_at_most_once_in_an_interval_from_its_acknowledgement() {
    // So long that a busy machine too breaks it when it means to.
    let interval = Duration::from_secs(5);
    let world = World::with(|options| options.state_interval = interval).await;
    let mut raw = Raw::login(&world).await;
    raw.publish_acknowledged("/devices/gw-1/state", "0").await;
    tokio::time::sleep(interval).await;
    raw.publish_acknowledged("/devices/gw-1/state", "1").await;
    raw.send(publish("/devices/gw-1/state", "2")).await;
    assert_eq!(raw.next().await, Seen::Closed);
    world.last_error("publishing state too quickly").await;
    let states = world.cloud.states(&world.device).await.expect("the device is there");
    let texts: Vec<_> = states.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(texts, [b"1", b"0"]);
}

#[tokio::test]
async fn telemetry_without_an_event_topic_ends_the_connection_and_state_does_not() {
    let world = World::new().await;
    let registry =
        world.cloud.create_registry("my-project", "us-central1", "no-events", false).await.expect("a registry");
    let device = world.cloud.create_device(&registry, "gw-2", &world.key.public_pem()).await.expect("a device");
    let world = World { device, ..world };
    let mut raw = Raw::login(&world).await;
    raw.publish_acknowledged("/devices/gw-2/state", "{}").await;
    raw.send(publish("/devices/gw-2/events/responses", "{}")).await;
    assert_eq!(raw.next().await, Seen::Closed);
    world.last_error("no Pub/Sub topic").await;
}

#[tokio::test]
async fn subscriptions_are_granted_with_qos_1_at_most_and_can_be_ended() {
    let world = World::new().await;
    let mut raw = Raw::login(&world).await;
    let commands = "/devices/gw-1/commands/#".to_owned();
    let granted = raw.subscribe(&[(commands.clone(), QoS::ExactlyOnce)]).await;
    assert_eq!(granted, [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);

    // QoS 0: the call does not wait for the device.
    assert_eq!(
        raw.subscribe(&[(commands.clone(), QoS::AtMostOnce)]).await,
        [SubscribeReasonCode::Success(QoS::AtMostOnce)]
    );
    world.cloud.send_command(&world.device, "", "hello").await.expect("sent");
    let command = raw.publish().await;
    assert_eq!((command.topic.as_str(), command.qos), ("/devices/gw-1/commands", QoS::AtMostOnce));

    let mut unsubscribe = Unsubscribe::new(commands);
    unsubscribe.pkid = 9;
    raw.send(Packet::Unsubscribe(unsubscribe)).await;
    assert!(matches!(raw.next().await, Seen::Packet(Packet::UnsubAck(ack)) if ack.pkid == 9));
    let refused = world.cloud.send_command(&world.device, "", "hello").await.expect_err("not subscribed");
    assert!(refused.message.contains("is not subscribed to the commands topic"));
}

#[tokio::test]
async fn config_is_retried_until_it_is_acknowledged_and_only_the_newest() {
    let world = World::with(|options| options.config_retry = Duration::from_millis(200)).await;
    let mut raw = Raw::login(&world).await;
    raw.subscribe(&[("/devices/gw-1/config".to_owned(), QoS::AtLeastOnce)]).await;
    let first = raw.publish().await;
    assert!(!first.dup);
    let again = raw.publish().await;
    assert_eq!((again.pkid, again.dup), (first.pkid, true));

    world.cloud.set_config(&world.device, "two").await.expect("a new version");
    // A retry of the first may be on its way already.
    let second = loop {
        let message = raw.publish().await;
        if message.payload == "two" {
            break message;
        }
        assert_eq!(message.pkid, first.pkid);
    };
    for _ in 0..3 {
        let again = raw.publish().await;
        assert_eq!((again.pkid, again.dup, &again.payload[..]), (second.pkid, true, &b"two"[..]));
    }
    assert!(world.resource().await.get("lastConfigAckTime").is_none());
    raw.send(Packet::PubAck(PubAck::new(second.pkid))).await;
    raw.ping_after_retries().await;
    assert!(world.resource().await["config"]["deviceAckTime"].is_string());
}

impl Raw {
    /// Nothing but the answer to a ping comes for longer than a retry takes; retries sent before are passed over.
    async fn ping_after_retries(&mut self) {
        self.send(Packet::PingReq).await;
        while self.next().await != Seen::Packet(Packet::PingResp) {}
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.ping().await;
    }
}

#[tokio::test]
async fn clients_that_do_not_read_or_never_finish_delay_nobody_else() {
    let world = World::new().await;
    let deaf = Raw::ready(&world).await;
    let packet = RawPublish::new("/devices/gw-1/commands/echo", vec![b'x'; 1024 * 1024], 40_000);
    for _ in 0..50 {
        world.faults.publish(&world.device, std::slice::from_ref(&packet)).await.expect("connected");
    }
    let mut unfinished = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::open(&world).await;
        raw.send_bytes(b"\x10\x7f\0\x04MQTT\x04").await;
        unfinished.push(raw);
    }
    let registry = world.device.of();
    let device = world.cloud.create_device(&registry, "gw-2", &world.key.public_pem()).await.expect("a device");
    let world = World { device, ..world };
    let mut raw = Raw::ready(&world).await;
    for _ in 0..100 {
        let answer = async {
            let command = raw.publish().await;
            raw.send(Packet::PubAck(PubAck::new(command.pkid))).await;
        };
        let (sent, ()) = tokio::join!(world.cloud.send_command(&world.device, "echo/1", "{}"), answer);
        sent.expect("acknowledged");
    }
    drop((deaf, unfinished));
}
