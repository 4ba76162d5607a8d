//! What a device shows of itself when TLS begins: a certificate, those that lead from it to a root, and the private key.
//!
//! Judges what can be judged here, so that a wrong file is told in words and not by an alert of the broker. Opens no file.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::model::digest::Digest;
use crate::model::now::Timestamp;
use crate::model::wire::Secret;

/// The most certificates that are shown. A way to a root has two or three; TLS stacks refuse more than ten.
const LONGEST_CHAIN: usize = 10;

/// A certificate of the device's own. Equal ones show the same.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    shown: Digest,
    validity: Validity,
}

/// When a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: Bound,
    until: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    At(Timestamp),
    /// Beyond our calendar, such as the 99991231235959Z by which a certificate says that it has no end (RFC 5280 4.1.2.5).
    None,
}

/// Why a device could not show this certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShown {
    #[error("no certificate in it (PEM is expected: -----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("its PEM cannot be read")]
    NotPem,
    #[error("more than {LONGEST_CHAIN} certificates")]
    TooLong,
    #[error("its first certificate cannot be read")]
    NotACertificate,
    #[error("the certificate ended on {0}")]
    Expired(Timestamp),
    #[error("the certificate holds from {0} on, which is not yet")]
    NotYetValid(Timestamp),
    #[error("no private key in it (PEM is expected: -----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error("its private key is of a kind that TLS does not know here (RSA, P-256, P-384 and Ed25519 are)")]
    UnknownKey,
    /// The certificate belongs to another key.
    #[error("the private key is not that of the certificate")]
    OtherKey,
}

impl NotShown {
    /// The file of the key is to blame, and not that of the certificates.
    pub fn is_of_key(self) -> bool {
        matches!(self, Self::NoKey | Self::UnknownKey | Self::OtherKey)
    }
}

impl Identity {
    /// Reads a chain, the device's own certificate first, and the private key of that one; both PEM.
    pub fn parse(chain: &[u8], key: &Secret) -> Result<Self, NotShown> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| NotShown::NotPem)?;
        if chain.len() > LONGEST_CHAIN {
            return Err(NotShown::TooLong);
        }
        let own = chain.first().ok_or(NotShown::NoCertificate)?;
        let validity = validity(own).ok_or(NotShown::NotACertificate)?;
        let shown = Digest::of(&chain.iter().flat_map(|certificate| certificate.iter().copied()).collect::<Vec<_>>());
        // Into the signing key, and nowhere else.
        let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| NotShown::NoKey)?;
        let key = any_supported_type(&key).map_err(|_| NotShown::UnknownKey)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Not every key tells; then the broker will.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => return Err(NotShown::OtherKey),
            Err(_) => return Err(NotShown::NotACertificate),
        }
        Ok(Self { certified: Arc::new(certified), shown, validity })
    }

    /// Whether the device's own certificate holds now. No broker takes it otherwise.
    pub fn holds(&self, now: Timestamp) -> Result<(), NotShown> {
        match self.validity {
            Validity { from: Bound::At(from), .. } if now < from => Err(NotShown::NotYetValid(from)),
            Validity { until: Bound::At(until), .. } if now > until => Err(NotShown::Expired(until)),
            _ => Ok(()),
        }
    }

    /// When the device's own certificate ends, if it does.
    pub fn ends(&self) -> Option<Timestamp> {
        match self.validity.until {
            Bound::At(until) => Some(until),
            Bound::None => None,
        }
    }

    /// SHA-256 over the device's own certificate in DER, in capital hexadecimal digits: as clouds register one.
    pub fn thumbprint(&self) -> String {
        let own = self.certified.cert.first().map(AsRef::as_ref).unwrap_or_default();
        Digest::of(own).to_string().trim_start_matches("sha256:").to_uppercase()
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    pub(super) fn shown(&self) -> Digest {
        self.shown
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.shown == other.shown
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity").field("shown", &self.shown).field("ends", &self.ends()).finish_non_exhaustive()
    }
}

/// Tags of DER (X.690 8.1.2) that stand on the way to the validity.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// What RFC 5280 4.1.2.5 calls the validity; `None` if this is no certificate.
fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = tagged(certificate, SEQUENCE)?;
    let (mut to_be_signed, _) = tagged(certificate, SEQUENCE)?;
    if to_be_signed.first() == Some(&VERSION) {
        to_be_signed = element(to_be_signed)?.2;
    }
    // Serial number, algorithm and issuer stand before it.
    for _ in 0..3 {
        to_be_signed = element(to_be_signed)?.2;
    }
    let (validity, _) = tagged(to_be_signed, SEQUENCE)?;
    let (tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some(Validity { from: time(tag, from)?, until: time(until_tag, until)? })
}

fn tagged(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows of the first element.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = if length & 0x80 == 0 {
        (usize::from(*length), rest)
    } else {
        let count = usize::from(length & 0x7F);
        // Four bytes of a length are more than any file that is read.
        let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, or that with four digits of the year (RFC 5280 4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<Bound> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let digits = std::str::from_utf8(digits).ok()?;
    let (century, digits) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (if digits < "50" { "20" } else { "19" }, digits),
        (GENERALIZED_TIME, 14) => digits.split_at(2),
        _ => return None,
    };
    let two = |at: usize| &digits[at..at + 2];
    let text = format!("{century}{}-{}-{}T{}:{}:{}Z", two(0), two(2), two(4), two(6), two(8), two(10));
    Some(text.parse().map_or(Bound::None, Bound::At))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let at = |text: &str| Some(Bound::At(text.parse().expect("a time")));
        assert_eq!(time(UTC_TIME, b"491231235959Z"), at("2049-12-31T23:59:59Z"));
        assert_eq!(time(UTC_TIME, b"500101000000Z"), at("1950-01-01T00:00:00Z"));
        assert_eq!(time(GENERALIZED_TIME, b"20500101000000Z"), at("2050-01-01T00:00:00Z"));
        assert_eq!(time(GENERALIZED_TIME, b"99991231235959Z"), Some(Bound::None), "no end");
        for wrong in [&b"491231235959"[..], b"4912312359Z", b"49123123595xZ", b""] {
            assert_eq!(time(UTC_TIME, wrong), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_looked_at(bytes: Vec<u8>, key: String) {
            validity(&bytes);
            prop_assert!(Identity::parse(&bytes, &Secret::new(key)).is_err());
        }
    }
}
