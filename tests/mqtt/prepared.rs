//! A stream that was opened ahead of its connection is the one that is used, as long as it is good for anything.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use twinagent::model::wire::Reason;
use twinagent::mqtt::{Approach, Event, Order, Preparation, connect_over, prepare};

use crate::broker::{Broker, CONNECT, GRANTED, SUBSCRIBE, WELCOME, listen, next, nobody, order};

/// The stream that this order will want.
fn ahead(order: &Order) -> Preparation {
    prepare(Approach {
        endpoint: order.endpoint.clone(),
        keep_alive: order.login.keep_alive,
        connect_timeout: order.connect_timeout,
        resolver: order.resolver.clone(),
    })
}

async fn opened(order: &Order, listener: &TcpListener) -> (Preparation, Broker) {
    let mut prepared = ahead(order);
    let broker = Broker::accept(listener).await;
    prepared.opened().await.expect("open");
    (prepared, broker)
}

async fn nobody_else_comes(listener: &TcpListener) {
    assert!(timeout(Duration::from_millis(100), listener.accept()).await.is_err(), "one connection, not two");
}

#[tokio::test]
async fn a_connection_takes_the_stream_and_its_connect_is_the_first_that_is_written() {
    let (listener, order) = listen().await;
    let (prepared, mut broker) = opened(&order, &listener).await;
    let mut link = connect_over(order, prepared);
    broker.welcome().await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: None });
    nobody_else_comes(&listener).await;
}

#[tokio::test]
async fn a_stream_that_the_broker_has_closed_is_replaced() {
    let (listener, order) = listen().await;
    let (prepared, broker) = opened(&order, &listener).await;
    drop(broker);
    let mut link = connect_over(order, prepared);
    Broker::accept(&listener).await.welcome().await;
    assert!(matches!(next(&mut link).await, Event::Online { .. }));
}

#[tokio::test]
async fn a_stream_that_is_closed_instead_of_an_answer_is_replaced_once() {
    let (listener, order) = listen().await;
    let (prepared, mut broker) = opened(&order, &listener).await;
    let mut link = connect_over(order, prepared);
    broker.expect(CONNECT).await;
    drop(broker);
    let mut again = Broker::accept(&listener).await;
    again.expect(CONNECT).await;
    drop(again);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::ClosedBeforeAnswer), "then it is the answer");
    nobody_else_comes(&listener).await;
}

#[tokio::test]
async fn a_stream_to_another_place_is_closed_and_not_used() {
    let (elsewhere, other) = listen().await;
    let (listener, order) = listen().await;
    let (prepared, mut unused) = opened(&other, &elsewhere).await;
    let mut link = connect_over(order, prepared);
    Broker::accept(&listener).await.welcome().await;
    assert!(matches!(next(&mut link).await, Event::Online { .. }));
    assert_eq!(unused.read().await, None, "closed without a word");
}

#[tokio::test]
async fn a_stream_that_is_not_open_yet_is_not_waited_for() {
    let (listener, order) = listen().await;
    // Neither task has had a turn, so the stream cannot be open.
    let mut link = connect_over(order.clone(), ahead(&order));
    let mut broker = Broker::accept(&listener).await;
    while broker.read().await.is_none() {
        // That was the one which was given up, if it came so far.
        broker = Broker::accept(&listener).await;
    }
    broker.send(WELCOME).await;
    broker.expect(SUBSCRIBE).await;
    broker.send(GRANTED).await;
    assert!(matches!(next(&mut link).await, Event::Online { .. }));
}

#[tokio::test]
async fn a_stream_that_nobody_wants_is_closed() {
    let (listener, order) = listen().await;
    let (prepared, mut broker) = opened(&order, &listener).await;
    drop(prepared);
    assert_eq!(broker.read().await, None);

    // Kept, but for too long: its 10 s are less than the patience of this broker.
    let (prepared, mut broker) = opened(&order, &listener).await;
    assert_eq!(broker.read().await, None);
    let mut link = connect_over(order, prepared);
    Broker::accept(&listener).await.welcome().await;
    assert!(matches!(next(&mut link).await, Event::Online { .. }));
}

#[tokio::test]
async fn a_broker_that_speaks_first_is_none() {
    let (listener, order) = listen().await;
    let (prepared, mut broker) = opened(&order, &listener).await;
    broker.send(b"220 welcome\r\n").await;
    assert_eq!(broker.read().await, None);
    let mut link = connect_over(order, prepared);
    Broker::accept(&listener).await.welcome().await;
    assert!(matches!(next(&mut link).await, Event::Online { .. }));
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let (_nobody, port) = nobody();
    let reason = ahead(&order("127.0.0.1", port)).opened().await.expect_err("nobody listens");
    assert!(matches!(&reason, Reason::Tcp(words) if words.contains("127.0.0.1:")), "{reason}");
}
