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

#[test]
fn the_demo_tells_the_whole_job_and_cleans_up() {
    let folder = TempDir::new().expect("a folder");
    let output = demo(&[], &folder).output().expect("the program runs");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let complaints = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{told}\n{complaints}");
    assert_eq!(complaints, "", "{told}");
    assert!(is_empty(&folder), "{told}");

    let mut rest = told.as_str();
    for step in [
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
    ] {
        let at = rest.find(step).unwrap_or_else(|| panic!("`{step}` is not told, or not in its place:\n{told}"));
        rest = &rest[at..];
    }
    let document: String = told.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let document: Value = serde_json::from_str(&document).expect("the reported document");
    assert_eq!(document["reboot"]["state"], "completed", "{document:#}");
    assert_eq!(document["commands"]["demo-1"]["status"], 200, "{document:#}");
    assert_eq!(document["rebootTime"], document["reboot"]["completedAt"], "{document:#}");
}

/// A demo that stays up; ended at the latest when the test ends.
struct Kept {
    child: Child,
    /// The lines to copy.
    commands: Vec<String>,
}

impl Kept {
    fn start(folder: &TempDir) -> Self {
        let child = demo(&["--keep"], folder).spawn().expect("the program runs");
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

    /// What the shell makes of a line to copy, after the two that come first.
    fn copy(&self, line: &str) -> String {
        let [cd, device, ..] = self.commands.as_slice() else { panic!("{:#?}", self.commands) };
        let script = [cd, device, line].join("\n");
        let output = Command::new("sh").args(["-euc", &script]).output().expect("a shell");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{line}: {} {complaints}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
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
    let mut kept = Kept::start(&folder);
    assert_eq!(kept.commands.len(), 6, "{:#?}", kept.commands);
    assert_eq!(kept.copy(kept.line("echo/hello-1")), "{}");
    let changed: Value = serde_json::from_str(&kept.copy(kept.line("modifyCloudToDeviceConfig"))).expect("JSON");
    assert_eq!(changed["version"], "2", "{changed}");

    let states = kept.line("/states").to_owned();
    let wait = |fits: &dyn Fn(&Value) -> bool| {
        for _ in 0..LOOKS {
            let document: Value = serde_json::from_str(&kept.copy(&states)).expect("JSON");
            if fits(&document) {
                return document;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("the state is not as it should be: {}", kept.copy(&states));
    };
    let document = wait(&|document| document["commands"]["hello-1"]["status"] == 200);
    assert_eq!(document["commands"]["hello-1"]["payload"], json!({ "hello": "world" }));
    let first = document["rebootTime"].clone();
    wait(&|document| document["desired"]["status"] == 200 && document["desired"]["digest"].is_string());

    // The demo's `min_interval`: sooner it would be refused.
    sleep(Duration::from_secs(1));
    assert_eq!(kept.copy(kept.line("rebootDevice/again-1")), "{}");
    let document = wait(&|document| document["commands"]["again-1"]["status"] == 200);
    assert_ne!(document["rebootTime"], first, "{document:#}");

    let pid = Pid::from_child(&kept.child);
    kill_process(pid, Signal::INT).expect("it runs");
    let ended = kept.child.wait().expect("a child");
    let mut complaints = String::new();
    kept.child.stderr.take().expect("a pipe").read_to_string(&mut complaints).expect("UTF-8");
    assert!(ended.success(), "{ended}: {complaints}");
    assert_eq!(complaints, "");
    assert!(is_empty(&folder));
}
