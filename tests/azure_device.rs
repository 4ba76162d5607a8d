//! Azure's own device client, unmodified, as a device on the stand-in hub: a judge of the stand-in that we did not write.
//!
//! What the device and its back end do is written in `azure_device.py`; here are the ends that its service client cannot
//! reach without AMQP. The client is in `target/venv`, made by `tests/check.sh tools`.

#![allow(clippy::disallowed_methods, reason = "which agent is under test is told by the environment")]

#[path = "support/python.rs"]
mod python;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use twinagent::bridge::{Access, Bridge, Enrollment, Hub, HubMessage, HubName, Options};

const ID_SCOPE: &str = "0ne00000001";
/// 32 bytes in base64.
const ENROLLMENT_KEY: &str = "ZW5yb2xsbWVudC1rZXktb2YtMzItYnl0ZXMtbG9uZyE=";
/// How many addresses are tried until one is free.
const TRIES: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A stand-in on the one port that the client dials, at an address of this test's own; its name in the certificate.
async fn hub_at_8883(folder: &Path) -> (Bridge, String) {
    let mut in_use = None;
    for _ in 0..TRIES {
        let [a, b, c, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
        let address = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)).to_string();
        let options = Options {
            mqtts: Some(format!("{address}:8883")),
            https: Some("127.0.0.1:0".to_owned()),
            names: vec![address.clone()],
            ..Options::new(folder)
        };
        match Bridge::start(options).await {
            Ok(bridge) => return (bridge, address),
            Err(error) => {
                let cause = error.downcast_ref::<io::Error>().map(io::Error::kind);
                assert_eq!(cause, Some(io::ErrorKind::AddrInUse), "the stand-in cannot start at {address}: {error:#}");
                in_use = Some(error);
            }
        }
    }
    panic!("no address of {TRIES} had port 8883 free: {in_use:#?}");
}

/// Sends two messages to the device as soon as it exists, and waits until it has taken them.
async fn send_messages(hub: Hub, device: HubName) {
    for number in ["0", "1"] {
        let id = format!("c2d-{number}");
        let properties = [("$.mid", id.as_str()), ("k e", "v/1=&"), ("number", number)];
        let sent = loop {
            match hub.send_message(&device, &properties, format!("message {number}")).await {
                Ok(sent) => break sent,
                Err(error) => assert_eq!(error.status, 404, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        assert!(sent.acknowledged(LIMIT).await, "message {number} was not acknowledged");
    }
}

#[tokio::test]
async fn the_device_client_of_azure_plays_the_tutorial_on_the_stand_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bridge, address) = hub_at_8883(&folder.path().join("cloud")).await;
    let (hub, device) = (bridge.hub(), HubName::device("tutorial-1").expect("a name"));
    let access = Access::Key { primary: ENROLLMENT_KEY.to_owned(), secondary: None };
    hub.enroll(Enrollment {
        hub: address.clone(),
        device: "assigned-1".to_owned(),
        rounds: 2,
        ..Enrollment::new(ID_SCOPE, "registered-1", access)
    })
    .await
    .expect("an enrollment");
    let mut telemetry = hub.messages().await.expect("a tap");
    let sending = tokio::spawn(send_messages(hub.clone(), device.clone()));

    let announced = bridge.announcement();
    let scripts = folder.path().join("device");
    std::fs::create_dir(&scripts).expect("a folder");
    let mut client = python::script("azure_device.py");
    client
        .args(["--hub", announced["iothub"].as_str().expect("a connection string")])
        .args(["--https-port", &bridge.addresses().https.expect("a listener").port().to_string()])
        .args(["--address", &address, "--id-scope", ID_SCOPE, "--enrollment-key", ENROLLMENT_KEY])
        .arg("--ca")
        .arg(bridge.ca_file())
        .arg("--folder")
        .arg(scripts)
        .env("REQUESTS_CA_BUNDLE", bridge.ca_file());
    python::succeed(client).await;
    sending.await.expect("both messages arrived");

    let mut received = Vec::new();
    while let Ok(HubMessage { device, properties, payload, .. }) = telemetry.try_recv() {
        let payload = String::from_utf8(payload.to_vec()).expect("text");
        received.push((device.to_string(), properties, payload));
    }
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let told = vec![
        property("$.mid", "m-1"),
        property("$.ct", "application/json"),
        property("$.ce", "utf-8"),
        property("a b", "c/d&é"),
    ];
    let expected = [
        ("tutorial-1".to_owned(), told, r#"{"temperature": 21.5}"#.to_owned()),
        ("tutorial-1".to_owned(), Vec::new(), "plain".to_owned()),
        ("tutorial-1/app".to_owned(), Vec::new(), "of a module".to_owned()),
    ];
    assert_eq!(received, expected);
    // The first, and at least two renewals.
    assert!(hub.logins(&device).await.expect("the hub answers") >= 4, "the client renewed its token");
    bridge.stop().await;
}
