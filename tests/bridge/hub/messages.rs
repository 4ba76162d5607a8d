//! Cloud-to-device messages: their queue, sessions and acknowledgements.

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet};
use twinagent::bridge::Sent;

use super::device::{HubWorld, MESSAGES, METHODS, acknowledge, good};
use crate::support::LIMIT;

fn kept() -> Connect {
    let mut connect = good();
    connect.clean_session = false;
    connect
}

async fn send(world: &HubWorld, body: &str) -> Sent {
    world.hub.send_message(&world.device, &[("$.mid", body), ("a b", "c/d")], body.to_owned()).await.expect("queued")
}

async fn unsettled(world: &HubWorld) -> usize {
    world.hub.unsettled(&world.device).await.expect("the device is there")
}

#[tokio::test]
async fn a_message_is_complete_when_the_device_has_acknowledged_it() {
    let world = HubWorld::new().await;
    let mut raw = world.online(&[MESSAGES]).await;
    let sent = send(&world, "one").await;
    let message = raw.publish().await;
    assert_eq!(
        message.topic,
        "devices/dev1/messages/devicebound/%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound&%24.mid=one&a%20b=c%2Fd"
    );
    assert_eq!((message.qos, message.dup, &message.payload[..]), (QoS::AtLeastOnce, false, &b"one"[..]));
    assert_eq!(unsettled(&world).await, 1);
    acknowledge(&mut raw, &message).await;
    assert!(sent.acknowledged(LIMIT).await);
    assert_eq!(unsettled(&world).await, 0);
}

#[tokio::test]
async fn a_kept_session_has_its_subscriptions_and_its_messages_come_again() {
    let world = HubWorld::new().await;
    let (mut raw, present) = world.online_with(kept(), &[MESSAGES, METHODS]).await;
    assert!(!present);
    let one = send(&world, "one").await;
    let first = raw.publish().await;
    drop(raw);
    world.gone().await;
    let two = send(&world, "two").await;
    let absent = world.hub.invoke(&world.device, "m", None, std::time::Duration::ZERO, LIMIT).await;
    assert_eq!(absent.expect_err("methods do not wait").code, 404_103);

    let (mut raw, present) = world.online_with(kept(), &[]).await;
    assert!(present);
    let again = raw.publish().await;
    assert_eq!((again.pkid, again.dup, &again.payload[..]), (first.pkid, true, &b"one"[..]));
    let next = raw.publish().await;
    assert_eq!((next.dup, &next.payload[..]), (false, &b"two"[..]));
    acknowledge(&mut raw, &again).await;
    acknowledge(&mut raw, &next).await;
    assert!(one.acknowledged(LIMIT).await && two.acknowledged(LIMIT).await);
    // Nothing was subscribed to on this connection.
    let (hub, device) = (world.hub.clone(), world.device.clone());
    let calling = tokio::spawn(async move { hub.invoke(&device, "m", None, LIMIT, LIMIT).await });
    let rid = raw.publish().await.topic.split_once("$rid=").expect("a method").1.to_owned();
    raw.publish_acknowledged(&format!("$iothub/methods/res/200/?$rid={rid}"), "1").await;
    assert!(calling.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn the_queue_belongs_to_the_device_and_not_to_its_session() {
    let world = HubWorld::new().await;
    send(&world, "before it ever came").await;
    let mut raw = world.online(&[]).await;
    raw.ping().await;
    raw.subscribe(&[(MESSAGES.to_owned(), QoS::AtLeastOnce)]).await;
    assert_eq!(&raw.publish().await.payload[..], b"before it ever came");
    send(&world, "second").await;
    raw.publish().await;
    drop(raw);
    // A clean session forgets the subscription. Both messages are fresh for the new one, in their order.
    let mut raw = world.online(&[MESSAGES]).await;
    for body in ["before it ever came", "second"] {
        let message = raw.publish().await;
        assert_eq!((message.dup, &message.payload[..]), (false, body.as_bytes()));
        acknowledge(&mut raw, &message).await;
    }
    raw.ping().await;
    assert_eq!(unsettled(&world).await, 0);
    // From a kept session into a clean one.
    let (mut raw, _) = world.online_with(kept(), &[MESSAGES]).await;
    send(&world, "third").await;
    raw.publish().await;
    let mut raw = world.online(&[MESSAGES]).await;
    assert_eq!(&raw.publish().await.payload[..], b"third");
}

#[tokio::test]
async fn the_queue_is_bounded_and_modules_have_none() {
    let world = HubWorld::new().await;
    for _ in 0..50 {
        send(&world, "x").await;
    }
    let full = world.hub.send_message(&world.device, &[], "x").await.expect_err("50 wait");
    assert_eq!((full.status, full.code), (403, 403_004));
    let mut raw = world.online(&[MESSAGES]).await;
    for _ in 0..50 {
        let message = raw.publish().await;
        acknowledge(&mut raw, &message).await;
    }
    raw.ping().await;
    send(&world, "room").await;
    assert_eq!(&raw.publish().await.payload[..], b"room");
    let large = world.hub.send_message(&world.device, &[], vec![7; 64 * 1024 + 1]).await.expect_err("too large");
    assert_eq!(large.status, 413);
    let access = super::device::with_key(super::device::KEY);
    let module = world.hub.create_module(&world.device, "app", access).await.expect("a module");
    assert_eq!(world.hub.send_message(&module, &[], "x").await.expect_err("a module").status, 400);
    raw.send(Packet::Disconnect).await;
}
