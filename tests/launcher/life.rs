//! The service's own life: from a socket to the next process, over thousands of runs, with callers that go away.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use twinagent::model::command::{CommandId, DeviceId, Status};
use twinagent::model::digest::Digest;
use twinagent::varlink::handlers::{Run, SOCKET};

use crate::support::{Given, LIMIT, Service, Settings, begin, until};

fn connect(service: &Service) -> UnixStream {
    let stream = UnixStream::connect(service.path().join("agent-handlers").join(SOCKET)).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream
}

/// What `Program` would send for this manifest.
fn call(service: &Service, name: &str) -> Vec<u8> {
    let text = std::fs::read(service.path().join("handlers.d").join(name)).expect("a manifest");
    let run = Run {
        manifest: name.to_owned(),
        digest: Digest::of(&text),
        id: CommandId::parse("c-1").expect("an id"),
        device: DeviceId::parse("d").expect("an id"),
        payload: Value::Null,
    };
    run.frame()
}

#[tokio::test]
async fn sigterm_ends_what_runs_and_then_the_service() {
    let mut service = Service::start();
    let (mark, asked) = (service.path().join("notify/up"), service.path().join("notify/asked"));
    let script = format!(
        "#!/bin/sh\ntrap 'touch {}; exit 0' TERM\ntouch {}\nsleep 1000 & wait\n",
        asked.display(),
        mark.display()
    );
    let given = Given { grace: Duration::from_secs(60), ..Given::new(&service.program("asked", &script)) };
    let asked_run = begin(&service.handler("one.toml", &given), json!(null));
    let is_deaf = service.path().join("notify/deaf");
    let deaf = format!("#!/bin/sh\ntrap '' TERM\ntouch {}\nwhile :; do sleep 1; done\n", is_deaf.display());
    let deaf = service.program("deaf", &deaf);
    let deaf_run = begin(&service.handler("two.toml", &Given { program: deaf, ..given }), json!(null));
    until("both run", || mark.exists() && is_deaf.exists()).await;
    service.signal(Signal::TERM);
    let (first, second) = (asked_run.task.await.expect("an end"), deaf_run.task.await.expect("an end"));
    let why = "the handlers' service ended while this ran; it may have taken effect";
    assert_eq!((first.status, &first.payload["error"]), (Status::FAILED, &json!(why)));
    assert_eq!((second.status, &second.payload["signal"]), (Status::FAILED, &json!(9)), "its grace of a minute is cut");
    assert!([first, second].iter().all(|cut| cut.payload["interrupted"] == true), "as if the service had been killed");
    println!("ended within {:?}", service.ended().expect("in good order"));
    assert!(asked.exists(), "it was asked");

    // Whoever connects now waits for the next process, as systemd starts it.
    let handler = service.handler("one.toml", &Given::new(&service.program("good", "#!/bin/sh\necho good\n")));
    let run = begin(&handler, json!(null));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!run.task.is_finished());
    service.start_again();
    assert_eq!(run.task.await.expect("an end").payload, json!("good"));
}

#[tokio::test]
async fn an_idle_service_ends_and_loses_nobody() {
    let mut service = Service::with(Settings { idle: Duration::from_millis(30), ..Settings::default() });
    let handler =
        service.handler("one.toml", &Given::new(&service.program("good", "#!/bin/sh\nsleep 0.1; echo good\n")));
    // Connects at all moments around its end.
    for round in 0..60 {
        let run = begin(&handler, json!(null));
        while !run.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if service.has_ended() {
                service.start_again();
            }
        }
        let outcome = run.task.await.expect("an end");
        assert_eq!(outcome.payload, json!("good"), "round {round}");
        tokio::time::sleep(Duration::from_millis(20 + round % 25)).await;
    }
    let begun = Instant::now();
    service
        .ended()
        .or_else(|told| if told.is_empty() { Err(told) } else { Ok(begun.elapsed()) })
        .expect("it ends when idle");
}

#[tokio::test]
async fn an_agent_that_is_gone_takes_its_run_with_it() {
    let service = Service::start();
    let (mark, asked) = (service.path().join("notify/up"), service.path().join("notify/asked"));
    let script = format!(
        "#!/bin/sh\ntrap 'touch {}; exit 0' TERM\ntouch {}\nsleep 1000 & wait\n",
        asked.display(),
        mark.display()
    );
    service.handler(
        "one.toml",
        &Given { grace: Duration::from_secs(60), ..Given::new(&service.program("asked", &script)) },
    );
    // A process of its own, so that it can be killed as an agent can.
    let frame = service.path().join("frame");
    std::fs::write(&frame, call(&service, "one.toml")).expect("a call");
    let socket = service.path().join("agent-handlers").join(SOCKET);
    let script = "use Socket; open(F, '<', $ARGV[0]); local $/; my $f = <F>; socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
        connect($s, sockaddr_un($ARGV[1])) or die $!; send($s, $f, 0); sleep 1000;";
    let mut agent = Command::new("/usr/bin/perl").args(["-e", script]).arg(&frame).arg(&socket).spawn().expect("perl");
    until("the program runs", || mark.exists()).await;
    agent.kill().expect("it is ours");
    agent.wait().expect("it ends");
    until("the program was asked to end, and has", || asked.exists() && service.children().is_empty()).await;
    assert_eq!(service.script("echo next", json!(null)).await.payload, json!("next"));
}

#[tokio::test]
async fn what_is_no_call_is_refused_and_who_says_nothing_is_not_waited_for() {
    let service = Service::start();
    service.handler("one.toml", &Given::new(&service.program("good", "#!/bin/sh\necho good\n")));
    let good = call(&service, "one.toml");
    let many = format!("{{\"method\":\"{}\"}}\0", "x".repeat(1024 * 1024));
    for (bytes, words) in [
        (&b"{}\0"[..], "not a method call"),
        (b"{\"method\":\"org.varlink.service.GetInfo\"}\0", "has the method `Run` and no other"),
        (
            b"{\"method\":\"io.twinagent.Handlers.Run\",\"parameters\":{\"program\":\"/bin/sh\"},\"more\":true}\0",
            "not a run",
        ),
        (many.as_bytes(), "longer than"),
    ] {
        let mut stream = connect(&service);
        // It may hang up before it has all.
        let _ = stream.write_all(bytes);
        let mut told = Vec::new();
        // With bytes that it has not read, its end is a reset.
        let _ = stream.read_to_end(&mut told);
        let told = String::from_utf8(told).expect("text");
        assert!(told.contains("io.twinagent.Handlers.NotUnderstood") && told.contains(words), "{words}: {told}");
    }
    let silent: Vec<UnixStream> = (0..20).map(|_| connect(&service)).collect();
    assert_eq!(service.script("echo next", json!(null)).await.payload, json!("next"), "others wait for none of them");
    let mut half = connect(&service);
    half.write_all(&good[..good.len() / 2]).expect("a half");
    half.shutdown(std::net::Shutdown::Write).expect("no more of it");
    let mut told = Vec::new();
    half.read_to_end(&mut told).expect("it hangs up");
    assert!(told.is_empty(), "half a call is none");
    for mut stream in silent {
        // Not by one `read`: with a time limit, the end of some child would interrupt it (signal(7)).
        assert_eq!(stream.read_to_end(&mut Vec::new()).expect("it hangs up"), 0);
    }
}

/// A service that was long in coming finds that the agent has given up, and begins nothing.
#[tokio::test]
async fn a_call_that_was_given_up_begins_nothing() {
    let mut service = Service::start();
    let mark = service.path().join("notify/ran");
    assert_eq!(service.script("echo first", json!(null)).await.payload, json!("first"));
    let silent = connect(&service);
    // Whoever comes first is let in first.
    assert_eq!(service.script("echo second", json!(null)).await.payload, json!("second"));
    service
        .handler("one.toml", &Given::new(&service.program("one", &format!("#!/bin/sh\ntouch {}\n", mark.display()))));
    service.signal(Signal::TERM);
    println!("ended within {:?}, with a caller that says nothing", service.ended().expect("in good order"));
    drop(silent);
    let (mut half, mut gone) = (connect(&service), connect(&service));
    for stream in [&mut half, &mut gone] {
        stream.write_all(&call(&service, "one.toml")).expect("the socket is there");
    }
    half.shutdown(std::net::Shutdown::Write).expect("given up");
    drop(gone);
    service.start_again();
    let mut told = Vec::new();
    half.read_to_end(&mut told).expect("an answer");
    let told = String::from_utf8(told).expect("text");
    assert!(told.contains("stopped before the program began") && !told.contains("begun"), "{told}");
    assert!(!mark.exists());
    assert_eq!(service.script("echo next", json!(null)).await.payload, json!("next"));
    assert!(!mark.exists(), "nor later");
}

/// Descriptors, processes and memory stay as they were, over many runs side by side; some fail, some leave daemons.
#[tokio::test]
async fn nothing_gathers_over_thousands_of_runs() {
    const ROUNDS: usize = 125;
    const BESIDE: usize = 16;
    let service = Service::start();
    let scripts = ["echo 1", "exit 3", "(setsid sleep 1000 &); echo 1", "echo x >&2; kill -9 $$"];
    let handlers: Vec<_> = scripts
        .iter()
        .enumerate()
        .map(|(at, script)| {
            let program = service.program(&format!("p{at}"), &format!("#!/bin/sh\n{script}\n"));
            service.handler(&format!("p{at}.toml"), &Given::new(&program))
        })
        .collect();
    let round = async || {
        let runs: Vec<_> = (0..BESIDE).map(|at| begin(&handlers[at % handlers.len()], json!(null))).collect();
        for (at, run) in runs.into_iter().enumerate() {
            let outcome = run.task.await.expect("an end");
            assert_eq!(outcome.status.0, if at % 2 == 0 { 200 } else { 500 }, "{}", outcome.payload);
        }
    };
    round().await;
    let (descriptors, memory) = (service.descriptors(), service.memory());
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        round().await;
    }
    let each = begun.elapsed() / u32::try_from(ROUNDS * BESIDE).expect("a number");
    println!("{} runs, {each:?} each, memory {memory} -> {} KiB", ROUNDS * BESIDE, service.memory());
    until("descriptors are given back", || service.descriptors() <= descriptors).await;
    until("nothing is left", || service.children().is_empty()).await;
    assert!(service.memory() < memory + 8 * 1024);
    let program = service.program("p9", "#!/bin/sh\nexit 0\n");
    let handler = service.handler("p9.toml", &Given::new(&program));
    let time = async |runs: u32| {
        let begun = Instant::now();
        for _ in 0..runs {
            assert_eq!(begin(&handler, json!(null)).task.await.expect("an end").status, Status::DONE);
        }
        begun.elapsed() / runs
    };
    let served = time(300).await;
    let begun = Instant::now();
    for _ in 0..300 {
        let output = Command::new(&program).stdin(Stdio::piped()).output().expect("it runs");
        assert!(output.status.success());
    }
    println!("one at a time: {served:?} each by the service, {:?} each started by this test", begun.elapsed() / 300);
}

/// The program itself, as its unit starts it.
#[tokio::test]
async fn the_program_serves_a_socket_and_says_so_where_there_is_none() {
    let binary = env!("CARGO_BIN_EXE_twinagent");
    let by_hand = Command::new(binary).arg("run-handlers").stdin(Stdio::null()).output().expect("it runs");
    let told = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert_eq!(by_hand.status.code(), Some(2), "{told}");
    assert!(
        told.contains("stdin is no listening Unix socket\nhint: ") && told.contains("twinagent-handlers.socket"),
        "{told}"
    );

    let folder = crate::support::closed_folder();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let log = File::create(folder.path().join("log")).expect("a log");
    let mut service = Command::new(binary)
        .arg("run-handlers")
        .env("RUNTIME_DIRECTORY", folder.path())
        .env("CONFIGURATION_DIRECTORY", folder.path())
        .stdin(std::os::fd::OwnedFd::from(listener.try_clone().expect("a descriptor")))
        .stderr(log)
        .spawn()
        .expect("it starts");
    let run = Run {
        manifest: "missing.toml".to_owned(),
        digest: Digest::of(b"x"),
        id: CommandId::parse("c-1").expect("an id"),
        device: DeviceId::parse("d").expect("an id"),
        payload: Value::Null,
    };
    let mut stream = UnixStream::connect(&socket).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(&run.frame()).expect("it listens");
    let mut told = Vec::new();
    stream.read_to_end(&mut told).expect("an answer");
    let told = String::from_utf8(told).expect("text");
    assert!(told.contains("missing.toml") && told.contains("\"status\":500"), "{told}");
    let pid = rustix::process::Pid::from_child(&service);
    rustix::process::kill_process(pid, Signal::TERM).expect("it is ours");
    until("it ends", || service.try_wait().expect("it is ours").is_some()).await;
    assert!(service.wait().expect("it has ended").success());
}
