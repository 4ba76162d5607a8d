//! What is in the data folder, and what is listened on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::v4::{Codec, Packet};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;
use twinagent::bridge::{Access, Bridge, Options};

use crate::raw::{Raw, connect};
use crate::support::{World, start};

#[tokio::test]
async fn a_restarted_bridge_knows_everything_and_a_second_one_is_refused() {
    let world = World::new().await;
    let mut raw = Raw::ready(&world).await;
    raw.publish_acknowledged("/devices/gw-1/state", "on").await;
    world.cloud.set_config(&world.device, "two").await.expect("a new version");
    let before = world.resource().await;

    let twice = Bridge::start(Options::new(world.folder.path())).await.expect_err("the folder is in use");
    assert!(format!("{twice:#}").contains("another bridge uses the folder"), "{twice:#}");

    world.bridge.stop().await;
    let bridge = start(&world.folder, |_| {}).await;
    let cloud = bridge.cloud();
    assert_eq!(cloud.device(&world.device).await.expect("it was kept"), before);
    assert_eq!(cloud.states(&world.device).await.expect("it was kept")[0].1, "on");
    let exists = cloud.create_registry("my-project", "us-central1", "my-registry", true).await;
    assert!(exists.is_err(), "the registry was kept");
    bridge.stop().await;
}

#[tokio::test]
async fn changes_are_on_disk_soon_without_a_stop() {
    let world = World::new().await;
    let folder = world.folder.path().join("google/devices");
    let files = || fs::read_dir(&folder).expect("the folder is there").count();
    let soon = async {
        while files() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::LIMIT, soon).await.expect("written in the background");
}

#[tokio::test]
async fn what_holds_keys_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = |name: &str| fs::metadata(folder.path().join(name)).expect("it is there").permissions().mode() & 0o777;
    // As an earlier bridge may have left it.
    fs::create_dir_all(folder.path().join("azure/identities")).expect("made");
    fs::set_permissions(folder.path().join("azure"), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(folder.path().join("azure/hub.new"), "").expect("written");
    let bridge = start(&folder, |_| {}).await;
    let access = Access::Key { primary: "a2V5a2V5a2V5a2V5".to_owned(), secondary: None };
    bridge.hub().create_device("dev1", access).await.expect("a device");
    bridge.stop().await;
    let identities = fs::read_dir(folder.path().join("azure/identities")).expect("the folder is there");
    let names: Vec<_> = identities.map(|entry| entry.expect("a file").file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let identity = format!("azure/identities/{}", names[0].to_str().expect("a text"));
    assert_eq!((mode("azure"), mode("azure/hub.json"), mode(&identity)), (0o700, 0o600, 0o600));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("google/devices")).expect("made");
    fs::write(folder.path().join("google/devices/7.json"), "{").expect("written");
    let error = Bridge::start(Options::new(folder.path())).await.expect_err("not JSON");
    assert!(format!("{error:#}").contains("google/devices/7.json"), "{error:#}");
}

#[tokio::test]
async fn rest_beyond_loopback_needs_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { http: Some("0.0.0.0:0".to_owned()), ..Options::new(folder.path()) };
    let error = Bridge::start(options).await.expect_err("anyone could call");
    assert!(format!("{error:#}").contains("--token-file"), "{error:#}");
}

#[tokio::test]
async fn telemetry_is_logged_as_lines_of_json() {
    let world = World::with(|options| options.event_log = true).await;
    let mut raw = Raw::login(&world).await;
    raw.publish_acknowledged("/devices/gw-1/events/a/b", "hello").await;
    let number = world.resource().await["numId"].clone();
    world.bridge.stop().await;
    let text = fs::read_to_string(world.folder.path().join("events.jsonl")).expect("the log is there");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["data"], &lines[0]["attributes"]["deviceNumId"]), (&json!("aGVsbG8="), &number));
    assert_eq!(
        (&lines[0]["attributes"]["deviceId"], &lines[0]["attributes"]["subFolder"]),
        (&json!("gw-1"), &json!("a/b"))
    );
}

#[tokio::test]
async fn both_tls_listeners_are_trusted_by_the_authority_in_the_folder() {
    let world = World::with(|options| {
        options.mqtts = Some("127.0.0.1:0".to_owned());
        options.https = Some("127.0.0.1:0".to_owned());
        options.names = vec!["bridge.test".to_owned()];
    })
    .await;
    let addresses = world.bridge.addresses();
    for name in ["localhost", "127.0.0.1", "bridge.test"] {
        let stream = tls(&world, addresses.mqtts.expect("it is on"), name).await.expect("trusted");
        let mut packets = Framed::new(stream, Codec { max_incoming_size: 1024, max_outgoing_size: 4096 });
        packets.send(Packet::Connect(connect(&world))).await.expect("sent");
        assert!(matches!(packets.next().await, Some(Ok(Packet::ConnAck(_)))), "{name}");
    }
    assert!(tls(&world, addresses.mqtts.expect("it is on"), "elsewhere.test").await.is_err());

    let mut stream = tls(&world, addresses.https.expect("it is on"), "localhost").await.expect("trusted");
    stream.write_all(b"GET /v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    let line = world.bridge.announcement();
    assert_eq!(line["mqtts"], addresses.mqtts.expect("it is on").to_string());
    assert_eq!(line["https"], format!("https://localhost:{}", addresses.https.expect("it is on").port()));
    assert!(line["ca"].as_str().expect("a path").ends_with("/ca.pem"));
}

async fn tls(world: &World, address: std::net::SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(world.bridge.ca_file()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.expect("the bridge listens");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
