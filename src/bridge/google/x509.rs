//! X.509 certificates, as far as this cloud looks into them: who says so, of which key, and for how long.
//!
//! No path is built, because the cloud takes no intermediate authorities. The crates that verify certificates of TLS
//! servers would refuse what the cloud takes: certificates of version 1, which `openssl x509 -req` makes, and
//! self-signed ones that may sign others, which `openssl req -x509` makes. Form: RFC 5280 section 4.1.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use yasna::models::TaggedDerValue;
use yasna::tags::{TAG_BMPSTRING, TAG_UNIVERSALSTRING, TAG_UTCTIME};
use yasna::{ASN1Result, BERReader, BERReaderSeq, Tag};

use super::key::{LONGEST_PEM, SignatureAlgorithm, VerifyingKey, invalid};
use crate::model::now::Timestamp;

#[derive(Debug)]
pub(crate) struct Certificate {
    der: Vec<u8>,
    /// What is signed: a part of `der`.
    signed: Vec<u8>,
    signature: Vec<u8>,
    content: Content,
}

#[derive(Debug)]
struct Content {
    is_version_3: bool,
    algorithm: SignatureAlgorithm,
    issuer: Name,
    starts: Timestamp,
    ends: Timestamp,
    subject: Name,
    key: VerifyingKey,
}

#[derive(Debug)]
struct Name {
    der: Vec<u8>,
    text: String,
}

impl Certificate {
    /// Reads a text with exactly one certificate.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        if pem.len() > LONGEST_PEM {
            return None;
        }
        let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
        match (all.next(), all.next()) {
            (Some(Ok(der)), None) => Self::read(der.to_vec()).ok(),
            _ => None,
        }
    }

    fn read(der: Vec<u8>) -> ASN1Result<Self> {
        let (content, signed, signature) = yasna::parse_der(&der, |reader| {
            reader.read_sequence(|certificate| {
                let (content, signed) =
                    certificate.next().read_with_buffer(|reader| reader.read_sequence(Content::read))?;
                let algorithm = certificate.next().read_sequence(SignatureAlgorithm::read)?;
                let (signature, bits) = certificate.next().read_bitvec_bytes()?;
                if algorithm == content.algorithm && bits % 8 == 0 {
                    Ok((content, signed.to_vec(), signature))
                } else {
                    Err(invalid())
                }
            })
        })?;
        Ok(Self { der, signed, signature, content })
    }

    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.content.key
    }

    pub(crate) fn into_key(self) -> VerifyingKey {
        self.content.key
    }

    /// Whether it is of version 3, and so may belong to an authority.
    pub(crate) fn is_version_3(&self) -> bool {
        self.content.is_version_3
    }

    pub(crate) fn is_valid_at(&self, now: Timestamp) -> bool {
        self.content.starts <= now && now <= self.content.ends
    }

    /// Whether the owner of the other certificate made this one.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        let Content { algorithm, issuer: name, .. } = &self.content;
        name.der == issuer.content.subject.der
            && issuer.content.key.verifies_certificate(*algorithm, &self.signed, &self.signature)
    }

    /// The same bytes, however they are wrapped.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.der == other.der
    }

    /// `X509CertificateDetails`. How its texts are spelled is nowhere written down.
    pub(crate) fn details(&self) -> Value {
        let Content { is_version_3: _, algorithm, issuer, starts, ends, subject, key } = &self.content;
        json!({
            "issuer": issuer.text,
            "subject": subject.text,
            "startTime": starts,
            "expiryTime": ends,
            "signatureAlgorithm": algorithm.as_str(),
            "publicKeyType": key.kind.as_str(),
        })
    }
}

impl Content {
    fn read(parts: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Self> {
        let version =
            parts.read_optional(|part| part.read_tagged(Tag::context(0), |number| Ok(number.read_u8()? == 2)))?;
        // The serial number.
        parts.next().read_bigint_bytes()?;
        let algorithm = parts.next().read_sequence(SignatureAlgorithm::read)?;
        let issuer = Name::read(parts.next())?;
        let (starts, ends) =
            parts.next().read_sequence(|validity| Ok((time(validity.next())?, time(validity.next())?)))?;
        let subject = Name::read(parts.next())?;
        let key = VerifyingKey::read(parts.next())?;
        // Unique identifiers and extensions, of which none has a meaning here.
        while parts.read_optional(|part| part.read_der().map(drop))?.is_some() {}
        Ok(Self { is_version_3: version == Some(true), algorithm, issuer, starts, ends, subject, key })
    }
}

/// From when and until when a certificate in DER is valid, whatever its key is. `None`: it is none.
pub(crate) fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let read = yasna::parse_der(der, |reader| {
        reader.read_sequence(|certificate| {
            let times = certificate.next().read_sequence(|parts| {
                // The version, then the serial number, the algorithm and the issuer.
                parts.read_optional(|part| part.read_tagged(Tag::context(0), |number| number.read_der().map(drop)))?;
                for _ in 0..3 {
                    parts.next().read_der()?;
                }
                let times = parts.next().read_sequence(|times| Ok((time(times.next())?, time(times.next())?)))?;
                while parts.read_optional(|part| part.read_der().map(drop))?.is_some() {}
                Ok(times)
            })?;
            // The algorithm again, and the signature.
            certificate.next().read_der()?;
            certificate.next().read_der()?;
            Ok(times)
        })
    });
    read.ok()
}

/// RFC 5280 section 4.1.2.5: two digits of the year until 2049, four afterwards.
fn time(reader: BERReader<'_, '_>) -> ASN1Result<Timestamp> {
    let seconds = if reader.lookahead_tag()? == TAG_UTCTIME {
        reader.read_utctime()?.datetime().unix_timestamp()
    } else {
        reader.read_generalized_time()?.datetime().unix_timestamp()
    };
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

impl Name {
    fn read(reader: BERReader<'_, '_>) -> ASN1Result<Self> {
        let (text, der) = reader.read_with_buffer(|reader| {
            let mut parts = Vec::new();
            reader.read_sequence_of(|part| {
                let values = part.collect_set_of(|value| value.read_sequence(attribute))?;
                parts.push(values.join("+"));
                Ok(())
            })?;
            parts.reverse();
            Ok(parts.join(","))
        })?;
        Ok(Self { der: der.to_vec(), text })
    }
}

/// One part of a name as text: RFC 4514 section 2.
fn attribute(pair: &mut BERReaderSeq<'_, '_>) -> ASN1Result<String> {
    let kind = pair.next().read_oid()?;
    let kind = match kind.components()[..] {
        [2, 5, 4, 3] => "CN".to_owned(),
        [2, 5, 4, 6] => "C".to_owned(),
        [2, 5, 4, 7] => "L".to_owned(),
        [2, 5, 4, 8] => "ST".to_owned(),
        [2, 5, 4, 10] => "O".to_owned(),
        [2, 5, 4, 11] => "OU".to_owned(),
        _ => kind.to_string(),
    };
    Ok(format!("{kind}={}", escaped(&pair.next().read_tagged_der()?)))
}

fn escaped(value: &TaggedDerValue) -> String {
    let narrow = ![TAG_BMPSTRING, TAG_UNIVERSALSTRING].contains(&value.tag());
    match std::str::from_utf8(value.value()) {
        Ok(text) if narrow && !text.contains(char::is_control) => {
            let mut escaped = String::new();
            for (at, letter) in text.char_indices() {
                let outer_space = letter == ' ' && (at == 0 || at + 1 == text.len());
                if outer_space || (letter == '#' && at == 0) || "\"+,;<>\\".contains(letter) {
                    escaped.push('\\');
                }
                escaped.push(letter);
            }
            escaped
        }
        _ => value.value().iter().fold("#".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl: an authority, and two certificates that it signed, of version 1.
    const AUTHORITY: &str = include_str!("../../../tests/bridge/fixtures/ca.cert.pem");
    const ES256: &str = include_str!("../../../tests/bridge/fixtures/es256.cert.pem");
    const RS256: &str = include_str!("../../../tests/bridge/fixtures/rs256.cert.pem");

    fn read(pem: &str) -> Certificate {
        Certificate::from_pem(pem).expect("a certificate")
    }

    #[test]
    fn certificates_of_openssl_are_read_with_all_their_details() {
        let name = "CN=Device authority,O=Example\\, Inc.,C=DE";
        let authority = read(AUTHORITY);
        assert_eq!(
            authority.details(),
            json!({
                "issuer": name,
                "subject": name,
                "startTime": "2026-11-22T16:43:11.000000Z",
                "expiryTime": "2126-10-29T16:43:11.000000Z",
                "signatureAlgorithm": "SHA256-RSA",
                "publicKeyType": "RSA",
            })
        );
        assert!(authority.is_version_3() && authority.is_signed_by(&authority));
        for (pem, kind) in [(ES256, "ECDSA"), (RS256, "RSA")] {
            let device = read(pem);
            let details = device.details();
            assert_eq!((&details["subject"], &details["issuer"]), (&json!("CN=unused-device"), &json!(name)));
            assert_eq!((&details["publicKeyType"], device.is_version_3()), (&json!(kind), false));
            assert!(device.is_signed_by(&authority));
            assert!(!device.is_signed_by(&device) && !authority.is_signed_by(&device));
            let Content { starts, ends, .. } = device.content;
            assert_eq!(
                (validity(&device.der), validity(&authority.der)),
                (Some((starts, ends)), validity(&device.der))
            );
            let at = |text: &str| text.parse().expect("a time");
            for (moment, valid) in [
                ("2026-11-22T16:43:10Z", false),
                ("2026-11-22T16:43:11Z", true),
                ("2126-10-29T16:43:11Z", true),
                ("2126-10-29T16:43:12Z", false),
            ] {
                assert_eq!(device.is_valid_at(at(moment)), valid, "{moment}");
            }
        }
    }

    #[test]
    fn a_certificate_that_was_touched_anywhere_is_unreadable_or_not_signed() {
        let authority = read(AUTHORITY);
        let der = read(ES256).der;
        for at in 0..der.len() {
            for bit in [0x01, 0x80] {
                let mut touched = der.clone();
                touched[at] ^= bit;
                if let Ok(touched) = Certificate::read(touched) {
                    assert!(!touched.is_signed_by(&authority), "byte {at}, bit {bit:#x}");
                }
            }
            assert!(Certificate::read(der[..at].to_vec()).is_err(), "only {at} bytes");
        }
    }

    #[test]
    fn exactly_one_certificate_is_taken() {
        for none in ["", "no PEM", &format!("{ES256}{AUTHORITY}"), &ES256.replace("CERTIFICATE", "PUBLIC KEY")] {
            assert!(Certificate::from_pem(none).is_none(), "{none:.40}");
        }
        let padded = |length: usize| format!("{}{ES256}", "x\n".repeat((length - ES256.len()) / 2));
        assert!(Certificate::from_pem(&padded(LONGEST_PEM)).is_some());
        assert!(Certificate::from_pem(&padded(LONGEST_PEM + 2)).is_none());
        let nested = [0x30, 0x80].repeat(100_000);
        assert!(Certificate::read(nested).is_err());
    }
}
