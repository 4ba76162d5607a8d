//! Who may log in to the hub, with what, and for how long.

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, LastWill, Packet};
use twinagent::bridge::Access;
use twinagent::dialect::sas::{SharedKey, percent_encode};

use super::device::{HubWorld, KEY, OTHER_KEY, connect, good, token, with_key};
use crate::raw::Seen;
use crate::support::{LIMIT, unix_now};

/// A token whose resource is spelled like this.
fn spelled(resource: &str) -> String {
    let expiry = unix_now() + 3600;
    let signature = SharedKey::parse(KEY).expect("a key").sign(resource, expiry);
    format!("SharedAccessSignature sr={resource}&sig={}&se={expiry}", percent_encode(&signature))
}

#[tokio::test]
async fn a_token_counts_over_the_bytes_that_came_for_its_resource_and_what_is_below_it() {
    let world = HubWorld::new().await;
    for resource in ["localhost%2Fdevices%2Fdev1", "localhost%2fdevices%2fdev1", "localhost/devices/dev1", "localhost"]
    {
        assert_eq!(world.login(connect(&spelled(resource))).await, 0, "{resource}");
    }
    for (what, password) in [
        ("of a device beside it", spelled("localhost%2Fdevices%2Fdev2")),
        ("of a device whose name begins like it", spelled("localhost%2Fdevices%2Fdev")),
        ("of one of its modules", spelled("localhost%2Fdevices%2Fdev1%2Fmodules%2Fm")),
        ("of another hub", spelled("other%2Fdevices%2Fdev1")),
        ("changed after it was signed", spelled("localhost%2Fdevices%2Fdev1").replace("%2F", "%2f")),
        ("with another key", token(OTHER_KEY, "localhost/devices/dev1", 3600)),
        ("expired", token(KEY, "localhost/devices/dev1", -1)),
        ("none", String::new()),
        ("nonsense", "secret".to_owned()),
    ] {
        assert_eq!(world.login(connect(&password)).await, 5, "{what}");
        let why = world.hub.last_refusal().await.expect("the bridge runs").expect("a reason");
        assert!(!why.is_empty() && !why.contains("sig="), "{what}: {why}");
    }
    assert_eq!(world.hub.logins(&world.device).await.expect("the device is there"), 4);
}

#[tokio::test]
async fn user_name_and_client_id_must_name_the_same_identity() {
    let world = HubWorld::new().await;
    let password = token(KEY, "localhost", 3600);
    let login = |client_id: &str, username: &str| {
        let mut connect = Connect::new(client_id);
        connect.set_login(username, password.clone());
        connect
    };
    for username in [
        "localhost/dev1/?api-version=2019-10-01&DeviceClientType=x%2F1",
        "localhost/dev1/?api-version=2020-09-30&model-id=dtmi%3Acom%3Aexample%3B1",
        "localhost/dev1/?api-version=2021-04-12",
    ] {
        assert_eq!(world.login(login("dev1", username)).await, 0, "{username}");
    }
    for (client_id, username) in [
        ("dev2", "localhost/dev2/?api-version=2021-04-12"),
        ("dev2", "localhost/dev1/?api-version=2021-04-12"),
        ("dev1", "localhost/dev1/m1/?api-version=2021-04-12"),
        ("dev1", "localhost/dev1/?api-version=yesterday"),
        ("dev1", "localhost/dev1/?api-version=2021-04-13"),
        ("dev1", "localhost//?api-version=2021-04-12"),
    ] {
        assert_eq!(world.login(login(client_id, username)).await, 5, "{client_id} {username}");
    }
}

#[tokio::test]
async fn a_hub_goes_by_its_own_names_alone() {
    let login = |host: &str| {
        let mut connect = Connect::new("dev1");
        let password = token(KEY, &format!("{host}/devices/dev1"), 3600);
        connect.set_login(format!("{host}/dev1/?api-version=2021-04-12"), password);
        connect
    };
    let names = vec!["Hub.Test".to_owned(), "*.fleet.test".to_owned()];
    let world = HubWorld::with(|options| options.names = names.clone()).await;
    for host in ["localhost", "hub.test", "HUB.test"] {
        assert_eq!(world.login(login(host)).await, 0, "{host}");
    }
    for host in ["127.0.0.1", "other.test", "a.fleet.test", "hub.test.example"] {
        assert_eq!(world.login(login(host)).await, 5, "{host}");
        let why = world.hub.last_refusal().await.expect("the bridge runs").expect("a reason");
        assert!(why.contains("another hub") && why.contains(host), "{why}");
    }
    let world =
        HubWorld::with(|options| (options.names, options.hubs) = (names, Some(vec!["only.test".to_owned()]))).await;
    for (host, code) in [("only.test", 0), ("localhost", 5), ("hub.test", 5)] {
        assert_eq!(world.login(login(host)).await, code, "{host}");
    }
}

#[tokio::test]
async fn both_keys_count_until_the_device_is_disabled_or_deleted() {
    let world = HubWorld::new().await;
    let access = Access::Key { primary: KEY.to_owned(), secondary: Some(OTHER_KEY.to_owned()) };
    let second = world.hub.create_device("dev2", access).await.expect("a device");
    let mut by_second = Connect::new("dev2");
    by_second.set_login("localhost/dev2/?api-version=2021-04-12", token(OTHER_KEY, "localhost/devices/dev2", 3600));
    assert_eq!(world.login(by_second.clone()).await, 0);
    let mut raw = world.open().await;
    raw.send(Packet::Connect(by_second.clone())).await;
    assert_eq!(raw.connack().await, (0, false));
    world.hub.set_enabled(&second, false).await.expect("disabled");
    assert_eq!(raw.next().await, Seen::Closed);
    assert_eq!(world.login(by_second.clone()).await, 5);
    world.hub.set_enabled(&second, true).await.expect("enabled");
    assert_eq!(world.login(by_second.clone()).await, 0);
    world.hub.delete(&second).await.expect("deleted");
    assert_eq!(world.login(by_second).await, 5);
    assert_eq!(world.hub.twin(&second).await.expect_err("it is gone").code, 404_001);
}

#[tokio::test]
async fn a_module_is_an_identity_beside_its_device() {
    let world = HubWorld::new().await;
    let module = world.hub.create_module(&world.device, "app", with_key(OTHER_KEY)).await.expect("a module");
    let mut connect = Connect::new("dev1/app");
    let password = token(OTHER_KEY, "localhost/devices/dev1/modules/app", 3600);
    connect.set_login("localhost/dev1/app/?api-version=2021-04-12", password);
    let mut device = world.online(&[]).await;
    let mut raw = world.open().await;
    raw.send(Packet::Connect(connect)).await;
    assert_eq!(raw.connack().await, (0, false));
    device.ping().await;
    assert!(world.hub.connected(&module).await.expect("it is there"));
    world.hub.delete(&world.device).await.expect("deleted");
    assert_eq!(raw.next().await, Seen::Closed, "a module goes with its device");
    assert_eq!(device.next().await, Seen::Closed);
}

#[tokio::test]
async fn the_connection_ends_with_its_token_and_the_newest_one_wins() {
    // What Cloud IoT Core forgives says nothing about the hub.
    let world = HubWorld::with(|options| options.skew = Duration::from_secs(600)).await;
    let begun = Instant::now();
    // Long enough for a busy machine to log in.
    let short = connect(&token(KEY, "localhost/devices/dev1", 6));
    let (mut raw, _) = world.online_with(short, &[]).await;
    assert_eq!(raw.next().await, Seen::Closed);
    assert!(begun.elapsed() > Duration::from_secs(4), "the token was good for more than five seconds");
    assert!(world.last_error().await.contains("expired"), "{}", world.last_error().await);
    // The second of two connections is no worse for the end of the first.
    let mut old = world.online(&[]).await;
    let mut new = world.online(&[]).await;
    assert_eq!(old.next().await, Seen::Closed);
    new.ping().await;
    assert!(world.last_error().await.contains("another active connection"));
}

#[tokio::test]
async fn a_will_is_telemetry_and_nothing_else() {
    let world = HubWorld::new().await;
    let mut messages = world.hub.messages().await.expect("a tap");
    let with_will = |topic: &str| {
        let mut connect = good();
        connect.last_will = Some(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
        connect
    };
    for topic in ["devices/dev2/messages/events/", "anything"] {
        assert_eq!(world.login(with_will(topic)).await, 255, "{topic}");
    }
    let (raw, _) = world.online_with(with_will("devices/dev1/messages/events/a=b"), &[]).await;
    drop(raw);
    let will = tokio::time::timeout(LIMIT, messages.recv()).await.expect("it comes").expect("the tap is open");
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(will.properties, [property("a", "b"), property("iothub-MessageType", "Will")]);
    assert_eq!(&will.payload[..], b"gone");
    // Whoever says that he goes leaves none.
    let (mut raw, _) = world.online_with(with_will("devices/dev1/messages/events/"), &[]).await;
    raw.send(Packet::Disconnect).await;
    assert_eq!(raw.next().await, Seen::Closed);
    world.gone().await;
    assert!(messages.try_recv().is_err());
}
