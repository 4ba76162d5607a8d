//! Shared access signatures: the login tokens of Azure, signed with a key that the cloud has too.
//!
//! Owns the key, the resource and the signing. It reads no file and no clock. What is secret here never shows in `Debug` or
//! in an error.
//!
//! Source: "Control access to IoT Hub by using shared access signatures" (learn.microsoft.com/azure/iot-hub).

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::model::now::Timestamp;
use crate::model::wire::Secret;

/// The longest key that is read, in characters of base64. The clouds' own have 44 or 88; HMAC-SHA256 gains nothing beyond.
const LONGEST_KEY: usize = 1_024;

/// A key that a device and its cloud share.
#[derive(Clone)]
pub struct SharedKey(hmac::Key);

impl fmt::Debug for SharedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// What was to be a key is none; the text of it is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a shared access key: base64 of at most {LONGEST_KEY} characters is expected")]
pub struct NotAKey;

impl SharedKey {
    /// Reads the base64 that the cloud shows for it. An empty key is none.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST_KEY {
            return Err(NotAKey);
        }
        let bytes = STANDARD.decode(text).map_err(|_| NotAKey)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The signature of `resource`, encoded as it stands in the token, that holds until `expiry` in seconds since 1970.
    pub fn sign(&self, resource: &str, expiry: i64) -> String {
        STANDARD.encode(hmac::sign(&self.0, format!("{resource}\n{expiry}").as_bytes()))
    }

    /// Whether this is that signature; takes the same time for all wrong ones.
    pub fn verifies(&self, resource: &str, expiry: &str, signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        hmac::verify(&self.0, format!("{resource}\n{expiry}").as_bytes(), &signature).is_ok()
    }
}

/// A token for `resource` (not encoded yet), such as `hub.example/devices/gw-1`, that holds until `expires`; `policy` names
/// the key where the cloud has several.
pub fn mint(key: &SharedKey, resource: &str, expires: Timestamp, policy: Option<&str>) -> Secret {
    let (resource, expiry) = (percent_encode(resource), expires.unix_seconds());
    let signature = percent_encode(&key.sign(&resource, expiry));
    let policy = policy.map(|policy| format!("&skn={policy}")).unwrap_or_default();
    Secret::new(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{policy}"))
}

/// Everything but the unreserved characters of RFC 3986 2.3 as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
    encoded
}

/// The text behind `%XX`; `None` where a `%` begins no such escape, or it is no UTF-8. A `+` stays one.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Azure's device library for Python makes of this key, recomputed by another program.
    #[test]
    fn tokens_are_those_of_the_clouds_own_library() {
        let key = SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key");
        for (resource, expiry, token) in [
            (
                "localhost/devices/dev1",
                1_795_293_688,
                "SharedAccessSignature sr=localhost%2Fdevices%2Fdev1&sig=VUKG0ijCG%2FdiZLtajUBqLeMeGMhruAta5muj6OXt9TE%3D&se=1795293688",
            ),
            (
                "myhub.azure-devices.net/devices/dev1",
                1_795_293_691,
                "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev1&sig=rx5J8uc4K0QcgeCoC3YHNT5%2Bqsze5R2JUH45v17Yo0w%3D&se=1795293691",
            ),
        ] {
            let minted = mint(&key, resource, Timestamp::from_micros(expiry * 1_000_000), None);
            assert_eq!(minted.reveal(), token);
        }
    }

    #[test]
    fn a_signature_holds_for_the_bytes_that_were_signed_alone() {
        let key = SharedKey::parse("a2V5a2V5a2V5a2V5").expect("a key");
        let signature = key.sign("hub%2fdevices%2fa", 100);
        assert!(key.verifies("hub%2fdevices%2fa", "100", &signature));
        for (resource, expiry) in [("hub%2Fdevices%2Fa", "100"), ("hub%2fdevices%2fa", "101"), ("", "")] {
            assert!(!key.verifies(resource, expiry, &signature));
        }
        assert!(!key.verifies("hub%2fdevices%2fa", "100", "no base64!"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_told() {
        for text in ["", "  ", "not base64!", &"A".repeat(2_000)] {
            let error = SharedKey::parse(text).expect_err("no key");
            assert!(text.trim().is_empty() || !error.to_string().contains(text));
        }
        assert_eq!(format!("{:?}", SharedKey::parse("a2V5a2V5a2V5a2V5")), "Ok((secret))");
    }

    #[test]
    fn escapes_go_there_and_back() {
        for text in ["", "plain", "a/b?c=d&e%+ ü~"] {
            assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        }
        assert_eq!(percent_decode("%2f%2F"), Some("//".to_owned()));
        for wrong in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(wrong), None, "{wrong}");
        }
    }
}
