//! The command line beside a daemon: the real program, its words, its exit codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinagent::local::Asked;
use twinagent::model::ask::Question;

use crate::support::{Daemon, status};

fn command(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent"));
    command.args(arguments).env_clear().env("RUNTIME_DIRECTORY", daemon.folder()).stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

fn told(output: Output) -> Told {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Told { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Told {
    told(command(daemon, arguments).output().expect("the program runs"))
}

fn run_with(daemon: &Daemon, arguments: &[&str], input: &[u8]) -> Told {
    let mut child = command(daemon, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // A program that has seen enough of its input may end before it has all of it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    told(child.wait_with_output().expect("it ends"))
}

#[test]
fn status_is_for_people_and_for_pipes() {
    let daemon = Daemon::start();
    let told = run(&daemon, &["status"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let lines: Vec<&str> = told.out.lines().collect();
    assert_eq!(lines[0], "connected to mqtt.example since 04:00:13");
    assert_eq!(lines[1], "  device     gw-1, iotcore at mqtt.example");
    assert!(lines[2].starts_with("  session    since 2026-11-21 04:00:13Z ("), "{}", lines[2]);
    assert!(
        lines[3].starts_with("  last end   reset, 2026-11-21 03:59:00Z (") && lines[3].ends_with("look at the network")
    );
    assert_eq!(lines[4], "  commands   1 running, 2 waiting, 3 untold");
    assert!(told.out.contains("  telemetry  7 dropped\n"), "{}", told.out);
    assert!(told.out.contains(", 1 restart in this boot\n"), "{}", told.out);
    let end = told.out.split_once("problems\n").expect("problems").1;
    assert!(end.starts_with("  disk  no space  since 2026-11-21 03:00:00Z ("), "{end}");
    assert!(!told.out.contains('\x1b'), "no colour in a pipe");

    let told = run(&daemon, &["status", "--json"]);
    assert_eq!(told.out.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&told.out).expect("JSON"), status());
}

#[test]
fn a_watched_status_goes_on_until_the_daemon_ends() {
    let daemon = Daemon::start();
    let mut watch = command(&daemon, &["status", "--watch", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    BufReader::new(watch.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["state"], "connected");
    assert!(matches!(daemon.heard(), Asked::Question(_, Question::Status { follow: true })));
    drop(daemon);
    let told = told(watch.wait_with_output().expect("it ends"));
    assert_eq!(told.code, 69);
    assert!(told.err.starts_with("twinagent: the connection to the daemon was lost"), "{}", told.err);
}

#[test]
fn the_guard_is_shown_and_reset() {
    let daemon = Daemon::start();
    let told = run(&daemon, &["reboot-guard"]);
    let rows: Vec<&str> = told.out.lines().collect();
    assert_eq!((told.code, rows.len()), (0, 3), "{told:?}");
    assert_eq!(rows[0], "tripped: 3 reboots within 1h");
    assert!(rows[1].starts_with("REBOOT  ") && rows[1].ends_with("CAUSE       BOOT"), "{}", rows[1]);
    assert!(rows[2].starts_with("2026-11-21 04:00:07Z (") && rows[2].ends_with("  unexpected  b2"), "{}", rows[2]);
    assert_eq!(run(&daemon, &["reboot-guard", "reset"]).out, "not tripped; 3 reboots within 1h trip it\n");
    for arguments in [["reboot-guard", "--json"].as_slice(), &["reboot-guard", "reset", "--json"]] {
        let guard: Value = serde_json::from_str(&run(&daemon, arguments).out).expect("JSON");
        assert_eq!(guard["tripped"], arguments.len() == 2);
    }
}

#[test]
fn methods_and_history_are_tables() {
    let daemon = Daemon::start();
    assert_eq!(
        run(&daemon, &["methods"]).out,
        "METHOD        FROM      KIND      DESCRIPTION\n\
         echo          built-in  harmless  answers with its payload\n\
         rebootDevice  agent     recorded\n"
    );
    let history = run(&daemon, &["history"]).out;
    let rows: Vec<&str> = history.lines().collect();
    assert_eq!(rows[0], "ID              METHOD        STATUS  TOLD     TOOK   ACCEPTED");
    assert!(rows[1].starts_with("42              count         200     yes      1m 2s  2026-11-21 04:00:20Z ("));
    assert!(rows[2].starts_with("rather-long-id  rebootDevice  202     not yet  -      2026-11-21 04:02:00Z ("));
    let story: Vec<String> = rows[4..].iter().map(|row| row.split(" (").next().expect("a part").to_owned()).collect();
    assert_eq!(
        story,
        [
            "this boot    b2, 2026-11-21 04:00:07Z",
            "before       b1",
            "rebooted     2026-11-21 04:00:07Z",
            "last reboot  completed",
            "  asked for  2026-11-21 03:59:30Z",
            "  reason     new kernel\u{fffd}[2J",
            "  began      2026-11-21 03:59:36Z",
            "  over       2026-11-21 04:00:07Z",
            "  proof      boot b2 followed boot b1",
        ]
    );
    assert!(rows[8].ends_with(" ago), by command 9 from the cloud"), "{}", rows[8]);
    assert!(rows[11].ends_with(" ago), 31.2 s after it began"), "{}", rows[11]);

    let one = run(&daemon, &["history", "42"]);
    assert!(one.out.starts_with("id        42\n") && one.out.contains("{\n  \"n\": 1\n}\n"), "{}", one.out);
    let json = run(&daemon, &["history", "--json", "42"]).out;
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["commands"][0]["id"], "42");
    let unknown = run(&daemon, &["history", "43"]);
    assert_eq!((unknown.code, unknown.err.as_str()), (1, "twinagent: no command with this id is known\n"));
}

#[test]
fn invoke_prints_the_outcome_and_ends_as_it_did() {
    let daemon = Daemon::start();
    let done = run(&daemon, &["invoke", "echo", r#"{"a":[1]}"#, "--id", "7"]);
    assert_eq!((done.code, done.out.as_str()), (0, "{\n  \"a\": [\n    1\n  ]\n}\n"));
    assert_eq!(done.err, "7 202 accepted; its outcome follows\n7 200\n");
    let Asked::Question(_, Question::Invoke { payload, id, follow: true, .. }) = daemon.heard() else {
        panic!("a command was invoked")
    };
    assert_eq!((payload, id.map(String::from).as_deref()), (json!({ "a": [1] }), Some("7")));

    let failed = run(&daemon, &["invoke", "fail"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, "{\n  \"error\": \"it broke\"\n}\n"));
    assert!(failed.err.ends_with("twinagent: fail x1 ended with 500\n"), "{}", failed.err);
    assert_eq!(run_with(&daemon, &["invoke", "echo", "-"], b"\"text\"").out, "\"text\"\n");
}

#[test]
fn a_daemon_that_ends_with_the_machine_is_no_outcome_and_said_in_words() {
    for (method, machine) in [("rebootDevice", "; the machine may be going down"), ("never", "")] {
        let daemon = Daemon::start();
        let mut invoke = command(&daemon, &["invoke", method, "--id", "r-1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut err = BufReader::new(invoke.stderr.take().expect("piped"));
        let mut accepted = String::new();
        err.read_line(&mut accepted).expect("a line");
        assert!(accepted.starts_with("r-1 202 "), "{accepted}");
        drop(daemon);
        let rest: Vec<String> = err.lines().map(|line| line.expect("text")).collect();
        assert_eq!(
            rest,
            [
                format!("twinagent: the daemon ended before the outcome of r-1 was known{machine}"),
                "hint: `twinagent history r-1` tells it afterwards".to_owned()
            ]
        );
        assert_eq!(invoke.wait().expect("it ends").code(), Some(69));
    }
}

#[test]
fn what_is_typed_wrong_is_found_before_the_daemon_is_asked() {
    let daemon = Daemon::start();
    for (arguments, words) in [
        (&["invoke", "../sh"][..], "not a method name"),
        (&["invoke", "echo", "{reason: x}"], "the payload is not JSON"),
        (&["invoke", "echo", "1", "--id", "a/b"], "not a command id"),
        (&["history", "a b"], "not a command id"),
        (&["telemetry", "/alerts"], "not a subfolder: expected are words of A-Z a-z 0-9 _ . - with a / between two"),
        (&["twin", "report", "[1]"], "the patch is no JSON object"),
        (&["twin", "report", "x"], "the patch is not JSON"),
    ] {
        let told = run(&daemon, arguments);
        assert_eq!(told.code, 2, "{arguments:?}: {}", told.err);
        assert!(told.err.contains(words), "{}", told.err);
    }
    assert_eq!(daemon.heard_already(), []);
}

#[test]
fn twin_and_telemetry() {
    let daemon = Daemon::start();
    let twin: Value = serde_json::from_str(&run(&daemon, &["twin"]).out).expect("JSON");
    assert_eq!(twin["desired"], json!({ "a": 1 }));
    assert_eq!(run(&daemon, &["twin", "report", r#"{"door":"open"}"#]).code, 0);
    let own = run(&daemon, &["twin", "report", r#"{"rebootTime":1}"#]);
    assert_eq!(own.code, 1);
    assert_eq!(own.err, "twinagent: `rebootTime` is the agent's own member of the reported document\n");

    daemon.heard_already();
    assert_eq!(run_with(&daemon, &["telemetry", "alerts/hot"], b"\x00\xff").code, 0);
    match daemon.heard() {
        Asked::Question(_, Question::Telemetry { subfolder, payload }) => {
            assert_eq!((subfolder.as_str(), &payload[..]), ("alerts/hot", &b"\x00\xff"[..]));
        }
        other => panic!("{other:?}"),
    }
    let large = run_with(&daemon, &["telemetry"], &vec![b'x'; 256 * 1024 + 1]);
    assert_eq!((large.code, large.err.as_str()), (1, "twinagent: stdin has more than 262144 bytes\n"));
}

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_twinagent"))
        .arg("status")
        .env_clear()
        .env("RUNTIME_DIRECTORY", folder.path())
        .output()
        .expect("the program runs");
    let told = told(output);
    assert_eq!((told.code, told.out.as_str()), (69, ""));
    assert!(told.err.starts_with("twinagent: the daemon cannot be reached at /"), "{}", told.err);
    assert!(told.err.contains("\nhint: is it running? `systemctl status twinagent` tells"), "{}", told.err);
}

#[test]
fn colours_are_for_terminals_whose_owner_wants_them() {
    let daemon = Daemon::start();
    // script(1) gives the program a terminal.
    let on_terminal = |variable: (&str, &str)| {
        let output = Command::new("script")
            .args(["-qec", &format!("{} status", env!("CARGO_BIN_EXE_twinagent")), "/dev/null"])
            // Whatever else says something about colours, such as CI, must not.
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RUNTIME_DIRECTORY", daemon.folder())
            .env("TERM", "xterm")
            .env(variable.0, variable.1)
            .stdin(Stdio::null())
            .output()
            .expect("script runs");
        told(output).out
    };
    assert!(on_terminal(("A", "b")).starts_with("\x1b[1;32mconnected\x1b[0m to "));
    assert!(on_terminal(("NO_COLOR", "1")).starts_with("connected to "));
    assert!(on_terminal(("TERM", "dumb")).starts_with("connected to "));
}

#[test]
fn completions_know_every_command() {
    let daemon = Daemon::start();
    for shell in ["bash", "zsh", "fish"] {
        let told = run(&daemon, &["completions", shell]);
        assert_eq!(told.code, 0);
        for word in ["invoke", "telemetry", "keygen", "config"] {
            assert!(told.out.contains(word), "{shell}: {word}");
        }
        assert!(!told.out.contains("run-reboot") && !told.out.contains("run__reboot"), "{shell}: not for people");
    }
}

/// The aim is 20 ms for a release build on a small device; this prints what a debug build takes here.
#[test]
fn it_starts_fast() {
    let daemon = Daemon::start();
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(run(&daemon, &["methods"]).code, 0);
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("`twinagent methods`, from start to end, debug build: median {:?}, slowest {:?}", times[10], times[19]);
}
