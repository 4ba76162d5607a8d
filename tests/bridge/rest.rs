//! The REST side: a resource's life, commands, lists, errors, the bearer token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rumqttc::mqttbytes::v4::{Packet, PubAck};
use serde_json::json;
use twinagent::bridge::Options;

use crate::http::{DEVICES, PARENT, call, done, get, refused};
use crate::raw::{Raw, Seen};
use crate::support::World;

#[tokio::test]
async fn a_device_lives_from_its_creation_to_its_end() {
    let world = World::new().await;
    let key = json!({"publicKey": {"format": "ES256_PEM", "key": world.key.public_pem()}});
    let body = json!({"id": "dev.1~%+", "credentials": [key], "metadata": {"a": "b"}});
    let created = done(&world, "POST", DEVICES, body.clone()).await;
    let number = created["numId"].as_str().expect("a number as a text").to_owned();
    assert!(number.parse::<u64>().is_ok());
    assert_eq!(created["name"], format!("{}/{number}", &DEVICES[4..]));
    assert_eq!(created["config"]["version"], "1");
    assert!(created["config"].get("binaryData").is_none(), "an empty configuration is left out");
    assert_eq!(refused(&world, "POST", DEVICES, body).await, (409, "ALREADY_EXISTS".to_owned()));

    let by_number = format!("{DEVICES}/{number}");
    let by_id = format!("{DEVICES}/dev.1~%25+");
    assert_eq!(get(&world, &by_number).await, created);
    assert_eq!(get(&world, &format!("{by_id}?alt=json")).await, created);
    assert_eq!(
        get(&world, &format!("{by_number}?fieldMask=metadata,lastErrorStatus,num_id,config.version")).await,
        json!({"id": "dev.1~%+", "numId": number, "metadata": {"a": "b"}, "config": {"version": "1"}})
    );

    let mut changed = created.clone();
    changed["metadata"] = json!({"x": "y"});
    changed["blocked"] = json!(true);
    let patched = done(&world, "PATCH", &format!("{by_number}?updateMask=metadata"), changed).await;
    assert_eq!((&patched["metadata"], patched.get("blocked")), (&json!({"x": "y"}), None));

    let modify = format!("{by_number}:modifyCloudToDeviceConfig");
    let config = done(&world, "POST", &modify, json!({"versionToUpdate": 1, "binaryData": "__79"})).await;
    assert_eq!((&config["version"], &config["binaryData"]), (&json!("2"), &json!("//79")));
    let stale = refused(&world, "POST", &modify, json!({"versionToUpdate": "1", "binaryData": ""})).await;
    assert_eq!(stale, (400, "FAILED_PRECONDITION".to_owned()));
    for _ in 0..12 {
        done(&world, "POST", &modify, json!({"binaryData": "eA"})).await;
    }
    let versions = get(&world, &format!("{by_number}/configVersions")).await;
    let versions: Vec<_> = versions["deviceConfigs"].as_array().expect("a list").iter().collect();
    assert_eq!((versions.len(), &versions[0]["version"], &versions[9]["version"]), (10, &json!("14"), &json!("5")));
    let two = get(&world, &format!("{by_number}/configVersions?numVersions=2")).await;
    assert_eq!(two["deviceConfigs"].as_array().expect("a list").len(), 2);
    assert_eq!(get(&world, &format!("{by_number}/states")).await, json!({}));

    assert_eq!(done(&world, "DELETE", &by_number, json!({})).await, json!({}));
    assert_eq!(refused(&world, "GET", &by_id, json!({})).await, (404, "NOT_FOUND".to_owned()));
    let folder = world.folder.path().join("google/devices");
    world.bridge.stop().await;
    let left = std::fs::read_dir(folder).expect("the folder is there").count();
    assert_eq!(left, 1, "only the other device is kept");
}

#[tokio::test]
async fn a_command_by_rest_returns_at_the_acknowledgement_and_a_state_is_read_back() {
    let world = World::new().await;
    let send = format!("{DEVICES}/gw-1:sendCommandToDevice");
    let body = json!({"binaryData": STANDARD.encode("{}"), "subfolder": "rebootDevice/1"});
    assert_eq!(refused(&world, "POST", &send, body.clone()).await, (400, "FAILED_PRECONDITION".to_owned()));

    let mut raw = Raw::ready(&world).await;
    let device = async {
        let command = raw.publish().await;
        assert_eq!(command.topic, "/devices/gw-1/commands/rebootDevice/1");
        raw.send(Packet::PubAck(PubAck::new(command.pkid))).await;
        raw.publish_acknowledged("/devices/gw-1/state", "{\"rebootTime\":\"now\"}").await;
    };
    let (answer, ()) = tokio::join!(done(&world, "POST", &send, body), device);
    assert_eq!(answer, json!({}));
    let states = get(&world, &format!("{DEVICES}/gw-1/states?numStates=1")).await;
    let data = states["deviceStates"][0]["binaryData"].as_str().expect("base64");
    assert_eq!(STANDARD.decode(data).expect("base64"), b"{\"rebootTime\":\"now\"}");
}

#[tokio::test]
async fn a_device_that_never_acknowledges_is_a_deadline() {
    let world = World::with(|options| options.command_limit = std::time::Duration::from_millis(200)).await;
    let _silent = Raw::ready(&world).await;
    let send = format!("{DEVICES}/gw-1:sendCommandToDevice");
    let late = refused(&world, "POST", &send, json!({"binaryData": ""})).await;
    assert_eq!(late, (504, "DEADLINE_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn lists_come_in_pages_and_by_name_even_when_the_query_is_sent_as_a_body() {
    let world = World::new().await;
    for number in 2..=5 {
        done(&world, "POST", DEVICES, json!({"id": format!("gw-{number}")})).await;
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = get(&world, &format!("{DEVICES}?pageSize=2&fieldMask=blocked&pageToken={token}")).await;
        for device in page["devices"].as_array().expect("a list") {
            assert!(device["numId"].is_string() && device.get("name").is_none(), "{device}");
            seen.push(device["id"].as_str().expect("a text").to_owned());
        }
        match page["nextPageToken"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(seen, ["gw-1", "gw-2", "gw-3", "gw-4", "gw-5"]);

    let query = "deviceIds=gw-2&deviceIds=gw-4&deviceIds=none";
    let named = get(&world, &format!("{DEVICES}?{query}")).await;
    assert_eq!(named["devices"].as_array().expect("a list").len(), 2);
    let header = "x-http-method-override: GET\r\ncontent-type: application/x-www-form-urlencoded\r\n";
    assert_eq!(call(&world, "POST", DEVICES, header, query).await, (200, named));
    let wrong = refused(&world, "GET", &format!("{DEVICES}?pageSize=many"), json!({})).await;
    assert_eq!(wrong, (400, "INVALID_ARGUMENT".to_owned()));
}

#[tokio::test]
async fn registries_are_made_listed_changed_and_deleted_when_empty() {
    let world = World::new().await;
    let topic = json!([{"pubsubTopicName": "projects/my-project/topics/t"}]);
    let made = done(&world, "POST", PARENT, json!({"id": "second", "eventNotificationConfigs": topic})).await;
    assert_eq!(made["name"], format!("{}/second", &PARENT[4..]));
    assert_eq!(made["mqttConfig"]["mqttEnabledState"], "MQTT_ENABLED");
    let list = get(&world, PARENT).await;
    assert_eq!(list["deviceRegistries"].as_array().expect("a list").len(), 2);
    let second = format!("{PARENT}/second");
    let off = json!({"mqttConfig": {"mqttEnabledState": "MQTT_DISABLED"}});
    let patched = done(&world, "PATCH", &format!("{second}?updateMask=mqttConfig"), off).await;
    assert_eq!(
        (&patched["mqttConfig"]["mqttEnabledState"], &patched["eventNotificationConfigs"]),
        (&json!("MQTT_DISABLED"), &topic)
    );
    let full = refused(&world, "DELETE", &format!("{PARENT}/my-registry"), json!({})).await;
    assert_eq!(full, (400, "FAILED_PRECONDITION".to_owned()));
    assert_eq!(done(&world, "DELETE", &second, json!({})).await, json!({}));
    assert_eq!(refused(&world, "GET", &second, json!({})).await, (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_a_canonical_error() {
    let world = World::new().await;
    let device = format!("{DEVICES}/gw-1");
    let key =
        |format: &str, key: &str| json!({"id": "gw-2", "credentials": [{"publicKey": {"format": format, "key": key}}]});
    let good = world.key.public_pem();
    let four: Vec<_> = (0..4).map(|_| json!({"publicKey": {"format": "ES256_PEM", "key": good}})).collect();
    let large = "x".repeat(1024 * 1024 + 1);
    for (method, path, body, expected) in [
        ("POST", DEVICES.to_owned(), json!({"id": "1st"}), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), json!({}), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), json!({"id": "gw-2", "colour": "red"}), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), json!([]), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), json!({"id": "gw-2", "metadata": {"a": large}}), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), json!({"id": "gw-2", "credentials": four}), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), key("ES256_PEM", "no key"), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), key("RSA_PEM", &good), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.to_owned(), key("RSA_X509_PEM", &good), (400, "INVALID_ARGUMENT")),
        ("POST", DEVICES.replace("my-registry", "none"), json!({"id": "gw-2"}), (404, "NOT_FOUND")),
        ("PATCH", format!("{device}?updateMask="), json!({}), (400, "INVALID_ARGUMENT")),
        ("PATCH", format!("{device}?updateMask=num_id"), json!({}), (400, "INVALID_ARGUMENT")),
        (
            "PATCH",
            format!("{device}?updateMask=metadata"),
            json!({"metadata": {"k".repeat(129): ""}}),
            (400, "INVALID_ARGUMENT"),
        ),
        ("GET", format!("{device}?fieldMask=colour"), json!({}), (400, "INVALID_ARGUMENT")),
        ("GET", format!("{DEVICES}/12345"), json!({}), (404, "NOT_FOUND")),
        ("GET", format!("{DEVICES}/99999999999999999999999"), json!({}), (404, "NOT_FOUND")),
        (
            "POST",
            format!("{device}:modifyCloudToDeviceConfig"),
            json!({"versionToUpdate": "x"}),
            (400, "INVALID_ARGUMENT"),
        ),
        ("POST", format!("{device}:modifyCloudToDeviceConfig"), json!({"binaryData": "*"}), (400, "INVALID_ARGUMENT")),
        (
            "POST",
            format!("{device}:modifyCloudToDeviceConfig"),
            json!({"binaryData": STANDARD.encode(vec![0; 65_537])}),
            (400, "INVALID_ARGUMENT"),
        ),
        (
            "POST",
            format!("{device}:sendCommandToDevice"),
            json!({"binaryData": STANDARD.encode(vec![0; 262_145])}),
            (400, "INVALID_ARGUMENT"),
        ),
        (
            "POST",
            format!("{device}:sendCommandToDevice"),
            json!({"binaryData": "", "subfolder": "a/#"}),
            (400, "INVALID_ARGUMENT"),
        ),
        ("POST", format!("{device}:sendCommandToDevice"), json!({}), (400, "INVALID_ARGUMENT")),
        ("POST", format!("{device}:fly"), json!({}), (404, "NOT_FOUND")),
        ("POST", format!("{PARENT}/my-registry:bindDeviceToGateway"), json!({}), (501, "UNIMPLEMENTED")),
        ("PUT", device.clone(), json!({}), (404, "NOT_FOUND")),
        ("GET", "/v2".to_owned(), json!({}), (404, "NOT_FOUND")),
    ] {
        let seen = refused(&world, method, &path, body).await;
        assert_eq!((seen.0, seen.1.as_str()), expected, "{method} {path}");
    }
    let (status, answer) = call(&world, "POST", DEVICES, "", &"[".repeat(100_000)).await;
    assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert_eq!(get(&world, DEVICES).await["devices"].as_array().expect("a list").len(), 1, "nothing was made");
}

#[tokio::test]
async fn blocking_or_deleting_a_device_ends_its_connection_and_its_logins() {
    let world = World::new().await;
    let mut raw = Raw::ready(&world).await;
    let device = format!("{DEVICES}/gw-1");
    done(&world, "PATCH", &format!("{device}?updateMask=blocked"), json!({"blocked": true})).await;
    assert_eq!(raw.next().await, Seen::Closed);
    world.last_error("the device is blocked").await;
    let mut raw = Raw::open(&world).await;
    raw.send(Packet::Connect(crate::raw::connect(&world))).await;
    assert_eq!(raw.connack().await, (5, false));

    done(&world, "PATCH", &format!("{device}?updateMask=blocked"), json!({"blocked": false})).await;
    let mut raw = Raw::ready(&world).await;
    done(&world, "DELETE", &device, json!({})).await;
    assert_eq!(raw.next().await, Seen::Closed);
    assert_eq!(world.cloud.connections().await.expect("a number"), 0);
}

#[tokio::test]
async fn a_token_file_makes_the_bearer_token_necessary() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let world = World::with(|options: &mut Options| options.token_file = Some(file.clone())).await;
    for (headers, expected) in [
        ("", 401),
        ("authorization: Bearer wrong\r\n", 401),
        ("authorization: Basic s3cret\r\n", 401),
        ("authorization: Bearer s3cret\r\n", 200),
        ("authorization: bearer s3cret\r\n", 200),
    ] {
        assert_eq!(call(&world, "GET", DEVICES, headers, "").await.0, expected, "{headers:?}");
    }
}
