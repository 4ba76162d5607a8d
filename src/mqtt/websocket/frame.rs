//! The frames of a WebSocket (RFC 6455 section 5): their headers, masks and order. Pure; moves no bytes.
//!
//! Written here and not taken from a library: what comes is passed on while its frame is still arriving, so that nothing is
//! stored for the other side and our pings see every byte that moves. The usual crate hands out whole messages, and brings
//! SHA-1 and random numbers of its own. Extensions are not known here.

/// The longest header: two bytes, eight of a length. What a server sends has no mask.
pub(super) const LONGEST_HEADER: usize = 10;

/// The most payload that one frame of ours carries, which makes its header four bytes and a mask.
pub(super) const LARGEST: usize = 16 * 1024;

/// The most that a control frame carries (5.5).
pub(super) const CONTROL_MAX: usize = 125;

/// A mask and a header in front of it (5.2).
pub(super) const HEADER_AND_MASK: usize = 8;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The frames that this side knows of (11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of MQTT. Where one of its packets ends in a frame means nothing (MQTT 3.1.1 section 6).
    Data,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Self::Data => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) length: u64,
}

/// Frames that a server must not send. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side broke the rules of WebSockets: {0}")]
pub(super) struct Violation(pub(super) &'static str);

/// Where in a message the other side is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    is_within: bool,
}

impl Order {
    /// Reads the header at the beginning of these bytes, and how long it is. `None`: more of it is needed.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if second & MASKED != 0 {
            return Err(Violation("a server must not mask its frames (RFC 6455 5.1)"));
        }
        let (length, size) = match second & !MASKED {
            126 => match rest {
                [high, low, ..] => (u64::from(u16::from_be_bytes([*high, *low])), 4),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), LONGEST_HEADER),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let shortest = match length {
            ..126 => 2,
            126..=0xFFFF => 4,
            _ => LONGEST_HEADER,
        };
        if size != shortest || length > u64::MAX >> 1 {
            return Err(Violation("a length that is not written as RFC 6455 5.2 asks for"));
        }
        let kind = self.follow(*first, length)?;
        Ok(Some((Header { kind, length }, size)))
    }

    /// What may come next (5.4): control frames anywhere, data one message after the other.
    fn follow(&mut self, first: u8, length: u64) -> Result<Kind, Violation> {
        if first & 0x70 != 0 {
            return Err(Violation("a bit of an extension that was not agreed on"));
        }
        let is_last = first & FIN != 0;
        match first & 0x0F {
            0 if self.is_within => {
                self.is_within = !is_last;
                Ok(Kind::Data)
            }
            0 => Err(Violation("a continuation of nothing")),
            2 if !self.is_within => {
                self.is_within = !is_last;
                Ok(Kind::Data)
            }
            1 => Err(Violation("a text frame; MQTT is carried in binary ones (MQTT 3.1.1 section 6)")),
            2 => Err(Violation("a message within another")),
            8..=10 if !is_last || length > CONTROL_MAX as u64 => {
                Err(Violation("a control frame that is too long or in parts"))
            }
            8 => Ok(Kind::Close),
            9 => Ok(Kind::Ping),
            10 => Ok(Kind::Pong),
            _ => Err(Violation("a frame of a kind that nobody knows")),
        }
    }
}

/// Appends a whole frame with at most [`LARGEST`] bytes. Whoever chooses what is sent must not know the mask (10.3).
pub(super) fn write(kind: Kind, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(FIN | kind.opcode());
    let length = u16::try_from(payload.len()).expect("no frame of ours is larger than LARGEST");
    match length.to_be_bytes() {
        [0, short @ ..126] => out.push(MASKED | short),
        [high, low] => out.extend([MASKED | 0x7E, high, low]),
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        Order::default().read(bytes)
    }

    /// RFC 6455 section 5.7 has these bytes.
    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        let of = |kind, length, size| Ok(Some((Header { kind, length }, size)));
        assert_eq!(read(&[0x89, 0x05, 0x48]), of(Kind::Ping, 5, 2));
        assert_eq!(read(&[0x82, 0x7E, 0x01, 0x00]), of(Kind::Data, 256, 4));
        assert_eq!(read(&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]), of(Kind::Data, 65_536, 10));
        let mut out = Vec::new();
        write(Kind::Pong, b"Hello", [0x37, 0xFA, 0x21, 0x3D], &mut out);
        assert_eq!(out, [0x8A, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]);
    }

    #[test]
    fn a_message_may_come_in_parts_with_pings_between_them() {
        let mut order = Order::default();
        let kinds: Vec<Kind> = [[0x02, 1], [0x00, 1], [0x89, 0], [0x80, 1], [0x82, 1]]
            .map(|frame| order.read(&frame).expect("allowed").expect("a header").0.kind)
            .to_vec();
        assert_eq!(kinds, [Kind::Data, Kind::Data, Kind::Ping, Kind::Data, Kind::Data]);
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for wrong in [
            &[0x82, 0x81][..],
            &[0xC2, 0x01],
            &[0x81, 0x01],
            &[0x80, 0x01],
            &[0x83, 0x00],
            &[0x8B, 0x00],
            &[0x09, 0x00],
            &[0x89, 0x7E, 0x00, 0x7E],
            &[0x82, 0x7E, 0x00, 0x7D],
            &[0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            &[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(read(wrong).is_err(), "{wrong:x?}");
        }
        let mut order = Order::default();
        order.read(&[0x02, 0x01]).expect("a beginning");
        assert!(order.read(&[0x82, 0x01]).is_err(), "a message within another");
    }

    proptest! {
        #[test]
        fn a_header_is_read_when_it_is_whole_and_not_before(length: u64, bits in 0..=2_u32) {
            let length = match bits { 0 => length % 126, 1 => 126 + length % 65_410, _ => 65_536 + length % (1 << 62) };
            let mut bytes = vec![0x82];
            match bits {
                0 => bytes.push(u8::try_from(length).expect("short")),
                1 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).expect("two bytes").to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend(length.to_be_bytes());
                }
            }
            for cut in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..cut]), Ok(None));
            }
            prop_assert_eq!(read(&bytes), Ok(Some((Header { kind: Kind::Data, length }, bytes.len()))));
        }

        #[test]
        fn a_mask_is_taken_off_by_putting_it_on(payload in proptest::collection::vec(any::<u8>(), 0..300), mask: [u8; 4]) {
            let mut out = Vec::new();
            write(Kind::Data, &payload, mask, &mut out);
            let header = out.len() - payload.len();
            let bare: Vec<u8> = out[header..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            prop_assert_eq!(&out[header - 4..header], &mask);
            prop_assert_eq!(bare, payload);
        }
    }
}
