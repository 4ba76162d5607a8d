//! What the stories share: a bridge with one device, that device's key and tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use twinagent::bridge::{Bridge, Cloud, DeviceName, Faults, Options};

pub(crate) const PROJECT: &str = "my-project";
pub(crate) const REGION: &str = "us-central1";

/// Long enough for a busy machine; nothing waits so long when all is well.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A device's key.
pub(crate) enum DeviceKey {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl DeviceKey {
    pub(crate) fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(pkcs8.expect("a new key").as_ref())
    }

    /// Reads a private key: P-256 or RSA.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_or_else(|_| Self::Rs256(RsaKeyPair::from_pkcs8(der).expect("a key")), Self::Es256)
    }

    /// The public key of a P-256 key.
    pub(crate) fn public_pem(&self) -> String {
        let Self::Es256(key) = self else { panic!("the public keys of RSA keys come from openssl") };
        // SubjectPublicKeyInfo of an uncompressed P-256 point: RFC 5480.
        let mut der = vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        der.extend_from_slice(key.public_key().as_ref());
        let text = STANDARD.encode(der);
        let (first, second) = text.split_at(64);
        format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let algorithm = if matches!(self, Self::Es256(_)) { "ES256" } else { "RS256" };
        let message = format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT"})), part(claims));
        let signature = match self {
            Self::Es256(key) => {
                key.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature").as_ref().to_vec()
            }
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
                    .expect("a signature");
                signature
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A good token that lasts so many seconds from now.
    pub(crate) fn token(&self, life: i64) -> String {
        self.sign(&json!({"aud": PROJECT, "iat": unix_now(), "exp": unix_now() + life}))
    }
}

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 277 026 596")
}

/// A running bridge with one registry and one device.
pub(crate) struct World {
    pub(crate) bridge: Bridge,
    pub(crate) cloud: Cloud,
    pub(crate) faults: Faults,
    pub(crate) device: DeviceName,
    pub(crate) key: DeviceKey,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bridge = start(&folder, change).await;
        let cloud = bridge.cloud();
        let registry = cloud.create_registry(PROJECT, REGION, "my-registry", true).await.expect("a registry");
        let key = DeviceKey::new();
        let device = cloud.create_device(&registry, "gw-1", &key.public_pem()).await.expect("a device");
        let faults = bridge.faults();
        Self { bridge, cloud, faults, device, key, folder }
    }

    /// The same world with another run of the bridge.
    pub(crate) async fn restarted(self) -> Self {
        self.bridge.stop().await;
        let bridge = start(&self.folder, |_| {}).await;
        Self { cloud: bridge.cloud(), faults: bridge.faults(), bridge, ..self }
    }

    pub(crate) fn mqtt(&self) -> std::net::SocketAddr {
        self.bridge.addresses().mqtt.expect("it is on")
    }

    /// The resource of the device.
    pub(crate) async fn resource(&self) -> Value {
        self.cloud.device(&self.device).await.expect("the device is there")
    }

    /// Waits until the device's last error speaks of this.
    pub(crate) async fn last_error(&self, text: &str) {
        let seen = async {
            loop {
                let resource = self.resource().await;
                if resource["lastErrorStatus"]["message"].as_str().is_some_and(|message| message.contains(text)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("no error that says {text:?}"));
    }
}

/// A bridge with MQTT and HTTP on any free port of loopback.
pub(crate) async fn start(folder: &TempDir, change: impl FnOnce(&mut Options)) -> Bridge {
    let mut options = Options {
        mqtt: Some("127.0.0.1:0".to_owned()),
        http: Some("127.0.0.1:0".to_owned()),
        ..Options::new(folder.path())
    };
    change(&mut options);
    Bridge::start(options).await.expect("the bridge starts")
}
