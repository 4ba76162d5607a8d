//! Any text where the device's key should be: read or refused without a panic, and never shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twinagent::dialect::token::Key;
use twinagent::model::wire::Secret;

fuzz_target!(|text: &str| {
    match Key::parse(&Secret::new(text.to_owned())) {
        Ok(key) => assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----")),
        Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
    }
});
