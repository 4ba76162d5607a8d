//! TLS on the way to a broker: whom it trusts, and what it says of those it does not.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use twinagent::model::wire::{Handshake, Qos, Reason};
use twinagent::mqtt::tls::Trust;
use twinagent::mqtt::{Ask, Event, Order, connect};

use crate::broker::{DISCONNECT, GRANTED, WELCOME, id, message, next, order, publish};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(subject: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, subject);
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// A broker with a certificate for this name.
    fn broker(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a matching key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// An order that trusts this authority and no other.
    fn order(&self, host: &str, port: u16) -> Order {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), self.0.pem()).expect("written");
        let mut order = order(host, port);
        order.endpoint.tls = Some(Trust::read(Some(file.path())).expect("a configuration"));
        order
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

async fn packet(stream: &mut TlsStream<TcpStream>) -> u8 {
    let first = stream.read_u8().await.expect("a packet");
    let mut body = vec![0; usize::from(stream.read_u8().await.expect("a short length"))];
    stream.read_exact(&mut body).await.expect("a body");
    first
}

/// How a connection to a broker with this certificate ends before it is online.
async fn refused(acceptor: TlsAcceptor, order: impl FnOnce(u16) -> Order) -> Reason {
    let (listener, port) = listen().await;
    let mut link = connect(order(port));
    let (stream, _) = listener.accept().await.expect("a connection");
    let accepted = acceptor.accept(stream).await;
    assert!(accepted.is_err(), "the client must not go on");
    match next(&mut link).await {
        Event::Ended(reason) => reason,
        other => panic!("{other:?}"),
    }
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
async fn a_certificate_for_another_name() {
    let authority = Authority::new("ours");
    let reason = refused(authority.broker("elsewhere.example"), |port| authority.order("localhost", port)).await;
    assert!(matches!(&reason, Reason::Tls(_, words) if words.contains("not valid for name")), "{reason}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority() {
    let reason =
        refused(Authority::new("theirs").broker("localhost"), |port| Authority::new("ours").order("localhost", port))
            .await;
    assert!(matches!(&reason, Reason::Tls(_, words) if words.contains("UnknownIssuer")), "{reason}");
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
async fn a_port_that_does_not_speak_tls() {
    for says in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let (listener, port) = listen().await;
        let mut link = connect(Authority::new("ours").order("localhost", port));
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(says).await.expect("written");
        stream.shutdown().await.expect("closed");
        let end = next(&mut link).await;
        assert!(matches!(end, Event::Ended(Reason::Tls(..))), "{end:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_never_comes() {
    let (_listener, port) = listen().await;
    let mut order = Authority::new("ours").order("localhost", port);
    order.connect_timeout = Duration::from_millis(300);
    let end = next(&mut connect(order)).await;
    assert!(matches!(&end, Event::Ended(Reason::TimedOut { stage, .. }) if stage.contains("TLS")), "{end:?}");
}
