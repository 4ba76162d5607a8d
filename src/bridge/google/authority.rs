//! A registry's certificates, which vouch for the credentials of new devices.
//!
//! Rules: cloud.google.com/iot/docs/how-tos/credentials/verifying-credentials, and its successor's copy of that page at
//! docs.clearblade.com/iotcore/verifying-device-credentials. An authority must be of version 3, RSA or P-256, and valid
//! when it is added and whenever it vouches. A device's certificate must be valid when it is added, signed by an
//! authority of the registry with none between them, and not be the authority's own.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, Canonical};
use super::x509::Certificate;
use crate::model::now::Timestamp;

/// Certificates of one registry (cloud.google.com/iot/docs/quotas).
const MAX_AUTHORITIES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum CertificateFormat {
    #[serde(rename = "X509_CERTIFICATE_PEM")]
    X509,
}

/// `RegistryCredential`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Authority {
    public_key_certificate: PublicKeyCertificate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PublicKeyCertificate {
    format: CertificateFormat,
    certificate: String,
    /// Read from the certificate; what a client says is ignored.
    #[serde(default, rename = "x509Details", skip_serializing)]
    _details: IgnoredAny,
}

impl Authority {
    fn certificate(&self) -> Option<Certificate> {
        Certificate::from_pem(&self.public_key_certificate.certificate)
    }

    /// The resource as a client sees it: with what its certificate says.
    pub(crate) fn resource(&self) -> Value {
        let mut resource = json!(self);
        if let Some(certificate) = self.certificate() {
            resource["publicKeyCertificate"]["x509Details"] = certificate.details();
        }
        resource
    }
}

/// Refuses new certificates that could never vouch for a device.
pub(crate) fn check(authorities: &[Authority], earlier: &[Authority], now: Timestamp) -> Result<(), ApiError> {
    if authorities.len() > MAX_AUTHORITIES {
        return Err(ApiError::invalid(format!("A registry can have at most {MAX_AUTHORITIES} certificates.")));
    }
    for authority in authorities.iter().filter(|authority| !earlier.contains(authority)) {
        let Some(certificate) = authority.certificate() else {
            return Err(ApiError::invalid(
                "The registry's certificate cannot be read: one X.509 certificate in PEM is expected, with an RSA key of \
                 2048 bits or more or a P-256 key.",
            ));
        };
        if !certificate.is_version_3() {
            return Err(ApiError::invalid("The registry's certificate is not of version 3 of X.509."));
        }
        if !certificate.is_valid_at(now) {
            return Err(ApiError::invalid("The registry's certificate has expired, or is not valid yet."));
        }
    }
    Ok(())
}

/// Refuses a device's certificate that none of these has signed.
pub(crate) fn vouch(authorities: &[Authority], certificate: &Certificate, now: Timestamp) -> Result<(), ApiError> {
    let authorities: Vec<Certificate> = authorities.iter().filter_map(Authority::certificate).collect();
    if authorities.iter().any(|authority| authority.is_same_as(certificate)) {
        return Err(ApiError::invalid("A certificate of the registry cannot be a device's credential."));
    }
    if !certificate.is_valid_at(now) {
        return Err(ApiError::invalid("The device's certificate has expired, or is not valid yet."));
    }
    let mut signers = authorities.iter().filter(|authority| certificate.is_signed_by(authority)).peekable();
    if signers.peek().is_none() {
        return Err(ApiError::invalid("The device's certificate is not signed by a certificate of the registry."));
    }
    if !signers.any(|signer| signer.is_valid_at(now)) {
        return Err(ApiError::new(
            Canonical::FailedPrecondition,
            "The registry's certificate that has signed the device's has expired.",
        ));
    }
    Ok(())
}
