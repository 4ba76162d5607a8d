//! Google's own Python client, unmodified, does an operator's work against the stand-in cloud and the real agent.
//!
//! The work itself is written in `google_client.py`. The client is in `target/venv`, made by `tests/check.sh tools`.

#![allow(clippy::disallowed_methods, reason = "which agent is under test is told by the environment")]

#[path = "support/python.rs"]
mod python;

use std::fs;

use twinagent::bridge::{Bridge, Options};

const TOKEN: &str = "a-token-of-this-test";

/// Runs the client against these listeners.
async fn work(tls: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).expect("a file");
    let on = |wanted: bool| wanted.then(|| "127.0.0.1:0".to_owned());
    let bridge = Bridge::start(Options {
        mqtt: on(!tls),
        http: on(!tls),
        mqtts: on(tls),
        https: on(tls),
        token_file: Some(token_file),
        ..Options::new(folder.path().join("cloud"))
    })
    .await
    .expect("the stand-in cloud starts");

    let announced = bridge.announcement();
    let ca = bridge.ca_file().display().to_string();
    let endpoint = announced[if tls { "https" } else { "http" }].as_str().expect("a URL").to_owned();
    let port = bridge.addresses().mqtt.or(bridge.addresses().mqtts).expect("a listener").port();
    let trust = if tls { format!("ca_file = {ca:?}") } else { "tls = false".to_owned() };
    let device = folder.path().join("device");
    fs::create_dir(&device).expect("a folder");
    let mut client = python::script("google_client.py");
    client
        .args(["--endpoint", &endpoint, "--token", TOKEN])
        .args(["--cloud", &format!("port = {port}\n{trust}")])
        .arg("--folder")
        .arg(device);
    if tls {
        client.args(["--ca", &ca]);
    }
    python::succeed(client).await;
    bridge.stop().await;
}

#[tokio::test]
async fn the_client_of_google_does_its_work_over_http() {
    work(false).await;
}

#[tokio::test]
async fn the_client_of_google_does_its_work_over_https() {
    work(true).await;
}
