//! PEM (RFC 7468): finds the one private key of a text, and writes a key as text.
//!
//! Says what was found instead of a key, by its label only; nothing of the text gets into an error.

use rustls::pki_types::pem::{SectionKind, from_buf};

use super::key::KeyError;

/// The characters of one line (RFC 7468 2).
const LINE: usize = 64;

/// The private key of a text, still as DER, by the kind its label names.
pub(super) enum Found {
    Pkcs8(Vec<u8>),
    Pkcs1(Vec<u8>),
}

pub(super) fn private_key(text: &str) -> Result<Found, KeyError> {
    if text.trim().is_empty() {
        return Err(KeyError::Empty);
    }
    let labels = || {
        text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")).filter_map(|l| l.strip_suffix("-----"))
    };
    let private = || labels().filter(|label| label.ends_with("PRIVATE KEY"));
    match (private().next(), private().count()) {
        (Some(_), 2..) => return Err(KeyError::Several),
        (Some("PRIVATE KEY" | "RSA PRIVATE KEY"), _) => {}
        (Some("EC PRIVATE KEY"), _) => return Err(KeyError::Sec1),
        (Some("ENCRYPTED PRIVATE KEY"), _) => return Err(KeyError::Encrypted),
        (Some("OPENSSH PRIVATE KEY"), _) => return Err(KeyError::OpenSsh),
        (Some("RSA-PSS PRIVATE KEY"), _) => return Err(KeyError::Pss),
        (Some(_), _) => return Err(KeyError::NotForTokens),
        (None, _) if labels().any(|label| label.ends_with("PUBLIC KEY")) => return Err(KeyError::PublicKey),
        (None, _) if labels().any(|label| label.ends_with("CERTIFICATE")) => return Err(KeyError::Certificate),
        (None, _) => return Err(KeyError::NotPem),
    }
    // OpenSSL's older way to encrypt: a header inside of the section (RFC 1421 4.6).
    if text.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED")) {
        return Err(KeyError::Encrypted);
    }
    let mut rest = text.as_bytes();
    loop {
        match from_buf(&mut rest).map_err(|_| KeyError::Damaged)? {
            Some((SectionKind::PrivateKey, der)) => return Ok(Found::Pkcs8(der)),
            Some((SectionKind::RsaPrivateKey, der)) => return Ok(Found::Pkcs1(der)),
            Some(_) => {}
            None => return Err(KeyError::Damaged),
        }
    }
}

/// DER as a PEM section with this label.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let encoded = base64(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// RFC 4648 4, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 0x3f).expect("six bits");
            text.push(if digit <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
