//! Programs that attack the service itself, which runs as the same user, and an agent that keeps to nothing. What a manager
//! of services does is done by the test: it ends what is silent, and starts what has ended.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use twinagent::handler::Stop;
use twinagent::model::command::Status;

use crate::support::{Given, LIMIT, Service, Settings, begin, until};

async fn expect_next(service: &Service) {
    let next = service.script("echo next", json!(null)).await;
    assert_eq!(next.payload, json!("next"), "{}", service.told());
}

#[tokio::test]
async fn a_service_that_is_stopped_is_silent_to_its_watchdog() {
    let mut service = Service::with(Settings { is_watched: true, ..Settings::default() });
    let program = service.program("stops", "#!/bin/sh\nsleep 2\nkill -STOP $PPID\nsleep 1000\n");
    let run = begin(&service.handler("one.toml", &Given::new(&program)), json!(null));
    // Nothing is left to be heard when this returns.
    let hear = || {
        let (mut some, mut pets) = ([0; 1024], 0);
        loop {
            match service.manager.recv(&mut some) {
                Ok(length) => pets += usize::from(some[..length].starts_with(b"WATCHDOG=1")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return pets,
                // With a time limit, the end of some child (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    service.manager.set_nonblocking(true).expect("a socket");
    let stat = format!("/proc/{}/stat", service.pid());
    let mut pets = 0;
    let is_stopped = || {
        pets += hear();
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    };
    until("it is stopped", is_stopped).await;
    pets += hear();
    println!("{pets} signs of life, and then none");
    assert!(pets > 0, "the loop was alive before");
    service.manager.set_nonblocking(false).expect("a socket");
    assert_eq!(hear(), 0, "it is stopped");
    let left = service.children();
    service.signal(Signal::KILL);
    service.ended().expect_err("killed");
    let outcome = run.task.await.expect("an end");
    assert_eq!((outcome.status, &outcome.payload["interrupted"]), (Status::FAILED, &json!(true)));
    for pid in left {
        // The rest of its control group.
        let pid = rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("a process");
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    service.start_again();
    expect_next(&service).await;
}

#[tokio::test]
async fn a_service_that_is_killed_by_its_program_is_there_again() {
    let mut service = Service::start();
    let outcome = service.script("kill -9 $PPID", json!(null)).await;
    assert_eq!((outcome.status, &outcome.payload["interrupted"]), (Status::FAILED, &json!(true)));
    service.ended().expect_err("killed");
    service.start_again();
    expect_next(&service).await;
}

/// Neither where nobody can be let in any more, nor where programs would inherit it.
#[tokio::test]
async fn a_service_whose_limits_were_changed_begins_anew() {
    for limit in ["--nofile=3:3", "--nproc=1:1", "--cpu=1000:1000"] {
        let mut service = Service::start();
        let outcome = service.script(&format!("prlimit --pid $PPID {limit} || exit 1"), json!(null)).await;
        // It may be noticed before the script has ended.
        let is_cut = outcome.payload["interrupted"] == true;
        assert!(outcome.status == Status::DONE || is_cut, "{} {}", outcome.status, outcome.payload);
        service.ended().expect_err("it gives up");
        assert!(service.told().contains("a program has changed the limits"), "{}", service.told());
        service.start_again();
        expect_next(&service).await;
    }
}

/// Nor does one that stays keep others waiting. What runs beside it is asked to end, and answered.
#[tokio::test]
async fn a_service_whose_limits_were_changed_ends_what_runs_in_good_order() {
    let mut service = Service::start();
    let up = service.path().join("notify/up");
    let beside = format!("#!/bin/sh\ntrap 'echo asked; exit 3' TERM\ntouch {}\nsleep 1000 & wait\n", up.display());
    let day = Given {
        time_limit: Duration::from_secs(24 * 60 * 60),
        // A service that ends cuts it to its own, within which a program comes to its end that stood still for a while.
        grace: Duration::from_secs(60),
        ..Given::new(&service.program("beside", &beside))
    };
    let beside = begin(&service.handler("beside.toml", &day), json!(null));
    until("it runs", || up.exists()).await;
    let attacker = service.program("stays", "#!/bin/sh\nprlimit --pid $PPID --nofile=3:3 || exit 1\nexec sleep 1000\n");
    let attack = begin(&service.handler("stays.toml", &Given { program: attacker, ..day }), json!(null));
    for (run, member, value) in [(beside, "exitCode", 3), (attack, "signal", 15)] {
        let outcome = tokio::time::timeout(LIMIT, run.task).await.expect("in time").expect("an end");
        let payload = outcome.payload;
        assert_eq!((outcome.status, &payload["interrupted"]), (Status::FAILED, &json!(true)), "{payload}");
        assert_eq!(payload[member], json!(value), "{payload}");
    }
    service.ended().expect_err("it gives up");
    assert!(service.told().contains("a program has changed the limits"), "{}", service.told());
    service.start_again();
    expect_next(&service).await;
}

/// Processes that end as soon as they have started the next one can hardly be hit. Others are served beside them, and a
/// service that cannot get rid of them ends with an error.
#[tokio::test]
async fn a_chain_of_processes_starves_nobody() {
    let mut service = Service::start();
    let gate = service.path().join("notify/gate");
    fs::write(&gate, "").expect("a gate");
    let chain = format!(
        "#!/usr/bin/perl\nuse POSIX;\nfor (1..4) {{ next if fork; setsid; $0 = 'chain'; my $end = time + 40;\n\
         while (-e '{}' && time < $end) {{ my $pid = fork; exit if $pid || !defined $pid; }} exit; }}\nprint 'done';\n",
        gate.display()
    );
    let given = Given::new(&service.program("chain", &chain));
    let outcome = service.run(&given, json!(null)).await;
    assert_eq!(outcome.payload, json!("done"), "{}", outcome.payload);
    for _ in 0..3 {
        expect_next(&service).await;
    }
    let pid = service.pid();
    let has_given_up = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    until("the chain or the service has ended", || has_given_up() || service.children().is_empty()).await;
    if has_given_up() {
        println!("the service has given up");
        service.ended().expect_err("for its manager to see");
        assert!(service.told().contains("left behind do not end"), "{}", service.told());
        fs::remove_file(&gate).expect("the gate");
        service.start_again();
    } else {
        println!("the chain was hit");
        fs::remove_file(&gate).expect("the gate");
    }
    expect_next(&service).await;
}

#[tokio::test]
async fn a_folder_for_news_that_is_spoiled_stops_no_program() {
    let service = Service::start();
    let filled = "cd ${NOTIFY_SOCKET%/*}; for i in $(seq 300); do mkdir $$-$i 1-$i; done; echo ${NOTIFY_SOCKET##*/}";
    let outcome = service.script(filled, json!(null)).await;
    let name = outcome.payload.as_str().expect("a name").to_owned();
    expect_next(&service).await;
    let other = service.script("echo ${NOTIFY_SOCKET##*/}", json!(null)).await;
    assert!(name.len() > 30 && other.payload.as_str().is_some_and(|other| other.len() > 30 && other != name), "{name}");
    fs::remove_dir_all(service.path().join("notify")).expect("the folder");
    for _ in 0..3 {
        let without = service.script("echo \"${NOTIFY_SOCKET:-none}\"", json!(null)).await;
        assert_eq!(without.payload, json!("none"), "{}", service.told());
    }
    assert_eq!(service.told().matches("no socket for news can be made").count(), 1, "{}", service.told());
}

#[tokio::test]
async fn a_payload_that_breaks_the_rules_runs_nothing_whoever_asks() {
    let service = Service::start();
    let given = Given { has_rules: true, ..Given::new(Path::new("/usr/bin/cat")) };
    let outcome = service.run(&given, json!({ "port": 10 })).await;
    assert_eq!(outcome.status, Status::UNFIT_PAYLOAD, "{}", outcome.payload);
    assert!(outcome.payload["error"].as_str().is_some_and(|why| why.contains("`port`")), "{}", outcome.payload);
    let outcome = service.run(&given, json!({ "port": 9 })).await;
    assert_eq!((outcome.status, outcome.payload), (Status::DONE, json!({ "port": 9 })));
}

/// What an agent has begun that is gone is still ending when the next one asks.
#[tokio::test]
async fn a_serial_run_waits_for_one_that_still_ends() {
    let service = Service::start();
    let [up, go, over] = ["up", "go", "over"].map(|name| service.path().join("notify").join(name));
    let slow = format!(
        "#!/bin/sh\ntrap 'until [ -e {} ]; do sleep 0.1; done; touch {}; exit 0' TERM\ntouch {}\nsleep 1000 & wait\n",
        go.display(),
        over.display(),
        up.display()
    );
    let given =
        Given { is_serial: true, grace: Duration::from_secs(60), ..Given::new(&service.program("slow", &slow)) };
    let first = begin(&service.handler("slow.toml", &given), json!(null));
    until("it runs", || up.exists()).await;
    first.task.abort();
    let look = format!("#!/bin/sh\n[ -e {} ] && echo after || echo beside\n", over.display());
    let look = service.program("look", &look);
    let beside = Given::new(&look);
    let descriptors = service.descriptors();
    let next = begin(&service.handler("next.toml", &Given { is_serial: true, ..Given::new(&look) }), json!(null));
    let late = begin(&service.handler("late.toml", &Given { is_serial: true, ..Given::new(&look) }), json!(null));
    until("both are let in", || service.descriptors() >= descriptors + 2).await;
    late.stop.send(Some(Stop::TimedOut)).expect("it listens");
    let control = begin(&service.handler("beside.toml", &beside), json!(null)).task.await.expect("an end");
    assert_eq!(control.payload, json!("beside"), "of a class that is parallel");
    let late = late.task.await.expect("an end");
    assert_eq!(late.status, Status::CANNOT_NOW, "{}", late.payload);
    fs::write(&go, "").expect("a file");
    assert_eq!(next.task.await.expect("an end").payload, json!("after"), "{}", service.told());
    assert!(service.told().contains("milliseconds"), "a line for each run: {}", service.told());
}
