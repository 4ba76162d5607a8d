//! Certificates for brokers, from authorities that a test makes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use twinagent::mqtt::Order;
use twinagent::mqtt::tls::Trust;

use crate::broker::order;

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(subject: &str) -> Self {
        let params = Self::params(subject);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    fn params(subject: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, subject);
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A broker with a certificate for this name.
    pub(crate) fn broker(&self, name: &str) -> TlsAcceptor {
        self.broker_with(name, rustls::ALL_VERSIONS)
    }

    /// The same, speaking these versions of TLS.
    pub(crate) fn broker_with(&self, name: &str, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a matching key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// What a broker shows that has a certificate of this authority for localhost.
    pub(crate) fn shown(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Shown { certificate, key: key.serialize_pem() }
    }

    /// What a broker shows that has signed for localhost itself.
    pub(crate) fn shown_by_itself(is_ca: bool) -> Shown {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Shown { certificate, key: key.serialize_pem() }
    }

    /// An order that trusts this authority and no other.
    pub(crate) fn order(&self, host: &str, port: u16) -> Order {
        let mut order = order(host, port);
        order.endpoint.tls = Some(trust(&self.pem()));
        order
    }
}

/// Trusts these certificates.
pub(crate) fn trust(pem: &str) -> Trust {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), pem).expect("written");
    Trust::read(Some(file.path())).expect("certificates")
}

pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}
