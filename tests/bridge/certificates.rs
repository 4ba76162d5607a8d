//! Keys and certificates in all four formats, and registries whose certificates vouch for devices.
//!
//! Those that anyone would make by hand are made by openssl, with the commands of the cloud's own pages.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SigningKey, date_time_ymd};
use serde_json::{Value, json};

use crate::http::{DEVICES, PARENT, done, get, refused};
use crate::raw::Raw;
use crate::support::{DeviceKey, World, unix_now};

const REGISTRY: &str = "/v1/projects/my-project/locations/us-central1/registries/my-registry";

/// Runs a line of shell in a folder.
fn shell(folder: &Path, line: &str) {
    let output = Command::new("sh").args(["-ec", line]).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A key, and a certificate that is valid from and until so many seconds from now.
pub(crate) struct Made {
    key: KeyPair,
    pub(crate) pem: String,
}

fn params(name: &str, from: i64, until: i64) -> CertificateParams {
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs((unix_now() + seconds).unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(from);
    params.not_after = at(until);
    params
}

pub(crate) fn authority(name: &str, from: i64, until: i64) -> Made {
    let key = KeyPair::generate().expect("a key");
    let mut params = params(name, from, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("a certificate").pem();
    Made { key, pem }
}

/// A device's certificate, signed by the authority of this name with this key.
fn device(name: &str, signer: &impl SigningKey, from: i64, until: i64) -> Made {
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(params(name, 0, 0), signer);
    let pem = params("device", from, until).signed_by(&key, &issuer).expect("a certificate").pem();
    Made { key, pem }
}

const HOUR: i64 = 3600;

fn credential(format: &str, key: &str) -> Value {
    json!({"publicKey": {"format": format, "key": key}})
}

fn vouching(pem: &str) -> Value {
    json!({"publicKeyCertificate": {"format": "X509_CERTIFICATE_PEM", "certificate": pem}})
}

async fn set_authorities(world: &World, authorities: &[Value]) -> Value {
    done(world, "PATCH", &format!("{REGISTRY}?updateMask=credentials"), json!({"credentials": authorities})).await
}

/// What comes of giving a device this credential as its only one, besides those it has.
async fn add(world: &World, device: &str, new: &Value) -> Result<(), (u64, String)> {
    let path = format!("{DEVICES}/{device}");
    let mut all = get(world, &path).await["credentials"].as_array().cloned().unwrap_or_default();
    all.push(new.clone());
    let (status, answer) = crate::http::call(
        world,
        "PATCH",
        &format!("{path}?updateMask=credentials"),
        "",
        &json!({"credentials": all}).to_string(),
    )
    .await;
    if status == 200 {
        return Ok(());
    }
    Err((u64::from(status), answer["error"]["status"].as_str().expect("a text").to_owned()))
}

fn invalid() -> Result<(), (u64, String)> {
    Err((400, "INVALID_ARGUMENT".to_owned()))
}

/// Logs a device in with this key.
async fn login(world: World, device: &str, key: DeviceKey) -> World {
    let device = world.device.of().device(device).expect("a name");
    let world = World { device, key, ..world };
    Raw::login(&world).await.ping().await;
    world
}

#[tokio::test]
async fn all_four_formats_of_a_key_get_a_device_in_and_no_other_does() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("openssl made it");
    let mut texts = Vec::new();
    for (kind, options) in [
        ("RSA", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ES256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        shell(
            folder.path(),
            &format!(
                "openssl genpkey {options} -out {kind}.key
                 openssl pkcs8 -topk8 -nocrypt -in {kind}.key -outform DER -out {kind}.der
                 openssl pkey -in {kind}.key -pubout -out {kind}_PEM
                 openssl req -x509 -new -key {kind}.key -sha256 -subj /CN=unused -out {kind}_X509_PEM"
            ),
        );
        for format in [format!("{kind}_PEM"), format!("{kind}_X509_PEM")] {
            texts.push((format.clone(), kind, String::from_utf8(read(&format)).expect("PEM is a text")));
        }
    }
    for (number, (format, kind, text)) in texts.iter().enumerate() {
        let id = format!("made-{number}");
        let body = json!({"id": id, "credentials": [credential(format, text)]});
        let made = done(&world, "POST", DEVICES, body.clone()).await;
        assert_eq!(made["credentials"], body["credentials"]);
        world = login(world, &id, DeviceKey::from_pkcs8(&read(&format!("{kind}.der")))).await;
        for (other, _, _) in texts.iter().filter(|(other, ..)| other != format) {
            let wrong = json!({"id": "wrong", "credentials": [credential(other, text)]});
            let told = refused(&world, "POST", DEVICES, wrong).await;
            assert_eq!(told, (400, "INVALID_ARGUMENT".to_owned()), "{format} as {other}");
        }
    }
}

#[tokio::test]
async fn keys_that_the_cloud_does_not_take_are_refused() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    shell(
        folder.path(),
        "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small.key
         openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out curve.key
         openssl genpkey -algorithm ED25519 -out edwards.key
         for key in small curve edwards; do
             openssl pkey -in $key.key -pubout -out $key.pem
             openssl req -x509 -new -key $key.key -subj /CN=unused -out $key.cert
         done
         openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out good.key
         openssl rsa -in good.key -RSAPublicKey_out -out pkcs1.pem
         openssl req -x509 -new -key good.key -sha1 -subj /CN=unused -out sha1.cert",
    );
    for name in ["small", "curve", "edwards", "pkcs1", "sha1"] {
        for (ending, formats) in [("pem", ["RSA_PEM", "ES256_PEM"]), ("cert", ["RSA_X509_PEM", "ES256_X509_PEM"])] {
            let Ok(text) = std::fs::read_to_string(folder.path().join(format!("{name}.{ending}"))) else { continue };
            for format in formats {
                assert_eq!(add(&world, "gw-1", &credential(format, &text)).await, invalid(), "{name} as {format}");
            }
        }
    }
    let made = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(made, 4 + 4 + 4, "four keys, four public keys, four certificates");
}

#[tokio::test]
async fn a_registry_with_certificates_takes_only_credentials_that_one_of_them_has_signed() {
    let world = World::new().await;
    let first = authority("first", -HOUR, HOUR);
    let second = authority("second", -HOUR, HOUR);
    let stranger = authority("stranger", -HOUR, HOUR);
    // Of the same name as the first, with another key.
    let impostor = authority("first", -HOUR, HOUR);
    let shown = set_authorities(&world, &[vouching(&first.pem), vouching(&second.pem)]).await;
    let details = &shown["credentials"][1]["publicKeyCertificate"]["x509Details"];
    assert_eq!((&details["subject"], &details["issuer"]), (&json!("CN=second"), &json!("CN=second")));
    assert_eq!(shown["credentials"], get(&world, REGISTRY).await["credentials"]);

    done(&world, "POST", DEVICES, json!({"id": "empty"})).await;
    let x509 = |made: &Made| credential("ES256_X509_PEM", &made.pem);
    for (why, new) in [
        ("no certificate", credential("ES256_PEM", &world.key.public_pem())),
        ("its own signature", x509(&authority("device", -HOUR, HOUR))),
        ("another authority's", x509(&device("stranger", &stranger.key, -HOUR, HOUR))),
        ("a forged name", x509(&device("first", &impostor.key, -HOUR, HOUR))),
        ("another name", x509(&device("third", &first.key, -HOUR, HOUR))),
        ("expired", x509(&device("first", &first.key, -HOUR, -60))),
        ("not valid yet", x509(&device("first", &first.key, 60, HOUR))),
        ("the authority's own", x509(&first)),
        ("the authority's own, wrapped in another way", credential("ES256_X509_PEM", &first.pem.replace('\n', "\r\n"))),
    ] {
        assert_eq!(add(&world, "empty", &new).await, invalid(), "{why}");
        let created = json!({"id": "never", "credentials": [new]});
        assert_eq!(refused(&world, "POST", DEVICES, created).await, (400, "INVALID_ARGUMENT".to_owned()), "{why}");
    }
    let good = device("second", &second.key, -HOUR, HOUR);
    add(&world, "empty", &x509(&good)).await.expect("signed");

    // A device from before is left alone, also when it is changed.
    let path = format!("{DEVICES}/gw-1?updateMask=metadata,credentials");
    let old = get(&world, &format!("{DEVICES}/gw-1")).await;
    done(&world, "PATCH", &path, old).await;
    Raw::login(&world).await.ping().await;

    // And a new one stays when the authorities are gone.
    set_authorities(&world, &[]).await;
    assert!(get(&world, REGISTRY).await.get("credentials").is_none());
    let key = DeviceKey::from_pkcs8(good.key.serialized_der());
    let world = login(world, "empty", key).await;
    add(&world, "empty", &credential("ES256_PEM", &world.key.public_pem())).await.expect("no one has to sign now");
}

#[tokio::test]
async fn an_authority_must_be_valid_when_it_is_added_and_when_it_vouches() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    shell(
        folder.path(),
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out old.key
         openssl req -new -key old.key -subj /CN=old -out old.csr
         openssl x509 -req -in old.csr -signkey old.key -out old.pem",
    );
    let version_1 = std::fs::read_to_string(folder.path().join("old.pem")).expect("openssl made it");
    let fine = authority("fine", -HOUR, HOUR);
    let many: Vec<Value> =
        (0..11).map(|number| vouching(&authority(&format!("ca-{number}"), -HOUR, HOUR).pem)).collect();
    for (why, authorities) in [
        ("expired", vec![vouching(&authority("ca", -HOUR, -60).pem)]),
        ("not valid yet", vec![vouching(&authority("ca", 60, HOUR).pem)]),
        ("version 1", vec![vouching(&version_1)]),
        ("no certificate", vec![vouching("none")]),
        ("two in one", vec![vouching(&format!("{}{}", fine.pem, fine.pem))]),
        ("a public key", vec![vouching(&world.key.public_pem())]),
        ("another format", vec![json!({"publicKeyCertificate": {"format": "PEM", "certificate": fine.pem}})]),
        ("nothing", vec![json!({})]),
        ("too many", many.clone()),
    ] {
        let body = json!({"credentials": authorities});
        let told = refused(&world, "PATCH", &format!("{REGISTRY}?updateMask=credentials"), body.clone()).await;
        assert_eq!(told, (400, "INVALID_ARGUMENT".to_owned()), "{why}");
        let mut created = body;
        created["id"] = json!("second");
        assert_eq!(refused(&world, "POST", PARENT, created).await, told, "{why}");
    }
    set_authorities(&world, &many[1..]).await;
    done(&world, "POST", DEVICES, json!({"id": "late"})).await;

    let brief = authority("brief", -HOUR, 5);
    let shown = set_authorities(&world, &[vouching(&brief.pem)]).await;
    let signed = || credential("ES256_X509_PEM", &device("brief", &brief.key, -HOUR, HOUR).pem);
    add(&world, "late", &signed()).await.expect("the authority is valid");
    // Its last moment is the end of a whole second.
    tokio::time::sleep(Duration::from_millis(6_100)).await;
    assert_eq!(add(&world, "late", &signed()).await, Err((400, "FAILED_PRECONDITION".to_owned())));
    // What is there may be sent back as it was read, details and all.
    let again = set_authorities(&world, shown["credentials"].as_array().expect("a list")).await;
    assert_eq!(again["credentials"], shown["credentials"]);
}
