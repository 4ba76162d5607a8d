//! Any bytes where the last good configuration should be: damage is never taken for a configuration, and what is right
//! comes back.

use serde_json::{Map, Value, json};
use twinagent::config::last_good::{ReadError, read as kept};
use twinagent::model::digest::Digest;

use super::config::comes_back;

pub const VERDICTS: &[&str] = &["right", "large", "other", "damaged", "refused"];

pub fn read(bytes: &[u8]) -> String {
    if let Ok(settings) = serde_json::from_slice::<Map<String, Value>>(bytes) {
        judge(&sealed(&settings));
    }
    judge(bytes).to_owned()
}

fn judge(bytes: &[u8]) -> &'static str {
    match kept(bytes) {
        Ok(config) => {
            comes_back(&config);
            "right"
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            match error {
                ReadError::TooLarge => "large",
                ReadError::OtherVersion(_) => "other",
                ReadError::Damaged(_) => "damaged",
                ReadError::Refused(_) => "refused",
            }
        }
    }
}

/// The settings under the right version and digest, which a fuzzer would never find: what is behind them is fuzzed.
fn sealed(settings: &Map<String, Value>) -> Vec<u8> {
    let digest = Digest::of(&serde_json::to_vec(settings).expect("JSON"));
    serde_json::to_vec(&json!({ "version": 1, "digest": digest, "config": settings })).expect("JSON")
}
