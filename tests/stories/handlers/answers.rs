//! Stories of one program and one command: what the program is given, what it says, and what the caller hears of that.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use twinagent::model::now::Timestamp;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::local::{follow, next};
use crate::program::json as json_of;
use crate::workshop::{HELD, Workshop};

on_both_clouds! {
    what_a_program_prints_is_the_answer,
    how_a_program_fails_is_told,
    a_program_is_given_its_command_and_nothing_else_of_ours,
    how_a_run_goes_is_in_the_reported_document_and_told_to_who_follows_it,
    the_same_command_runs_its_program_once,
    a_payload_that_breaks_the_rules_starts_no_program,
}

async fn what_a_program_prints_is_the_answer(kind: Kind) {
    for &answers in kind.roads() {
        let methods = [
            ("json", "", "printf '{\"got\":%s}' \"$(cat)\"\n"),
            ("text", "", "printf 'all is well'\n"),
            ("nothing", "", "exit 0\n"),
            ("much", "output_limit = 1000\n", "head -c 300000 /dev/zero | tr '\\0' x\n"),
            ("binary", "", "printf 'a\\377b\\033[31m'\n"),
        ];
        let (mut device, mut workshop) = Workshop::online(Setup { answers, ..Setup::on(kind) }, &methods).await;
        for method in ["json", "text", "nothing", "much", "binary"] {
            device.send(&format!("{method}/{method}-1"), r#"{"a":[1,"two"]}"#).await;
        }
        assert_eq!(device.answer("json-1", 200).await["payload"], json!({ "got": { "a": [1, "two"] } }), "{answers}");
        assert_eq!(device.answer("text-1", 200).await["payload"], "all is well", "{answers}");
        assert_eq!(device.answer("nothing-1", 200).await["payload"], Value::Null, "{answers}");
        let much = device.answer("much-1", 200).await;
        let printed = much["payload"]["output"].as_str().expect("what fits");
        assert!((1..=1_000).contains(&printed.len()) && much["payload"]["truncated"] == true, "{much}");
        assert_eq!(device.answer("binary-1", 200).await["payload"], "a\u{fffd}b\u{1b}[31m", "{answers}");
        device.stop().await;
        workshop.stop().await;
    }
}

async fn how_a_program_fails_is_told(kind: Kind) {
    let methods = [
        ("unfit", "", "echo 'port is missing' >&2; exit 65\n"),
        ("busy", "", "echo 'an upgrade runs' >&2; exit 75\n"),
        ("broken", "", "printf half; echo 'no disk' >&2; exit 3\n"),
        ("wordy", "", "yes no disk | head -c 100000 >&2; echo the end >&2; exit 1\n"),
        ("killed", "", "kill -KILL $$\n"),
        ("missing", "", ""),
    ];
    let (mut device, mut workshop) = Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &methods).await;
    std::fs::remove_file(workshop.path("missing")).expect("the program");
    for (method, ..) in methods {
        device.send(&format!("{method}/{method}-1"), "").await;
    }
    device.answer("unfit-1", 422).await;
    device.answer("busy-1", 503).await;
    let broken = device.answer("broken-1", 500).await["payload"].clone();
    assert_eq!((&broken["exitCode"], &broken["output"]), (&json!(3), &json!("half")), "{broken}");
    assert!(broken["stderr"].as_str().is_some_and(|tail| tail.contains("no disk")), "{broken}");
    assert!(broken["error"].is_string(), "{broken}");
    let wordy = device.answer("wordy-1", 500).await["payload"].clone();
    // Its end is what tells why. In a document there is room for less.
    if kind == Kind::IotCore {
        let tail = wordy["stderr"].as_str().expect("a text");
        assert!((1_000..=4_096).contains(&tail.len()) && tail.ends_with("the end"), "{wordy}");
    }
    let killed = device.answer("killed-1", 500).await["payload"].clone();
    assert!(!killed["signal"].is_null() && killed.get("exitCode").is_none(), "{killed}");
    let missing = device.answer("missing-1", 500).await["payload"]["error"].clone();
    let path = workshop.path("missing");
    assert!(missing.as_str().is_some_and(|text| text.contains(&*path.to_string_lossy())), "{missing}");
    device.stop().await;
    workshop.stop().await;
}

/// Tells what it was given.
const LOOKS: &str = r#"
import json, os, sys
fds = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        fds[fd] = os.readlink("/proc/self/fd/" + fd)
    except FileNotFoundError:
        pass  # That of the list itself.
print(json.dumps({"variables": dict(os.environ), "fds": fds, "folder": os.getcwd(), "arguments": sys.argv[1:], "stdin": sys.stdin.read()}))
"#;

async fn a_program_is_given_its_command_and_nothing_else_of_ours(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut workshop = Workshop::beside(&device, &[]);
    let program = workshop.program("look", &format!("#!/usr/bin/python3{LOOKS}"));
    let more = "arguments = [\"--now\", \"$(id)\"]\ntime_limit = \"20s\"\noutput_limit = 100000\n";
    workshop.manifest("look", &program, more);
    workshop.start(&device);
    device.start();
    device.wait_until_ready().await;
    // Who asks on this machine has all of the answer on both clouds.
    let told = json_of(&device, &["invoke", "look", r#"{"--evil":"; rm -rf /"}"#, "--id", "l-1"]).await;
    let variables: BTreeSet<&str> =
        told["variables"].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "LANG",
        "NOTIFY_SOCKET",
        "PATH",
        "TWINAGENT_COMMAND_ID",
        "TWINAGENT_DEADLINE",
        "TWINAGENT_DEVICE_ID",
        "TWINAGENT_METHOD",
        // By which the service knows what belongs to the run.
        "TWINAGENT_RUN",
        "TWINAGENT_TIME_LIMIT",
    ];
    assert_eq!(variables, expected.into(), "{told}");
    let is = |name: &str| told["variables"][name].as_str().expect("a text").to_owned();
    assert_eq!(
        [is("TWINAGENT_METHOD"), is("TWINAGENT_COMMAND_ID"), is("TWINAGENT_DEVICE_ID")],
        ["look", "l-1", "gw-1"]
    );
    assert_eq!(is("TWINAGENT_TIME_LIMIT"), "20");
    assert!(is("TWINAGENT_DEADLINE").parse::<Timestamp>().is_ok(), "{told}");
    assert_eq!((&told["folder"], &told["arguments"]), (&json!("/"), &json!(["--now", "$(id)"])));
    assert_eq!(told["stdin"], r#"{"--evil":"; rm -rf /"}"#);
    // Besides that of its own script, and what whoever runs the tests has left open for all, as systemd does not.
    let own = program.to_string_lossy();
    let fds = told["fds"].as_object().expect("an object").iter().filter(|(_, target)| **target != *own);
    let fds: BTreeSet<String> = fds.map(|(fd, _)| fd.clone()).collect();
    assert_eq!(fds.difference(&inherited()).collect::<Vec<_>>(), ["0", "1", "2"], "{told}");
    device.stop().await;
    workshop.stop().await;
}

/// The descriptors from 3 on that every process gets which is started here: those that are not closed by an `execve(2)`
/// (`/proc/PID/fdinfo`, proc(5)).
fn inherited() -> BTreeSet<String> {
    const CLOSED: u32 = 0o2_000_000;
    let mut inherited = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").expect("proc(5)").flatten() {
        let name = entry.file_name().into_string().expect("a number");
        let Ok(info) = std::fs::read_to_string(entry.path()) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("proc(5)").trim();
        let is_kept = u32::from_str_radix(flags, 8).expect("octal digits") & CLOSED == 0;
        if is_kept && !["0", "1", "2"].contains(&name.as_str()) {
            inherited.insert(name);
        }
    }
    inherited
}

/// Says how it goes by the protocol of `sd_notify(3)`, which needs no more than a datagram.
const SAYS_SO: &str = "/usr/bin/python3 - <<'end'\n\
    import os, socket\n\
    address = os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1)\n\
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:\n\
    \x20   agent.sendto(b'STATUS=half of it is done', address)\n\
    end\n";

async fn how_a_run_goes_is_in_the_reported_document_and_told_to_who_follows_it(kind: Kind) {
    let script = format!("{SAYS_SO}{HELD}printf done");
    let (mut device, mut workshop) =
        Workshop::online(Setup::on(kind), &[("long", "class = \"parallel\"\n", &script)]).await;
    device.send("long/l-1", "").await;
    let half = json!("half of it is done");
    let told = device
        .twin(|twin| twin["commands"]["l-1"]["status"] == 202 && twin["commands"]["l-1"]["payload"]["progress"] == half)
        .await;
    assert_eq!(told["commands"]["l-1"]["method"], "long");
    let mut replies = follow(&device, "Invoke", json!({ "method": "long", "id": "l-2" }));
    next(&mut replies, |reply| reply["payload"]["progress"] == half).await;
    workshop.let_go();
    assert_eq!(device.answer("l-1", 200).await["payload"], "done");
    next(&mut replies, |reply| reply["status"] == 200 && reply["payload"] == "done").await;
    device.stop().await;
    workshop.stop().await;
}

async fn the_same_command_runs_its_program_once(kind: Kind) {
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("once", "", "date +%s%N\n")]).await;
    for _ in 0..20 {
        device.send("once/o-1", "").await;
    }
    let first = device.answer("o-1", 200).await;
    device.stop().await;
    device.start();
    device.wait_until_ready().await;
    device.send("once/o-1", "").await;
    device.send("once/o-2", "").await;
    device.answer("o-2", 200).await;
    assert_eq!(workshop.runs("once"), ["o-1", "o-2"]);
    let told: Vec<Value> = device.answers_to("o-1").into_iter().filter(|answer| answer["status"] != 202).collect();
    assert!(told.iter().all(|answer| answer["payload"] == first["payload"]), "{told:#?}");
    device.stop().await;
    workshop.stop().await;
}

async fn a_payload_that_breaks_the_rules_starts_no_program(kind: Kind) {
    let rules = "[payload.members.port]\ntype = \"integer\"\nrequired = true\nmin = 1\nmax = 65535\n\
                 [payload.members.mode]\ntype = \"text\"\none_of = [\"fast\", \"slow\"]\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("open", rules, "cat\n")]).await;
    let cases = [
        ("", &["port"][..]),
        (r#"{"mode":"fast"}"#, &["port"]),
        (r#"{"port":0}"#, &["port"]),
        (r#"{"port":"80"}"#, &["port"]),
        (r#"{"port":80,"mode":"quick"}"#, &["mode"]),
        (r#"{"port":80,"ports":1}"#, &["ports"]),
        (r#"{"port":70000,"mode":1,"more":null}"#, &["port", "mode", "more"]),
        ("[1]", &[]),
    ];
    for (case, (payload, _)) in cases.iter().enumerate() {
        device.send(&format!("open/b-{case}"), payload).await;
    }
    for (case, (payload, named)) in cases.iter().enumerate() {
        let answer = device.answer(&format!("b-{case}"), 422).await;
        let text = answer["payload"].to_string();
        assert!(named.iter().all(|name| text.contains(&format!("`{name}`"))), "{payload}: {text}");
    }
    device.send("open/g-1", r#"{"port":80,"mode":"slow"}"#).await;
    assert_eq!(device.answer("g-1", 200).await["payload"], json!({ "port": 80, "mode": "slow" }));
    assert_eq!(workshop.runs("open"), ["g-1"]);
    // Nor was any of them taken on.
    device.hear_until_quiet(Duration::from_millis(500)).await;
    assert_eq!(device.answers_to("b-0").len(), 1, "{:?}", device.answers_to("b-0"));
    device.stop().await;
    workshop.stop().await;
}
