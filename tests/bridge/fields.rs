//! Every field of both resources: how it is set, how it is read back, and what it does.

use std::collections::BTreeSet;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck, Publish};
use serde_json::{Value, json};
use twinagent::model::now::Timestamp;

use crate::certificates::authority;
use crate::http::{DEVICES, PARENT, done, get, refused};
use crate::raw::{Raw, Seen, connect};
use crate::support::{DeviceKey, World, unix_now};

/// A field of the device resource.
struct Row {
    /// Its name in JSON.
    field: &'static str,
    /// What gives it a value.
    by: By,
    /// Whether this is what is then read.
    reads: fn(&Value, &Scene) -> bool,
}

enum By {
    Creation,
    /// The client, by a patch with this value and the field's name as its mask.
    Patch(Value),
    /// The client, by `modifyCloudToDeviceConfig`.
    Modify,
    /// The device, by this.
    Device(Deed),
}

#[derive(Clone, Copy)]
enum Deed {
    SubscribesToConfig,
    AcknowledgesConfig,
    Pings,
    SendsEvent,
    SendsState,
    BreaksARule,
    /// The row before has done it.
    Did,
}

/// A device in the middle of the table.
struct Scene {
    world: World,
    raw: Raw,
    config: Option<Publish>,
    began: String,
}

fn now() -> String {
    Timestamp::from_micros(unix_now() * 1_000_000).to_string()
}

fn is_recent(time: &Value, scene: &Scene) -> bool {
    // Whole microseconds in UTC, so the order of texts is that of times.
    time.as_str().is_some_and(|time| *time >= *scene.began && time.len() == scene.began.len())
}

fn table(second_key: &Value) -> Vec<Row> {
    let row = |field, by, reads| Row { field, by, reads };
    let device = By::Device;
    vec![
        row("id", By::Creation, |value, _| value == "gw-2"),
        row("numId", By::Creation, |value, _| value.as_str().is_some_and(|text| text.parse::<u64>().is_ok())),
        row("name", By::Creation, |value, _| {
            let name = value.as_str().expect("a text");
            name.strip_prefix(&format!("{}/", &DEVICES[4..])).is_some_and(|number| number.parse::<u64>().is_ok())
        }),
        row("metadata", By::Patch(json!({"serial": "42"})), |value, _| *value == json!({"serial": "42"})),
        row("credentials", By::Patch(second_key.clone()), |value, _| value[0]["publicKey"]["format"] == "ES256_PEM"),
        row("logLevel", By::Patch(json!("DEBUG")), |value, _| value == "DEBUG"),
        row(
            "gatewayConfig",
            By::Patch(json!({"gatewayType": "GATEWAY", "gatewayAuthMethod": "ASSOCIATION_ONLY"})),
            |value, _| value["gatewayType"] == "GATEWAY" && value["gatewayAuthMethod"] == "ASSOCIATION_ONLY",
        ),
        row("config", By::Modify, |value, scene| {
            value["version"] == "2" && value["binaryData"] == "dHdv" && is_recent(&value["cloudUpdateTime"], scene)
        }),
        row("lastHeartbeatTime", device(Deed::Pings), is_recent),
        row("lastConfigSendTime", device(Deed::SubscribesToConfig), is_recent),
        row("lastConfigAckTime", device(Deed::AcknowledgesConfig), is_recent),
        row("lastEventTime", device(Deed::SendsEvent), is_recent),
        row("lastStateTime", device(Deed::SendsState), is_recent),
        row("state", device(Deed::Did), |value, scene| {
            value["binaryData"] == "b24=" && is_recent(&value["updateTime"], scene)
        }),
        row("lastErrorTime", device(Deed::BreaksARule), is_recent),
        row("lastErrorStatus", device(Deed::Did), |value, _| {
            value["code"] == 3 && value["message"].as_str().is_some_and(|text| text.contains("QoS 2"))
        }),
        row("blocked", By::Patch(json!(true)), |value, _| *value == json!(true)),
    ]
}

impl Scene {
    async fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::SubscribesToConfig => {
                self.raw.subscribe(&[("/devices/gw-2/config".to_owned(), QoS::AtLeastOnce)]).await;
                self.config = Some(self.raw.publish().await);
            }
            Deed::AcknowledgesConfig => {
                let config = self.config.take().expect("it was sent");
                assert_eq!(config.payload, "two");
                self.raw.send(Packet::PubAck(PubAck::new(config.pkid))).await;
                self.raw.ping().await;
            }
            Deed::Pings => self.raw.ping().await,
            Deed::SendsEvent => self.raw.publish_acknowledged("/devices/gw-2/events", "hot").await,
            Deed::SendsState => self.raw.publish_acknowledged("/devices/gw-2/state", "on").await,
            Deed::BreaksARule => {
                let mut message = Publish::new("/devices/gw-2/events", QoS::ExactlyOnce, "x");
                message.pkid = 1;
                self.raw.send(Packet::Publish(message)).await;
                assert_eq!(self.raw.next().await, Seen::Closed);
                self.raw = Raw::login(&self.world).await;
            }
            Deed::Did => {}
        }
    }

    /// What a field does besides being read.
    async fn see_effect(&mut self, field: &str) {
        match field {
            // The old key is gone and `self.world.key` is the new one.
            "credentials" => {
                self.raw.send(Packet::Disconnect).await;
                assert_eq!(self.raw.next().await, Seen::Closed);
                self.raw = Raw::login(&self.world).await;
            }
            "gatewayConfig" => {
                let list = get(&self.world, &format!("{DEVICES}?gatewayListOptions.gatewayType=GATEWAY")).await;
                assert_eq!(list["devices"].as_array().expect("a list").len(), 1);
                assert_eq!(list["devices"][0]["id"], "gw-2");
            }
            "lastConfigAckTime" => {
                let shown = get(&self.world, &format!("{DEVICES}/gw-2?fieldMask=config.device_ack_time")).await;
                assert!(is_recent(&shown["config"]["deviceAckTime"], self), "{shown}");
            }
            "blocked" => {
                assert_eq!(self.raw.next().await, Seen::Closed);
                let mut raw = Raw::open(&self.world).await;
                raw.send(Packet::Connect(connect(&self.world))).await;
                assert_eq!(raw.connack().await, (5, false));
            }
            // Times, and what is only kept. What is logged is a story of its own.
            _ => {}
        }
    }
}

fn snake(name: &str) -> String {
    let part =
        |letter: char| if letter.is_ascii_uppercase() { format!("_{letter}").to_lowercase() } else { letter.into() };
    name.chars().map(part).collect()
}

#[tokio::test]
async fn every_field_of_a_device_is_set_read_back_and_kept() {
    let began = now();
    let world = World::new().await;
    let created = json!({"id": "gw-2", "credentials": [
        {"publicKey": {"format": "ES256_PEM", "key": world.key.public_pem()}}
    ]});
    done(&world, "POST", DEVICES, created).await;
    let path = format!("{DEVICES}/gw-2");
    let device = world.device.of().device("gw-2").expect("a name");
    let mut scene = {
        let world = World { device, ..world };
        Scene { raw: Raw::login(&world).await, world, config: None, began }
    };
    let second = DeviceKey::new();
    let second_key = json!([{"publicKey": {"format": "ES256_PEM", "key": second.public_pem()}}]);
    scene.world.key = second;

    let table = table(&second_key);
    for Row { field, by, reads } in &table {
        let masks = [snake(field), (*field).to_owned()];
        let before = get(&scene.world, &path).await;
        let always = ["id", "numId", "name", "config", "credentials"].contains(field);
        let late = matches!(by, By::Device(Deed::Did));
        assert!(always || late || before.get(field).is_none(), "{field} has no value at first: {before}");

        let by_mask = format!("{path}?updateMask={}", masks[0]);
        if let By::Patch(value) = by {
            let patched = done(&scene.world, "PATCH", &by_mask, json!({*field: value})).await;
            assert_eq!(patched[field], *value, "{field}");
        } else {
            let told = refused(&scene.world, "PATCH", &by_mask, before).await;
            assert_eq!(told, (400, "INVALID_ARGUMENT".to_owned()), "{field} cannot be changed");
        }
        match by {
            By::Modify => {
                let modify = format!("{path}:modifyCloudToDeviceConfig");
                done(&scene.world, "POST", &modify, json!({"versionToUpdate": "1", "binaryData": "dHdv"})).await;
            }
            By::Device(deed) => scene.perform(*deed).await,
            By::Creation | By::Patch(_) => {}
        }

        let whole = get(&scene.world, &path).await;
        assert!(reads(&whole[field], &scene), "{field} in {whole}");
        let mut expected = json!({"id": whole["id"], "numId": whole["numId"]});
        expected[*field] = whole[field].clone();
        for mask in masks {
            assert_eq!(get(&scene.world, &format!("{path}?fieldMask={mask}")).await, expected, "{mask}");
            let list = get(&scene.world, &format!("{DEVICES}?deviceIds=gw-2&fieldMask={mask}")).await;
            assert_eq!(list["devices"], json!([expected]), "{mask}");
        }
        scene.see_effect(field).await;
    }

    let whole = get(&scene.world, &path).await;
    let shown: BTreeSet<&str> = whole.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(shown, table.iter().map(|row| row.field).collect(), "the table has all fields");
    // All fields of the discovery document's schema.
    assert_eq!(shown.len(), 17);

    let world = scene.world.restarted().await;
    assert_eq!(get(&world, &path).await, whole);
    world.bridge.stop().await;
}

#[tokio::test]
async fn every_field_of_a_registry_is_set_read_back_and_kept() {
    let world = World::new().await;
    let certificate = authority("vouching", -60, 3600).pem;
    let topic = |name: &str| format!("projects/my-project/topics/{name}");
    let table = [
        ("id", None, json!("second")),
        ("name", None, json!(format!("{}/second", &PARENT[4..]))),
        (
            "eventNotificationConfigs",
            Some("event_notification_config"),
            json!([{"subfolderMatches": "a", "pubsubTopicName": topic("a")}, {"pubsubTopicName": topic("rest")}]),
        ),
        ("stateNotificationConfig", Some("state_notification_config"), json!({"pubsubTopicName": topic("states")})),
        ("mqttConfig", Some("mqtt_config"), json!({"mqttEnabledState": "MQTT_DISABLED"})),
        ("httpConfig", Some("http_config"), json!({"httpEnabledState": "HTTP_DISABLED"})),
        ("logLevel", Some("log_level"), json!("ERROR")),
        (
            "credentials",
            Some("credentials"),
            json!([{"publicKeyCertificate": {"format": "X509_CERTIFICATE_PEM", "certificate": certificate}}]),
        ),
    ];
    // Once all at the creation, and once one after the other.
    let mut at_once = json!({});
    for (field, _, value) in &table {
        at_once[*field] = value.clone();
    }
    let at_once = done(&world, "POST", PARENT, at_once).await;
    let path = format!("{PARENT}/second");
    done(&world, "DELETE", &path, json!({})).await;
    done(&world, "POST", PARENT, json!({"id": "second"})).await;
    for (field, mask, value) in &table {
        let body = json!({*field: value});
        if let Some(mask) = mask {
            done(&world, "PATCH", &format!("{path}?updateMask={mask}"), body).await;
        } else {
            let told = refused(&world, "PATCH", &format!("{path}?updateMask={field}"), body).await;
            assert_eq!(told, (400, "INVALID_ARGUMENT".to_owned()), "{field}");
        }
        let mut shown = get(&world, &path).await[*field].clone();
        if *field == "credentials" {
            let details = shown[0]["publicKeyCertificate"]["x509Details"].take();
            assert_eq!(details["subject"], "CN=vouching");
            shown[0]["publicKeyCertificate"].as_object_mut().expect("an object").remove("x509Details");
        }
        assert_eq!(shown, *value, "{field}");
    }
    let whole = get(&world, &path).await;
    assert_eq!(whole, at_once);
    let shown: BTreeSet<&str> = whole.as_object().expect("an object").keys().map(String::as_str).collect();
    // All fields of the discovery document's schema.
    assert_eq!(shown, table.iter().map(|(field, ..)| *field).collect());
    for (mask, body) in [
        ("mqtt_config.mqtt_enabled_state", json!({"mqttConfig": {"mqttEnabledState": "MQTT_ENABLED"}})),
        ("httpConfig.httpEnabledState", json!({"httpConfig": {"httpEnabledState": "HTTP_ENABLED"}})),
        ("state_notification_config.pubsub_topic_name", json!({"stateNotificationConfig": {"pubsubTopicName": ""}})),
    ] {
        let patched = done(&world, "PATCH", &format!("{path}?updateMask={mask}"), body).await;
        assert_eq!(patched["logLevel"], "ERROR", "what {mask} does not name stays");
    }

    let whole = get(&world, &path).await;
    let world = world.restarted().await;
    assert_eq!(get(&world, &path).await, whole);
    world.bridge.stop().await;
}
