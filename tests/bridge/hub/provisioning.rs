//! The provisioning service: from a registration to the hub.

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Connect;
use serde_json::Value;
use twinagent::bridge::{Enrollment, Verdict};

use super::device::{HubWorld, KEY, OTHER_KEY, quiet, token, with_key};
use crate::raw::{Raw, Seen, publish};

const RESOURCE: &str = "0ne0001/registrations/reg1";

fn connect(password: &str) -> Connect {
    let mut connect = Connect::new("reg1");
    connect.clean_session = false;
    connect.set_login("0ne0001/registrations/reg1/api-version=2019-03-31&ClientVersion=x%2F1", password);
    connect
}

async fn online(world: &HubWorld) -> Raw {
    let (raw, present) = world.online_with(connect(&token(KEY, RESOURCE, 3600)), &["$dps/registrations/res/#"]).await;
    assert!(!present, "sessions are not kept");
    raw
}

/// What follows `$dps/registrations/res/` in the topic of the next answer, and its body.
async fn answer(raw: &mut Raw) -> (String, Value) {
    let answer = raw.publish().await;
    let topic = answer.topic.strip_prefix("$dps/registrations/res/").expect("an answer").to_owned();
    (topic, serde_json::from_slice(&answer.payload).expect("JSON"))
}

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=r1";
const BODY: &str = r#"{"payload":{"a":1},"registrationId":"reg1"}"#;

#[tokio::test]
async fn a_registration_leads_to_a_device_of_the_hub() {
    let world = HubWorld::new().await;
    let mut enrollment = Enrollment::new("0ne0001", "reg1", with_key(KEY));
    enrollment.device = "fresh".to_owned();
    world.hub.enroll(enrollment).await.expect("enrolled");
    assert_eq!(world.login(connect(&token(OTHER_KEY, RESOURCE, 3600))).await, 5);
    let mut raw = online(&world).await;
    raw.publish_acknowledged(REGISTER, BODY).await;
    let (topic, assigning) = answer(&mut raw).await;
    assert_eq!((topic.as_str(), &assigning["status"]), ("202/?$rid=r1&retry-after=1", &"assigning".into()));
    let operation = assigning["operationId"].as_str().expect("an operation");
    let poll = format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r2&operationId={operation}");
    raw.send(quiet(&poll, " ")).await;
    let (topic, assigned) = answer(&mut raw).await;
    assert_eq!((topic.as_str(), &assigned["status"]), ("200/?$rid=r2", &"assigned".into()));
    let state = &assigned["registrationState"];
    assert_eq!((&state["assignedHub"], &state["deviceId"]), (&"localhost".into(), &"fresh".into()));
    assert_eq!(world.hub.registrations().await, Ok(1));

    // The device is there, with the key of the enrollment.
    let mut connect = Connect::new("fresh");
    connect.set_login("localhost/fresh/?api-version=2021-04-12", token(KEY, "localhost/devices/fresh", 3600));
    assert_eq!(world.login(connect).await, 0);
}

#[tokio::test]
async fn refusals_and_throttling_are_told() {
    let world = HubWorld::new().await;
    let mut enrollment = Enrollment::new("0ne0001", "reg1", with_key(KEY));
    (enrollment.throttled, enrollment.rounds, enrollment.retry_after) = (1, 0, 7);
    enrollment.verdict = Verdict::Failed { code: 400_207, message: "no hub is left".to_owned() };
    world.hub.enroll(enrollment.clone()).await.expect("enrolled");
    let mut raw = online(&world).await;
    raw.send(quiet(REGISTER, BODY)).await;
    assert_eq!(answer(&mut raw).await.0, "429/?$rid=r1&retry-after=7");
    raw.send(quiet(REGISTER, BODY)).await;
    let (topic, failed) = answer(&mut raw).await;
    assert_eq!((topic.as_str(), &failed["status"]), ("200/?$rid=r1", &"failed".into()));
    assert_eq!(failed["registrationState"]["errorCode"], 400_207);
    enrollment.verdict = Verdict::Disabled;
    enrollment.throttled = 0;
    world.hub.enroll(enrollment).await.expect("enrolled again");
    raw.send(quiet(REGISTER, BODY)).await;
    assert_eq!(answer(&mut raw).await.1["status"], "disabled");
}

#[tokio::test]
async fn what_is_none_of_its_topics_ends_the_connection() {
    let world = HubWorld::new().await;
    world.hub.enroll(Enrollment::new("0ne0001", "reg1", with_key(KEY))).await.expect("enrolled");
    for topic in
        ["devices/reg1/messages/events/", "$dps/registrations/PUT/iotdps-register/", "$iothub/twin/GET/?$rid=1"]
    {
        let mut raw = online(&world).await;
        raw.send(publish(topic, BODY)).await;
        assert_eq!(raw.next().await, Seen::Closed, "{topic}");
    }
    let mut raw = online(&world).await;
    raw.send(crate::raw::subscribe(&[("$iothub/methods/POST/#".to_owned(), QoS::AtLeastOnce)])).await;
    assert_eq!(raw.next().await, Seen::Closed);
    // And the other way round.
    let mut raw = world.online(&[]).await;
    raw.send(crate::raw::subscribe(&[("$dps/registrations/res/#".to_owned(), QoS::AtLeastOnce)])).await;
    assert_eq!(raw.next().await, Seen::Closed);
}
