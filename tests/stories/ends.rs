//! How a daemon ends: when another one is there before it, and when it is told to stop.

use std::time::Duration;

use rumqttc::mqttbytes::v4::Packet;
use twinagent::host::clock;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::{Process, log, logged};
use crate::strace::{Strace, packets};

on_both_clouds! {
    a_second_daemon_on_the_same_state_folder_ends_and_leaves_the_first_alone,
    an_idle_daemon_that_is_told_to_stop_says_goodbye_at_once,
    a_daemon_that_is_told_to_stop_waits_for_what_runs_and_tells_how_it_ended,
    what_still_runs_at_the_end_of_the_patience_is_told_as_interrupted_after_the_next_start,
}

async fn a_second_daemon_on_the_same_state_folder_ends_and_leaves_the_first_alone(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let first = Process::online(&mut device).await;
    let before = log(&device);
    let second = Process::start(&device).end().await;
    assert_eq!(second.code(), Some(75), "EX_TEMPFAIL");
    let told = log(&device)[before.len()..].to_owned();
    assert!(told.contains(&*device.path("state").to_string_lossy()), "{told}");
    assert!(told.contains(&format!("(pid {})", first.id())), "{told}");
    assert!(told.contains("hint: "), "{told}");
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    assert_eq!(device.logins().await, 1, "the session was not taken over");
    first.stop().await;
}

async fn an_idle_daemon_that_is_told_to_stop_says_goodbye_at_once(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    // A machine may stand still for seconds, but not each time.
    for round in 1..=3 {
        let process = Process::online(&mut device).await;
        device.send(&format!("count/c-{round}"), "").await;
        device.answer(&format!("c-{round}"), 200).await;
        let strace = Strace::watch(&device, &process).await;
        let begun = clock::boot();
        process.terminate();
        let status = process.end().await;
        let took = clock::boot().since(begun);
        assert_eq!(status.code(), Some(0));
        let calls = strace.end().await;
        if kind == Kind::IotCore {
            // Where there is TLS, nobody sees it from outside.
            assert!(matches!(packets(&calls).last(), Some((_, Packet::Disconnect))), "{calls:#?}");
        }
        assert_eq!(log(&device).matches("disconnected as planned").count(), round, "{}", log(&device));
        device.cloud.wait_until_away().await;
        if took < Duration::from_secs(2) {
            return;
        }
    }
    panic!("it does not end at once");
}

async fn a_daemon_that_is_told_to_stop_waits_for_what_runs_and_tells_how_it_ended(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::new(Setup { answers, ..Setup::on(kind) }).await;
        let process = Process::online(&mut device).await;
        device.send("count/slow", &device.held().to_string()).await;
        process.terminate();
        logged(&device, "stopping").await;
        // It is still in reach, and takes on nothing that it could not end.
        device.send("count/late", "").await;
        let late = device.answer("late", 503).await;
        assert_eq!(late["payload"]["error"], "the agent is stopping");
        device.send("echo/e-1", "").await;
        device.answer("e-1", 200).await;
        device.let_go();
        let status = process.end().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(device.answer("slow", 200).await["payload"]["counted"], "slow", "{answers}");
        assert_eq!(device.counted(), [("slow".to_owned(), 1)].into());
        assert_eq!(device.logins().await, 1, "{answers}");
    }
}

/// The unit's `TimeoutStopSec=` leaves room for this bound and for the goodbye.
async fn what_still_runs_at_the_end_of_the_patience_is_told_as_interrupted_after_the_next_start(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    device.send("count/endless", r#"{"sleepMillis":600000}"#).await;
    let begun = clock::boot();
    process.terminate();
    let status =
        tokio::time::timeout(Duration::from_secs(25), process.end()).await.expect("before systemd loses patience");
    assert_eq!(status.code(), Some(0));
    let took = clock::boot().since(begun);
    assert!(took >= Duration::from_secs(10), "{took:?}");
    assert!(device.answers_to("endless").iter().all(|answer| answer["status"] == 202));
    let process = Process::online(&mut device).await;
    let outcome = device.answer("endless", 500).await;
    assert_eq!(outcome["payload"]["interrupted"], true, "{outcome}");
    process.stop().await;
}
