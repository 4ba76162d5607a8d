//! The way through an HTTP proxy, and every way in which it ends there.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use twinagent::model::wire::{Reason, Secret};
use twinagent::mqtt::{Event, Order, Proxy, ProxyLogin, connect};

use crate::broker::{Broker, listen, next, nobody, order};

/// A proxy where nobody has been yet, and an order for a broker behind it whose name nobody here resolves.
async fn proxied() -> (TcpListener, Order) {
    let (listener, _) = listen().await;
    let port = listener.local_addr().expect("its address").port();
    (listener, through(port))
}

fn through(port: u16) -> Order {
    let mut order = order("broker.invalid", 8883);
    order.endpoint.proxy = Some(Proxy {
        host: "127.0.0.1".to_owned(),
        port,
        login: Some(ProxyLogin { user: "gw-1".to_owned(), password: Secret::new("s3cret".to_owned()) }),
    });
    order
}

/// Takes a connection and the request on it.
async fn request(listener: &TcpListener) -> (TcpStream, String) {
    let mut stream = Broker::accept(listener).await.stream;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    (stream, String::from_utf8(request).expect("text"))
}

const ASKED: &str = "CONNECT broker.invalid:8883 HTTP/1.1\r\nHost: broker.invalid:8883\r\n\
                     Proxy-Authorization: Basic Z3ctMTpzM2NyZXQ=\r\n\r\n";

#[tokio::test]
async fn a_tunnel_is_asked_for_by_name_and_mqtt_begins_behind_it() {
    let (listener, order) = proxied().await;
    let mut link = connect(order);
    let (mut stream, asked) = request(&listener).await;
    assert_eq!(asked, ASKED);
    for byte in b"HTTP/1.1 200 Connection established\r\nVia: a\r\n\r\n" {
        stream.write_all(&[*byte]).await.expect("written");
    }
    let mut broker = Broker { stream };
    broker.welcome().await;
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: None });
}

#[cfg(feature = "bridge")]
#[tokio::test]
async fn tls_goes_through_to_the_broker_and_the_proxy_sees_nothing_of_the_login() {
    use twinagent::model::wire::{Handshake, TlsFault};

    use crate::authority::{Authority, trust};
    use crate::broker::{GRANTED, WELCOME};
    use crate::tls::packet;

    let ours = Authority::new("ours");
    for (name, is_good) in [("broker.invalid", true), ("127.0.0.1", false)] {
        let (listener, mut order) = proxied().await;
        order.endpoint.tls = Some(trust(&ours.pem()));
        let mut link = connect(order);
        let (mut stream, asked) = request(&listener).await;
        assert_eq!(asked, ASKED);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
        let accepted = ours.broker(name).accept(stream).await;
        if !is_good {
            let end = next(&mut link).await;
            assert!(matches!(end, Event::Ended(Reason::Tls(TlsFault::Name, _))), "the proxy's own name: {end:?}");
            continue;
        }
        let mut stream = accepted.expect("TLS");
        packet(&mut stream).await;
        stream.write_all(WELCOME).await.expect("written");
        packet(&mut stream).await;
        stream.write_all(GRANTED).await.expect("written");
        assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Full) });
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_open_says_why_and_gets_nothing_more() {
    let large = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'x'; 9000]].concat();
    let cases: [(&[u8], &str); 9] = [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required: it wants a user"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden: it allows no connection to this host and port"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "could not reach the broker"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "more than an answer"),
        (b"HTTP/1.1 200 OK\r\nA: b", "breaks off in the header"),
        (b"", "closed the connection instead of an answer"),
        (b"\x05\xFF", "does not speak HTTP: ??"),
        (b"220 ready\r\n", "does not speak HTTP: 220 ready"),
        (&large, "larger than 8192 bytes"),
    ];
    for (answer, words) in cases {
        let (listener, order) = proxied().await;
        let mut link = connect(order);
        let (mut stream, _) = request(&listener).await;
        stream.write_all(answer).await.expect("written");
        stream.shutdown().await.expect("closed");
        let end = next(&mut link).await;
        let Event::Ended(reason) = end else { panic!("{words}: {end:?}") };
        // Only who judged our password may lock it.
        let code = if words.starts_with("407") { "proxy-login" } else { "proxy" };
        assert_eq!(reason.code(), code, "{words}: {reason}");
        assert!(reason.to_string().contains(words), "{words}: {reason}");
        assert!(!format!("{reason} {reason:?}").contains("s3cret"), "{reason:?}");
        let mut more = Vec::new();
        // With bytes of ours unread it ends as a reset.
        let _ = stream.read_to_end(&mut more).await;
        assert_eq!(more, b"", "{words}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_nothing_or_drips_is_left_after_the_one_time_limit() {
    for drips in [false, true] {
        let (listener, mut order) = proxied().await;
        order.connect_timeout = Duration::from_secs(5);
        let mut link = connect(order);
        let (mut stream, _) = request(&listener).await;
        let drip = async {
            while drips && stream.write_all(b"H").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = next(&mut link) => end,
            () = drip => unreachable!("it has no end"),
        };
        assert!(matches!(&end, Event::Ended(Reason::Proxy(words)) if words.contains("did not answer")), "{end:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_taken_for_the_broker() {
    let (_nobody, port) = nobody();
    let end = next(&mut connect(through(port))).await;
    assert!(matches!(&end, Event::Ended(Reason::Proxy(words)) if words.contains("not reached: no TCP")), "{end:?}");
    let (_listener, mut order) = proxied().await;
    if let Some(proxy) = &mut order.endpoint.proxy {
        proxy.host = "x".repeat(300);
    }
    let end = next(&mut connect(order)).await;
    assert!(matches!(&end, Event::Ended(Reason::Proxy(words)) if words.contains("not resolved")), "{end:?}");
}
