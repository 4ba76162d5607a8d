//! Any bytes where a key of the device should be: read or refused without a panic, never shown, and what is taken signs.

use std::time::Duration;

use twinagent::dialect::token::{Key, install_provider, mint};
use twinagent::model::now::Timestamp;
use twinagent::model::wire::Secret;

/// What is no key is named as its error is.
pub const VERDICTS: &[&str] = &[
    "usable",
    "nottext",
    "Empty",
    "NotPem",
    "Several",
    "PublicKey",
    "Certificate",
    "Sec1",
    "Encrypted",
    "OpenSsh",
    "Damaged",
    "OtherCurve",
    "ExplicitCurve",
    "NoPublicPart",
    "Pss",
    "TooSmall",
    "NotForTokens",
    "Refused",
];

pub fn read(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "nottext".to_owned() };
    match Key::parse(&Secret::new(text.to_owned())) {
        Ok(key) => {
            assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----"));
            assert!(format!("{key:?}").len() < 40, "a key is not shown");
            install_provider();
            let now = Timestamp::from_micros(1_800_000_000_000_000);
            let token = mint(&key, "p", now, Duration::from_secs(60)).expect("a key that was taken signs");
            assert_eq!(token.reveal().split('.').count(), 3);
            "usable".to_owned()
        }
        Err(error) => {
            let words = error.to_string();
            assert!(!words.is_empty() && words.len() < 300 && !error.hint().is_empty());
            format!("{error:?}").split([' ', '(']).next().expect("a split has a first part").to_owned()
        }
    }
}
