//! Just enough DER (X.690) to tell what kind of key a PKCS#8 file holds, and to write a public key or a request.
//!
//! Checks nothing of a key's mathematics; ring does that.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, constructed: where a certification request keeps its attributes (RFC 2986 4.1).
pub(super) const CONTEXT_0: u8 = 0xa0;
/// `[1]`, constructed: where an `ECPrivateKey` keeps its public part (RFC 5915 3).
pub(super) const CONTEXT_1: u8 = 0xa1;

/// `NULL`, whole.
pub(super) const NULL: &[u8] = &[0x05, 0x00];

/// A run of elements, read from the front.
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the next element, which must have this tag.
    pub(super) fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match usize::from(first) {
            short @ 0..=0x7f => (short, rest),
            // Two bytes of length hold 64 KiB, which is the largest key file we read.
            long @ 0x81..=0x82 => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
                (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// Whole bytes as a bit string.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    let unused_bits = 0;
    element(BIT_STRING, &[&[unused_bits], bytes].concat())
}

/// One element with this content, of less than 64 KiB.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("keys are far below 64 KiB").to_be_bytes();
    let mut der = vec![tag];
    match length {
        [0, short @ 0..=0x7f] => der.push(short),
        [0, one] => der.extend([0x81, one]),
        two => {
            der.push(0x82);
            der.extend(two);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_torn_input_ends_the_reading() {
        for length in [0, 1, 127, 128, 255, 256, 60_000] {
            let content = vec![7; length];
            let der = element(OCTET_STRING, &content);
            assert_eq!(Elements(&der).content(OCTET_STRING), Some(&*content), "{length} bytes");
            assert_eq!(Elements(&der[..der.len() - 1]).content(OCTET_STRING), None, "{length} bytes, torn");
            assert_eq!(Elements(&der).content(INTEGER), None);
        }
        assert_eq!(Elements(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]).next(), None);
    }
}
