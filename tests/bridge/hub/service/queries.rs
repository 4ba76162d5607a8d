//! Queries of twins, page by page, and messages that are dropped.

use serde_json::{Value, json};

use super::super::device::HubWorld;
use super::{Reply, Service};

const PATH: &str = "/devices/query";

fn ids(reply: &Reply) -> Vec<&str> {
    let twins = reply.body.as_array().unwrap_or_else(|| panic!("no list: {reply:?}"));
    twins.iter().map(|twin| twin["deviceId"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn twins_are_found_page_by_page() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    for (device, site) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        service.call("PUT", &format!("/devices/{device}"), &[], "{}").await;
        let tags = json!({"tags": {"site": site}}).to_string();
        assert_eq!(service.call("PATCH", &format!("/twins/{device}"), &[], &tags).await.status, 200);
    }
    let all = json!({"query": "SELECT * FROM devices"}).to_string();
    let reply = service.call("POST", PATH, &[], &all).await;
    assert_eq!(ids(&reply), ["a", "b", "c", "d", "dev1"]);
    assert_eq!(reply.headers["x-ms-item-type"], "Twin");
    assert_eq!(reply.headers.get("x-ms-continuation"), None);

    let query = json!({"query": "SELECT * FROM devices WHERE tags.site = 'x'"}).to_string();
    let first = service.call("POST", PATH, &["x-ms-max-item-count: 2"], &query).await;
    assert_eq!(ids(&first), ["a", "c"]);
    let next = format!("x-ms-continuation: {}", first.headers["x-ms-continuation"]);
    let last = service.call("POST", PATH, &["x-ms-max-item-count: 2", &next], &query).await;
    assert_eq!(ids(&last), ["d"]);
    assert_eq!(last.headers.get("x-ms-continuation"), None);
    assert_eq!(service.call("POST", PATH, &[&next], &all).await.error().0, 400_004, "another query");
}

#[tokio::test]
async fn what_the_stand_in_does_not_understand_it_says() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    let query = json!({"query": "SELECT deviceId FROM devices"});
    let reply = service.call("POST", PATH, &[], &query.to_string()).await;
    assert!(reply.body["Message"].as_str().expect("a text").contains("the stand-in understands"));
    for (header, body) in [
        ("x-ms-max-item-count: 0", json!({"query": "SELECT * FROM devices"})),
        ("x-ms-max-item-count: x", json!({"query": "SELECT * FROM devices"})),
        ("x-ms-continuation: ?", json!({"query": "SELECT * FROM devices"})),
        ("accept: */*", json!({})),
        ("accept: */*", Value::Null),
    ] {
        assert_eq!(service.refused("POST", PATH, &[header], &body).await, 400_004, "{header} {body}");
    }
}

#[tokio::test]
async fn messages_that_wait_are_counted_and_dropped() {
    let world = HubWorld::new().await;
    let mut service = Service::of(&world).await;
    for text in ["one", "two"] {
        world.hub.send_message(&world.device, &[], text).await.expect("queued");
    }
    let counted = service.done("GET", "/devices/dev1", Value::Null).await["cloudToDeviceMessageCount"].clone();
    assert_eq!(counted, 2);
    let purged = json!({"deviceId": "dev1", "moduleId": null, "totalMessagesPurged": 2});
    assert_eq!(service.done("DELETE", "/devices/dev1/commands", Value::Null).await, purged);
    let twin = service.done("GET", "/twins/dev1", Value::Null).await;
    assert_eq!(twin["cloudToDeviceMessageCount"], 0);
}
