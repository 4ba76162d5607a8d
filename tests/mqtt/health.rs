//! A dead link is noticed within one and a half keep-alives, a slow one is left alone.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use twinagent::model::wire::{Qos, Reason};
use twinagent::mqtt::{Ask, Event, Link};

use crate::broker::{PINGREQ, PINGRESP, id, message, next, online, publish, received};

const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// For a busy machine.
const SLACK: Duration = Duration::from_millis(400);

async fn dies(link: &mut Link) -> Duration {
    let begun = Instant::now();
    assert_eq!(next(link).await, Event::Ended(Reason::DeadLink { seconds: 1 }));
    begun.elapsed()
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_in_time() {
    let (mut link, _frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let took = dies(&mut link).await;
    assert!((KEEP_ALIVE..KEEP_ALIVE * 3 / 2 + SLACK).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_broker_that_freezes_later_is_noticed_in_time_too() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    for _ in 0..2 {
        broker.expect(PINGREQ).await;
        broker.send(PINGRESP).await;
    }
    let took = dies(&mut link).await;
    assert!((KEEP_ALIVE..KEEP_ALIVE * 3 / 2 + SLACK).contains(&took), "{took:?}");
}

/// The control of the tests above.
#[tokio::test]
async fn a_broker_that_answers_is_not_left() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let begun = Instant::now();
    for _ in 0..4 {
        broker.expect(PINGREQ).await;
        broker.send(PINGRESP).await;
    }
    assert!(begun.elapsed() > KEEP_ALIVE * 3, "no more pings than needed: {:?}", begun.elapsed());
    assert_eq!(link.try_event(), None);
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_in_time_behind_a_full_send_buffer() {
    let (mut link, frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    // 16 MB are more than both kernels hold for a reader that does not read.
    for number in 0..64 {
        link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, vec![0; 256 * 1024]))).expect("taken");
    }
    let took = dies(&mut link).await;
    assert!(took < KEEP_ALIVE * 3 / 2 + SLACK, "{took:?}");
    drop(frozen);
}

#[tokio::test]
async fn a_link_on_which_we_only_send_is_noticed_too() {
    let (mut link, _frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let begun = Instant::now();
    let mut number = 0;
    let ended = loop {
        assert!(begun.elapsed() < KEEP_ALIVE * 4, "not noticed");
        // Telemetry every 100 ms, so there is always something sent within the keep-alive.
        let _ = link.ask(Ask::Publish(id(number), message(Qos::AtMostOnce, "x")));
        number += 1;
        match timeout(Duration::from_millis(100), link.event()).await {
            Ok(Event::Ended(reason)) => break reason,
            Ok(_) => sleep(Duration::from_millis(100)).await,
            Err(_) => {}
        }
    };
    assert_eq!(ended, Reason::DeadLink { seconds: 1 });
    assert!(begun.elapsed() < KEEP_ALIVE * 3 / 2 + SLACK, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_slow_large_packet_is_a_sign_of_life() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let large = publish(0, b"commands/a", 0, &[1; 5000]);
    // Three keep-alives for one packet; the answers to our pings would come behind it.
    for part in large.chunks(large.len() / 15 + 1) {
        broker.send(part).await;
        sleep(KEEP_ALIVE / 5).await;
    }
    assert_eq!(received(&mut link).await.1.payload.len(), 5000);
}

#[tokio::test]
async fn on_doubt_a_link_is_asked_at_once_and_half_a_keep_alive_is_enough() {
    let keep_alive = Duration::from_secs(2);
    let (mut link, mut broker) = online(|order| order.login.keep_alive = keep_alive).await;
    let begun = Instant::now();
    link.ask(Ask::Check).expect("taken");
    broker.expect(PINGREQ).await;
    assert!(begun.elapsed() < keep_alive, "not the ping that is due anyway: {:?}", begun.elapsed());
    broker.send(PINGRESP).await;
    assert!(timeout(keep_alive / 2, link.event()).await.is_err(), "it lives");
    let begun = Instant::now();
    link.ask(Ask::Check).expect("taken");
    let took = dies(&mut link).await;
    assert!((keep_alive / 2..keep_alive / 2 + SLACK).contains(&took), "{took:?}");
    assert!(begun.elapsed() < keep_alive, "sooner than without a doubt");
}

#[tokio::test]
async fn a_link_on_which_a_frozen_broker_takes_nothing_is_noticed_on_doubt_behind_a_full_send_buffer_too() {
    let keep_alive = Duration::from_secs(20);
    let (mut link, frozen) = online(|order| order.login.keep_alive = keep_alive).await;
    for number in 0..64 {
        link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, vec![0; 256 * 1024]))).expect("taken");
    }
    sleep(Duration::from_millis(200)).await;
    link.ask(Ask::Check).expect("taken");
    let begun = Instant::now();
    assert_eq!(next(&mut link).await, Event::Ended(Reason::DeadLink { seconds: 10 }));
    assert!(begun.elapsed() < keep_alive, "{:?}", begun.elapsed());
    drop(frozen);
}

#[tokio::test]
async fn a_broker_that_speaks_and_does_not_listen_is_noticed() {
    let (mut link, mut deaf) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    for number in 0..64 {
        link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, vec![0; 256 * 1024]))).expect("taken");
    }
    let begun = Instant::now();
    let ended = loop {
        assert!(begun.elapsed() < KEEP_ALIVE * 4, "not noticed");
        // It may have hung up since; then its event says so.
        let _ = deaf.try_send(&publish(0, b"commands/a", 0, b"x")).await;
        match timeout(KEEP_ALIVE / 10, link.event()).await {
            Ok(Event::Ended(reason)) => break reason,
            Ok(Event::Received(..)) => sleep(KEEP_ALIVE / 20).await,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert_eq!(ended, Reason::DeadLink { seconds: 1 });
    assert!(begun.elapsed() < KEEP_ALIVE * 3 / 2 + SLACK, "{:?}", begun.elapsed());
}
