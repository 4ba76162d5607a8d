//! A dead link is noticed within one and a half keep-alives, a slow one is left alone.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use twinagent::model::wire::{Qos, Reason};
use twinagent::mqtt::{Ask, Event, Link};

use crate::broker::{PINGREQ, PINGRESP, id, message, next, online, publish, received};

const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Where an answer counts, which has half of it: longer than a busy machine stands still.
const LONG: Duration = Duration::from_secs(8);
/// For what is counted too much.
const SLACK: Duration = Duration::from_millis(300);
/// The steps in which time is counted.
const STEP: Duration = Duration::from_millis(20);

/// Waits until the link is dead, and counts for how long. A step counts the same if the machine stood still in it: the link gives
/// all the time to the broker that it has left when it goes on, so by the clock it may take longer.
async fn dies(link: &mut Link, seconds: u64) -> Duration {
    let mut counted = Duration::ZERO;
    loop {
        match timeout(STEP, link.event()).await {
            Ok(event) => {
                assert_eq!(event, Event::Ended(Reason::DeadLink { seconds }));
                return counted;
            }
            Err(_) => counted += STEP,
        }
        assert!(counted < LONG * 3, "not noticed");
    }
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_in_time() {
    let begun = Instant::now();
    let (mut link, _frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let took = dies(&mut link, 1).await;
    assert!(begun.elapsed() >= KEEP_ALIVE, "{:?}", begun.elapsed());
    assert!(took < KEEP_ALIVE * 3 / 2 + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_broker_that_freezes_later_is_noticed_in_time_too() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = LONG).await;
    broker.expect(PINGREQ).await;
    broker.send(PINGRESP).await;
    let begun = Instant::now();
    let took = dies(&mut link, 4).await;
    assert!(begun.elapsed() >= LONG, "{:?}", begun.elapsed());
    assert!(took < LONG * 3 / 2 + SLACK, "{took:?}");
}

/// The control of the tests above.
#[tokio::test]
async fn a_broker_that_answers_is_not_left() {
    let begun = Instant::now();
    let (mut link, mut broker) = online(|order| order.login.keep_alive = LONG).await;
    for _ in 0..2 {
        broker.expect(PINGREQ).await;
        broker.send(PINGRESP).await;
    }
    assert!(begun.elapsed() >= LONG * 2, "no more pings than needed: {:?}", begun.elapsed());
    assert_eq!(link.try_event(), None);
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_in_time_behind_a_full_send_buffer() {
    let (mut link, frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    // 16 MB are more than both kernels hold for a reader that does not read.
    for number in 0..64 {
        link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, vec![0; 256 * 1024]))).expect("taken");
    }
    let took = dies(&mut link, 1).await;
    assert!(took < KEEP_ALIVE * 3 / 2 + SLACK, "{took:?}");
    drop(frozen);
}

#[tokio::test]
async fn a_link_on_which_we_only_send_is_noticed_too() {
    let (mut link, _frozen) = online(|order| order.login.keep_alive = KEEP_ALIVE).await;
    let pause = Duration::from_millis(100);
    let mut number = 0;
    let ended = loop {
        assert!(number < 40, "not noticed");
        // Telemetry every 100 ms, so there is always something sent within the keep-alive.
        let _ = link.ask(Ask::Publish(id(number), message(Qos::AtMostOnce, "x")));
        match timeout(pause, link.event()).await {
            Ok(Event::Ended(reason)) => break reason,
            Ok(_) => sleep(pause).await,
            Err(_) => {}
        }
        number += 1;
    };
    assert_eq!(ended, Reason::DeadLink { seconds: 1 });
    // Counted as in `dies`.
    let took = pause * u32::try_from(number).expect("a few");
    assert!(took < KEEP_ALIVE * 3 / 2 + SLACK, "{took:?}");
}

#[tokio::test]
async fn what_came_while_this_machine_stood_still_is_a_sign_of_life() {
    let (link, mut broker) = online(|order| order.login.keep_alive = LONG).await;
    broker.expect(PINGREQ).await;
    broker.send(PINGRESP).await;
    // The one thread of this test, and with it the link: its patience is over before it has read a byte.
    std::thread::sleep(LONG * 3 / 4);
    broker.expect(PINGREQ).await;
    drop(link);
}

#[tokio::test]
async fn a_slow_large_packet_is_a_sign_of_life() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = LONG).await;
    let large = publish(0, b"commands/a", 0, &[1; 5000]);
    // Two keep-alives for one packet; the answers to our pings would come behind it.
    for part in large.chunks(large.len() / 20 + 1) {
        broker.send(part).await;
        sleep(LONG / 10).await;
    }
    assert_eq!(received(&mut link).await.1.payload.len(), 5000);
}

#[tokio::test]
async fn on_doubt_a_link_is_asked_at_once_and_half_a_keep_alive_is_enough() {
    let (mut link, mut broker) = online(|order| order.login.keep_alive = LONG).await;
    let begun = Instant::now();
    link.ask(Ask::Check).expect("taken");
    broker.expect(PINGREQ).await;
    assert!(begun.elapsed() < LONG, "not the ping that is due anyway: {:?}", begun.elapsed());
    broker.send(PINGRESP).await;
    assert!(timeout(LONG / 2, link.event()).await.is_err(), "it lives");
    let begun = Instant::now();
    link.ask(Ask::Check).expect("taken");
    let took = dies(&mut link, 4).await;
    assert!(begun.elapsed() >= LONG / 2, "{:?}", begun.elapsed());
    assert!(took < LONG / 2 + SLACK, "sooner than without a doubt: {took:?}");
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
    // Counted as in `dies`.
    let mut took = Duration::ZERO;
    let ended = loop {
        assert!(took < KEEP_ALIVE * 4, "not noticed");
        // It may have hung up since; then its event says so.
        let _ = deaf.try_send(&publish(0, b"commands/a", 0, b"x")).await;
        took += match timeout(KEEP_ALIVE / 10, link.event()).await {
            Ok(Event::Ended(reason)) => break reason,
            Ok(Event::Received(..)) => {
                sleep(KEEP_ALIVE / 20).await;
                KEEP_ALIVE / 20
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => KEEP_ALIVE / 10,
        };
    };
    assert_eq!(ended, Reason::DeadLink { seconds: 1 });
    assert!(took < KEEP_ALIVE * 3 / 2 + SLACK, "{took:?}");
}
