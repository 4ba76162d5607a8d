//! Public keys that verify: read from a `SubjectPublicKeyInfo`, used for tokens and for certificates.
//!
//! Only what the cloud takes is read: RSA from 2 048 bits and NIST P-256
//! (cloud.google.com/iot/docs/how-tos/credentials/verifying-credentials). ring verifies.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, BERReaderSeq};

/// Object identifiers: RFC 3279 section 2.3.
const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10_045, 2, 1];
const PRIME256V1: &[u64] = &[1, 2, 840, 10_045, 3, 1, 7];

/// The bits of an RSA modulus: the cloud's least, ring's most.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Longer than any honest certificate of an RSA 8192 key, in bytes of PEM; what is longer is not looked at.
pub(super) const LONGEST_PEM: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa,
    P256,
}

/// How a certificate is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    RsaSha256,
    RsaSha384,
    RsaSha512,
    EcdsaSha256,
    EcdsaSha384,
}

/// A public key in the form that ring takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VerifyingKey {
    pub(crate) kind: KeyKind,
    bytes: Vec<u8>,
}

/// What stands where something else must.
pub(super) fn invalid() -> ASN1Error {
    ASN1Error::new(ASN1ErrorKind::Invalid)
}

impl KeyKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::P256 => "ECDSA",
        }
    }
}

impl SignatureAlgorithm {
    /// Reads the content of an `AlgorithmIdentifier`: RFC 4055 section 5 and RFC 5758 section 3.2.
    pub(super) fn read(identifier: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Self> {
        let id = identifier.next().read_oid()?;
        identifier.read_optional(|parameters| {
            parameters.read_null()?;
            Ok(())
        })?;
        match id.components()[..] {
            [1, 2, 840, 113_549, 1, 1, 11] => Ok(Self::RsaSha256),
            [1, 2, 840, 113_549, 1, 1, 12] => Ok(Self::RsaSha384),
            [1, 2, 840, 113_549, 1, 1, 13] => Ok(Self::RsaSha512),
            [1, 2, 840, 10_045, 4, 3, 2] => Ok(Self::EcdsaSha256),
            [1, 2, 840, 10_045, 4, 3, 3] => Ok(Self::EcdsaSha384),
            _ => Err(invalid()),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RsaSha256 => "SHA256-RSA",
            Self::RsaSha384 => "SHA384-RSA",
            Self::RsaSha512 => "SHA512-RSA",
            Self::EcdsaSha256 => "ECDSA-SHA256",
            Self::EcdsaSha384 => "ECDSA-SHA384",
        }
    }

    fn with(self, kind: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
        match (kind, self) {
            (KeyKind::Rsa, Self::RsaSha256) => Some(&RSA_PKCS1_2048_8192_SHA256),
            (KeyKind::Rsa, Self::RsaSha384) => Some(&RSA_PKCS1_2048_8192_SHA384),
            (KeyKind::Rsa, Self::RsaSha512) => Some(&RSA_PKCS1_2048_8192_SHA512),
            (KeyKind::P256, Self::EcdsaSha256) => Some(&ECDSA_P256_SHA256_ASN1),
            (KeyKind::P256, Self::EcdsaSha384) => Some(&ECDSA_P256_SHA384_ASN1),
            _ => None,
        }
    }
}

impl VerifyingKey {
    /// Reads a key between `BEGIN PUBLIC KEY` and `END PUBLIC KEY`.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        if pem.len() > LONGEST_PEM {
            return None;
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        yasna::parse_der(&der, Self::read).ok()
    }

    /// Reads a `SubjectPublicKeyInfo`: RFC 5280 section 4.1.2.7.
    pub(super) fn read(reader: BERReader<'_, '_>) -> ASN1Result<Self> {
        reader.read_sequence(|info| {
            let kind = info.next().read_sequence(|algorithm| match &algorithm.next().read_oid()?.components()[..] {
                RSA_ENCRYPTION => algorithm.next().read_null().map(|()| KeyKind::Rsa),
                EC_PUBLIC_KEY if algorithm.next().read_oid()?.components()[..] == *PRIME256V1 => Ok(KeyKind::P256),
                _ => Err(invalid()),
            })?;
            let (bytes, bits) = info.next().read_bitvec_bytes()?;
            let fits = match kind {
                KeyKind::Rsa => RSA_BITS.contains(&modulus_bits(&bytes)?),
                // An uncompressed point: RFC 5480 section 2.2.
                KeyKind::P256 => bytes.len() == 65 && bytes[0] == 4,
            };
            if fits && bits % 8 == 0 { Ok(Self { kind, bytes }) } else { Err(invalid()) }
        })
    }

    /// Whether this key made the signature of a JWT: RFC 7518 sections 3.3 and 3.4.
    pub(crate) fn verifies_token(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifies(
            match self.kind {
                KeyKind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
                KeyKind::P256 => &ECDSA_P256_SHA256_FIXED,
            },
            message,
            signature,
        )
    }

    /// Whether this key made the signature of a certificate.
    pub(super) fn verifies_certificate(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        algorithm.with(self.kind).is_some_and(|algorithm| self.verifies(algorithm, message, signature))
    }

    fn verifies(&self, algorithm: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}

/// The size of an `RSAPublicKey`: RFC 8017 appendix A.1.1.
fn modulus_bits(key: &[u8]) -> ASN1Result<usize> {
    yasna::parse_der(key, |reader| {
        reader.read_sequence(|numbers| {
            let (modulus, positive) = numbers.next().read_bigint_bytes()?;
            numbers.next().read_bigint_bytes()?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let first = modulus.get(zeros).filter(|_| positive).ok_or_else(invalid)?;
            Ok((modulus.len() - zeros) * 8 - first.leading_zeros() as usize)
        })
    })
}
