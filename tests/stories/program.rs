//! The command line beside the daemon of a device: the real program, in a process of its own.
//!
//! It is waited for on another thread, since daemon and cloud may live in the story's own.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::device::{Device, PATIENCE};

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program with these words, for whoever wants to start it another way.
pub(crate) fn program(device: &Device, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent"));
    command.args(arguments);
    beside(device, &mut command);
    command
}

/// Gives a command the folders of this device, and nothing else of our environment.
pub(crate) fn beside(device: &Device, command: &mut Command) {
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("CONFIGURATION_DIRECTORY", device.path("etc"))
        .env("STATE_DIRECTORY", device.path("state"))
        .env("RUNTIME_DIRECTORY", device.path("run"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", device.bus())
        .stdin(Stdio::null());
}

/// Runs a command to its end.
pub(crate) async fn finish(mut command: Command, input: &[u8]) -> Told {
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // A program that was refused may end before it has all of its input.
        let _ = child.stdin.take().expect("piped").write_all(&input);
        child.wait_with_output().expect("it ends")
    });
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends in time").expect("no panic");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("an exit code");
    Told { code, out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) async fn run(device: &Device, arguments: &[&str]) -> Told {
    finish(program(device, arguments), b"").await
}

/// Runs it, and takes any other end than a good one for a failure.
pub(crate) async fn done(device: &Device, arguments: &[&str]) -> String {
    let told = run(device, arguments).await;
    assert_eq!(told.code, 0, "{arguments:?}: {told:?}");
    told.out
}

pub(crate) async fn json(device: &Device, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(device, arguments).await).expect("JSON")
}

/// The status of the daemon, once it is as `fits` wants it. It may not have started to listen yet.
pub(crate) async fn status(device: &Device, fits: impl Fn(&Value) -> bool) -> Value {
    let mut newest = None;
    let wait = async {
        loop {
            let told = run(device, &["status", "--json"]).await;
            if told.code == 0 {
                let status = serde_json::from_str(&told.out).expect("JSON");
                if fits(&status) {
                    return status;
                }
                newest = Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, wait).await;
    status.unwrap_or_else(|_| panic!("the status is not as it should be: {newest:?}"))
}

/// The text of the problem of this kind in a status or a twin, if there is one.
pub(crate) fn problem<'a>(problems: &'a Value, code: &str) -> Option<&'a str> {
    let problems = problems.as_array().expect("a list");
    problems.iter().find(|problem| problem["code"] == code)?["text"].as_str()
}
