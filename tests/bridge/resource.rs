//! What single fields of the resources do: credentials that expire, log levels, topics, limits, masks.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Packet;
use serde_json::{Value, json};
use twinagent::model::now::Timestamp;

use crate::http::{DEVICES, PARENT, done, get, refused};
use crate::raw::{Raw, Seen, connect, publish};
use crate::support::{DeviceKey, World, unix_now};

const REGISTRY: &str = "/v1/projects/my-project/locations/us-central1/registries/my-registry";
const DEVICE: &str = "/v1/projects/my-project/locations/us-central1/registries/my-registry/devices/gw-1";

/// The return code of a login with this key.
async fn login_code(world: &World, key: &DeviceKey) -> u8 {
    let mut connect = connect(world);
    connect.set_login("unused", key.token(3600));
    let mut raw = Raw::open(world).await;
    raw.send(Packet::Connect(connect)).await;
    raw.connack().await.0
}

async fn patch(world: &World, mask: &str, body: Value) -> Value {
    done(world, "PATCH", &format!("{DEVICE}?updateMask={mask}"), body).await
}

async fn is_refused(world: &World, method: &str, path: &str, body: Value, why: &str) {
    let told = refused(world, method, path, body).await;
    assert_eq!(told, (400, "INVALID_ARGUMENT".to_owned()), "{why}");
}

#[tokio::test]
async fn a_credential_that_expires_keeps_new_logins_out_and_ends_no_connection() {
    let world = World::new().await;
    let (brief, lasting, unknown) = (DeviceKey::new(), DeviceKey::new(), DeviceKey::new());
    let end = Timestamp::from_micros((unix_now() + 5) * 1_000_000);
    let credential = |key: &DeviceKey, end: Value| json!({"publicKey": {"format": "ES256_PEM", "key": key.public_pem()}, "expirationTime": end});
    // The start of 1970 stands for never.
    let credentials = json!({"credentials": [
        credential(&brief, json!(end)),
        credential(&lasting, json!("1970-01-01T00:00:00Z")),
        credential(&world.key, json!("2020-01-01T00:00:00Z")),
    ]});
    let shown = patch(&world, "credentials", credentials).await;
    assert_eq!(shown["credentials"][0]["expirationTime"], json!(end));
    assert_eq!(login_code(&world, &world.key).await, 5, "expired long ago");
    assert_eq!(login_code(&world, &unknown).await, 5);

    let world = World { key: brief, ..world };
    let mut raw = Raw::login(&world).await;
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    raw.ping().await;
    assert_eq!(login_code(&world, &world.key).await, 5, "expired now");
    raw.ping().await;
    assert_eq!(login_code(&world, &lasting).await, 0);
    assert_eq!(get(&world, DEVICE).await["credentials"].as_array().expect("a list").len(), 3, "none is deleted");
}

#[tokio::test]
async fn a_device_that_is_created_blocked_gets_in_once_it_is_not() {
    let world = World::new().await;
    let credentials = get(&world, DEVICE).await["credentials"].take();
    done(&world, "POST", DEVICES, json!({"id": "gw-2", "blocked": true, "credentials": credentials})).await;
    let device = world.device.of().device("gw-2").expect("a name");
    let world = World { device, ..world };
    assert_eq!(login_code(&world, &world.key).await, 5);
    done(&world, "PATCH", &format!("{DEVICES}/gw-2?updateMask=blocked"), json!({})).await;
    assert!(get(&world, &format!("{DEVICES}/gw-2")).await.get("blocked").is_none());
    assert_eq!(login_code(&world, &world.key).await, 0);
}

#[tokio::test]
async fn a_registry_without_mqtt_lets_nobody_in() {
    let world = World::new().await;
    for (state, code) in [("MQTT_DISABLED", 5), ("MQTT_ENABLED", 0)] {
        let body = json!({"mqttConfig": {"mqttEnabledState": state}});
        done(&world, "PATCH", &format!("{REGISTRY}?updateMask=mqtt_config"), body).await;
        assert_eq!(login_code(&world, &world.key).await, code, "{state}");
    }
}

#[tokio::test]
async fn the_log_level_of_the_device_or_else_of_its_registry_says_what_is_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let file = Arc::new(File::create(&path).expect("a file"));
    let subscriber = tracing_subscriber::fmt().with_writer(file).with_ansi(false).finish();
    // Beside another one: the only one would be asked what it wants to hear in the thread that comes to a line first. If that is
    // another test's, nobody is there, and the line is left out for all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    // The bridge runs in this test's thread, so this is its log and nobody else's.
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let mut seen = 0;
    for (device, registry, expected) in [
        ("LOG_LEVEL_UNSPECIFIED", "LOG_LEVEL_UNSPECIFIED", &["connected", "connection closed: mqtt"][..]),
        ("LOG_LEVEL_UNSPECIFIED", "NONE", &[]),
        ("ERROR", "DEBUG", &["connection closed: mqtt"]),
        ("INFO", "NONE", &["connected", "connection closed: mqtt"]),
        ("DEBUG", "NONE", &["connected", "subscribes to", "ping", "event of 6 bytes", "connection closed: mqtt"]),
        ("NONE", "DEBUG", &[]),
    ] {
        patch(&world, "log_level", json!({"logLevel": device})).await;
        done(&world, "PATCH", &format!("{REGISTRY}?updateMask=log_level"), json!({"logLevel": registry})).await;
        let mut raw = Raw::login(&world).await;
        raw.subscribe(&[("/devices/gw-1/commands/#".to_owned(), QoS::AtLeastOnce)]).await;
        raw.ping().await;
        raw.publish_acknowledged("/devices/gw-1/events/a", "s3cret").await;
        raw.send(publish("/devices/gw-1/wrong", "s3cret")).await;
        assert_eq!(raw.next().await, Seen::Closed);
        while world.cloud.connections().await.expect("a number") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = std::fs::read_to_string(&path).expect("the log");
        let new: Vec<&str> = text[seen..]
            .lines()
            .filter(|line| line.contains("/devices/gw-1") && !line.contains("disconnected"))
            .collect();
        seen = text.len();
        assert_eq!(new.len(), expected.len(), "{device} in {registry}: {new:#?}");
        for (line, expected) in new.iter().zip(expected) {
            assert!(line.contains(expected), "{device} in {registry}: {expected} in {line}");
        }
        assert!(!text.contains("s3cret"), "payloads are never logged");
    }
}

#[tokio::test]
async fn telemetry_goes_to_the_first_topic_that_matches_its_subfolder() {
    let world = World::new().await;
    let topic = |name: &str| format!("projects/my-project/topics/{name}");
    let set = |topics: Value| json!({"eventNotificationConfigs": topics});
    let path = format!("{REGISTRY}?updateMask=event_notification_config");
    let alerts = json!({"subfolderMatches": "alerts/hot", "pubsubTopicName": topic("alerts")});
    let rest = json!({"pubsubTopicName": topic("rest")});
    done(&world, "PATCH", &path, set(json!([alerts, rest]))).await;
    let mut events = world.cloud.telemetry().await.expect("a tap");
    let mut raw = Raw::login(&world).await;
    for (subfolder, expected) in
        [("/alerts/hot", "alerts"), ("/alerts", "rest"), ("", "rest"), ("/alerts/hot/x", "rest")]
    {
        raw.publish_acknowledged(&format!("/devices/gw-1/events{subfolder}"), "x").await;
        assert_eq!(events.recv().await.expect("an event").topic, topic(expected), "{subfolder}");
    }
    done(&world, "PATCH", &path, set(json!([alerts]))).await;
    raw.publish_acknowledged("/devices/gw-1/events/alerts/hot", "x").await;
    raw.send(publish("/devices/gw-1/events", "x")).await;
    assert_eq!(raw.next().await, Seen::Closed);
    world.last_error("no Pub/Sub topic").await;

    let eleven: Vec<Value> =
        (0..11).map(|number| json!({"subfolderMatches": number.to_string(), "pubsubTopicName": topic("t")})).collect();
    done(&world, "PATCH", &path, set(json!(eleven[1..]))).await;
    for (why, topics) in [
        ("eleven", json!(eleven)),
        ("all subfolders, and not the last", json!([rest, alerts])),
        ("a slash", json!([{"subfolderMatches": "/a", "pubsubTopicName": topic("t")}])),
        ("no topic's name", json!([{"pubsubTopicName": "events"}])),
    ] {
        is_refused(&world, "PATCH", &path, set(topics), why).await;
    }
    let states = json!({"stateNotificationConfig": {"pubsubTopicName": "events"}});
    is_refused(&world, "PATCH", &format!("{REGISTRY}?updateMask=state_notification_config"), states, "a state topic")
        .await;
}

#[tokio::test]
async fn metadata_is_taken_up_to_its_limits_and_not_beyond() {
    let world = World::new().await;
    let pairs = |count: usize, value: usize| -> Value {
        (0..count).map(|number| (format!("key-{number:04}"), json!("v".repeat(value)))).collect()
    };
    // Seven values of 32 KiB, and one that fills up to 256 KiB with its key of eight bytes.
    let full = |more: usize| {
        let mut full = pairs(7, 32 * 1024);
        full["the-rest"] = json!("v".repeat(32 * 1024 - 8 * 8 + more));
        full
    };
    for (why, metadata) in [
        ("a long key", json!({"k".repeat(128): ""})),
        ("a long value", json!({"key": "v".repeat(32 * 1024)})),
        ("many pairs", pairs(500, 1)),
        ("much", full(0)),
        ("all letters of keys", json!({"aZ09-_.+~%": "any \u{1f600} text\n"})),
        ("none", json!({})),
    ] {
        let shown = patch(&world, "metadata", json!({"metadata": metadata})).await;
        assert_eq!(shown.get("metadata").cloned().unwrap_or(json!({})), metadata, "{why}");
    }
    for (why, metadata) in [
        ("a key too long", json!({"k".repeat(129): ""})),
        ("an empty key", json!({"": ""})),
        ("a space in a key", json!({"a b": ""})),
        ("a key that is not ASCII", json!({"schlüssel": ""})),
        ("a value too long", json!({"key": "v".repeat(32 * 1024 + 1)})),
        ("too many pairs", pairs(501, 1)),
        ("too much", full(1)),
        ("a number", json!({"key": 1})),
    ] {
        let body = json!({"metadata": metadata});
        is_refused(&world, "PATCH", &format!("{DEVICE}?updateMask=metadata"), body, why).await;
    }
}

#[tokio::test]
async fn a_gateway_config_changes_as_a_whole_or_in_part_and_says_nothing_that_the_cloud_has_to() {
    let world = World::new().await;
    let sent = json!({"gatewayConfig": {
        "gatewayType": "GATEWAY",
        "gatewayAuthMethod": "DEVICE_AUTH_TOKEN_ONLY",
        "lastAccessedGatewayId": "gw-9",
        "lastAccessedGatewayTime": "2026-01-01T00:00:00Z",
    }});
    let shown = patch(&world, "gateway_config", sent).await;
    let both = json!({"gatewayType": "GATEWAY", "gatewayAuthMethod": "DEVICE_AUTH_TOKEN_ONLY"});
    assert_eq!(shown["gatewayConfig"], both);
    let other = json!({"gatewayConfig": {"gatewayType": "NON_GATEWAY", "gatewayAuthMethod": "ASSOCIATION_ONLY"}});
    let shown = patch(&world, "gateway_config.gateway_auth_method", other.clone()).await;
    assert_eq!(shown["gatewayConfig"], json!({"gatewayType": "GATEWAY", "gatewayAuthMethod": "ASSOCIATION_ONLY"}));
    let shown = patch(&world, "gatewayConfig.gatewayType", other).await;
    assert_eq!(shown["gatewayConfig"]["gatewayType"], "NON_GATEWAY");
    let part = get(&world, &format!("{DEVICE}?fieldMask=gateway_config.gateway_type")).await;
    assert_eq!(part["gatewayConfig"], json!({"gatewayType": "NON_GATEWAY"}));
    assert!(patch(&world, "gateway_config", json!({})).await.get("gatewayConfig").is_none());

    done(&world, "POST", DEVICES, json!({"id": "gw-2", "gatewayConfig": {"gatewayType": "GATEWAY"}})).await;
    for (kind, expected) in
        [("GATEWAY", &["gw-2"][..]), ("NON_GATEWAY", &["gw-1"]), ("GATEWAY_TYPE_UNSPECIFIED", &["gw-1", "gw-2"])]
    {
        let list = get(&world, &format!("{DEVICES}?gatewayListOptions.gatewayType={kind}")).await;
        let ids: Vec<&str> =
            list["devices"].as_array().expect("a list").iter().filter_map(|device| device["id"].as_str()).collect();
        assert_eq!(ids, expected, "{kind}");
    }
    let list = format!("{DEVICES}?gatewayListOptions.gatewayType=ROUTER");
    is_refused(&world, "GET", &list, json!({}), "an unknown type").await;
    let wrong = json!({"id": "gw-3", "gatewayConfig": {"gatewayType": "ROUTER"}});
    is_refused(&world, "POST", DEVICES, wrong, "an unknown type").await;
}

#[tokio::test]
async fn a_mask_that_names_what_is_not_there_or_not_the_clients_changes_nothing() {
    let world = World::new().await;
    let before = get(&world, DEVICE).await;
    let body = json!({"metadata": {"key": "value"}, "blocked": true});
    for mask in [
        "",
        ",",
        "colour",
        "*",
        "blocked,colour",
        "blocked,name",
        "metadata.key",
        "credentials.public_key",
        "config.binary_data",
        "gateway_config.last_accessed_gateway_id",
        "gateway_config.colour",
        "device.blocked",
    ] {
        is_refused(&world, "PATCH", &format!("{DEVICE}?updateMask={mask}"), body.clone(), mask).await;
    }
    is_refused(&world, "PATCH", DEVICE, body, "no mask").await;
    let whole = get(&world, DEVICE).await;
    assert_eq!(whole, before);
    for mask in ["config.version,config", "config,config.version,config"] {
        let shown = get(&world, &format!("{DEVICE}?fieldMask={mask}")).await;
        assert_eq!(shown["config"], whole["config"], "{mask}");
    }
    for mask in ["colour", "*", "id,colour", "metadata.key", "config.colour", "config.version.x", "id.x", "."] {
        is_refused(&world, "GET", &format!("{DEVICE}?fieldMask={mask}"), json!({}), mask).await;
        is_refused(&world, "GET", &format!("{DEVICES}?fieldMask={mask}"), json!({}), mask).await;
        // Also where there is nothing to be shown.
        is_refused(&world, "GET", &format!("{DEVICES}?deviceIds=none&fieldMask={mask}"), json!({}), mask).await;
    }
    for mask in ["", "colour", "mqtt_config.colour", "event_notification_configs.pubsub_topic_name", "mqtt_config,id"] {
        let body = json!({"mqttConfig": {"mqttEnabledState": "MQTT_DISABLED"}});
        is_refused(&world, "PATCH", &format!("{REGISTRY}?updateMask={mask}"), body, mask).await;
    }
    assert_eq!(get(&world, REGISTRY).await["mqttConfig"]["mqttEnabledState"], "MQTT_ENABLED");
}

#[tokio::test]
async fn bodies_that_no_resource_can_be_are_refused() {
    let world = World::new().await;
    for (why, member) in [
        ("an unknown level", json!({"logLevel": "LOUD"})),
        ("a text for a switch", json!({"blocked": "yes"})),
        ("a time that is none", json!({"credentials": [{"expirationTime": "tomorrow"}]})),
        ("a credential without a key", json!({"credentials": [{"expirationTime": "2026-01-01T00:00:00Z"}]})),
        ("a config with a version", json!({"config": {"version": "1", "binaryData": "eA=="}})),
        ("a config that is not base64", json!({"config": {"binaryData": "*"}})),
    ] {
        let mut body = member;
        body["id"] = json!("gw-2");
        is_refused(&world, "POST", DEVICES, body, why).await;
    }
    is_refused(&world, "POST", PARENT, json!({"id": "second", "logLevel": "LOUD"}), "an unknown level").await;
    let body = json!({"id": "gw-2", "config": {"version": 0, "binaryData": "eA=="}});
    let made = done(&world, "POST", DEVICES, body).await;
    assert_eq!((&made["config"]["version"], &made["config"]["binaryData"]), (&json!("1"), &json!("eA==")));
    let ids: String = (0..10_001).map(|_| "&deviceNumIds=1").collect();
    let header = "x-http-method-override: GET\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    let (status, answer) = crate::http::call(&world, "POST", DEVICES, header, &ids[1..]).await;
    assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{answer}");
}

#[tokio::test]
async fn the_last_ten_states_are_kept_the_newest_first() {
    let world = World::with(|options| options.state_interval = Duration::ZERO).await;
    let mut raw = Raw::login(&world).await;
    for number in 0..12 {
        raw.publish_acknowledged("/devices/gw-1/state", number.to_string()).await;
    }
    let states = get(&world, &format!("{DEVICE}/states")).await;
    let states = states["deviceStates"].as_array().expect("a list");
    // Base64 of 11 and of 2.
    assert_eq!(
        (states.len(), &states[0]["binaryData"], &states[9]["binaryData"]),
        (10, &json!("MTE="), &json!("Mg=="))
    );
    assert_eq!(get(&world, DEVICE).await["state"], states[0]);
    let three = get(&world, &format!("{DEVICE}/states?numStates=3")).await;
    assert_eq!(three["deviceStates"].as_array().expect("a list")[..], states[..3]);
    is_refused(&world, "GET", &format!("{DEVICE}/states?numStates=-1"), json!({}), "a negative number").await;
}
