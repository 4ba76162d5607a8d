//! Kept sessions, as brokers have them that came after the closed service, and their absence in it.

use std::time::Duration;

use rumqttc::mqttbytes::v4::{Packet, PubAck};
use rumqttc::mqttbytes::{QoS, v4::SubscribeReasonCode};

use crate::raw::{Raw, Seen, both, connect};
use crate::support::World;

/// Logs in asking for a kept session.
async fn login(world: &World) -> (Raw, bool) {
    let mut connect = connect(world);
    connect.clean_session = false;
    let mut raw = Raw::open(world).await;
    raw.send(Packet::Connect(connect)).await;
    let (code, present) = raw.connack().await;
    assert_eq!(code, 0);
    (raw, present)
}

/// Sends a command in the background and reads it.
async fn unacknowledged(world: &World, raw: &mut Raw) -> (u16, tokio::task::JoinHandle<bool>) {
    let (cloud, device) = (world.cloud.clone(), world.device.clone());
    let sending = tokio::spawn(async move { cloud.send_command(&device, "echo/1", "first").await.is_ok() });
    let command = raw.publish().await;
    assert_eq!((&command.payload[..], command.dup), (&b"first"[..], false));
    (command.pkid, sending)
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_sent_meanwhile_follows() {
    let world = World::with(|options| options.sessions = true).await;
    let (mut raw, present) = login(&world).await;
    assert!(!present);
    raw.subscribe(&both(&world)).await;
    let (id, sending) = unacknowledged(&world, &mut raw).await;
    drop(raw);
    while world.cloud.connected(&world.device).await.expect("the device is there") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.cloud.send_command(&world.device, "echo/2", "second").await.expect("queued");
    world.cloud.set_config(&world.device, "{}").await.expect("queued");

    let (mut raw, present) = login(&world).await;
    assert!(present);
    let again = raw.publish().await;
    assert_eq!((again.pkid, again.dup, &again.payload[..]), (id, true, &b"first"[..]));
    for expected in ["second", "{}"] {
        let next = raw.publish().await;
        assert_eq!((next.dup, &next.payload[..]), (false, expected.as_bytes()));
    }
    assert!(!sending.is_finished());
    raw.send(Packet::PubAck(PubAck::new(id))).await;
    assert!(sending.await.expect("no panic"), "the caller is told at the late PUBACK");

    // A clean session forgets the other two.
    let mut raw = Raw::login(&world).await;
    raw.ping().await;
    assert_eq!(world.cloud.unsettled(&world.device).await.expect("a number"), 0);
    assert!(!world.cloud.takes_commands(&world.device).await.expect("the device is there"));
}

#[tokio::test]
async fn the_closed_service_kept_nothing() {
    let world = World::new().await;
    let (mut raw, _) = login(&world).await;
    raw.subscribe(&both(&world)).await;
    let config = raw.publish().await;
    raw.send(Packet::PubAck(PubAck::new(config.pkid))).await;
    let (_, sending) = unacknowledged(&world, &mut raw).await;
    drop(raw);
    assert!(!sending.await.expect("no panic"), "the caller is told that it failed");
    let (mut raw, present) = login(&world).await;
    assert!(!present);
    raw.ping().await;
    let refused = world.cloud.send_command(&world.device, "", "x").await.expect_err("not subscribed");
    assert!(refused.message.contains("is not subscribed"));
}

#[tokio::test]
async fn a_forgiving_broker_refuses_filters_one_by_one_keeps_config_retained_and_kicks_nobody() {
    let world = World::with(|options| {
        options.sessions = true;
        options.skew = Duration::ZERO;
    })
    .await;
    let mut connect = connect(&world);
    // Long enough for a busy machine to log in.
    connect.set_login("unused", world.key.token(5));
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(connect)).await;
    assert_eq!(raw.connack().await, (0, false));
    let mut filters = both(&world).to_vec();
    filters.push(("/devices/other/#".to_owned(), QoS::AtLeastOnce));
    let good = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    assert_eq!(raw.subscribe(&filters).await, [good, good, SubscribeReasonCode::Failure]);
    // An empty retained message is none.
    raw.ping().await;
    world.cloud.set_config(&world.device, "{}").await.expect("a new version");
    assert!(!raw.publish().await.retain);
    raw.subscribe(&filters[1..2]).await;
    assert!(raw.publish().await.retain);
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    raw.ping().await;
}

#[tokio::test]
async fn a_forgotten_session_is_gone() {
    let world = World::with(|options| options.sessions = true).await;
    let (mut raw, _) = login(&world).await;
    raw.subscribe(&both(&world)).await;
    world.faults.forget_session(&world.device).await.expect("the device is there");
    assert_eq!(raw.next().await, Seen::Closed);
    let (_, present) = login(&world).await;
    assert!(!present);
}
