//! A device's public keys: how they are written, until when they count, and which may be added.

use serde::{Deserialize, Serialize};

use super::authority::{self, Authority};
use super::error::ApiError;
use super::key::{KeyKind, VerifyingKey};
use super::x509::Certificate;
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

impl KeyFormat {
    fn kind(self) -> KeyKind {
        match self {
            Self::Rsa | Self::RsaX509 => KeyKind::Rsa,
            Self::Es256 | Self::Es256X509 => KeyKind::P256,
        }
    }

    fn is_x509(self) -> bool {
        matches!(self, Self::RsaX509 | Self::Es256X509)
    }
}

impl PublicKey {
    /// The certificate, if the key is written as one and is of the kind that its format says.
    fn certificate(&self) -> Option<Certificate> {
        let certificate = self.format.is_x509().then(|| Certificate::from_pem(&self.key))??;
        (certificate.key().kind == self.format.kind()).then_some(certificate)
    }

    /// The key, if it can be read in the format that it is said to have.
    fn verifying_key(&self) -> Option<VerifyingKey> {
        if self.format.is_x509() {
            return self.certificate().map(Certificate::into_key);
        }
        VerifyingKey::from_pem(&self.key).filter(|key| key.kind == self.format.kind())
    }
}

impl Credential {
    /// A key given as PEM: ES256 if it is one, else RSA.
    pub(crate) fn from_pem(key: &str) -> Self {
        let kind = VerifyingKey::from_pem(key).map(|key| key.kind);
        let format = if kind == Some(KeyKind::P256) { KeyFormat::Es256 } else { KeyFormat::Rsa };
        Self { expiration_time: None, public_key: PublicKey { format, key: key.to_owned() } }
    }

    /// The key for a login now, if it is of this kind. An expired credential is ignored for new logins; the start of
    /// 1970 means that it never expires. The dates of a certificate are not looked at: certificates are verified when
    /// they are added, and never again (discovery document, `DeviceRegistry.credentials`).
    pub(crate) fn login_key(&self, kind: KeyKind, now: Timestamp) -> Option<VerifyingKey> {
        let counts = self.expiration_time.is_none_or(|end| end > now || end.unix_seconds() == 0);
        let wanted = counts && self.public_key.format.kind() == kind;
        wanted.then(|| self.public_key.verifying_key())?
    }
}

/// Refuses keys that could never verify a login, and new ones that the registry's authorities do not vouch for.
///
/// Credentials that the device has already stay, whatever has become of the registry: the discovery document says so.
pub(crate) fn check(
    credentials: &[Credential],
    earlier: &[Credential],
    authorities: &[Authority],
    now: Timestamp,
) -> Result<(), ApiError> {
    if credentials.len() > MAX_CREDENTIALS {
        return Err(ApiError::invalid(format!("A device can have at most {MAX_CREDENTIALS} credentials.")));
    }
    let is_known = |key: &PublicKey| earlier.iter().any(|credential| credential.public_key == *key);
    for key in credentials.iter().map(|credential| &credential.public_key).filter(|key| !is_known(key)) {
        if key.verifying_key().is_none() {
            return Err(ApiError::invalid("The public key cannot be read in the format that it is said to have."));
        }
        if !authorities.is_empty() {
            let Some(certificate) = key.certificate() else {
                return Err(ApiError::invalid(
                    "The registry has certificates, so a new credential must be an X.509 certificate that one of them \
                     has signed: RSA_X509_PEM or ES256_X509_PEM.",
                ));
            };
            authority::vouch(authorities, &certificate, now)?;
        }
    }
    Ok(())
}
