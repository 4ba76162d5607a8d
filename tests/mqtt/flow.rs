//! What goes through an open connection: order, bounds, and what the bytes say.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use twinagent::model::wire::{MessageId, Packet, Qos};
use twinagent::mqtt::{Ask, Event, Refused, connect};

use crate::broker::{
    Broker, CONNECT, GRANTED, PINGREQ, PUBACK, SUBSCRIBE, WELCOME_BACK, acknowledge, id, listen, message, next, online,
    packet, publish, received,
};

#[tokio::test]
async fn the_connect_says_what_the_login_says() {
    let (listener, mut order) = listen().await;
    order.login.clean = true;
    order.login.will = Some(Packet {
        topic: "gone".to_owned(),
        payload: Bytes::from_static(b"bye"),
        qos: Qos::AtLeastOnce,
        retain: true,
    });
    let _link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    let expected = b"\0\x04MQTT\x04\xEE\0\x3C\0\x08device-1\0\x04gone\0\x03bye\0\x06unused\0\x0atop secret";
    assert_eq!(broker.expect(CONNECT).await, expected);
}

#[tokio::test]
async fn a_login_without_user_name_and_password_has_neither_field() {
    let (listener, mut order) = listen().await;
    order.login.username = String::new();
    order.login.password = twinagent::model::wire::Secret::new(String::new());
    let _link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    assert_eq!(broker.expect(CONNECT).await, b"\0\x04MQTT\x04\0\0\x3C\0\x08device-1");
}

#[tokio::test]
async fn without_subscriptions_the_connack_is_enough() {
    let (listener, mut order) = listen().await;
    order.subscriptions.clear();
    let mut link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.expect(CONNECT).await;
    broker.send(WELCOME_BACK).await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: true, tls: None });
}

#[tokio::test]
async fn messages_of_a_kept_session_that_overtake_the_suback_come_after_online_in_order() {
    // More than the daemon is given at once, all in one write with the CONNACK before and the SUBACK behind.
    const COUNT: u16 = 300;
    let (listener, order) = listen().await;
    let mut link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.expect(CONNECT).await;
    let mut bytes = WELCOME_BACK.to_vec();
    for number in 1..=COUNT {
        bytes.extend(publish(2, b"commands/a", number, &number.to_be_bytes()));
    }
    bytes.extend_from_slice(GRANTED);
    broker.send(&bytes).await;
    broker.expect(SUBSCRIBE).await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: true, tls: None });
    for number in 1..=COUNT {
        let (delivery, packet) = received(&mut link).await;
        assert_eq!(packet.payload[..], number.to_be_bytes());
        link.ask(Ask::Ack(delivery)).expect("taken");
    }
    for number in 1..=COUNT {
        assert_eq!(broker.puback().await, number);
    }
}

#[tokio::test]
async fn pubacks_leave_in_the_order_of_arrival_whatever_the_order_of_the_acks() {
    let (mut link, mut broker) = online(|_| ()).await;
    for number in [7, 3, 9] {
        broker.send(&publish(2, b"commands/a", number, b"x")).await;
    }
    broker.send(&publish(0, b"commands/b", 0, b"qos 0")).await;
    let first = received(&mut link).await.0;
    let second = received(&mut link).await.0;
    let third = received(&mut link).await.0;
    let (unacked, packet) = received(&mut link).await;
    assert_eq!(packet.qos, Qos::AtMostOnce);
    assert!(first < second && second < third && third < unacked, "numbered in the order of arrival");

    for delivery in [unacked, third, second] {
        link.ask(Ask::Ack(delivery)).expect("taken");
    }
    let early = timeout(Duration::from_millis(200), broker.read()).await;
    assert!(early.is_err(), "nothing may leave before the first: {early:?}");
    link.ask(Ask::Ack(first)).expect("taken");
    for number in [7, 3, 9] {
        assert_eq!(broker.puback().await, number);
    }
}

#[tokio::test]
async fn what_is_asked_in_one_turn_leaves_in_one_write() {
    let (mut link, mut broker) = online(|_| ()).await;
    broker.send(&[publish(2, b"commands/a", 1, b""), publish(2, b"commands/a", 2, b"")].concat()).await;
    let (first, second) = (received(&mut link).await.0, received(&mut link).await.0);
    link.ask(Ask::Ack(first)).expect("taken");
    link.ask(Ask::Publish(id(1), message(Qos::AtLeastOnce, "a"))).expect("taken");
    link.ask(Ask::Ack(second)).expect("taken");
    link.ask(Ask::Publish(id(2), message(Qos::AtMostOnce, "b"))).expect("taken");
    let mut bytes = [0; 200];
    let read = broker.stream.read(&mut bytes).await.expect("bytes");
    let expected = [publish(2, b"events", 1, b"a"), publish(0, b"events", 0, b"b"), acknowledge(1), acknowledge(2)];
    assert_eq!(bytes[..read], expected.concat());
}

#[tokio::test]
async fn a_message_is_settled_by_its_own_puback_and_frees_its_place_in_the_window() {
    let (mut link, mut broker) = online(|order| order.limits.window = 2).await;
    let publish = |number| Ask::Publish(MessageId(number), message(Qos::AtLeastOnce, number.to_string()));
    link.ask(publish(1)).expect("taken");
    link.ask(publish(2)).expect("taken");
    assert_eq!(link.ask(publish(3)), Err(Refused::Full), "the window is full");
    let (first, payload) = broker.publish().await;
    assert_eq!((first, &payload[..]), (1, &b"1"[..]));
    let (second, _) = broker.publish().await;

    broker.send(&acknowledge(second)).await;
    assert_eq!(next(&mut link).await, Event::Settled(id(2)));
    link.ask(publish(4)).expect("there is room again");
    assert_eq!(broker.publish().await, (second, b"4".to_vec()), "ids stay within the window");
    broker.send(&[acknowledge(first), acknowledge(second)].concat()).await;
    assert_eq!(next(&mut link).await, Event::Settled(id(1)));
    assert_eq!(next(&mut link).await, Event::Settled(id(4)));
}

#[tokio::test]
async fn a_window_of_messages_with_qos_0_is_settled_when_written() {
    let (mut link, mut broker) = online(|order| order.limits.window = 3).await;
    for round in 0..5 {
        for number in 0..3 {
            link.ask(Ask::Publish(id(round * 3 + number), message(Qos::AtMostOnce, "x"))).expect("taken");
        }
        for number in 0..3 {
            broker.expect(0x30).await;
            assert_eq!(next(&mut link).await, Event::Settled(id(round * 3 + number)));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_and_the_connection_stays() {
    let (mut link, mut broker) = online(|order| order.limits.packet_out = 1000).await;
    // 3 bytes of header, 2 + 6 of topic, 2 of packet id.
    let fits = message(Qos::AtLeastOnce, vec![b'x'; 1000 - 13]);
    let over = message(Qos::AtLeastOnce, vec![b'x'; 1000 - 12]);
    assert_eq!(link.ask(Ask::Publish(id(1), over)), Err(Refused::Oversize { size: 1001, limit: 1000 }));
    for topic in [String::new(), "a/+".to_owned(), "#".to_owned(), "\0".to_owned(), "t".repeat(65_536)] {
        let bad = Packet { topic, ..message(Qos::AtMostOnce, "") };
        assert_eq!(link.ask(Ask::Publish(id(2), bad)), Err(Refused::NotATopic));
    }
    link.ask(Ask::Publish(id(3), fits)).expect("taken");
    let (number, payload) = broker.publish().await;
    assert_eq!(payload.len(), 1000 - 13);
    broker.send(&acknowledge(number)).await;
    assert_eq!(next(&mut link).await, Event::Settled(id(3)));
}

#[tokio::test]
async fn a_packet_of_just_the_limit_is_taken() {
    let (mut link, mut broker) = online(|order| order.limits.packet_in = 100_000).await;
    let rest = 100_000 - 2 - 10;
    broker.send(&publish(0, b"commands/a", 0, &vec![7; rest])).await;
    assert_eq!(received(&mut link).await.1.payload, vec![7; rest]);
    broker.send(&publish(0, b"commands/a", 0, &vec![7; rest + 1])[..5]).await;
    let last = next(&mut link).await;
    assert!(matches!(last, Event::Ended(_)), "one byte more is refused by its header alone: {last:?}");
}

#[tokio::test]
async fn large_and_small_messages_keep_their_order_both_ways() {
    let (mut link, mut broker) = online(|_| ()).await;
    let sizes = [250_000, 10, 70_000, 0, 200_000, 1];
    for round in 0..3 {
        let bytes: Vec<_> = sizes.iter().map(|size| publish(0, b"commands/a", 0, &vec![round; *size])).collect();
        // Beside each other: the kernel does not hold all of it.
        let all = bytes.concat();
        let receiving = async {
            for size in sizes {
                assert_eq!(received(&mut link).await.1.payload, vec![round; size]);
            }
        };
        tokio::join!(broker.send(&all), receiving);
    }
    for round in 0..3 {
        for (number, size) in (0..).zip(sizes) {
            link.ask(Ask::Publish(id(number), message(Qos::AtLeastOnce, vec![round; size]))).expect("taken");
        }
        for (number, size) in (0..).zip(sizes) {
            let (packet, payload) = broker.publish().await;
            assert_eq!(payload, vec![round; size]);
            broker.send(&acknowledge(packet)).await;
            assert_eq!(next(&mut link).await, Event::Settled(id(number)));
        }
    }
}

#[tokio::test]
async fn a_daemon_that_takes_nothing_stops_the_reading_and_not_the_pings() {
    const COUNT: u16 = 500;
    let (mut link, mut broker) = online(|order| order.login.keep_alive = Duration::from_secs(1)).await;
    let mut flood = Vec::new();
    for number in 1..=COUNT {
        // Both kinds are bounded: 0 by the queue, 1 by what is not acknowledged.
        flood.extend(publish(if number % 2 == 0 { 0 } else { 2 }, b"commands/a", number, &number.to_be_bytes()));
    }
    broker.send(&flood).await;
    // No answer to them: it would stand behind the flood.
    for _ in 0..3 {
        broker.expect(PINGREQ).await;
    }
    for number in 1..=COUNT {
        let (delivery, packet) = received(&mut link).await;
        assert_eq!(packet.payload[..], number.to_be_bytes());
        link.ask(Ask::Ack(delivery)).expect("taken");
    }
    let mut acked = 0;
    while acked < COUNT / 2 {
        match broker.read().await.expect("still connected") {
            (PUBACK, _) => acked += 1,
            (PINGREQ, _) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn no_more_is_read_than_the_daemon_has_room_for() {
    let (mut link, mut broker) = online(|_| ()).await;
    let flood = publish(2, b"commands/a", 1, &[0; 1000]).repeat(50_000);
    let sending = async {
        use tokio::io::AsyncWriteExt;
        broker.stream.write_all(&flood).await
    };
    let stuck = timeout(Duration::from_secs(1), sending).await;
    assert!(stuck.is_err(), "50 MB went somewhere");
    let mut taken = 0;
    while let Some(event) = link.try_event() {
        assert!(matches!(event, Event::Received(..)));
        taken += 1;
        yield_now().await;
    }
    sleep(Duration::from_millis(50)).await;
    while link.try_event().is_some() {
        taken += 1;
    }
    assert_eq!(taken, 64, "as many as may be un-acknowledged");
}

#[tokio::test]
async fn a_broker_that_answers_with_more_than_it_must_is_understood() {
    let (mut link, mut broker) = online(|_| ()).await;
    link.ask(Ask::Publish(id(1), message(Qos::AtLeastOnce, ""))).expect("taken");
    broker.publish().await;
    // A ping answer that nobody asked for, and a PUBACK cut in two.
    broker.send(&packet(0xD0, b"")).await;
    broker.send(&acknowledge(1)[..1]).await;
    sleep(Duration::from_millis(20)).await;
    broker.send(&acknowledge(1)[1..]).await;
    assert_eq!(next(&mut link).await, Event::Settled(id(1)));
}
