//! Every form of key that a person can arrive with, made by the real openssl, and every command we tell them to run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::dialect::token::{Claims, mint};
use crate::model::now::Timestamp;

const P256_KEY: &str = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out device.key";
const RSA_KEY: &str = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out device.key";

/// Runs a line of shell in a folder; the test fails if it fails, or if openssl is not there.
fn shell(folder: &Path, line: &str) -> Vec<u8> {
    let run = Command::new("sh")
        .args(["-ec", line])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("a shell to run openssl in");
    assert!(run.status.success(), "`{line}` failed: {}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

fn read(folder: &Path, name: &str) -> Result<Key, KeyError> {
    Key::parse(&Secret::new(std::fs::read_to_string(folder.join(name)).expect("a text file")))
}

/// What openssl makes of the key equals what we make of it, and openssl believes our signature.
fn agrees_with_openssl(folder: &Path, name: &str) {
    let key = read(folder, name).expect("a key we can use");
    let public = shell(folder, &format!("openssl pkey -in {name} -pubout -out public.pem; cat public.pem"));
    assert_eq!(key.public_pem(), String::from_utf8(public).expect("PEM"));

    let now = Timestamp::from_micros(4_000_000_000_000_000);
    let token = mint(&key, "my-project", now, Duration::from_secs(600)).expect("a token");
    #[cfg(feature = "bridge")]
    the_cloud_believes(&key, token.reveal());
    let (message, signature) = token.reveal().rsplit_once('.').expect("three parts");
    std::fs::write(folder.join("message"), message).expect("a file");
    let (decoding, raw) = match key.algorithm() {
        Algorithm::ES256 => (DecodingKey::from_ec_der(&key.public[26..]), base64url(signature)),
        _ => (DecodingKey::from_rsa_der(&key.public[24..]), base64url(signature)),
    };
    assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &decoding, key.algorithm()).expect("verified"));
    assert!(!jsonwebtoken::crypto::verify(signature, b"another", &decoding, key.algorithm()).expect("judged"));

    let signature = if key.algorithm() == Algorithm::ES256 {
        assert_eq!(raw.len(), 64, "r || s");
        ecdsa_der(&raw)
    } else {
        raw
    };
    std::fs::write(folder.join("signature"), signature).expect("a file");
    shell(folder, "openssl dgst -sha256 -verify public.pem -signature signature message");
}

/// The stand-in cloud reads the public key from the PEM that was registered.
#[cfg(feature = "bridge")]
fn the_cloud_believes(key: &Key, token: &str) {
    let public = key.public_pem();
    let decoding = match key.algorithm() {
        Algorithm::ES256 => DecodingKey::from_ec_pem(public.as_bytes()),
        _ => DecodingKey::from_rsa_pem(public.as_bytes()),
    };
    let mut validation = jsonwebtoken::Validation::new(key.algorithm());
    validation.set_audience(&["my-project"]);
    let claims = jsonwebtoken::decode::<Claims>(token, &decoding.expect("a public key"), &validation);
    assert_eq!(claims.expect("a token that holds").claims.aud, "my-project");
}

/// openssl wants `SEQUENCE { INTEGER r, INTEGER s }`; a JWT has the bare numbers.
fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let numbers = raw.chunks(32).flat_map(|number| {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        let sign = if number[zeros] >= 0x80 { &[0][..] } else { &[] };
        der::element(der::INTEGER, &[sign, &number[zeros..]].concat())
    });
    der::element(der::SEQUENCE, &numbers.collect::<Vec<_>>())
}

fn base64url(text: &str) -> Vec<u8> {
    let standard = text.replace('-', "+").replace('_', "/");
    let padded = format!("{standard}{}", "=".repeat((4 - standard.len() % 4) % 4));
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("text"), padded).expect("a file");
    shell(folder.path(), "openssl base64 -d -A -in text")
}

#[test]
fn what_openssl_makes_is_read_and_what_we_sign_openssl_believes() {
    let folder = TempDir::new().expect("a folder");
    shell(folder.path(), P256_KEY);
    agrees_with_openssl(folder.path(), "device.key");
    shell(folder.path(), RSA_KEY);
    agrees_with_openssl(folder.path(), "device.key");
    shell(folder.path(), "openssl rsa -in device.key -traditional -out pkcs1.key");
    assert!(shell(folder.path(), "cat pkcs1.key").starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    agrees_with_openssl(folder.path(), "pkcs1.key");
}

#[test]
fn what_we_make_openssl_reads() {
    let folder = TempDir::new().expect("a folder");
    let (text, key) = generate().expect("a key");
    assert_eq!(key.algorithm(), Algorithm::ES256);
    std::fs::write(folder.path().join("device.key"), text.reveal()).expect("a file");
    agrees_with_openssl(folder.path(), "device.key");
}

#[test]
fn crlf_and_text_around_the_key_are_no_matter() {
    let folder = TempDir::new().expect("a folder");
    shell(folder.path(), P256_KEY);
    shell(folder.path(), "(echo the key of gw-1; cat device.key; echo) | sed 's/$/\\r/' > crlf.key");
    let plain = read(folder.path(), "device.key").expect("a key");
    assert_eq!(read(folder.path(), "crlf.key").expect("a key").public_pem(), plain.public_pem());
}

/// How to make a key of this form from scratch, the error it gets, and whether the hint is a command that mends it.
fn refused(make: &str, expected: &KeyError, mends: bool) {
    let folder = TempDir::new().expect("a folder");
    shell(folder.path(), make);
    let error = read(folder.path(), "device.key").expect_err(make);
    assert_eq!(error, *expected, "{make}");
    assert!(!error.hint().is_empty());
    if mends {
        let command = error.hint().replace("openssl pkey", "openssl pkey -passin pass:secret");
        shell(folder.path(), &command);
        agrees_with_openssl(folder.path(), "new.key");
    }
}

#[test]
fn a_form_we_cannot_read_is_refused_with_the_command_that_converts_it() {
    refused("openssl ecparam -genkey -name prime256v1 -out device.key", &KeyError::Sec1, true);
    refused(&format!("{P256_KEY} -aes256 -pass pass:secret"), &KeyError::Encrypted, true);
    refused(
        &format!(
            "{RSA_KEY}; openssl rsa -in device.key -traditional -aes128 -passout pass:secret -out old && mv old device.key"
        ),
        &KeyError::Encrypted,
        true,
    );
    refused(
        &format!(
            "{P256_KEY}; openssl ec -in device.key -no_public | openssl pkcs8 -topk8 -nocrypt -out new && mv new device.key"
        ),
        &KeyError::NoPublicPart,
        true,
    );
    refused(&format!("{P256_KEY} -pkeyopt ec_param_enc:explicit"), &KeyError::ExplicitCurve, true);
}

#[test]
fn a_key_that_is_no_good_is_told_from_one_in_the_wrong_form() {
    refused(&P256_KEY.replace("P-256", "P-384"), &KeyError::OtherCurve, false);
    refused(&RSA_KEY.replace("2048", "1024"), &KeyError::TooSmall { bits: 1024 }, false);
    refused(&RSA_KEY.replace("RSA -", "RSA-PSS -"), &KeyError::Pss, false);
    refused("openssl genpkey -algorithm ed25519 -out device.key", &KeyError::NotForTokens, false);
    refused(
        &format!("{P256_KEY}; openssl pkey -in device.key -pubout -out public && mv public device.key"),
        &KeyError::PublicKey,
        false,
    );
    refused(
        &format!("{P256_KEY}; openssl req -x509 -new -key device.key -subj /CN=x -out cert && mv cert device.key"),
        &KeyError::Certificate,
        false,
    );
    refused(&format!("{P256_KEY}; cp device.key one; cat one >> device.key"), &KeyError::Several, false);
    refused(&format!("{P256_KEY}; sed -i 2d device.key"), &KeyError::Damaged, false);
    refused(&format!("{P256_KEY}; sed -i '$d' device.key"), &KeyError::Damaged, false);
    refused(": > device.key", &KeyError::Empty, false);
    refused("echo hello > device.key", &KeyError::NotPem, false);
    refused("printf '%s\\n' '-----BEGIN OPENSSH PRIVATE KEY-----' > device.key", &KeyError::OpenSsh, false);
}

proptest! {
    #[test]
    fn no_text_and_no_damage_is_a_panic(junk in prop::collection::vec(any::<u8>(), 0..200), at in 0..200_usize, byte: u8) {
        let _ = Key::parse(&Secret::new(pem::write("PRIVATE KEY", &junk)));
        let _ = Key::parse(&Secret::new(pem::write("RSA PRIVATE KEY", &junk)));
        let _ = Key::parse(&Secret::new(String::from_utf8_lossy(&junk).into_owned()));
        let (text, _) = generate().expect("a key");
        let mut damaged = text.reveal().as_bytes().to_vec();
        let at = at % damaged.len();
        damaged[at] = byte;
        let _ = Key::parse(&Secret::new(String::from_utf8_lossy(&damaged).into_owned()));
    }
}

#[test]
fn a_key_shows_itself_nowhere() {
    let (text, key) = generate().expect("a key");
    assert_eq!(format!("{key:?} {text:?}"), "Key(ES256, secret) (secret)");
    let claims = Claims::new("p", Timestamp::from_micros(0), Duration::from_secs(60));
    let token = crate::dialect::token::sign(&key, &claims).expect("a token");
    assert_eq!(format!("{token:?}"), "(secret)");
}
