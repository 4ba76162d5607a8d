//! Every way in which a connection ends has its own reason.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use twinagent::model::wire::{Packet, Qos, Reason, Secret, Subscription};
use twinagent::mqtt::{Ask, Event, Link, Order, Refused, connect};

use crate::broker::{
    Broker, CONNECT, DISCONNECT, GRANTED, SUBSCRIBE, WELCOME, acknowledge, id, length, listen, message, next, nobody,
    online, order, packet, publish, received,
};

/// The reason, once everything that came before it is read.
async fn end(link: &mut Link) -> Reason {
    loop {
        if let Event::Ended(reason) = next(link).await {
            return reason;
        }
    }
}

/// Logs in and then gets these bytes as the only answer.
async fn answered(order: Order, listener: &TcpListener, answer: &[u8]) -> Reason {
    let mut link = connect(order);
    let mut broker = Broker::accept(listener).await;
    broker.expect(CONNECT).await;
    broker.send(answer).await;
    end(&mut link).await
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved() {
    // Longer than a name may be, so that no server has to be asked.
    let host = "x".repeat(300);
    let reason = end(&mut connect(order(&host, 1))).await;
    assert!(matches!(&reason, Reason::Dns(words) if words.contains(&host)), "{reason}");
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    let (_nobody, port) = nobody();
    let reason = end(&mut connect(order("127.0.0.1", port))).await;
    assert!(matches!(&reason, Reason::Tcp(words) if words.contains("127.0.0.1:")), "{reason}");
}

#[tokio::test]
async fn a_silent_broker_is_left_after_the_one_time_limit_and_the_stage_is_named() {
    for (said, expected) in [(None, "CONNACK"), (Some(WELCOME), "SUBACK")] {
        let (listener, mut order) = listen().await;
        // Long enough for a busy machine to come as far as to the stage.
        order.connect_timeout = Duration::from_millis(4_500);
        let begun = Instant::now();
        let mut link = connect(order);
        let mut broker = Broker::accept(&listener).await;
        broker.expect(CONNECT).await;
        broker.send(said.unwrap_or_default()).await;
        let reason = end(&mut link).await;
        assert!(matches!(&reason, Reason::TimedOut { stage, seconds: 5 } if stage.contains(expected)), "{reason}");
        assert!((4_500..9_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn dripping_an_answer_does_not_extend_the_time_limit() {
    let (listener, mut order) = listen().await;
    order.connect_timeout = Duration::from_secs(10);
    let begun = Instant::now();
    let mut link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.expect(CONNECT).await;
    for byte in &WELCOME[..3] {
        broker.send(&[*byte]).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert!(matches!(end(&mut link).await, Reason::TimedOut { .. }));
    // From the last byte on it would be 16 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refused_login_tells_its_code_even_one_of_the_brokers_own() {
    for code in [1, 2, 3, 4, 5, 6, 0x13, 0x87, 0xFF] {
        let (listener, order) = listen().await;
        assert_eq!(answered(order, &listener, &[0x20, 2, 0, code]).await, Reason::Refused { code });
    }
}

#[tokio::test]
async fn a_login_answered_by_hanging_up() {
    for read_first in [true, false] {
        let (listener, order) = listen().await;
        let mut link = connect(order);
        let mut broker = Broker::accept(&listener).await;
        if read_first {
            broker.expect(CONNECT).await;
        } else {
            // With the CONNECT unread this arrives as a reset.
            broker.stream.readable().await.expect("a CONNECT");
        }
        drop(broker);
        assert_eq!(end(&mut link).await, Reason::ClosedBeforeAnswer, "CONNECT read: {read_first}");
    }
}

#[tokio::test]
async fn a_web_page_instead_of_a_broker_however_short_it_is() {
    let status = "HTTP/1.1 400 Bad Request";
    for more in
        ["", "\r\n", "\r\nServer: a\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]
    {
        let (listener, order) = listen().await;
        let mut link = connect(order);
        let mut broker = Broker::accept(&listener).await;
        broker.expect(CONNECT).await;
        broker.send(status.as_bytes()).await;
        broker.send(more.as_bytes()).await;
        if more.is_empty() {
            // Without the end of the line only the end of the stream tells that it is all.
            drop(broker);
        }
        assert_eq!(end(&mut link).await, Reason::CaptivePortal(status.to_owned()), "{more:?}");
    }
}

#[tokio::test]
async fn what_is_no_mqtt_at_all() {
    let banner = [&b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"[..], &[0; 100]].concat();
    for says in [&banner[..], b"\x15\x03\x01\0\x02\x02\x28"] {
        let (listener, order) = listen().await;
        let reason = answered(order, &listener, says).await;
        assert!(matches!(reason, Reason::Protocol(_) | Reason::Undecodable(_)), "{reason}");
    }
}

#[tokio::test]
async fn anything_but_a_connack_first_is_a_protocol_error() {
    let early = publish(0, b"commands/a", 0, b"");
    for answer in [GRANTED, &acknowledge(1), &early, &[0x20, 0], &[0x20, 1, 0]] {
        let (listener, order) = listen().await;
        let reason = answered(order, &listener, answer).await;
        assert!(matches!(reason, Reason::Protocol(_) | Reason::Undecodable(_)), "{answer:x?}: {reason}");
    }
}

#[tokio::test]
async fn a_refused_subscription_is_named() {
    let two = |order: &mut Order| {
        order.subscriptions = ["config", "commands/#"]
            .map(|filter| Subscription { filter: filter.to_owned(), qos: Qos::AtLeastOnce })
            .into();
    };
    let refused = |filter: &str| Reason::SubscriptionRefused { filter: filter.to_owned() };
    let cases = [
        (vec![0x90, 4, 0, 1, 1, 0x80], refused("commands/#")),
        (vec![0x90, 4, 0, 1, 0x80, 0], refused("config")),
        // A code of MQTT 5; the codec does not tell which filter it is for.
        (vec![0x90, 4, 0, 1, 1, 0x87], refused("config` or `commands/#")),
        (vec![0x90, 3, 0, 1, 1], Reason::Protocol("SUBACK with 1 answers to 2 subscriptions".to_owned())),
        (vec![0x90, 4, 0, 9, 1, 1], Reason::Protocol("the broker sent a SUBACK that nobody waits for".to_owned())),
    ];
    for (answer, expected) in cases {
        let (listener, mut order) = listen().await;
        two(&mut order);
        let mut link = connect(order);
        let mut broker = Broker::accept(&listener).await;
        broker.expect(CONNECT).await;
        broker.send(WELCOME).await;
        let asked = broker.expect(SUBSCRIBE).await;
        assert_eq!(asked, b"\0\x01\0\x06config\x01\0\x0acommands/#\x01", "both in one packet");
        broker.send(&answer).await;
        assert_eq!(next(&mut link).await, Event::Ended(expected), "never online");
    }
}

#[tokio::test]
async fn the_broker_hangs_up() {
    let (mut link, broker) = online(|_| ()).await;
    drop(broker);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Closed));
    assert_eq!(link.try_event(), None, "nothing after the end");
    assert_eq!(link.ask(Ask::Disconnect), Err(Refused::Ended));
}

#[tokio::test]
async fn the_connection_breaks() {
    let (mut link, broker) = online(|_| ()).await;
    broker.stream.set_zero_linger().expect("an option");
    drop(broker);
    assert!(matches!(end(&mut link).await, Reason::Lost(_)), "reset");

    let (mut link, mut broker) = online(|_| ()).await;
    broker.send(&publish(0, b"commands/a", 0, &[0; 100])[..50]).await;
    drop(broker);
    assert!(matches!(end(&mut link).await, Reason::Lost(_)), "cut in the middle of a packet");
}

#[tokio::test]
async fn what_mqtt_does_not_allow_ends_it_after_what_came_before() {
    let announced = [&[0x30][..], &length(2 * 1024 * 1024)].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a second CONNACK", WELCOME.to_vec()),
        ("a second CONNACK with a bad code", vec![0x20, 2, 0, 9]),
        ("CONNECT", packet(CONNECT, b"\0\x04MQTT\x04\x02\0\x0a\0\0")),
        ("SUBSCRIBE", packet(SUBSCRIBE, b"\0\x01\0\x01a\0")),
        ("SUBACK", GRANTED.to_vec()),
        ("UNSUBSCRIBE", packet(0xA2, b"\0\x01\0\x01a")),
        ("UNSUBACK", packet(0xB0, b"\0\x01")),
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        ("PUBREC", packet(0x50, b"\0\x01")),
        ("PUBREL", packet(0x62, b"\0\x01")),
        ("PUBCOMP", packet(0x70, b"\0\x01")),
        ("PUBACK for nothing", acknowledge(1)),
        ("PUBACK for id 0", acknowledge(0)),
        ("PUBACK for an id beyond the window", acknowledge(0xFFFF)),
        ("packet type 0", vec![0, 0]),
        ("packet type 15", vec![0xF0, 2, 0, 0]),
        ("QoS 2", publish(0x04, b"commands/a", 1, b"")),
        ("QoS 3", publish(0x06, b"commands/a", 1, b"")),
        ("packet id 0", publish(0x02, b"commands/a", 0, b"")),
        ("topic that is not UTF-8", publish(0, b"commands/\xff", 0, b"")),
        ("topic with NUL", publish(0, b"commands/\0", 0, b"")),
        ("topic with a wildcard", publish(0, b"commands/+", 0, b"")),
        ("topic with the other wildcard", publish(0, b"#", 0, b"")),
        ("empty topic", publish(0, b"", 0, b"")),
        ("topic longer than its packet", vec![0x30, 3, 0, 9, b'a']),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("the largest length there is", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("2 MiB announced and none of it sent", announced),
    ];
    for (what, bytes) in cases {
        let (mut link, mut broker) = online(|_| ()).await;
        broker.send(&[publish(0, b"commands/good", 0, b"1"), bytes].concat()).await;
        let first = next(&mut link).await;
        assert!(matches!(&first, Event::Received(_, packet) if packet.topic == "commands/good"), "{what}: {first:?}");
        let last = next(&mut link).await;
        assert!(matches!(last, Event::Ended(Reason::Protocol(_) | Reason::Undecodable(_))), "{what}: {last:?}");
        assert_eq!(broker.read().await, None, "{what}: closed without a word");
    }
}

#[tokio::test]
async fn leaving_writes_all_that_was_asked_before_and_then_says_so() {
    let (mut link, mut broker) = online(|_| ()).await;
    broker.send(&[publish(2, b"commands/a", 1, b""), publish(2, b"commands/a", 2, b"")].concat()).await;
    let (acked, _not_acked) = (received(&mut link).await.0, received(&mut link).await.0);
    link.ask(Ask::Ack(acked)).expect("taken");
    link.ask(Ask::Publish(id(1), message(Qos::AtLeastOnce, "one"))).expect("taken");
    link.ask(Ask::Publish(id(2), message(Qos::AtMostOnce, "two"))).expect("taken");
    link.ask(Ask::Disconnect).expect("taken");
    assert_eq!(broker.publish().await.1, b"one");
    broker.expect(0x30).await;
    assert_eq!(broker.puback().await, 1);
    broker.expect(DISCONNECT).await;
    assert_eq!(broker.read().await, None);
    drop(broker);
    assert_eq!(next(&mut link).await, Event::Settled(id(2)), "written is all that QoS 0 asks for");
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
}

#[tokio::test]
async fn leaving_does_not_wait_for_a_broker_that_never_hangs_up() {
    let (mut link, _broker) = online(|_| ()).await;
    link.ask(Ask::Disconnect).expect("taken");
    let begun = Instant::now();
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn leaving_before_the_login_is_answered() {
    let (listener, order) = listen().await;
    let mut link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.expect(CONNECT).await;
    let early = Ask::Publish(id(1), message(Qos::AtLeastOnce, ""));
    assert_eq!(link.ask(early), Err(Refused::NotOnline));
    link.ask(Ask::Disconnect).expect("taken");
    broker.expect(DISCONNECT).await;
    drop(broker);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
}

#[tokio::test]
async fn dropping_the_link_closes_without_a_word_at_any_stage() {
    let (listener, order) = listen().await;
    let link = connect(order);
    let mut broker = Broker::accept(&listener).await;
    broker.expect(CONNECT).await;
    drop(link);
    assert_eq!(broker.read().await, None);

    let (link, mut broker) = online(|_| ()).await;
    drop(link);
    assert_eq!(broker.read().await, None);

    // Also while every message of the window is un-settled and the daemon has taken nothing.
    let (link, mut broker) = online(|order| order.limits.window = 1).await;
    link.ask(Ask::Publish(id(1), message(Qos::AtLeastOnce, ""))).expect("taken");
    broker.publish().await;
    for number in 1..200 {
        broker.send(&publish(2, b"commands/a", number, b"")).await;
    }
    drop(link);
    assert_eq!(broker.read().await, None);
}

#[tokio::test]
async fn a_login_that_cannot_be_written_is_not_sent() {
    let changes: [fn(&mut Order); 4] = [
        |order| order.login.password = Secret::new("p".repeat(65_536)),
        |order| order.login.client_id = "c".repeat(65_536),
        |order| order.login.username = String::new(),
        |order| order.login.will = Some(Packet { topic: "a/#".to_owned(), ..message(Qos::AtMostOnce, "") }),
    ];
    for change in changes {
        let (listener, mut order) = listen().await;
        change(&mut order);
        let mut link = connect(order);
        let mut broker = Broker::accept(&listener).await;
        let reason = end(&mut link).await;
        assert!(matches!(reason, Reason::NoLogin(_)), "{reason}");
        assert_eq!(broker.read().await, None);
    }
}
