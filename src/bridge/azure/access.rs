//! How a device proves who it is: by one of two shared keys, or by a certificate with one of two thumbprints.
//!
//! It keeps the proofs as the service shows them, in JSON too. What is secret here never shows in `Debug`.
//!
//! Source: "Device identity properties" in "Understand the identity registry in your IoT hub", learn.microsoft.com.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::HubError;
use crate::bridge::google::validity;
use crate::dialect::sas::SharedKey;
use crate::model::now::Timestamp;

/// What is kept of a device's proofs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub(super) enum Authentication {
    #[serde(rename_all = "camelCase")]
    Sas { primary_key: String, secondary_key: String },
    /// In upper case; empty where there is none.
    #[serde(rename_all = "camelCase")]
    SelfSigned { primary_thumbprint: String, secondary_thumbprint: String },
    /// By an authority that the hub knows. The stand-in knows none, so nobody gets in so.
    CertificateAuthority,
}

impl fmt::Debug for Authentication {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind())
    }
}

/// `authentication` in the body of a call.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthenticationBody {
    r#type: Option<String>,
    symmetric_key: Option<SymmetricKey>,
    x509_thumbprint: Option<X509Thumbprint>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SymmetricKey {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509Thumbprint {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

impl AuthenticationBody {
    pub(super) fn with_keys(primary: &str, secondary: Option<&str>) -> Self {
        let symmetric_key =
            SymmetricKey { primary_key: Some(primary.to_owned()), secondary_key: secondary.map(str::to_owned) };
        Self { r#type: Some("sas".to_owned()), symmetric_key: Some(symmetric_key), x509_thumbprint: None }
    }

    pub(super) fn with_thumbprints(primary: &str, secondary: Option<&str>) -> Self {
        let thumbprint = X509Thumbprint {
            primary_thumbprint: Some(primary.to_owned()),
            secondary_thumbprint: secondary.map(str::to_owned),
        };
        Self { r#type: Some("selfSigned".to_owned()), symmetric_key: None, x509_thumbprint: Some(thumbprint) }
    }

    /// What is kept. Keys that are not given are made.
    pub(super) fn read(self) -> Result<Authentication, HubError> {
        let thumbprint = self.x509_thumbprint.unwrap_or_default();
        let has_thumbprint = thumbprint.primary_thumbprint.is_some() || thumbprint.secondary_thumbprint.is_some();
        let kind = match self.r#type.as_deref() {
            Some(kind) => kind,
            // Callers older than the member mean what they give.
            None if has_thumbprint => "selfSigned",
            None => "sas",
        };
        match kind {
            "sas" => {
                let SymmetricKey { primary_key, secondary_key } = self.symmetric_key.unwrap_or_default();
                Ok(Authentication::Sas { primary_key: key(primary_key)?, secondary_key: key(secondary_key)? })
            }
            "selfSigned" => self_signed(thumbprint),
            "certificateAuthority" => Ok(Authentication::CertificateAuthority),
            _ => Err(HubError::invalid("authentication.type must be sas, selfSigned or certificateAuthority.")),
        }
    }
}

fn key(given: Option<String>) -> Result<String, HubError> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(new_key()) };
    // The text of a wrong one is not told: it may be a key with a slip.
    SharedKey::parse(&text).map_err(|_| HubError::invalid("A symmetric key must be base64."))?;
    Ok(text)
}

fn self_signed(thumbprint: X509Thumbprint) -> Result<Authentication, HubError> {
    let read = |text: Option<String>| match text.unwrap_or_default() {
        text if text.is_empty() => Ok(text),
        text if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(text.to_ascii_uppercase())
        }
        _ => Err(HubError::invalid("A thumbprint must have 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.")),
    };
    let (primary, secondary) = (read(thumbprint.primary_thumbprint)?, read(thumbprint.secondary_thumbprint)?);
    if primary.is_empty() && secondary.is_empty() {
        return Err(HubError::invalid("A self-signed identity needs a thumbprint."));
    }
    Ok(Authentication::SelfSigned { primary_thumbprint: primary, secondary_thumbprint: secondary })
}

impl Authentication {
    /// As the service spells it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Sas { .. } => "sas",
            Self::SelfSigned { .. } => "selfSigned",
            Self::CertificateAuthority => "certificateAuthority",
        }
    }

    /// The keys that sign tokens.
    pub(super) fn keys(&self) -> Vec<SharedKey> {
        let Self::Sas { primary_key, secondary_key } = self else { return Vec::new() };
        [primary_key, secondary_key].into_iter().filter_map(|key| SharedKey::parse(key).ok()).collect()
    }

    /// The first key, in base64.
    pub(super) fn primary_key(&self) -> Option<&str> {
        if let Self::Sas { primary_key, .. } = self { Some(primary_key) } else { None }
    }

    /// Whether this is the certificate, in DER.
    pub(super) fn is_certificate(&self, der: &[u8]) -> bool {
        let Self::SelfSigned { primary_thumbprint, secondary_thumbprint } = self else { return false };
        [primary_thumbprint, secondary_thumbprint].into_iter().any(|known| thumbprint_matches(known, der))
    }

    /// `authentication` as the service shows it, all members there.
    pub(super) fn resource(&self) -> Value {
        let keys = match self {
            Self::Sas { primary_key, secondary_key } => {
                json!({ "primaryKey": primary_key, "secondaryKey": secondary_key })
            }
            _ => json!({ "primaryKey": null, "secondaryKey": null }),
        };
        json!({ "type": self.kind(), "symmetricKey": keys, "x509Thumbprint": self.thumbprint() })
    }

    /// `x509Thumbprint` as identities and twins show it.
    pub(super) fn thumbprint(&self) -> Value {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        match self {
            Self::SelfSigned { primary_thumbprint, secondary_thumbprint } => json!({
                "primaryThumbprint": given(primary_thumbprint),
                "secondaryThumbprint": given(secondary_thumbprint),
            }),
            _ => json!({ "primaryThumbprint": null, "secondaryThumbprint": null }),
        }
    }
}

/// Whether a certificate, in DER, is good at this time; the error says what is wrong with it.
pub(crate) fn check_validity(der: &[u8], now: Timestamp) -> Result<(), String> {
    let (starts, ends) = validity(der).ok_or("the certificate cannot be read")?;
    if now < starts {
        return Err(format!("the certificate is not valid before {starts}"));
    }
    if now > ends {
        return Err(format!("the certificate ended on {ends}"));
    }
    Ok(())
}

/// Whether a text is the thumbprint of a certificate: SHA-1 or SHA-256 of its DER, in hexadecimal digits.
pub(crate) fn thumbprint_matches(text: &str, der: &[u8]) -> bool {
    let algorithm = match text.len() {
        40 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        64 => &digest::SHA256,
        _ => return false,
    };
    let digits = |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| char::from_digit(digit.into(), 16));
    let is = digest::digest(algorithm, der);
    is.as_ref().iter().flat_map(digits).flatten().eq(text.chars().map(|digit| digit.to_ascii_lowercase()))
}

/// 32 random bytes in base64, as the service makes its keys.
pub(super) fn new_key() -> String {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Authentication, HubError> {
        serde_json::from_value::<AuthenticationBody>(body.clone()).expect("JSON").read()
    }

    #[test]
    fn keys_that_are_not_given_are_made() {
        let made = read(&json!({})).expect("keys");
        let Authentication::Sas { primary_key, secondary_key } = &made else { panic!("keys are expected") };
        assert_eq!((primary_key.len(), secondary_key.len()), (44, 44));
        assert_ne!(primary_key, secondary_key);
        assert_eq!(made.keys().len(), 2);
        assert_eq!(format!("{made:?}"), "sas");
        let given = json!({"type": "sas", "symmetricKey": {"primaryKey": "a2V5a2V5a2V5a2V5", "secondaryKey": null}});
        assert_eq!(read(&given).expect("keys").primary_key(), Some("a2V5a2V5a2V5a2V5"));
    }

    #[test]
    fn a_thumbprint_is_of_either_digest_in_either_case() {
        // Of "abc": FIPS 180-4, examples.
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        for (primary, secondary, good) in [
            (sha1, None, true),
            (sha256, None, true),
            (&*sha256.to_ascii_lowercase(), None, true),
            (&*"0".repeat(40), Some(sha1), true),
            (&*"0".repeat(40), None, false),
        ] {
            let kept = AuthenticationBody::with_thumbprints(primary, secondary).read().expect("thumbprints");
            assert_eq!(kept.is_certificate(b"abc"), good, "{primary}");
            assert!(!kept.is_certificate(b"abd") && kept.keys().is_empty());
        }
        assert!(!read(&json!({"type": "sas"})).expect("keys").is_certificate(b"abc"));
        assert!(!thumbprint_matches("", b"abc"));
    }

    #[test]
    fn what_could_prove_nothing_is_refused() {
        for body in [
            json!({"type": "none"}),
            json!({"type": "selfSigned"}),
            json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "xyz"}}),
            json!({"type": "sas", "symmetricKey": {"primaryKey": "not base64!"}}),
        ] {
            let error = read(&body).expect_err("no proof");
            assert!(error.status == 400 && !error.message.contains("not base64!"), "{error}");
        }
    }
}
