//! A session of TLS is resumed by the next connection, as long as the same roots are trusted.

use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use twinagent::model::wire::{Handshake, Reason};
use twinagent::mqtt::{Approach, Ask, Event, Link, Order, connect, connect_over, prepare};

use crate::authority::{Authority, listen, trust};
use crate::broker::{DISCONNECT, GRANTED, WELCOME, next};
use crate::tls::packet;

/// A whole life of a connection that stands: how TLS was agreed on.
async fn handshake(mut link: Link, listener: &TcpListener, acceptor: &TlsAcceptor) -> Handshake {
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut stream = acceptor.accept(stream).await.expect("TLS");
    packet(&mut stream).await;
    stream.write_all(WELCOME).await.expect("written");
    packet(&mut stream).await;
    stream.write_all(GRANTED).await.expect("written");
    let Event::Online { tls: Some(handshake), .. } = next(&mut link).await else { panic!("online over TLS") };
    link.ask(Ask::Disconnect).expect("taken");
    assert_eq!(packet(&mut stream).await, DISCONNECT);
    drop(stream);
    assert_eq!(next(&mut link).await, Event::Ended(Reason::Planned));
    handshake
}

async fn of_version(versions: &[&'static SupportedProtocolVersion]) {
    let authority = Authority::new("ours");
    let (listener, port) = listen().await;
    let acceptor = authority.broker_with("localhost", versions);
    let order = authority.order("localhost", port);
    let again = |order: &Order| handshake(connect(order.clone()), &listener, &acceptor);
    assert_eq!(again(&order).await, Handshake::Full);
    for _ in 0..3 {
        assert_eq!(again(&order).await, Handshake::Resumed);
    }

    // The controls: who trusts others, and who has lost what it knew, begins anew.
    let mut others = order.clone();
    others.endpoint.tls = Some(trust(&(authority.pem() + &Authority::new("theirs").pem())));
    assert_eq!(again(&others).await, Handshake::Full);
    let forgetful = authority.order("localhost", port);
    assert_eq!(forgetful.endpoint, order.endpoint, "the same roots, though");
    assert_eq!(again(&forgetful).await, Handshake::Full);
    assert_eq!(again(&order).await, Handshake::Resumed);
}

#[tokio::test]
async fn a_session_of_tls_1_2() {
    of_version(&[&TLS12]).await;
}

#[tokio::test]
async fn a_session_of_tls_1_3() {
    of_version(&[&TLS13]).await;
}

#[tokio::test]
async fn a_stream_that_was_prepared_beside_the_connection_before_it_resumes_its_session() {
    let authority = Authority::new("ours");
    let (listener, port) = listen().await;
    let acceptor = authority.broker_with("localhost", ALL_VERSIONS);
    let order = authority.order("localhost", port);
    assert_eq!(handshake(connect(order.clone()), &listener, &acceptor).await, Handshake::Full);
    let prepared = prepare(Approach {
        endpoint: order.endpoint.clone(),
        keep_alive: order.login.keep_alive,
        connect_timeout: order.connect_timeout,
        resolver: order.resolver.clone(),
    });
    let serve = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        acceptor.accept(stream).await.expect("TLS")
    };
    let mut prepared = prepared;
    let (opened, mut stream) = tokio::join!(prepared.opened(), serve);
    opened.expect("open");
    let mut link = connect_over(order, prepared);
    packet(&mut stream).await;
    stream.write_all(WELCOME).await.expect("written");
    packet(&mut stream).await;
    stream.write_all(GRANTED).await.expect("written");
    assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Resumed) });
}

/// Two files with the same certificates in another order are the same roots.
#[tokio::test]
async fn roots_are_what_counts_and_not_their_file() {
    let (one, other) = (Authority::new("one").pem(), Authority::new("other").pem());
    assert_eq!(trust(&format!("{one}{other}")), trust(&format!("{other}# a remark\n{one}")));
    assert_ne!(trust(&one), trust(&format!("{one}{other}")));
}
