//! Stories of a key that is changed: the cloud's credentials and the device's files change hands in any order, and neither a
//! command nor the broker's patience is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;
use twinagent::host::clock;
use twinagent::model::now::Timestamp;

use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::living::NOTICED;
use crate::log::Log;
use crate::program::{done, status};

const CURRENT: &str = "etc/keys/device.key";
const NEXT: &str = "etc/keys/next.key";
const PREVIOUS: &str = "etc/keys/previous.key";

const REFUSED: &str = "login refused by the broker";

/// What the cloud knows of a key: its public half, and until when it is good.
type Credential<'a> = (&'a str, Option<Timestamp>);

async fn device(config: &'static str) -> Device {
    Device::new(Setup { answers: "events", rest: true, config, ..Setup::on(Kind::IotCore) }).await
}

async fn online() -> Device {
    let mut device = device("[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\n").await;
    device.start();
    device.wait_until_ready().await;
    device
}

/// Gives the device these credentials, and no other, over the cloud's REST API.
async fn register(device: &Device, credentials: &[Credential<'_>]) {
    let credentials: Vec<Value> = credentials
        .iter()
        .map(|(key, expires)| {
            let mut credential = json!({ "publicKey": { "format": "ES256_PEM", "key": key } });
            if let Some(expires) = expires {
                credential["expirationTime"] = json!(expires);
            }
            credential
        })
        .collect();
    let body = json!({ "credentials": credentials }).to_string();
    let address = device.bridge.addresses().http.expect("it is on");
    let mut stream = TcpStream::connect(address).await.expect("the cloud listens");
    let request = format!(
        "PATCH /v1/projects/my-project/locations/us-central1/registries/my-registry/devices/gw-1?updateMask=credentials \
         HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the cloud reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A new key in this slot. Its public half.
async fn make(device: &Device, slot: &str) -> String {
    done(device, &["keygen", "--slot", slot]).await
}

/// The cloud ends the session; another one is had.
async fn log_in_again(device: &mut Device) {
    assert!(device.cloud.disconnect().await, "there was a session");
    device.wait_until_ready().await;
}

async fn works(device: &mut Device, id: &str) {
    device.send(&format!("count/{id}"), "").await;
    device.answer(id, 200).await;
}

#[tokio::test]
async fn a_key_is_changed_by_the_next_one_and_no_command_waits_for_it() {
    let log = Log::listen();
    let mut device = online().await;
    let current = done(&device, &["pubkey"]).await;
    let file = device.path(NEXT).display().to_string();
    let next = done(&device, &["keygen", "--out", &file]).await;
    assert_eq!(done(&device, &["pubkey", "--slot", "next"]).await, next);
    let spare = done(&device, &["keygen", "--out", &device.path("spare.key").display().to_string()]).await;
    register(&device, &[(&current, None), (&next, None), (&spare, None)]).await;
    let told = status(&device, |status| status["otherKeys"] == json!([{ "slot": "next", "usable": true }])).await;
    assert_eq!(told["problems"], json!([]));
    works(&mut device, "c-1").await;

    // The session that stands is none of the credential's business.
    register(&device, &[(&next, None), (&spare, None)]).await;
    works(&mut device, "c-2").await;
    assert_eq!(device.logins().await, 1);
    log_in_again(&mut device).await;
    works(&mut device, "c-3").await;
    assert_eq!((device.logins().await, log.count(REFUSED)), (2, 1), "{}", log.text());

    // What is left to do is told, and does not need to be done soon.
    let told = status(&device, |status| status["session"]["key"] == "next").await;
    let hint = told["session"]["keyHint"].as_str().expect("a hint").to_owned();
    assert!(hint.contains(&format!("sudo mv {file} ")), "{hint}");

    fs::rename(device.path(NEXT), device.path(CURRENT)).expect("in its place");
    status(&device, |status| status.get("otherKeys").is_none() && status["session"].get("keyHint").is_none()).await;
    sleep(NOTICED).await;
    works(&mut device, "c-4").await;
    assert_eq!(device.logins().await, 2, "the session stays");
    log_in_again(&mut device).await;
    works(&mut device, "c-5").await;
    assert_eq!((device.logins().await, log.count(REFUSED)), (3, 1), "{}", log.text());
    assert_eq!(done(&device, &["pubkey"]).await, next);
    device.stop().await;
    assert!(device.counted().values().all(|times| *times == 1), "{:?}", device.counted());
}

#[tokio::test]
async fn a_key_that_the_cloud_does_not_know_yet_is_covered_by_the_previous_one() {
    let log = Log::listen();
    let mut device = online().await;
    let old = done(&device, &["pubkey"]).await;
    let new = make(&device, "next").await;
    fs::rename(device.path(CURRENT), device.path(PREVIOUS)).expect("kept");
    fs::rename(device.path(NEXT), device.path(CURRENT)).expect("too early");
    // Seen by now, else it would be seen between two tries, and cut the wait between them short.
    status(&device, |status| status["otherKeys"] == json!([{ "slot": "previous", "usable": true }])).await;
    log_in_again(&mut device).await;
    works(&mut device, "c-1").await;
    assert_eq!((device.logins().await, log.count(REFUSED)), (2, 1), "{}", log.text());
    status(&device, |status| status["session"]["key"] == "previous").await;

    // The cloud learns the new one, and forgets the old one when it pleases.
    register(&device, &[(&old, None), (&new, None)]).await;
    log_in_again(&mut device).await;
    register(&device, &[(&new, None)]).await;
    log_in_again(&mut device).await;
    works(&mut device, "c-2").await;
    log_in_again(&mut device).await;
    assert_eq!(device.logins().await, 5);
    assert!(log.count(REFUSED) <= 2, "{}", log.text());
    device.stop().await;
}

#[tokio::test]
async fn a_credential_that_expires_is_followed_by_the_next_key() {
    let log = Log::listen();
    let mut device = online().await;
    let current = done(&device, &["pubkey"]).await;
    let next = make(&device, "next").await;
    let expires = clock::wall().saturating_add(Duration::from_secs(4));
    register(&device, &[(&current, Some(expires)), (&next, None)]).await;
    log_in_again(&mut device).await;
    sleep(expires.since(clock::wall()) + Duration::from_millis(10)).await;
    log_in_again(&mut device).await;
    works(&mut device, "c-1").await;
    // Once in all: it was good until then, and there is no way back to it afterwards.
    assert_eq!((device.logins().await, log.count(REFUSED)), (3, 1), "{}", log.text());
    device.stop().await;
}

/// Three keys are no reason to ask three times as often.
#[tokio::test]
async fn a_device_whose_keys_are_all_unknown_does_not_hammer_and_takes_the_one_that_becomes_known() {
    let log = Log::listen();
    let mut device = device("").await;
    let known = done(&device, &["keygen", "--out", &device.path("known.key").display().to_string()]).await;
    let next = make(&device, "next").await;
    make(&device, "previous").await;
    register(&device, &[(&known, None)]).await;
    device.start();
    sleep(Duration::from_secs(8)).await;
    let tries = log.count(REFUSED);
    assert!((1..=12).contains(&tries), "{tries} tries in 8 s\n{}", log.text());
    assert_eq!(device.logins().await, 0);
    register(&device, &[(&next, None)]).await;
    // Whatever the back-off has come to by now: somebody has looked after the keys.
    fs::rename(device.path(PREVIOUS), device.path("aside")).expect("moved away");
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    device.stop().await;
}

#[tokio::test]
async fn a_next_key_that_cannot_be_used_is_told_and_troubles_nobody() {
    let log = Log::listen();
    let mut device = online().await;
    make(&device, "next").await;
    let mode = |bits| fs::set_permissions(device.path(NEXT), fs::Permissions::from_mode(bits)).expect("a mode");
    mode(0o644);
    let is_told = |status: &Value| {
        status["otherKeys"][0]["trouble"]
            .as_str()
            .is_some_and(|text| text.contains("open to others") && text.contains("chmod"))
    };
    let told = status(&device, is_told).await;
    assert_eq!((&told["problems"], &told["otherKeys"][0]["usable"]), (&json!([]), &json!(false)));
    log.wait_for("the next key cannot be used: the key is open to others").await;
    let words = done(&device, &["status"]).await;
    assert!(words.contains("  other keys  next cannot be used: the key is open to others"), "{words}");
    mode(0o600);
    status(&device, |status| status["otherKeys"] == json!([{ "slot": "next", "usable": true }])).await;
    log_in_again(&mut device).await;
    assert_eq!((device.logins().await, log.count(REFUSED)), (2, 0), "the current one is good: {}", log.text());
    device.stop().await;
}
