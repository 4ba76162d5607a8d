//! What JSON of protocol buffers does in its own way: bytes and 64-bit numbers are texts.
//!
//! Source: protobuf.dev/programming-guides/json.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Bytes that are base64 in JSON. Either alphabet and either padding is read, as JSON of protocol buffers demands.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl Payload {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Payloads may hold anything, so they are never printed.
impl fmt::Debug for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Payload({} bytes)", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let text = String::deserialize(input)?.replace('-', "+").replace('_', "/");
        LENIENT
            .decode(text)
            .map(|bytes| Self(bytes.into()))
            .map_err(|error| serde::de::Error::custom(format!("not base64: {error}")))
    }
}

/// A number that a client sends: a text, as it should be, or a number, as some clients write it. 0 if it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let number = match Value::deserialize(input)? {
            Value::Null => Some(0),
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        number.map(Self).ok_or_else(|| serde::de::Error::custom("no number, or a negative one"))
    }
}

/// The number of a configuration. 64-bit numbers are texts in JSON of protocol buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Version(pub(crate) u64);

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}
