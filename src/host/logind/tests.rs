//! Against a bus of the test's own, with a logind that says what the test wants.

use std::io::Read as _;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::*;
use crate::host::fake_logind::{Bus, FREE, Logind as Fake, Says};

async fn logind(bus: &Bus) -> Logind {
    patient(bus, Duration::from_secs(60)).await
}

async fn patient(bus: &Bus, patience: Duration) -> Logind {
    let builder = connection::Builder::address(bus.address().as_str()).expect("an address");
    let connection = builder.method_timeout(patience).build().await.expect("the bus answers");
    Logind::on(&connection).await.expect("a proxy")
}

fn says(right: &'static str) -> Says {
    Says { right, ..FREE }
}

#[tokio::test]
async fn each_word_of_logind_is_understood() {
    let cases = [
        ("yes", Right::Yes),
        ("challenge", Right::Challenge),
        ("no", Right::No),
        ("na", Right::Impossible),
        ("inhibitor-blocked", Right::Challenge),
        ("challenge-inhibitor-blocked", Right::Challenge),
        ("of-a-later-systemd", Right::No),
    ];
    let bus = Bus::start();
    let fake = Fake::start(&bus.address(), FREE).await;
    let logind = logind(&bus).await;
    for (word, right) in cases {
        fake.says.send_replace(says(word));
        assert_eq!(logind.can_reboot().await.expect("an answer"), right, "{word}");
    }
}

#[tokio::test]
async fn a_reboot_is_asked_for_without_a_dialogue_and_a_refusal_is_told() {
    let bus = Bus::start();
    let mut fake = Fake::start(&bus.address(), says("challenge")).await;
    let error = logind(&bus).await.reboot().await.expect_err("it is refused");
    assert!(error.to_string().contains("not you"), "{error}");
    assert_eq!(fake.reboots.recv().await, Some(false));
}

#[tokio::test]
async fn those_who_object_to_a_shutdown_are_told_from_others() {
    let bus = Bus::start();
    let locks: &[[&str; 4]] = &[
        ["shutdown:sleep", "apt", "why", "block"],
        ["sleep", "player", "why", "block"],
        ["shutdown", "net", "why", "delay"],
        ["handle-power-key:shutdown", "desk", "why", "block-weak"],
    ];
    let fake = Fake::start(&bus.address(), Says { locks: Some(locks), ..FREE }).await;
    let logind = logind(&bus).await;
    let inhibitors = logind.inhibitors().await.expect("a list");
    let names: Vec<&str> = inhibitors.iter().map(|inhibitor| inhibitor.who.as_str()).collect();
    assert_eq!(names, ["apt", "desk"]);
    fake.says.send_replace(Says { locks: None, ..FREE });
    assert!(logind.inhibitors().await.is_err(), "not to know is not to know of none");
}

#[tokio::test]
async fn a_lock_that_is_dropped_lets_the_shutdown_go_on() {
    let bus = Bus::start();
    let mut fake = Fake::start(&bus.address(), FREE).await;
    let lock = logind(&bus).await.delay().await.expect("a lock");
    let mut end = fake.locks.recv().await.expect("our end of it");
    end.set_nonblocking(true).expect("a socket");
    assert!(end.read(&mut [0]).is_err(), "held");
    drop(lock);
    end.set_nonblocking(false).expect("a socket");
    assert_eq!(end.read(&mut [0]).expect("an end"), 0);
}

#[tokio::test]
async fn a_shutdown_is_heard_and_so_is_the_end_of_the_bus() {
    let bus = Bus::start();
    let fake = Fake::start(&bus.address(), FREE).await;
    let mut shutdowns = logind(&bus).await.shutdowns().await.expect("signals");
    let logind = logind(&bus).await;
    assert!(!logind.is_shutting_down().await.expect("an answer"));
    fake.prepare(true).await;
    assert!(logind.is_shutting_down().await.expect("an answer"));
    fake.prepare(false).await;
    assert_eq!((shutdowns.next().await, shutdowns.next().await), (Some(true), Some(false)));
    drop((fake, bus));
    assert_eq!(shutdowns.next().await, None);
}

#[tokio::test]
async fn a_bus_without_logind_and_one_that_is_silent_are_errors() {
    let bus = Bus::start();
    let logind = logind(&bus).await;
    assert!(logind.can_reboot().await.is_err() && !logind.is_there().await.expect("the bus knows"));
    let _fake = Fake::start(&bus.address(), says("silence")).await;
    assert!(logind.is_there().await.expect("the bus knows"));
    let hasty = patient(&bus, Duration::from_secs(5)).await;
    assert!(hasty.can_reboot().await.is_err(), "an answer that does not come is none");
    drop(bus);
    assert!(logind.is_there().await.is_err(), "nobody is left who would know");
}
