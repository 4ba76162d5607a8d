//! TLS on the way to a broker that is trusted: names, addresses, ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use twinagent::model::wire::{Handshake, Qos, Reason, TlsFault};
use twinagent::mqtt::{Ask, Event, connect};

use crate::authority::{Authority, listen};
use crate::broker::{DISCONNECT, GRANTED, WELCOME, id, message, next, publish};

/// The first byte of the next packet, which must be short.
pub(crate) async fn packet(stream: &mut TlsStream<TcpStream>) -> u8 {
    let first = stream.read_u8().await.expect("a packet");
    let mut body = vec![0; usize::from(stream.read_u8().await.expect("a short length"))];
    stream.read_exact(&mut body).await.expect("a body");
    first
}

#[tokio::test]
async fn a_trusted_broker_by_name_and_by_address() {
    for host in ["localhost", "127.0.0.1"] {
        let authority = Authority::new("ours");
        let (listener, port) = listen().await;
        let mut link = connect(authority.order(host, port));
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = authority.broker(host).accept(stream).await.expect("TLS");
        packet(&mut stream).await;
        stream.write_all(WELCOME).await.expect("written");
        packet(&mut stream).await;
        stream.write_all(GRANTED).await.expect("written");
        assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Full) });

        // More than TLS itself buffers: what it holds back must not be taken for written.
        let large = message(Qos::AtMostOnce, vec![7; 250_000]);
        link.ask(Ask::Publish(id(1), large)).expect("taken");
        let expected = publish(0, b"events", 0, &vec![7; 250_000]);
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.expect("the whole packet");
        assert!(bytes == expected);
        assert_eq!(next(&mut link).await, Event::Settled(id(1)));

        link.ask(Ask::Disconnect).expect("taken");
        assert_eq!(packet(&mut stream).await, DISCONNECT);
        assert_eq!(stream.read(&mut [0]).await.expect("a clean end of TLS"), 0);
        drop(stream);
        assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_without_closing_tls() {
    let authority = Authority::new("ours");
    let (listener, port) = listen().await;
    let mut link = connect(authority.order("localhost", port));
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut stream = authority.broker("localhost").accept(stream).await.expect("TLS");
    packet(&mut stream).await;
    stream.write_all(WELCOME).await.expect("written");
    packet(&mut stream).await;
    stream.write_all(GRANTED).await.expect("written");
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Full) });
    drop(stream);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Closed));
}

#[tokio::test]
async fn a_handshake_that_never_comes() {
    let (_listener, port) = listen().await;
    // No name, since its look-up by a thread of its own may take half of the time only.
    let mut order = Authority::new("ours").order("127.0.0.1", port);
    order.connect_timeout = Duration::from_secs(5);
    let end = next(&mut connect(order)).await;
    assert!(matches!(&end, Event::Ended(Reason::TimedOut { stage, .. }) if stage.contains("TLS")), "{end:?}");
}

/// A machine whose clock was never set may know better, and the time of its login is that of its certificates.
#[tokio::test]
async fn certificates_are_judged_by_the_time_that_was_told() {
    let authority = Authority::new("ours");
    let (listener, port) = listen().await;
    let order = authority.order("localhost", port);
    let trust = order.endpoint.tls.clone().expect("a trust");
    // The certificates of these authorities begin in 1975.
    for (now, holds) in
        [("1970-01-02T00:00:00Z", false), ("2030-06-01T00:00:00Z", true), ("1970-01-02T00:00:00Z", false)]
    {
        trust.tell_time(now.parse().expect("a time"));
        let mut link = connect(order.clone());
        let (stream, _) = listener.accept().await.expect("a connection");
        let agreed = authority.broker("localhost").accept(stream).await;
        if holds {
            packet(&mut agreed.expect("TLS")).await;
        } else {
            let end = next(&mut link).await;
            assert!(matches!(end, Event::Ended(Reason::Tls(TlsFault::NotYetValid, _))), "{end:?}");
        }
    }
}
