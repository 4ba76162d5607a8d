//! Programs in Python: our example, and the reference client of Varlink, which reads the interface's own description.
//!
//! The reference client is in `target/venv`, made by `tests/check.sh tools`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use twinagent::local::Asked;
use twinagent::local::client::Wait;
use twinagent::model::ask::Question;

use crate::support::{Daemon, status};

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_example_reports_sends_telemetry_and_follows_desired() {
    let example = in_project("packaging/examples/local.py");
    let text = std::fs::read_to_string(&example).expect("the example");
    assert!(text.lines().count() <= 30, "an example is short");

    let daemon = Daemon::start();
    let mut program = Command::new("python3")
        .arg(example)
        .arg(daemon.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut lines = BufReader::new(program.stdout.take().expect("piped")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    assert_eq!(line(), "desired: null");
    let mut asked = daemon.heard_already().into_iter().filter_map(|asked| match asked {
        Asked::Question(_, question) => Some(question),
        Asked::Gone(_) => None,
    });
    assert!(matches!(asked.next(), Some(Question::Report { patch }) if patch["door"] == "open"));
    assert!(matches!(asked.next(), Some(Question::Telemetry { subfolder, payload })
        if subfolder.as_str() == "alerts" && payload == "the door is open"));
    assert!(matches!(asked.next(), Some(Question::Desired { follow: true })));

    // The example's own report was the first.
    for version in 2..4 {
        daemon.client().call("Report", &json!({ "patch": {} }), Wait::Short).expect("it is merged");
        assert_eq!(line(), format!("desired: {{\"interval\": {version}}}"));
    }
    drop(daemon);
    assert!(program.wait().expect("it ends").success(), "it ends with the daemon");
}

/// Runs the reference client.
fn reference(arguments: &[&str]) -> Output {
    let python = in_project("target/venv/bin/python");
    assert!(python.exists(), "{} is not there\nhint: `tests/check.sh tools` makes it", python.display());
    Command::new("timeout").arg("20").arg(python).args(arguments).stdin(Stdio::null()).output().expect("python runs")
}

#[track_caller]
fn said(arguments: &[&str]) -> String {
    let output = reference(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_reference_client_finds_its_way_by_the_description_alone() {
    let daemon = Daemon::start();
    let address = format!("unix:{}", daemon.socket().display());
    let info = said(&["-m", "varlink.cli", "info", &address]);
    assert!(info.contains("io.twinagent.Agent") && info.contains(env!("CARGO_PKG_VERSION")), "{info}");
    let help = said(&["-m", "varlink.cli", "help", &format!("{address}/io.twinagent.Agent")]);
    assert!(help.contains("method SendTelemetry"), "{help}");
    let called = said(&["-m", "varlink.cli", "call", &format!("{address}/io.twinagent.Agent.GetStatus"), "{}"]);
    assert_eq!(serde_json::from_str::<Value>(&called).expect("JSON"), status());
    let invoke = format!("{address}/io.twinagent.Agent.Invoke");
    let told = said(&["-m", "varlink.cli", "call", "-m", &invoke, r#"{"method":"echo","payload":7}"#]);
    let states: Vec<Value> =
        serde_json::Deserializer::from_str(&told).into_iter().map(|told| told.expect("JSON")).collect();
    assert_eq!([&states[0]["status"], &states[1]["status"]], [202, 200]);
}

/// The library makes a class of the description, and checks the types of what is sent and received.
const PROGRAM: &str = r#"
import sys, varlink
with varlink.Client.new_with_address("unix:" + sys.argv[1]) as client, client.open("io.twinagent.Agent") as agent:
    print(agent.GetStatus()["session"]["keptSession"])
    print([method["name"] for method in agent.ListMethods()["methods"]])
    print(agent.Invoke("echo", [1, {"a": None}], "7")["payload"])
    print(agent.GetHistory()["commands"][0]["id"], agent.GetTwin()["desired"])
    print(agent.Report({"a": 1}), agent.SendTelemetry(None, "text"))
    print([reply["version"] for _, reply in zip(range(1), agent.FollowDesired(_more=True))])
with varlink.Client.new_with_address("unix:" + sys.argv[1]) as client, client.open("io.twinagent.Agent") as agent:
    for call in (lambda: agent.Cancel("8"), lambda: agent.Report({"rebootTime": 1}), agent.Reload):
        try:
            call()
        except varlink.VarlinkError as error:
            print(error.error(), error.parameters())
"#;

#[test]
fn a_program_on_the_reference_library_gets_what_the_description_promises() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    assert_eq!(
        said(&["-c", PROGRAM, socket.to_str().expect("UTF-8")]),
        "False\n\
         ['echo', 'rebootDevice']\n\
         [1, {'a': None}]\n\
         42 {'a': 1}\n\
         {'merged': True} {'queued': True}\n\
         [0]\n\
         io.twinagent.Agent.UnknownCommand {}\n\
         io.twinagent.Agent.OwnMember {'member': 'rebootTime'}\n\
         io.twinagent.Agent.CannotNow {'why': 'it is stopping'}\n"
    );
}
