//! A device that shows a certificate of its own: to a broker that asks for one, and to one that does not.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use twinagent::model::now::Timestamp;
use twinagent::model::wire::{Handshake, Reason, Secret};
use twinagent::mqtt::identity::{Identity, NotShown};
use twinagent::mqtt::tls::Trust;
use twinagent::mqtt::{Event, Order, connect};

use crate::authority::{Authority, Shown, listen};
use crate::broker::{GRANTED, WELCOME, next};
use crate::tls::packet;

fn identity(Shown { certificate, key }: &Shown) -> Identity {
    Identity::parse(certificate.as_bytes(), &Secret::new(key.clone())).expect("a pair")
}

/// A broker that lets only those in whose certificates this authority has signed.
fn strict(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsAcceptor {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().expect("a verifier");
    let Shown { certificate, key } = authority.shown(|_| {});
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
        )
        .expect("a matching key");
    TlsAcceptor::from(Arc::new(config))
}

/// An order that trusts this authority, and shows this.
fn order(authority: &Authority, port: u16, shown: Option<&Identity>) -> Order {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), authority.pem()).expect("written");
    let mut order = authority.order("localhost", port);
    order.endpoint.tls = Some(Trust::showing(Some(file.path()), shown).expect("certificates"));
    order
}

#[tokio::test]
async fn who_shows_a_certificate_is_let_in_and_who_shows_none_is_told_so() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = Authority::new("ours");
        let own = identity(&authority.shown(|_| {}));
        let (listener, port) = listen().await;
        let mut link = connect(order(&authority, port, Some(&own)));
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = strict(&authority, &[version]).accept(stream).await.expect("TLS");
        assert!(stream.get_ref().1.peer_certificates().is_some_and(|shown| shown.len() == 1));
        packet(&mut stream).await;
        stream.write_all(WELCOME).await.expect("written");
        packet(&mut stream).await;
        stream.write_all(GRANTED).await.expect("written");
        assert_eq!(next(&mut link).await, Event::Online { session_kept: false, tls: Some(Handshake::Full) });

        // The control: the same broker, and nothing to show.
        let mut link = connect(order(&authority, port, None));
        let (stream, _) = listener.accept().await.expect("a connection");
        assert!(strict(&authority, &[version]).accept(stream).await.is_err());
        let end = next(&mut link).await;
        let told = matches!(&end, Event::Ended(Reason::Tls(..) | Reason::ClosedBeforeAnswer));
        assert!(told, "{end:?}");
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_none_is_shown_none() {
    let authority = Authority::new("ours");
    let own = identity(&authority.shown(|_| {}));
    let (listener, port) = listen().await;
    let _link = connect(order(&authority, port, Some(&own)));
    let (stream, _) = listener.accept().await.expect("a connection");
    let stream = authority.broker("localhost").accept(stream).await.expect("TLS");
    assert!(stream.get_ref().1.peer_certificates().is_none());
}

#[tokio::test]
async fn what_is_shown_tells_one_trust_from_another() {
    let authority = Authority::new("ours");
    let (one, other) = (identity(&authority.shown(|_| {})), identity(&authority.shown(|_| {})));
    let trust = |shown| order(&authority, 1, shown).endpoint.tls;
    assert_eq!(trust(Some(&one)), trust(Some(&one)));
    assert_ne!(trust(Some(&one)), trust(Some(&other)));
    assert_ne!(trust(Some(&one)), trust(None));
}

#[test]
fn a_pair_that_does_not_fit_is_told_by_what_is_wrong_with_it() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.shown(|_| {}), authority.shown(|_| {}));
    let parse = |chain: &str, key: &str| Identity::parse(chain.as_bytes(), &Secret::new(key.to_owned())).map(drop);
    assert_eq!(parse(&one.certificate, &one.key), Ok(()));
    assert_eq!(parse(&one.certificate, &other.key), Err(NotShown::OtherKey));
    assert_eq!(parse(&one.certificate, &one.certificate), Err(NotShown::NoKey));
    assert_eq!(parse(&one.key, &one.key), Err(NotShown::NoCertificate));
    assert_eq!(parse("", &one.key), Err(NotShown::NoCertificate));
    assert_eq!(parse(&one.certificate.repeat(11), &one.key), Err(NotShown::TooLong));
    assert_eq!(parse("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &one.key), Err(NotShown::NotPem));
    let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert_eq!(parse(empty, &one.key), Err(NotShown::NotACertificate));
    let chain = format!("{}{}", one.certificate, authority.pem());
    assert_eq!(parse(&chain, &one.key), Ok(()), "with what leads to the root");
    let unknown = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert_eq!(parse(&one.certificate, unknown), Err(NotShown::UnknownKey));
}

#[test]
fn a_certificate_holds_between_its_two_dates() {
    let authority = Authority::new("ours");
    let shown = authority.shown(|params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2055, 3, 4);
    });
    let own = identity(&shown);
    let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
    assert_eq!(own.ends(), Some(at("2055-03-04T00:00:00Z")));
    assert_eq!(own.holds(at("2026-01-01T23:59:59Z")), Err(NotShown::NotYetValid(at("2026-01-02T00:00:00Z"))));
    assert_eq!(own.holds(at("2026-01-02T00:00:00Z")), Ok(()));
    assert_eq!(own.holds(at("2055-03-04T00:00:01Z")), Err(NotShown::Expired(at("2055-03-04T00:00:00Z"))));
    assert!(own.thumbprint().len() == 64 && !format!("{own:?}").contains("PRIVATE"), "{own:?}");
}

#[test]
fn keys_of_the_usual_kinds_are_taken() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = CertificateParams::new(Vec::new()).expect("no names").self_signed(&key).expect("signed");
        Identity::parse(certificate.pem().as_bytes(), &Secret::new(key.serialize_pem())).expect("a pair");
    }
}
