//! The demo as a person runs it: the real program, its words, its end, and what it leaves behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How often, with a pause of 100 ms, is looked for what must come.
const LOOKS: usize = 300;

/// The program, with a folder of this test's own for its files.
fn demo(arguments: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent-bridge"));
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder.path())
        .env_remove("TWINAGENT_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).expect("a folder").next().is_none()
}

/// Runs the demo to its end: its steps in this order, and the document that it shows, which must be a good one.
fn told_with_steps(arguments: &[&str], steps: &[&str]) -> Value {
    let run = || {
        let folder = TempDir::new().expect("a folder");
        let output = demo(arguments, &folder).output().expect("the program runs");
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        let complaints = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(output.status.success(), "{told}\n{complaints}");
        assert_eq!(complaints, "", "{told}");
        assert!(is_empty(&folder), "{told}");
        told
    };
    // A machine that stalls may miss the moment that the device is away; the demo says so.
    let is_whole = |told: &String| !told.contains("too late, the device is back already");
    let told = std::iter::repeat_with(run).take(5).find(is_whole).expect("the device is seen to be away once");

    let mut rest = told.as_str();
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is not told, or not in its place:\n{told}"));
        rest = &rest[at..];
    }
    let document: String = told.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let document: Value = serde_json::from_str(&document).expect("the reported document");
    assert_eq!(document["reboot"]["state"], "completed", "{document:#}");
    let command = document["reboot"]["commandId"].as_str().expect("an id");
    assert_eq!(document["commands"][command]["status"], 200, "{document:#}");
    assert_eq!(document["rebootTime"], document["reboot"]["completedAt"], "{document:#}");
    document
}

#[test]
fn the_demo_tells_the_whole_job_and_cleans_up() {
    let steps = [
        "cloud       MQTT over TLS at 127.0.0.1:",
        "register    by REST",
        "online ",
        "command     by REST: rebootDevice, id demo-1",
        "answer 202  in the state read by REST",
        "reboot      simulated: the device is away; a command now: ",
        "back        after ",
        "answer 200  rebootTime is 20",
        "states.list",
        "Done in ",
    ];
    let document = told_with_steps(&[], &steps);
    assert_eq!(document["reboot"]["commandId"], "demo-1", "{document:#}");
}

#[test]
fn the_demo_on_iot_hub_tells_the_same_job() {
    let steps = [
        "cloud       MQTT over TLS at 127.0.0.1:",
        "register    by REST: device demo-device",
        "key         its connection string",
        "online ",
        "command     by REST: direct method rebootDevice",
        "answer 202  by REST, at once",
        "reboot      simulated: the device is away; a command now: 404103",
        "back        after ",
        "answer 200  rebootTime is 20",
        "the device's twin",
        "Done in ",
    ];
    told_with_steps(&["--cloud", "iothub"], &steps);
}

/// A demo that stays up; ended at the latest when the test ends.
struct Kept {
    child: Child,
    /// The lines to copy.
    commands: Vec<String>,
}

impl Kept {
    fn start(cloud: &str, folder: &TempDir) -> Self {
        let child = demo(&["--keep", "--cloud", cloud], folder).spawn().expect("the program runs");
        let mut kept = Self { child, commands: Vec::new() };
        let mut lines = BufReader::new(kept.child.stdout.as_mut().expect("a pipe")).lines();
        let mut told = || lines.next().expect("it goes on").expect("UTF-8");
        while !told().contains("until Ctrl-C") {}
        loop {
            let line = told();
            if line.contains("its journal is in") {
                break;
            }
            kept.commands.extend(line.strip_prefix("    ").map(str::to_owned));
        }
        kept
    }

    /// The only line with this in it.
    fn line(&self, part: &str) -> &str {
        let found: Vec<_> = self.commands.iter().filter(|line| line.contains(part)).collect();
        assert_eq!(found.len(), 1, "{part}: {:#?}", self.commands);
        found[0]
    }

    /// The last line, which reads what has become of all.
    fn last(&self) -> &str {
        self.commands.last().expect("lines to copy")
    }

    /// What the shell makes of a line to copy, after those that come first.
    fn copy(&self, line: &str) -> String {
        let first = self.commands.iter().map(String::as_str).take_while(|line| !line.starts_with("curl"));
        let script = first.chain([line]).collect::<Vec<_>>().join("\n");
        let output = Command::new("sh").args(["-euc", &script]).output().expect("a shell");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{line}: {} {complaints}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Kept {
    /// What the shell makes of that line, in JSON.
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.copy(line)).expect("JSON")
    }

    /// Copies that line until what comes is as `fits` wants it.
    fn wait(&self, line: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOOKS {
            let document = self.json(line);
            if fits(&document) {
                return document;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("it is not as it should be: {}", self.copy(line));
    }

    /// Ends it as a person would.
    fn interrupt(mut self, folder: &TempDir) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("it runs");
        let ended = self.child.wait().expect("a child");
        let mut complaints = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut complaints).expect("UTF-8");
        assert!(ended.success(), "{ended}: {complaints}");
        assert_eq!(complaints, "");
        assert!(is_empty(folder));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Fails if it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_the_kept_demo_says_to_try_works() {
    let folder = TempDir::new().expect("a folder");
    let kept = Kept::start("iotcore", &folder);
    assert_eq!(kept.commands.len(), 6, "{:#?}", kept.commands);
    assert_eq!(kept.copy(kept.line("echo/hello-1")), "{}");
    let changed = kept.json(kept.line("modifyCloudToDeviceConfig"));
    assert_eq!(changed["version"], "2", "{changed}");

    let states = kept.line("/states");
    let document = kept.wait(states, |document| document["commands"]["hello-1"]["status"] == 200);
    assert_eq!(document["commands"]["hello-1"]["payload"], json!({ "hello": "world" }));
    let first = document["rebootTime"].clone();
    kept.wait(states, |document| document["desired"]["status"] == 200 && document["desired"]["digest"].is_string());

    // The demo's `min_interval`: sooner it would be refused.
    sleep(Duration::from_secs(1));
    assert_eq!(kept.copy(kept.line("rebootDevice/again-1")), "{}");
    let document = kept.wait(states, |document| document["commands"]["again-1"]["status"] == 200);
    assert_ne!(document["rebootTime"], first, "{document:#}");
    kept.interrupt(&folder);
}

#[test]
fn what_the_kept_demo_on_iot_hub_says_to_try_works() {
    let folder = TempDir::new().expect("a folder");
    let kept = Kept::start("iothub", &folder);
    assert_eq!(kept.commands.len(), 6, "{:#?}", kept.commands);
    assert!(!kept.commands.iter().any(|line| line.contains("SharedAccess")), "{:#?}", kept.commands);
    assert_eq!(kept.copy("stat --format %a authorization").trim(), "600");
    assert_eq!(kept.json(kept.line("\"echo\"")), json!({ "status": 200, "payload": { "hello": "world" } }));
    let changed = kept.json(kept.line("PATCH"));
    assert_eq!(changed["properties"]["desired"]["color"], "blue", "{changed}");

    let reported = |twin: &Value| twin["properties"]["reported"].clone();
    let twin = kept.wait(kept.last(), |twin| reported(twin)["desired"]["status"] == 200);
    let first = reported(&twin)["rebootTime"].clone();

    // The demo's `min_interval`: sooner it would be refused.
    sleep(Duration::from_secs(1));
    let answer = kept.json(kept.line("\"rebootDevice\""));
    assert_eq!(answer["status"], 202, "{answer}");
    let id = answer["payload"]["commandId"].as_str().expect("an id").to_owned();
    let twin = kept.wait(kept.last(), |twin| reported(twin)["commands"][&id]["status"] == 200);
    assert_ne!(reported(&twin)["rebootTime"], first, "{twin:#}");
    kept.interrupt(&folder);
}
