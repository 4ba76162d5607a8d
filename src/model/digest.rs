//! SHA-256 of what must be recognised when it comes again.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::command::Method;

/// A SHA-256 digest. Written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Self(digest)
    }

    /// A digest (HMAC, RFC 2104) that only those can compare who know `key`, a constant of this program: what others make of
    /// the same bytes is another.
    pub fn keyed(key: &[u8], bytes: &[u8]) -> Self {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::hmac::sign(&key, bytes).as_ref());
        Self(digest)
    }

    /// The digest of what a command asks. Members of objects are in one order, so spelling does not matter.
    pub fn of_command(method: &Method, payload: &Value) -> Self {
        Self::of(format!("{method}\n{payload}").as_bytes())
    }

    /// The first bytes as a number, where something must be told from others and look random.
    pub fn number(&self) -> u64 {
        self.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The first bytes as hexadecimal digits, for ids that the agent mints.
    pub fn short(&self) -> String {
        hex(&self.0[..10])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: `sha256:` and 64 hexadecimal digits are expected")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits =
            text.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii()).ok_or(NoDigest)?;
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NoDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoDigest)?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_members_does_not_matter_and_the_method_does() {
        let echo = Method::parse("echo").expect("a name");
        let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).expect("JSON");
        let b: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).expect("JSON");
        assert_eq!(Digest::of_command(&echo, &a), Digest::of_command(&echo, &b));
        assert_ne!(Digest::of_command(&echo, &a), Digest::of_command(&Method::parse("ech").expect("a name"), &a));
        assert_ne!(Digest::of_command(&echo, &json!(null)), Digest::of_command(&echo, &json!("null")));
    }

    #[test]
    fn a_digest_is_read_back_and_nothing_else_is() {
        let digest = Digest::of(b"");
        let text = serde_json::to_string(&digest).expect("a string");
        assert_eq!(text, "\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
        assert_eq!(serde_json::from_str::<Digest>(&text).ok(), Some(digest));
        assert!(serde_json::from_str::<Digest>("\"sha256:é\"").is_err());
    }
}
