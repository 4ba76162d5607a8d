//! Stories of the login: refused, granted by half, renewed in time; and of the rules that a session lives by.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use twinagent::bridge::{Fault, Times};
use twinagent::model::now::Timestamp;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;
use crate::program::status;

on_both_clouds! {
    a_refused_login_is_told_and_tried_again,
    a_session_without_its_subscriptions_is_none,
    a_state_that_changes_all_the_time_is_never_sent_too_fast,
    the_pace_of_states_is_kept_over_reconnects_and_restarts,
    a_login_is_renewed_in_time_and_nobody_notices,
}

const QUICK: &str = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\n";

async fn a_refused_login_is_told_and_tried_again(kind: Kind) {
    let log = Log::listen();
    let mut device = Device::new(Setup { config: QUICK, ..Setup::on(kind) }).await;
    device.cloud.add_fault(Fault::RefuseLogin(5), Times::Next(2)).await;
    device.start();
    device.wait_until_ready().await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    let refused =
        "not connected: login refused by the broker (CONNACK 5: not authorized); hint: check that the cloud knows";
    assert_eq!(
        (log.count(refused), log.count("not connected"), log.count(": connected ")),
        (2, 2, 1),
        "{}",
        log.text()
    );
    device.stop().await;
}

async fn a_session_without_its_subscriptions_is_none(kind: Kind) {
    let log = Log::listen();
    let mut device = Device::new(Setup { config: QUICK, ..Setup::on(kind) }).await;
    device.cloud.add_fault(Fault::RefuseSubscriptions, Times::Next(1)).await;
    device.start();
    device.cloud.wait_until_ready().await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    assert_eq!(device.logins().await, 2);
    let refused = "not connected: subscription to `";
    assert_eq!((log.count(refused), log.count(": connected ")), (1, 1), "{}", log.text());
    device.stop().await;
}

#[tokio::test]
async fn answers_that_break_a_rule_of_the_registry_are_no_storm_of_logins() {
    let log = Log::listen();
    let setup = Setup { answers: "events", event_topic: false, ..Setup::on(Kind::IotCore) };
    let mut device = Device::online(setup).await;
    device.send("count/c-1", "").await;
    sleep(Duration::from_secs(6)).await;
    // It waits up to 1 s, 2 s, 4 s, …: ten waits in six seconds are next to impossible, without any there are hundreds.
    let logins = device.logins().await;
    assert!((2..=10).contains(&logins), "{logins} logins\n{}", log.text());
    assert!(log.count("not connected: closed by the broker 0 s after the login; hint: ") >= 1, "{}", log.text());
    let complaint = device.complaint().await.expect("the bridge has a reason");
    assert!(complaint.contains("no Pub/Sub topic"), "{complaint}");
    device.stop().await;
    assert_eq!(device.counted(), [("c-1".to_owned(), 1)].into());
}

async fn a_state_that_changes_all_the_time_is_never_sent_too_fast(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    let mut ear = device.cloud.ear().await;
    let end = Instant::now() + Duration::from_secs(30);
    let mut pace = interval(Duration::from_millis(50));
    let mut sent = 0;
    while Instant::now() < end {
        pace.tick().await;
        device.send(&format!("echo/e-{sent}"), "").await;
        sent += 1;
    }
    // Of so many, some are only counted. One that comes when it is quiet is not.
    sleep(Duration::from_secs(2)).await;
    device.send("echo/last", "").await;
    device.answer("last", 200).await;
    assert_eq!((device.complaint().await, device.logins().await), (None, 1));
    let documents = ear.reports();
    // One a second, and not a quarter of that: it changed all the time.
    assert!((8..=32).contains(&documents), "{documents} states, {sent} changes");
    device.stop().await;
}

async fn the_pace_of_states_is_kept_over_reconnects_and_restarts(kind: Kind) {
    let mut device = Device::online(Setup { config: QUICK, ..Setup::on(kind) }).await;
    for round in 0..6 {
        device.send(&format!("echo/e-{round}"), "").await;
        device.answer(&format!("e-{round}"), 200).await;
        // The state was just taken, and there is a newer one to tell at once.
        device.send(&format!("count/c-{round}"), "").await;
        match round {
            0..3 => assert!(device.cloud.disconnect().await, "there was a session"),
            3..5 => {
                device.stop().await;
                device.start();
            }
            _ => {
                device.crash().await;
                device.start();
            }
        }
        device.wait_until_ready().await;
        device.answer(&format!("c-{round}"), 200).await;
    }
    assert_eq!((device.complaint().await, device.logins().await), (None, 7));
    device.stop().await;
}

/// Commands flow all the time. A caller whose command was not taken sends it again under its id, as wise callers do.
async fn a_login_is_renewed_in_time_and_nobody_notices(kind: Kind) {
    let config = "[auth]\nlifetime = \"1m\"\n";
    let setup = Setup { answers: "events", skew: Duration::ZERO, config, ..Setup::on(kind) };
    let log = Log::listen();
    let before = Instant::now();
    let mut device = Device::online(setup).await;
    let began = Instant::now();
    let told = status(&device, |status| status["session"]["renewAt"].is_string()).await;
    let time = |name: &str| told["session"][name].as_str().expect("a time").parse::<Timestamp>().expect("RFC 3339");
    let planned = time("renewAt").since(time("since"));
    // Between 75 and 90 % of the minute; what is told of both is rounded.
    assert!((44..=55).contains(&planned.as_secs()), "{told}");
    let mut renewed: Option<Instant> = None;
    let mut pace = interval(Duration::from_millis(50));
    // After a pause of the machine they do not come in one burst: more than may wait to be told are refused.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    // The old login ends with its minute: until after that, were it in use.
    while began.elapsed() < Duration::from_secs(63) {
        pace.tick().await;
        let subfolder = format!("count/n-{sent}");
        let mut tries = 0;
        while device.cloud.send(&subfolder, "").await.is_err() {
            tries += 1;
            assert!(tries < 1_000, "the device is away for long\n{}", log.text());
            sleep(Duration::from_millis(10)).await;
        }
        sent += 1;
        if renewed.is_none() && device.logins().await == 2 {
            renewed = Some(Instant::now());
        }
    }
    let renewed = renewed.expect("a second login");
    // The login was made between these two moments. A machine that stands still for a moment is later than was planned, but
    // not too late, or the device would have been driven out.
    let (most, least) = (renewed - before, renewed - began);
    assert!(most + Duration::from_secs(1) >= planned, "planned after {planned:?}, renewed after {most:?}");
    assert!(least < Duration::from_secs(60), "renewed after {least:?}");
    assert_eq!((device.complaint().await, device.logins().await), (None, 2), "{}", log.text());
    assert_eq!((log.count("disconnected as planned"), log.count("not connected")), (1, 0), "{}", log.text());
    for id in 0..sent {
        device.answer(&format!("n-{id}"), 200).await;
    }
    let counted = device.counted();
    assert_eq!(counted.len(), sent);
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");
    device.stop().await;
}
