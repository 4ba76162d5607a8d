//! Azure's own service client, unmodified, does an operator's work against the stand-in hub and the real agent.
//!
//! The work itself, with the story of Azure's tutorial in it, is written in `azure_service.py`. The client is in
//! `target/venv`, made by `tests/check.sh tools`.

#![allow(clippy::disallowed_methods, reason = "which agent is under test is told by the environment")]

#[path = "support/python.rs"]
mod python;

use twinagent::bridge::{Bridge, Options};

#[tokio::test]
async fn the_service_client_of_azure_plays_the_tutorial_with_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let on = || Some("127.0.0.1:0".to_owned());
    let options = Options { mqtts: on(), https: on(), ..Options::new(folder.path().join("cloud")) };
    let bridge = Bridge::start(options).await.expect("the stand-in cloud starts");
    let announced = bridge.announcement();
    let device = folder.path().join("device");
    std::fs::create_dir(&device).expect("a folder");

    let mut client = python::script("azure_service.py");
    client
        .args(["--hub", announced["iothub"].as_str().expect("a connection string")])
        .arg("--ca")
        .arg(bridge.ca_file())
        .args(["--port", &bridge.addresses().mqtts.expect("a listener").port().to_string()])
        .arg("--folder")
        .arg(device)
        .env("REQUESTS_CA_BUNDLE", bridge.ca_file());
    python::succeed(client).await;
    bridge.stop().await;
}
