//! Callers that mean harm, or do not care. Whatever they do, a well-behaved caller is answered promptly.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use twinagent::local::Asked;
use twinagent::local::client::{ClientError, Wait};
use twinagent::model::ask::Question;

use crate::support::{Daemon, LIMIT};

/// A program of the daemon's own user has so many connections at once.
const PER_USER: usize = 16;

/// How long a well-behaved caller waits, at worst, out of some calls on one connection.
fn slowest_call(daemon: &Daemon, client: &mut twinagent::local::client::Client) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        client.call("GetStatus", &json!({}), Wait::Short).expect("an answer");
        slowest = slowest.max(begun.elapsed());
        daemon.heard_already();
    }
    slowest
}

/// Does it again and again until told to stop.
fn keep(doing: impl Fn() + Send + 'static) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            doing();
        }
    });
    (stop, thread)
}

#[test]
fn a_thousand_connections_are_bounded_and_delay_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let alone = slowest_call(&daemon, &mut client);

    let socket = daemon.socket();
    let (stop, thread) = keep(move || {
        let many: Vec<UnixStream> = (0..1_000).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
        drop(many);
    });
    let crowded = slowest_call(&daemon, &mut client);
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
    println!("slowest of 200 calls: {alone:?} alone, {crowded:?} among 1000 connections, made again and again");
    assert!(crowded < LIMIT / 2, "{crowded:?}");

    // One place is the client's. Those of the crowd come back one by one.
    let info = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
    let mut held = Vec::new();
    let begun = Instant::now();
    while held.len() < PER_USER - 1 {
        let mut raw = daemon.raw();
        // One that is turned away may be so before it has asked.
        let _ = raw.0.write_all(info);
        held.extend(raw.reply().is_some_and(|reply| reply.get("error").is_none()).then_some(raw));
        assert!(begun.elapsed() < LIMIT, "places are given back");
    }
    for _ in 0..1_000 {
        let mut raw = daemon.raw();
        assert_eq!(raw.reply().expect("the reason")["error"], "io.twinagent.Agent.TooManyConnections");
        raw.expect_end();
    }
    let full = daemon.client().call("GetStatus", &json!({}), Wait::Short).expect_err("turned away");
    assert!(full.to_string().contains("16 connections"), "{full}");
    drop(held);
    let begun = Instant::now();
    while daemon.client().call("GetStatus", &json!({}), Wait::Short).is_err() {
        assert!(begun.elapsed() < LIMIT, "places are given back");
    }
}

#[test]
fn a_frame_without_end_is_cut_off() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let mut raw = daemon.raw();
    let piece = vec![b' '; 64 * 1024];
    let mut sent = 0;
    // One gigabyte, if the daemon would take it.
    while sent < 1 << 30 {
        match raw.0.write(&piece) {
            Ok(length) => sent += length,
            Err(_) => break,
        }
    }
    println!("an endless frame was cut off after {sent} bytes were taken by daemon and kernel");
    assert!(sent < 2 * 1024 * 1024, "{sent}");
    let reply = raw.reply().expect("the reason");
    assert_eq!(reply["error"], "io.twinagent.Agent.NotACall");
    assert!(reply["parameters"]["why"].as_str().is_some_and(|why| why.contains("longer than 524288 bytes")));
    raw.expect_end();
    client.call("GetStatus", &json!({}), Wait::Short).expect("others are served");
}

#[test]
fn what_is_no_call_ends_the_connection_with_a_reason() {
    let daemon = Daemon::start();
    let nested = "[".repeat(100_000) + "\0";
    for bytes in [&b"\0"[..], b"GET / HTTP/1.1\r\n\r\n\0", b"\xff\xfe\0", b"{\"method\":1}\0", nested.as_bytes()] {
        let mut raw = daemon.raw();
        raw.send(bytes);
        let reply = raw.reply().expect("the reason");
        assert_eq!(reply["error"], "io.twinagent.Agent.NotACall");
        raw.expect_end();
    }
    assert_eq!(daemon.heard_already(), []);
}

#[test]
fn half_frames_and_slow_senders_are_cut_off_in_time_and_delay_nobody() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let mut half = daemon.raw();
    let begun = Instant::now();
    half.send(b"{\"method\":");
    let mut slow = daemon.raw();
    let trickle = std::thread::spawn(move || {
        slow.send(b"{");
        // A byte now and then keeps nobody's place for ever.
        while slow.0.write(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
        begun.elapsed()
    });
    let during = slowest_call(&daemon, &mut client);
    half.expect_end();
    let (half, slow) = (begun.elapsed(), trickle.join().expect("no panic"));
    println!(
        "cut off after {half:?} (half a frame) and {slow:?} (a byte at a time); slowest call meanwhile {during:?}"
    );
    for time in [half, slow] {
        assert!((Duration::from_secs(9)..LIMIT).contains(&time), "{time:?}");
    }
    assert!(during < LIMIT / 2, "{during:?}");
}

#[test]
fn a_follower_that_does_not_read_is_cut_off() {
    let daemon = Daemon::start();
    let mut lazy = daemon.raw();
    lazy.call(&json!({ "method": "io.twinagent.Agent.FollowDesired", "more": true }));
    let Asked::Question(follower, Question::Desired { follow: true }) = daemon.heard() else { panic!("it follows") };
    let mut client = daemon.client();
    let begun = Instant::now();
    while !daemon.heard_already().contains(&Asked::Gone(follower)) {
        client.call("Report", &json!({ "patch": {} }), Wait::Short).expect("it is merged");
        assert!(begun.elapsed() < LIMIT, "it is never cut off");
    }
    // What was on its way arrives; then the connection ends.
    while lazy.reply().is_some() {}
}

#[test]
fn a_caller_that_sends_ahead_without_end_is_held_back_by_the_kernel() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.call(&json!({ "method": "io.twinagent.Agent.Invoke", "parameters": { "method": "never" } }));
    let Asked::Question(caller, _) = daemon.heard() else { panic!("a question was sent") };
    raw.0.set_write_timeout(Some(Duration::from_millis(500))).expect("a limit");
    let mut sent = 0;
    while let Ok(length) = raw.0.write(&[b' '; 4096]) {
        sent += length;
        assert!(sent < 4 * 1024 * 1024, "the daemon keeps all of it");
    }
    drop(raw);
    assert_eq!(daemon.heard(), Asked::Gone(caller), "its end is seen behind all that");
    let lost = daemon.client().call("Invoke", &json!({ "method": "echo" }), Wait::Short);
    assert!(!matches!(lost, Err(ClientError::Lost(_))), "others are served");
}

/// This test runs itself once more, in a process that may open few files.
#[test]
fn while_descriptors_are_short_a_caller_waits_and_is_served_later() {
    const NAME: &str = "hostile::while_descriptors_are_short_a_caller_waits_and_is_served_later";
    const INSIDE: &str = "TWINAGENT_TEST_FEW_FILES";
    if std::env::var_os(INSIDE).is_none() {
        let child = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" --exact \"$1\""])
            .args([std::env::current_exe().expect("this test").as_os_str(), NAME.as_ref()])
            .env(INSIDE, "1")
            .output()
            .expect("sh runs");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let daemon = Daemon::start();
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.pop();
    let mut raw = daemon.raw();
    raw.call(&json!({ "method": "org.varlink.service.GetInfo" }));
    raw.0.set_read_timeout(Some(Duration::from_millis(500))).expect("a limit");
    let early = raw.0.read(&mut [0]).expect_err("no descriptor is left to let it in");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    drop(files);
    raw.0.set_read_timeout(Some(LIMIT)).expect("a limit");
    assert!(raw.reply().expect("a reply")["parameters"]["product"].is_string());
}
