//! A certification request (PKCS#10, RFC 2986): the public key and a name, signed with the private key, for a CA that
//! wants to see that we have it.
//!
//! Asks for nothing but the name: no extensions, no password.

use jsonwebtoken::Algorithm;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use super::der;
use super::key::Key;
use super::pem;
use super::provider::randomness;

/// `ub-common-name` of RFC 5280, appendix A.1, in characters.
const LONGEST_NAME: usize = 64;

// Object identifiers, as their DER content: X.520 6.2.2, RFC 5758 3.2, RFC 4055 5.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const RSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("a certificate's name has 1 to {LONGEST_NAME} characters (RFC 5280), and this one has {0}")]
    NameLength(usize),
    /// A key that was read can sign; what is left is a failure of the machine's randomness.
    #[error("the request could not be signed")]
    NotSigned,
}

impl Key {
    /// A request for a certificate with this common name, as PEM.
    pub fn request(&self, common_name: &str) -> Result<String, CsrError> {
        let length = common_name.chars().count();
        if !(1..=LONGEST_NAME).contains(&length) {
            return Err(CsrError::NameLength(length));
        }
        let version = der::element(der::INTEGER, &[0]);
        let no_attributes = der::element(der::CONTEXT_0, &[]);
        let info = sequence(&[&version, &subject(common_name), self.public_info(), &no_attributes]);
        let signature = self.sign_der(&info).ok_or(CsrError::NotSigned)?;
        let algorithm = match self.algorithm() {
            Algorithm::ES256 => sequence(&[&der::element(der::OBJECT_ID, ECDSA_WITH_SHA256)]),
            _ => sequence(&[&der::element(der::OBJECT_ID, RSA_WITH_SHA256), der::NULL]),
        };
        let request = sequence(&[&info, &algorithm, &der::bit_string(&signature)]);
        Ok(pem::write("CERTIFICATE REQUEST", &request))
    }

    /// Unlike a token's, the ECDSA signature of a certificate is DER (RFC 5758 3.2).
    fn sign_der(&self, message: &[u8]) -> Option<Vec<u8>> {
        let private = self.signing().as_bytes();
        if self.algorithm() == Algorithm::ES256 {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private, &randomness()).ok()?;
            return Some(pair.sign(&randomness(), message).ok()?.as_ref().to_vec());
        }
        let pair = RsaKeyPair::from_der(private).ok()?;
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &randomness(), message, &mut signature).ok()?;
        Some(signature)
    }
}

/// `Name` of RFC 5280 4.1.2.4, with one part.
fn subject(common_name: &str) -> Vec<u8> {
    let value = der::element(der::UTF8_STRING, common_name.as_bytes());
    let part = sequence(&[&der::element(der::OBJECT_ID, COMMON_NAME), &value]);
    sequence(&[&der::element(der::SET, &part)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der::element(der::SEQUENCE, &parts.concat())
}
