//! Google's own Python client, unmodified, does an operator's work against the stand-in cloud and the real agent.
//!
//! The work itself is written in `google_client.py`. The client is in `target/venv`, made by `tests/check.sh tools`.
//! `TWINAGENT_TEST_AGENT` names another program to take as the agent: one for a foreign architecture, in an emulator.

#![allow(clippy::disallowed_methods, reason = "which agent is under test is told by the environment")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use twinagent::bridge::{Bridge, Options};

const TOKEN: &str = "a-token-of-this-test";

/// Runs the client against these listeners.
async fn work(tls: bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/venv/bin/python");
    assert!(python.exists(), "{} is not there\nhint: `tests/check.sh tools` makes it", python.display());

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
    let mut command = Command::new(python);
    command
        .arg(root.join("tests/google_client.py"))
        .args(["--endpoint", &endpoint, "--token", TOKEN])
        .arg("--agent")
        .arg(env::var_os("TWINAGENT_TEST_AGENT").unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_twinagent"))))
        .args(["--cloud", &format!("port = {port}\n{trust}")])
        .arg("--folder")
        .arg(device)
        .stdin(Stdio::null());
    if tls {
        command.args(["--ca", &ca]);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("Python runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&said));
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
