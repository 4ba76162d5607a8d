//! TLS as the hub speaks it: both versions, with a certificate of the client and without, and what a restart keeps.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rumqttc::mqttbytes::v4::{Connect, Packet};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use twinagent::bridge::{Access, Enrollment, HubName};

use super::device::{HubWorld, KEY, good, token, with_key};
use crate::raw::Raw;
use crate::support::start;

/// A certificate that nobody but itself has signed, and its key.
pub(crate) struct Own {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Own {
    pub(crate) fn new() -> Self {
        Self::valid_in(1975, 2049)
    }

    /// From the beginning of one year to that of another.
    fn valid_in(first: i32, last: i32) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["dev2".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(first, 1, 1), date_time_ymd(last, 1, 1));
        Self { certificate: params.self_signed(&key).expect("a certificate").der().clone(), key }
    }

    fn thumbprint(&self, algorithm: &'static ring::digest::Algorithm) -> String {
        let digest = ring::digest::digest(algorithm, &self.certificate);
        digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"))
    }

    pub(crate) fn sha256(&self) -> String {
        self.thumbprint(&ring::digest::SHA256)
    }
}

/// Opens TLS to one of the bridge's ports.
pub(crate) async fn dial(
    world: &HubWorld,
    port: u16,
    own: Option<&Own>,
    version: &'static SupportedProtocolVersion,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.bridge.ca_file()).expect("a certificate")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.serialize_pem().as_bytes()).expect("a key");
            config.with_client_auth_cert(vec![own.certificate.clone()], key).expect("they fit")
        }
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the bridge listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// A CONNECT without a password.
fn by_certificate() -> Connect {
    let mut connect = Connect::new("dev2");
    connect.set_login("localhost/dev2/?api-version=2021-04-12", "");
    connect
}

async fn code(world: &HubWorld, own: Option<&Own>, connect: Connect, version: &'static SupportedProtocolVersion) -> u8 {
    let port = world.bridge.addresses().mqtts.expect("it is on").port();
    let mut raw = Raw::over(dial(world, port, own, version).await);
    raw.send(Packet::Connect(connect)).await;
    raw.connack().await.0
}

async fn with_tls() -> HubWorld {
    HubWorld::with(|options| options.mqtts = Some("127.0.0.1:0".to_owned())).await
}

#[tokio::test]
async fn a_certificate_is_known_by_its_thumbprint_in_both_versions_of_tls() {
    let world = with_tls().await;
    let (own, other) = (Own::new(), Own::new());
    world.hub.create_device("dev2", Access::Thumbprint(own.sha256())).await.expect("a device");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert_eq!(code(&world, Some(&own), by_certificate(), version).await, 0);
        assert_eq!(code(&world, Some(&other), by_certificate(), version).await, 5);
        assert_eq!(code(&world, None, by_certificate(), version).await, 5);
        // Devices with keys are not asked for a certificate, and one of somebody else's does no harm.
        assert_eq!(code(&world, None, good(), version).await, 0);
        assert_eq!(code(&world, Some(&other), good(), version).await, 0);
    }
    let mut with_token = by_certificate();
    with_token.set_login("localhost/dev2/?api-version=2021-04-12", token(KEY, "localhost/devices/dev2", 3600));
    assert_eq!(code(&world, None, with_token, &rustls::version::TLS13).await, 5, "it has no key");
    world
        .hub
        .create_device("dev3", Access::Thumbprint(own.thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY)))
        .await
        .expect("a device");
    let mut third = Connect::new("dev3");
    third.set_login("localhost/dev3/?api-version=2021-04-12", "");
    assert_eq!(code(&world, Some(&own), third, &rustls::version::TLS12).await, 0);
}

#[tokio::test]
async fn a_certificate_counts_while_it_is_valid() {
    let world = with_tls().await;
    for ((first, last), expected, why) in
        [((1975, 2049), 0, ""), ((1975, 1976), 5, "ended on 1976"), ((2048, 2049), 5, "not valid before 2048")]
    {
        let own = Own::valid_in(first, last);
        // The hub and its provisioning service judge it alike.
        world.hub.create_device("dev2", Access::Thumbprint(own.sha256())).await.expect("a device");
        let enrollment = Enrollment::new("0ne0001", "dev2", Access::Thumbprint(own.sha256()));
        world.hub.enroll(enrollment).await.expect("enrolled");
        let mut to_register = Connect::new("dev2");
        to_register.set_login("0ne0001/registrations/dev2/api-version=2019-03-31", "");
        for login in [by_certificate(), to_register] {
            assert_eq!(code(&world, Some(&own), login, &rustls::version::TLS13).await, expected, "{first}");
            let told = world.hub.last_refusal().await.expect("the bridge runs").unwrap_or_default();
            assert!(told.contains(why), "{told}");
        }
        world.hub.delete(&HubName::device("dev2").expect("a name")).await.expect("the device");
    }
}

/// Without TLS there is no proof, whatever is said.
#[tokio::test]
async fn a_certificate_counts_on_a_listener_with_tls_alone() {
    let world = with_tls().await;
    world.hub.create_device("dev2", Access::Thumbprint(Own::new().sha256())).await.expect("a device");
    assert_eq!(world.login(by_certificate()).await, 5);
}

#[tokio::test]
async fn identities_twins_and_keys_are_there_after_a_restart() {
    let world = with_tls().await;
    let module = world.hub.create_module(&world.device, "app", with_key(KEY)).await.expect("a module");
    world.hub.patch_desired(&world.device, json!({"a": {"b": 1}})).await.expect("written");
    let string = world.hub.connection_string(&world.device).await.expect("it has a key");
    assert_eq!(string, format!("HostName=localhost;DeviceId=dev1;SharedAccessKey={KEY}"));
    let service = world.hub.service_connection_string("localhost:1").await.expect("the bridge runs");
    world.bridge.stop().await;
    assert_eq!(world.hub.twin(&world.device).await.expect_err("nobody is there").status, 503);

    let bridge = start(&world.folder, |options| options.https = Some("127.0.0.1:0".to_owned())).await;
    let hub = bridge.hub();
    let twin = hub.twin(&world.device).await.expect("the device is there");
    assert_eq!(twin["desired"], json!({"a": {"b": 1}, "$version": 2}));
    assert!(hub.twin(&module).await.is_ok());
    assert_eq!(hub.service_connection_string("localhost:1").await, Ok(service));
    assert_eq!(hub.connection_string(&world.device).await, Ok(string));
    let line = bridge.announcement();
    let port = bridge.addresses().https.expect("it is on").port();
    let announced = line["iothub"].as_str().expect("a text");
    assert_eq!(announced, hub.service_connection_string(&format!("localhost:{port}")).await.expect("the bridge runs"));
    assert!(announced.contains(";SharedAccessKeyName=iothubowner;SharedAccessKey="));
    assert!(!format!("{bridge:?}").contains(announced.rsplit_once("Key=").expect("a key").1), "keys are not printed");
    bridge.stop().await;
}
