//! Any bytes where a shared key and a resource should be, a line each: read or refused without a panic, the key never shown,
//! and what is signed verifies as it stands, and only so.

use twinagent::dialect::sas::{SharedKey, mint, percent_decode, percent_encode};
use twinagent::model::now::Timestamp;

pub const VERDICTS: &[&str] = &["signed", "nokey", "nottext"];

const EXPIRY: i64 = 1_800_000_000;

pub fn read(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "nottext".to_owned() };
    let (key, resource) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(percent_decode(&percent_encode(resource)).as_deref(), Some(resource));
    if let Some(decoded) = percent_decode(resource) {
        assert!(decoded.len() <= resource.len(), "an escape is longer than what it stands for");
    }
    let Ok(key) = SharedKey::parse(key) else { return "nokey".to_owned() };
    assert_eq!(format!("{key:?}"), "(secret)");
    let token = mint(&key, resource, Timestamp::from_micros(EXPIRY * 1_000_000), None);
    let fields = token.reveal().strip_prefix("SharedAccessSignature ").expect("the kind of token");
    let field = |name: &str| {
        let mut values = fields.split('&').filter_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let value = values.next().expect("the field is there").to_owned();
        assert_eq!(values.next(), None, "a resource adds no field");
        value
    };
    let (encoded, expiry) = (field("sr"), field("se"));
    let signature = percent_decode(&field("sig")).expect("it was encoded");
    assert_eq!(percent_decode(&encoded).as_deref(), Some(resource));
    assert!(key.verifies(&encoded, &expiry, &signature));
    assert!(!key.verifies(&format!("{encoded}x"), &expiry, &signature));
    // What somebody else signed is judged, whatever it looks like.
    assert!(!key.verifies(&encoded, &expiry, resource));
    "signed".to_owned()
}
