//! `twinagent-bridge serve` as a process: what it prints, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn serve(data: &Path, listeners: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_twinagent-bridge"))
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(listeners)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

#[test]
fn one_line_says_where_it_is_and_a_signal_ends_it_cleanly() {
    let folder = tempfile::tempdir().expect("a folder");
    for signal in [Signal::TERM, Signal::INT] {
        let mut bridge = serve(folder.path(), &["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let mut out = BufReader::new(bridge.stdout.take().expect("it is piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let mqtt = line["mqtt"].as_str().expect("an address");
        let http = line["http"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        for address in [mqtt, http] {
            TcpStream::connect(address).expect("it listens");
        }
        assert_eq!(line["ca"].as_str(), folder.path().join("ca.pem").to_str());
        assert!(line.get("mqtts").is_none() && line.get("https").is_none(), "what was not named is off: {line}");

        let pid = Pid::from_child(&bridge);
        kill_process(pid, signal).expect("it runs");
        assert!(bridge.wait().expect("it ends").success());
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("the end");
        assert_eq!(rest, "");
    }
}

#[test]
fn what_cannot_be_served_is_said_in_one_line_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = serve(folder.path(), &["--http", "0.0.0.0:0"]).wait_with_output().expect("it ends");
    assert_eq!(bridge.status.code(), Some(1));
    let text = String::from_utf8(bridge.stderr).expect("a text");
    assert!(text.contains("could be reached from other machines") && text.contains("hint: "), "{text}");
    assert!(bridge.stdout.is_empty());
    let usage = serve(folder.path(), &["--no-such"]).wait_with_output().expect("it ends");
    assert_eq!(usage.status.code(), Some(2));
}
