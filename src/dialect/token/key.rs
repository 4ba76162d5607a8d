//! The device's private key: read from PEM, judged once, and able to say its public half.
//!
//! A form that cannot be read is refused with the command that converts it. Where the text comes from is not known
//! here; see `config/key_file.rs`.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};

use super::der::{self, Elements};
use super::pem;
use super::provider::randomness;
use crate::model::wire::Secret;

/// The least size of an RSA key, in bytes of its modulus: 2048 bits, as RFC 7518 3.3 asks.
const RSA_LEAST_BYTES: usize = 256;

// Object identifiers, as their DER content: RFC 5480 2.1, RFC 8017 A.1, RFC 4055 3.1.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// A private key that can sign login tokens: P-256 (ES256), or RSA of 2048 bits and more (RS256).
pub struct Key {
    signing: EncodingKey,
    algorithm: Algorithm,
    /// `SubjectPublicKeyInfo`, DER.
    public: Vec<u8>,
}

/// Why a text is not a key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is empty")]
    Empty,
    #[error("it is not PEM: no line `-----BEGIN … PRIVATE KEY-----`")]
    NotPem,
    #[error("it holds more than one private key")]
    Several,
    #[error("it holds a public key; the private one is needed")]
    PublicKey,
    #[error("it holds a certificate; the private key is needed")]
    Certificate,
    #[error("the key is in the older SEC1 form (`BEGIN EC PRIVATE KEY`); PKCS#8 is needed")]
    Sec1,
    #[error("the key is encrypted, and a daemon has nobody to ask for the passphrase")]
    Encrypted,
    #[error("the key is in OpenSSH's own form; PKCS#8 is needed")]
    OpenSsh,
    #[error("the PEM text is damaged")]
    Damaged,
    #[error("the key is on another curve than P-256, and ES256 has no other")]
    OtherCurve,
    #[error("the key spells out its curve instead of naming it (`explicit` parameters)")]
    ExplicitCurve,
    #[error("the key comes without its public part")]
    NoPublicPart,
    #[error("the key is for RSA-PSS only, and RS256 is not that")]
    Pss,
    #[error("the key has {bits} bits; RSA keys of at least 2048 are taken")]
    TooSmall { bits: usize },
    #[error("the key is neither P-256 nor RSA")]
    NotForTokens,
    #[error("the key does not add up: {0}")]
    Refused(String),
}

impl KeyError {
    /// What to do about it: for a form that can be converted, the command that does so.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Sec1 => "openssl pkcs8 -topk8 -nocrypt -in device.key -out new.key",
            Self::Encrypted => "openssl pkey -in device.key -out new.key",
            Self::OpenSsh => "ssh-keygen -p -N '' -m PKCS8 -f COPY-OF-device.key",
            Self::ExplicitCurve => {
                "openssl ec -in device.key -param_enc named_curve | openssl pkcs8 -topk8 -nocrypt -out new.key"
            }
            Self::NoPublicPart => "openssl ec -in device.key | openssl pkcs8 -topk8 -nocrypt -out new.key",
            Self::Several => "leave the device's key in the file and nothing else",
            Self::PublicKey | Self::Certificate => {
                "put the private key there, or make a new pair with `twinagent keygen` and register its public key"
            }
            Self::Empty
            | Self::NotPem
            | Self::Damaged
            | Self::OtherCurve
            | Self::Pss
            | Self::TooSmall { .. }
            | Self::NotForTokens
            | Self::Refused(_) => {
                "move the file away, make a new key with `twinagent keygen` and register its public key"
            }
        }
    }
}

/// Makes a new P-256 key. Returns its text, PKCS#8 PEM, too.
pub fn generate() -> Result<(Secret, Key), KeyError> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &randomness())
        .map_err(|_| KeyError::Refused("the machine has no randomness to give".to_owned()))?;
    let text = Secret::new(pem::write("PRIVATE KEY", pkcs8.as_ref()));
    let key = Key::elliptic(pkcs8.as_ref())?;
    Ok((text, key))
}

impl Key {
    /// Reads PKCS#8 (P-256, RSA) or PKCS#1 (RSA) from PEM. Text around the section, and CRLF, are no matter.
    pub fn parse(text: &Secret) -> Result<Self, KeyError> {
        match pem::private_key(text.reveal())? {
            pem::Found::Pkcs1(der) => Self::rsa(&der),
            pem::Found::Pkcs8(der) => {
                let parts = pkcs8_parts(&der).ok_or(KeyError::Damaged)?;
                match (parts.algorithm, parts.curve) {
                    (EC, Some((der::OBJECT_ID, P256))) if has_public_part(parts.key) => Self::elliptic(&der),
                    (EC, Some((der::OBJECT_ID, P256))) => Err(KeyError::NoPublicPart),
                    (EC, Some((der::SEQUENCE, _))) => Err(KeyError::ExplicitCurve),
                    (EC, _) => Err(KeyError::OtherCurve),
                    (RSA, _) => Self::rsa(parts.key),
                    (RSA_PSS, _) => Err(KeyError::Pss),
                    _ => Err(KeyError::NotForTokens),
                }
            }
        }
    }

    /// ES256 or RS256; the key alone decides.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half as the cloud wants it registered: `SubjectPublicKeyInfo` in PEM, byte for byte what
    /// `openssl pkey -pubout` writes.
    pub fn public_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.public)
    }

    /// `SubjectPublicKeyInfo`, DER.
    pub(super) fn public_info(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    fn elliptic(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &randomness())
            .map_err(|error| KeyError::Refused(error.to_string()))?;
        let parameters = der::element(der::OBJECT_ID, P256);
        Ok(Self {
            signing: EncodingKey::from_ec_der(pkcs8),
            algorithm: Algorithm::ES256,
            public: public_key_info(EC, &parameters, pair.public_key().as_ref()),
        })
    }

    fn rsa(pkcs1: &[u8]) -> Result<Self, KeyError> {
        let bytes = modulus_bytes(pkcs1).ok_or(KeyError::Damaged)?;
        if bytes < RSA_LEAST_BYTES {
            return Err(KeyError::TooSmall { bits: bytes * 8 });
        }
        let pair = RsaKeyPair::from_der(pkcs1).map_err(|error| KeyError::Refused(error.to_string()))?;
        // Not all of its parts are compared when it is read. Better to hear of it here than at each login.
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &randomness(), b"", &mut signature)
            .map_err(|_| KeyError::Refused("its parts do not fit each other".to_owned()))?;
        Ok(Self {
            signing: EncodingKey::from_rsa_der(pkcs1),
            algorithm: Algorithm::RS256,
            public: public_key_info(RSA, der::NULL, pair.public().as_ref()),
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({:?}, secret)", self.algorithm)
    }
}

/// `PrivateKeyInfo` of RFC 5208 5.
struct Pkcs8<'a> {
    algorithm: &'a [u8],
    /// Tag and content of the algorithm's parameters.
    curve: Option<(u8, &'a [u8])>,
    key: &'a [u8],
}

fn pkcs8_parts(der: &[u8]) -> Option<Pkcs8<'_>> {
    let mut info = Elements(Elements(der).content(der::SEQUENCE)?);
    info.content(der::INTEGER)?;
    let mut algorithm = Elements(info.content(der::SEQUENCE)?);
    Some(Pkcs8 {
        algorithm: algorithm.content(der::OBJECT_ID)?,
        curve: algorithm.next(),
        key: info.content(der::OCTET_STRING)?,
    })
}

/// Whether an `ECPrivateKey` (RFC 5915 3) has its optional public part, without which ring takes none.
fn has_public_part(key: &[u8]) -> bool {
    Elements(key).content(der::SEQUENCE).is_some_and(|parts| Elements(parts).any(|(tag, _)| tag == der::CONTEXT_1))
}

/// The size of the modulus of an `RSAPrivateKey` (RFC 8017 A.1.2), without the sign byte.
fn modulus_bytes(pkcs1: &[u8]) -> Option<usize> {
    let mut parts = Elements(Elements(pkcs1).content(der::SEQUENCE)?);
    parts.content(der::INTEGER)?;
    let modulus = parts.content(der::INTEGER)?;
    Some(modulus.len() - usize::from(modulus.first() == Some(&0)))
}

/// `SubjectPublicKeyInfo` of RFC 5280 4.1.
fn public_key_info(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = [&der::element(der::OBJECT_ID, algorithm), parameters].concat();
    let parts = [der::element(der::SEQUENCE, &algorithm), der::bit_string(key)].concat();
    der::element(der::SEQUENCE, &parts)
}

#[cfg(test)]
mod tests;
