//! The agent's handler: what it makes of a service that is there, that is not, and that goes away.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use twinagent::handler::{Handler as _, Stop};
use twinagent::model::command::Status;

use crate::support::{Given, LIMIT, Service, Settings, begin, gone, own_user, until};

#[tokio::test]
async fn a_run_that_is_stopped_is_asked_to_end_and_then_made_to() {
    let service = Service::start();
    let asked = service.program(
        "asked",
        "#!/bin/sh\ntrap 'echo asked; exit 3' TERM\ntouch \"${NOTIFY_SOCKET}.up\"\nsleep 1000 & wait\n",
    );
    let deaf =
        service.program("deaf", "#!/bin/sh\ntrap '' TERM\ntouch \"${NOTIFY_SOCKET}.up\"\nwhile :; do sleep 1; done\n");
    let is_up = || {
        let mut entries = std::fs::read_dir(service.path().join("notify")).expect("the folder").flatten();
        entries.any(|entry| {
            entry.file_name().to_string_lossy().ends_with(".up") && std::fs::remove_file(entry.path()).is_ok()
        })
    };
    for (program, stop, status, member, value) in [
        (&asked, Stop::Cancelled, Status::CANCELLED, "exitCode", 3),
        (&asked, Stop::TimedOut, Status::TIMED_OUT, "exitCode", 3),
        (&deaf, Stop::Cancelled, Status::CANCELLED, "signal", 9),
    ] {
        let given = Given { grace: Duration::from_secs(if *program == deaf { 1 } else { 30 }), ..Given::new(program) };
        let handler = service.handler("one.toml", &given);
        assert!(handler.grace() > given.grace);
        let run = begin(&handler, json!(null));
        until("the program runs", is_up).await;
        let stopped = Instant::now();
        run.stop.send(Some(stop)).expect("it listens");
        let outcome = run.task.await.expect("an end");
        assert_eq!((outcome.status, &outcome.payload[member]), (status, &json!(value)), "{}", outcome.payload);
        gone(stopped.elapsed(), "what it has started", || service.children().is_empty()).await;
    }
}

#[tokio::test]
async fn news_of_a_program_are_passed_on_and_not_each_of_a_thousand() {
    let service = Service::start();
    // What a program says last is passed on while it runs, so it runs until that was heard.
    let gate = service.path().join("notify/gate");
    let script = format!(
        "#!/usr/bin/perl\n\
        use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;\n\
        my $to = sockaddr_un($ENV{{NOTIFY_SOCKET}});\n\
        send($s, \"READY=1\\nSTATUS=begun\", 0, $to) or die $!;\n\
        select(undef, undef, undef, 0.1);\n\
        for my $i (1..1000) {{ send($s, \"STATUS=$i\\nMAINPID=1\", 0, $to) or die $!; }}\n\
        select(undef, undef, undef, 0.05) until -e '{}'; print 'done';\n",
        gate.display()
    );
    let handler = service.handler("one.toml", &Given::new(&service.program("news", &script)));
    let mut run = begin(&handler, json!(null));
    let mut told: Vec<String> = Vec::new();
    while told.last().is_none_or(|newest| newest != "1000") {
        let (_, text) = tokio::time::timeout(LIMIT, run.news.recv())
            .await
            .unwrap_or_else(|_| panic!("the newest is lost: {told:?}"))
            .unwrap_or_else(|| panic!("it has ended: {told:?}"));
        told.push(text);
    }
    std::fs::write(&gate, "").expect("the gate opens");
    let outcome = tokio::time::timeout(LIMIT, &mut run.task).await.expect("in time").expect("an end");
    assert_eq!((outcome.status.0, outcome.payload), (200, json!("done")));
    println!("told: {told:?}");
    assert_eq!(told.first().map(String::as_str), Some("begun"));
    assert!(told.len() < 100, "{} of 1 001", told.len());
}

/// systemd's own tool passes a descriptor with its message, and waits until it is closed (`sd_notify_barrier(3)`).
#[tokio::test]
async fn the_tool_of_systemd_is_heard_and_does_not_wait() {
    let tool = std::path::Path::new("/usr/bin/systemd-notify");
    assert!(tool.exists(), "the package systemd has it");
    let service = Service::start();
    let script = "#!/bin/sh\nsystemd-notify --status='half way' || exit 1\nsleep 0.5\necho done\n";
    let handler = service.handler("one.toml", &Given::new(&service.program("tool", script)));
    let mut run = begin(&handler, json!(null));
    let outcome = tokio::time::timeout(LIMIT, &mut run.task).await.expect("in time").expect("an end");
    assert_eq!((outcome.status.0, &outcome.payload), (200, &json!("done")));
    assert_eq!(run.news.try_recv().expect("news").1, "half way");
}

#[tokio::test]
async fn without_a_service_nothing_runs_and_the_answer_says_where_to_look() {
    let service = Service::start();
    let handler = service.handler("one.toml", &Given::new(&service.program("good", "#!/bin/sh\necho good\n")));
    let socket = service.path().join("agent-handlers").join(twinagent::varlink::handlers::SOCKET);
    std::fs::rename(&socket, socket.with_extension("gone")).expect("it is there");
    let outcome = begin(&handler, json!(null)).task.await.expect("an end");
    assert_eq!(outcome.status, Status::CANNOT_NOW);
    assert!(
        outcome.payload["hint"].as_str().is_some_and(|hint| hint.contains("twinagent-handlers.socket")),
        "{}",
        outcome.payload
    );
    std::fs::rename(socket.with_extension("gone"), &socket).expect("back");
    assert_eq!(begin(&handler, json!(null)).task.await.expect("an end").status, Status::DONE);

    let closed = Service::with(Settings { callers: vec![4_000_001], ..Settings::default() });
    let handler = closed.handler("one.toml", &Given::new(&closed.program("good", "#!/bin/sh\necho good\n")));
    let outcome = begin(&handler, json!(null)).task.await.expect("an end");
    assert_eq!(outcome.status, Status::CANNOT_NOW, "{}", outcome.payload);
    assert!(outcome.payload["error"].as_str().is_some_and(|why| why.contains("before the program began")));
    assert!(closed.told().contains("turned away"), "{}", closed.told());
}

#[tokio::test]
async fn a_service_that_goes_away_midway_leaves_it_open_what_happened() {
    let mut service = Service::start();
    let mark = service.path().join("notify/up");
    let script = format!("#!/bin/sh\ntouch {}\nsleep 1000\n", mark.display());
    let handler = service.handler("one.toml", &Given::new(&service.program("long", &script)));
    let run = begin(&handler, json!(null));
    until("the program runs", || mark.exists()).await;
    let children = service.children();
    service.signal(Signal::KILL);
    let outcome = run.task.await.expect("an end");
    assert_eq!(
        (outcome.status, &outcome.payload["interrupted"]),
        (Status::FAILED, &json!(true)),
        "{}",
        outcome.payload
    );
    assert!(service.ended().is_err());
    // In the unit's control group systemd would have killed it.
    for child in children {
        let pid = rustix::process::Pid::from_raw(child.parse().expect("a number")).expect("a process");
        rustix::process::kill_process_group(pid, Signal::KILL).expect("it is ours");
    }
}

#[tokio::test]
async fn sixty_four_run_at_once_and_the_next_is_told_so() {
    let service = Service::start();
    let gate = service.path().join("notify/gate");
    let script = format!("#!/bin/sh\nwhile ! [ -e {} ]; do sleep 0.2; done\necho done\n", gate.display());
    let handler = service.handler("one.toml", &Given::new(&service.program("gate", &script)));
    let runs: Vec<_> = (0..64).map(|_| begin(&handler, json!(null))).collect();
    until("all run", || service.children().len() == 64).await;
    let outcome = begin(&handler, json!(null)).task.await.expect("an end");
    assert_eq!((outcome.status, outcome.payload), (Status::CANNOT_NOW, json!({ "error": "64 programs run already" })));
    std::fs::write(&gate, "").expect("the gate opens");
    for run in runs {
        assert_eq!(run.task.await.expect("an end").payload, json!("done"));
    }
    assert_eq!(service.children().len(), 0);
}

/// As on a device: the service is no root, and cannot be looked into. It opens and runs programs all the same.
#[tokio::test]
async fn a_service_that_is_not_root_runs_scripts_and_binaries_and_kills_what_they_leave() {
    if own_user() != 0 {
        // Then every other test is this one.
        return;
    }
    let service = Service::with(Settings { user: Some(65_534), ..Settings::default() });
    let begun = Instant::now();
    let told = service.script("id -u; (setsid sleep 1000 &); echo x", json!(null)).await;
    assert_eq!(told.payload, json!("65534\nx"), "{}", service.told());
    gone(begun.elapsed(), "what a script has started", || service.children().is_empty()).await;
    // What has become another user is out of reach; nobody waits for it.
    let become_root = service.path().join("bin/setpriv");
    Service::copy("/usr/bin/setpriv".as_ref(), &become_root);
    std::fs::set_permissions(&become_root, std::fs::Permissions::from_mode(0o4755)).expect("a mode");
    let number = service.path().join("notify/number");
    let script = format!(
        "{} --reuid=0 --clear-groups setsid /bin/sh -c 'echo $$ > {1}.new; mv {1}.new {1}; exec sleep 1000' & \
         while ! [ -e {1} ]; do sleep 0.05; done; echo done",
        become_root.display(),
        number.display()
    );
    assert_eq!(service.script(&script, json!(null)).await.payload, json!("done"), "{}", service.told());
    assert_eq!(service.script("echo next", json!(null)).await.payload, json!("next"));
    let foreign = std::fs::read_to_string(&number).expect("its number");
    assert_eq!(service.children(), [foreign.trim()]);
    assert_eq!(service.told().matches("cannot be killed, and stays").count(), 1, "{}", service.told());
    let foreign = rustix::process::Pid::from_raw(foreign.trim().parse().expect("a number")).expect("a process");
    rustix::process::kill_process(foreign, Signal::KILL).expect("this test is root");
    until("it is taken note of", || service.children().is_empty()).await;
    let unreadable = service.path().join("bin/id");
    Service::copy("/usr/bin/id".as_ref(), &unreadable);
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o711)).expect("a mode");
    let outcome =
        service.run(&Given { arguments: vec!["-u".to_owned()], ..Given::new(&unreadable) }, json!(null)).await;
    assert_eq!(outcome.payload, json!(65_534), "one that may be run and not read: {}", service.told());
    let closed = service.program("closed", "#!/bin/sh\necho never\n");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("a mode");
    let outcome = service.run(&Given::new(&closed), json!(null)).await;
    let why = outcome.payload["error"].as_str().unwrap_or_default().to_owned();
    assert!(outcome.status == Status::FAILED && why.contains("may not execute it"), "{why}");
    let looked = service
        .script(&format!("ls /proc/{0}/fd || cat /proc/{0}/environ || echo refused", service.pid()), json!(null))
        .await;
    assert_eq!(looked.payload, json!("refused"), "a program cannot look into the service");
}
