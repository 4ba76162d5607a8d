//! A device's public keys: how they are written, and until when they count.

use serde::{Deserialize, Serialize};

use super::auth::Key;
use super::error::ApiError;
use crate::model::now::Timestamp;

/// Credentials of one device (cloud.google.com/iot/docs/quotas).
const MAX_CREDENTIALS: usize = 3;

/// How a public key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyFormat {
    #[serde(rename = "RSA_PEM")]
    Rsa,
    #[serde(rename = "RSA_X509_PEM")]
    RsaX509,
    #[serde(rename = "ES256_PEM")]
    Es256,
    #[serde(rename = "ES256_X509_PEM")]
    Es256X509,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PublicKey {
    pub(crate) format: KeyFormat,
    pub(crate) key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Credential {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_time: Option<Timestamp>,
    pub(crate) public_key: PublicKey,
}

impl Credential {
    /// A key given as PEM: ES256 if it is one, else RSA.
    pub(crate) fn from_pem(key: &str) -> Self {
        let format = if Key::read(KeyFormat::Es256, key).is_some() { KeyFormat::Es256 } else { KeyFormat::Rsa };
        Self { expiration_time: None, public_key: PublicKey { format, key: key.to_owned() } }
    }

    /// An expired credential is ignored for new logins. The start of 1970 means that it never expires.
    pub(crate) fn is_valid_at(&self, now: Timestamp) -> bool {
        self.expiration_time.is_none_or(|end| end > now || end.unix_seconds() == 0)
    }
}

/// Refuses keys that could never verify a login.
pub(crate) fn check(credentials: &[Credential]) -> Result<(), ApiError> {
    if credentials.len() > MAX_CREDENTIALS {
        return Err(ApiError::invalid(format!("A device can have at most {MAX_CREDENTIALS} credentials.")));
    }
    for PublicKey { format, key } in credentials.iter().map(|credential| &credential.public_key) {
        if matches!(format, KeyFormat::RsaX509 | KeyFormat::Es256X509) {
            return Err(ApiError::invalid("X.509 credentials are not supported here; use RSA_PEM or ES256_PEM."));
        }
        if Key::read(*format, key).is_none() {
            return Err(ApiError::invalid("The public key cannot be read in the format that it is said to have."));
        }
    }
    Ok(())
}
