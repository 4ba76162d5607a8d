//! Who gets in, for how long, and what the others are told.

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{LastWill, Packet};
use serde_json::json;

use crate::raw::{Raw, Seen, connect};
use crate::support::{DeviceKey, PROJECT, World, unix_now};

/// The CONNACK of a CONNECT with this client id and password; `None`: closed without one.
async fn answer(world: &World, client_id: &str, password: &str) -> Option<u8> {
    let mut connect = connect(world);
    connect.client_id = client_id.to_owned();
    connect.set_login("unused", password);
    let mut raw = Raw::open(world).await;
    raw.send(Packet::Connect(connect)).await;
    match raw.next().await {
        Seen::Packet(Packet::ConnAck(ack)) => Some(ack.code as u8),
        Seen::Closed => None,
        other => panic!("neither a CONNACK nor a close: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_good_token_of_the_device_gets_in() {
    let world = World::new().await;
    let id = world.device.to_string();
    let now = unix_now();
    let claims = |aud: &str, iat: i64, exp: i64| world.key.sign(&json!({"aud": aud, "iat": iat, "exp": exp}));
    let hour = 3600;
    for good in [
        world.key.token(hour),
        claims(PROJECT, now, now + 24 * hour),
        claims(PROJECT, now + 500, now + hour),
        claims(PROJECT, now - hour, now - 500),
    ] {
        assert_eq!(answer(&world, &id, &good).await, Some(0));
    }
    for (why, bad) in [
        ("no password", String::new()),
        ("no token", "secret".to_owned()),
        ("another key", DeviceKey::new().token(hour)),
        ("another audience", claims("other-project", now, now + hour)),
        ("expired", claims(PROJECT, now - hour, now - 700)),
        ("from the future", claims(PROJECT, now + 700, now + hour)),
        ("too long", claims(PROJECT, now - 900, now + 24 * hour)),
        ("no times", world.key.sign(&json!({"aud": PROJECT}))),
    ] {
        assert_eq!(answer(&world, &id, &bad).await, Some(5), "{why}");
    }
}

#[tokio::test]
async fn names_that_do_not_exist_are_refused_each_in_its_way() {
    let world = World::new().await;
    let id = world.device.to_string();
    let token = world.key.token(3600);
    for (client_id, expected) in [
        (id.replace("gw-1", "gw-2"), Some(5)),
        (id.replace("my-registry", "other-registry"), Some(5)),
        (id.replace("us-central1", "europe-west1"), Some(5)),
        (id.replace("my-project", "other-project"), None),
        ("gw-1".to_owned(), Some(2)),
        (id.replace("/devices/", "/"), Some(2)),
    ] {
        assert_eq!(answer(&world, &client_id, &token).await, expected, "{client_id}");
    }
}

#[tokio::test]
async fn what_is_no_connect_of_mqtt_3_1_1_gets_nowhere() {
    let world = World::new().await;
    for level in [3, 5] {
        let mut raw = Raw::open(&world).await;
        raw.send_bytes(&[0x10, 15, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 3, b'a', b'b', b'c']).await;
        assert_eq!(raw.connack().await, (1, false), "level {level}");
        assert_eq!(raw.next().await, Seen::Closed);
    }
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::PingReq).await;
    assert_eq!(raw.next().await, Seen::Closed);

    let mut raw = Raw::open(&world).await;
    let mut large = connect(&world);
    large.client_id = "x".repeat(20_000);
    raw.send(Packet::Connect(large)).await;
    assert_eq!(raw.next().await, Seen::Closed);

    let mut raw = Raw::open(&world).await;
    raw.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.next().await, Seen::Closed);

    let mut raw = Raw::open(&world).await;
    let mut with_will = connect(&world);
    with_will.last_will = Some(LastWill::new("/devices/gw-1/events", "gone", QoS::AtMostOnce, false));
    raw.send(Packet::Connect(with_will)).await;
    assert_eq!(raw.next().await, Seen::Closed);
}

#[tokio::test]
async fn a_connection_ends_when_its_token_has_expired_and_not_before() {
    let world = World::with(|options| options.skew = Duration::ZERO).await;
    let mut raw = Raw::open(&world).await;
    let mut connect = connect(&world);
    let began = Instant::now();
    // Long enough for a busy machine to log in.
    connect.set_login("unused", world.key.token(6));
    raw.send(Packet::Connect(connect)).await;
    assert_eq!(raw.connack().await, (0, false));
    assert_eq!(raw.next().await, Seen::Closed);
    // `exp` is in whole seconds, so a life of six may be little more than five.
    assert!(began.elapsed() > Duration::from_millis(4_900), "closed too early");
    world.last_error("The authorization token expired").await;
}

#[tokio::test]
async fn the_older_of_two_connections_of_a_device_is_closed() {
    let world = World::new().await;
    let mut old = Raw::login(&world).await;
    let mut new = Raw::login(&world).await;
    assert_eq!(old.next().await, Seen::Closed);
    new.ping().await;
    assert_eq!(world.cloud.connections().await.expect("a number"), 1);
    assert_eq!(world.cloud.logins(&world.device).await.expect("a number"), 2);
    world.last_error("another active connection with the same device ID").await;
}

#[tokio::test]
async fn silence_of_one_and_a_half_keep_alives_ends_a_connection_and_pings_prevent_it() {
    let world = World::new().await;
    let mut raw = Raw::open(&world).await;
    let mut connect = connect(&world);
    connect.keep_alive = 5;
    raw.send(Packet::Connect(connect)).await;
    assert_eq!(raw.connack().await, (0, false));
    let mut silent = Instant::now();
    // Together more than the 7.5 s; each leaves a busy machine time to come late.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        silent = Instant::now();
        raw.ping().await;
    }
    assert_eq!(raw.next().await, Seen::Closed);
    assert!(silent.elapsed() > Duration::from_millis(7_400), "closed after {:?}", silent.elapsed());
    assert!(world.resource().await["lastHeartbeatTime"].is_string());
}
