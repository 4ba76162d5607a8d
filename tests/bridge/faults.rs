//! The faults that tests of the agent rely on, each seen from the device's side.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, SubscribeReasonCode};
use tokio::time::timeout;
use twinagent::bridge::{Canonical, Door, Fault, RawPublish, Stage, Times};

use crate::raw::{Raw, Seen, both, connect, publish};
use crate::support::World;

async fn ask(world: &World, fault: Fault, times: Times) {
    world.faults.add(&world.device, fault, times).await.expect("the device is there");
}

/// A pause in which an answer would have come.
const WHILE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn acknowledgements_are_withheld_and_released() {
    let world = World::with(|options| options.state_interval = Duration::ZERO).await;
    let mut raw = Raw::login(&world).await;
    ask(&world, Fault::WithholdPubacks, Times::Next(1)).await;
    raw.send(publish("/devices/gw-1/state", "taken")).await;
    assert!(timeout(WHILE, raw.next()).await.is_err(), "nothing is answered");
    raw.publish_acknowledged("/devices/gw-1/state", "the next is answered").await;
    assert_eq!(world.cloud.states(&world.device).await.expect("the device is there").len(), 2, "both are taken");
    assert_eq!(world.faults.clear(&world.device).await.expect("the device is there"), 1);
    assert_eq!(raw.next().await, Seen::Packet(Packet::PubAck(PubAck::new(1))));

    ask(&world, Fault::LosePublishes, Times::Always).await;
    raw.send(publish("/devices/gw-1/state", "lost")).await;
    assert!(timeout(WHILE, raw.next()).await.is_err(), "nothing is answered");
    assert_eq!(world.faults.clear(&world.device).await.expect("the device is there"), 0);
    assert_eq!(world.cloud.states(&world.device).await.expect("the device is there").len(), 2);
}

#[tokio::test]
async fn logins_are_delayed_refused_and_dropped() {
    let world = World::new().await;
    let delay = Duration::from_millis(300);
    ask(&world, Fault::DelayConnack(delay), Times::Next(1)).await;
    let began = Instant::now();
    drop(Raw::login(&world).await);
    assert!(began.elapsed() >= delay);

    ask(&world, Fault::RefuseLogin(3), Times::Next(1)).await;
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(connect(&world))).await;
    assert_eq!(raw.connack().await, (3, false));
    assert_eq!(raw.next().await, Seen::Closed);

    // A code that the standard does not have.
    ask(&world, Fault::RefuseLogin(19), Times::Next(1)).await;
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(connect(&world))).await;
    assert_eq!(raw.next().await, Seen::Undecodable);

    ask(&world, Fault::DropLogin, Times::Next(1)).await;
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(connect(&world))).await;
    assert_eq!(raw.next().await, Seen::Closed);
    Raw::login(&world).await.ping().await;
}

#[tokio::test]
async fn subscriptions_are_refused_or_not_answered_and_pings_neither() {
    let world = World::new().await;
    let mut raw = Raw::login(&world).await;
    ask(&world, Fault::RefuseSubscriptions, Times::Next(1)).await;
    assert_eq!(raw.subscribe(&both(&world)).await, [SubscribeReasonCode::Failure; 2]);
    ask(&world, Fault::WithholdSubacks, Times::Next(1)).await;
    raw.send(crate::raw::subscribe(&both(&world))).await;
    assert!(timeout(WHILE, raw.next()).await.is_err(), "nothing is answered");
    ask(&world, Fault::WithholdPingresps, Times::Next(1)).await;
    raw.send(Packet::PingReq).await;
    assert!(timeout(WHILE, raw.next()).await.is_err(), "nothing is answered");
    raw.ping().await;
}

#[tokio::test]
async fn a_message_is_cut_in_the_middle() {
    let world = World::new().await;
    let mut raw = Raw::ready(&world).await;
    ask(&world, Fault::CutPublish, Times::Next(1)).await;
    let cut = world.cloud.send_command(&world.device, "echo/1", "x".repeat(1000)).await.expect_err("never whole");
    assert_eq!(cut.status, Canonical::DeadlineExceeded);
    // The codec reports the bytes that are left over as an error of the stream.
    assert_eq!(raw.next().await, Seen::Closed);

    let mut raw = Raw::ready(&world).await;
    world.faults.cut(&world.device).await.expect("connected");
    assert_eq!(raw.next().await, Seen::Closed);
    let mut raw = Raw::ready(&world).await;
    assert!(world.faults.close(&world.device).await.expect("the device is there"));
    assert_eq!(raw.next().await, Seen::Closed);
    assert!(!world.faults.close(&world.device).await.expect("the device is there"));
}

#[tokio::test]
async fn anything_can_be_published_to_a_device() {
    let world = World::new().await;
    let offline = world.faults.send(&world.device, "x").await.expect_err("nobody is there");
    assert_eq!(offline.status, Canonical::FailedPrecondition);

    let mut raw = Raw::ready(&world).await;
    let mut message = RawPublish::new("/devices/gw-2/commands/rebootDevice/1", "{}", 40_000);
    message.retain = true;
    message.dup = true;
    world.faults.publish(&world.device, &[message]).await.expect("connected");
    let seen = raw.publish().await;
    assert_eq!(seen.topic, "/devices/gw-2/commands/rebootDevice/1");
    assert_eq!((seen.pkid, seen.retain, seen.dup, seen.qos), (40_000, true, true, QoS::AtLeastOnce));
    // Its PUBACK is not one that the bridge waits for, and does no harm.
    raw.send(Packet::PubAck(PubAck::new(40_000))).await;

    let many: Vec<_> =
        (0..1000).map(|id| RawPublish::new("/devices/gw-1/commands/echo/7", "{}", 41_000 + id)).collect();
    world.faults.publish(&world.device, &many).await.expect("connected");
    for id in 41_000..42_000 {
        assert_eq!(raw.publish().await.pkid, id);
    }

    let large = RawPublish::new("/devices/gw-1/commands/echo", vec![b'x'; 2 * 1024 * 1024], 1);
    world.faults.publish(&world.device, &[large]).await.expect("connected");
    assert_eq!(raw.publish().await.payload.len(), 2 * 1024 * 1024);

    world
        .faults
        .publish(&world.device, &[RawPublish::new(&b"/devices/\xff\xfe"[..], "x", 1)])
        .await
        .expect("connected");
    assert_eq!(raw.next().await, Seen::Undecodable);
}

#[tokio::test]
async fn a_thousand_commands_leave_in_one_go_and_are_settled_together() {
    let world = World::new().await;
    let mut raw = Raw::ready(&world).await;
    let commands = (0..1000).map(|_| ("echo/7".to_owned(), "{}".into())).collect();
    let sending = tokio::spawn({
        let (cloud, device) = (world.cloud.clone(), world.device.clone());
        async move { cloud.send_commands(&device, commands).await }
    });
    for _ in 0..1000 {
        let command = raw.publish().await;
        raw.send(Packet::PubAck(PubAck::new(command.pkid))).await;
    }
    sending.await.expect("no panic").expect("all acknowledged");
}

#[tokio::test]
async fn answers_are_replaced_cut_followed_and_dripped() {
    let world = World::new().await;
    let login = || Packet::Connect(connect(&world));

    // Bytes of a test's own, and the line stays open behind them; without bytes it is silence.
    let code = || Bytes::from_static(&[0x20, 2, 0, 5]);
    ask(&world, Fault::Instead(Stage::Connack, code()), Times::Next(1)).await;
    let mut raw = Raw::open(&world).await;
    raw.send(login()).await;
    assert_eq!(raw.connack().await, (5, false));
    raw.send(Packet::PingReq).await;
    assert!(timeout(WHILE, raw.next()).await.is_err(), "nobody has logged in");
    ask(&world, Fault::Last(Stage::Connack, code()), Times::Next(1)).await;
    let mut raw = Raw::open(&world).await;
    raw.send(login()).await;
    assert_eq!((raw.connack().await, raw.next().await), ((5, false), Seen::Closed));

    ask(&world, Fault::After(Stage::Connack, Bytes::from_static(&[0xd0, 0])), Times::Next(1)).await;
    ask(&world, Fault::Instead(Stage::Suback, Bytes::from_static(&[0x90, 3, 0, 9, 0x80])), Times::Next(1)).await;
    let mut raw = Raw::login(&world).await;
    assert_eq!(raw.next().await, Seen::Packet(Packet::PingResp));
    assert_eq!(raw.subscribe(&both(&world)).await, [SubscribeReasonCode::Failure]);
    assert!(!world.cloud.takes_commands(&world.device).await.expect("the device is there"));

    ask(&world, Fault::Drip(Duration::from_millis(100)), Times::Next(1)).await;
    let began = Instant::now();
    let mut raw = Raw::login(&world).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    raw.ping().await;

    ask(&world, Fault::Kick(WHILE), Times::Next(1)).await;
    let began = Instant::now();
    let mut raw = Raw::login(&world).await;
    assert_eq!(raw.next().await, Seen::Closed);
    assert!(began.elapsed() >= WHILE);
    Raw::ready(&world).await.ping().await;
}

#[tokio::test]
async fn a_poisoned_session_brings_its_poison_each_time_until_it_is_dropped() {
    let world = World::with(|options| options.sessions = true).await;
    let nobody = world.faults.poison(&world.device, "x").await.expect_err("no session");
    assert_eq!(nobody.status, Canonical::FailedPrecondition);
    let login = async |clean| {
        let mut raw = Raw::open(&world).await;
        let mut packet = connect(&world);
        packet.clean_session = clean;
        raw.send(Packet::Connect(packet)).await;
        let (code, kept) = raw.connack().await;
        assert_eq!(code, 0);
        (raw, kept)
    };
    let (mut raw, _) = login(false).await;
    world.faults.poison(&world.device, Bytes::from_static(&[0, 0])).await.expect("a session");
    assert_eq!(raw.next().await, Seen::Undecodable);
    drop(raw);
    let (mut raw, kept) = login(false).await;
    assert_eq!((kept, raw.next().await), (true, Seen::Undecodable));
    drop(raw);
    let (mut raw, _) = login(true).await;
    raw.ping().await;
    drop(raw);
    let (mut raw, kept) = login(false).await;
    assert!(!kept);
    raw.ping().await;
}

#[tokio::test]
async fn the_door_decides_before_anybody_knows_the_device() {
    let world = World::new().await;
    let mut stands = Raw::ready(&world).await;
    world.faults.set_door(Door::Frozen);
    stands.send(Packet::PingReq).await;
    assert!(timeout(WHILE, stands.next()).await.is_err(), "nothing is read");
    let mut frozen = Raw::open(&world).await;
    frozen.send(Packet::PingReq).await;
    assert!(timeout(WHILE, frozen.next()).await.is_err(), "nothing is read");
    world.faults.set_door(Door::Open);
    assert_eq!(stands.next().await, Seen::Packet(Packet::PingResp), "it goes on where it was");
    assert_eq!(frozen.next().await, Seen::Closed, "the first packet was no CONNECT");

    world.faults.set_door(Door::Says(Bytes::from_static(b"\xd0\0")));
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::PingReq).await;
    assert_eq!((raw.next().await, raw.next().await), (Seen::Packet(Packet::PingResp), Seen::Closed));
    world.faults.set_door(Door::Reset);
    assert_eq!(Raw::open(&world).await.next().await, Seen::Closed);
    world.faults.set_door(Door::WrongLayer);
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(connect(&world))).await;
    assert!(!matches!(raw.next().await, Seen::Packet(Packet::ConnAck(_))), "TLS is expected here");
    world.faults.set_door(Door::Open);
    assert_eq!(world.faults.accepted(), 5);
    Raw::ready(&world).await.ping().await;
    assert_eq!(world.faults.accepted(), 6);
}
