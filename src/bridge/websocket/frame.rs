//! The frames of RFC 6455 as a server reads and writes them: masked in, plain out, binary alone.
//!
//! Sizes are bounded before anything is kept. Fragments need no joining: what is inside is a stream of bytes.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// The largest frame taken, in bytes of payload: a client may put its largest packet into one.
const MAX_FRAME: usize = 512 * 1024;
/// The largest payload of a control frame (RFC 6455 5.5).
const MAX_CONTROL: usize = 125;

const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close,
}

/// Why nothing more comes of a WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Wrong(&'static str),
    #[error("the client does not read")]
    Slow,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    /// A message of several frames is under way.
    fragmented: bool,
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = Fault;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        let [first, second, ..] = source[..] else { return Ok(None) };
        let (finished, opcode) = (first & FIN != 0, first & 0xF);
        if first & 0x70 != 0 {
            return Err(Fault::Wrong("a frame uses an extension that was not agreed"));
        }
        if second & MASKED == 0 {
            return Err(Fault::Wrong("a frame of a client is not masked"));
        }
        let (extended, mut length) = match second & !MASKED {
            126 => (2, 0),
            127 => (8, 0),
            length => (0, u64::from(length)),
        };
        let Some(digits) = source.get(2..2 + extended) else { return Ok(None) };
        if extended > 0 {
            length = digits.iter().fold(0, |length, digit| length << 8 | u64::from(*digit));
        }
        let limit = if opcode >= CLOSE { MAX_CONTROL } else { MAX_FRAME };
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let length = length.ok_or(Fault::Wrong("a frame is too large"))?;
        match opcode {
            BINARY if !self.fragmented => {}
            CONTINUATION if self.fragmented => {}
            CLOSE | PING | PONG if finished => {}
            BINARY | CONTINUATION => return Err(Fault::Wrong("a message begins within another, or never did")),
            CLOSE | PING | PONG => return Err(Fault::Wrong("a control frame is in pieces")),
            _ => return Err(Fault::Wrong("a frame is not binary")),
        }
        let head = 2 + extended + 4;
        if source.len() < head + length {
            source.reserve(head + length - source.len());
            return Ok(None);
        }
        if opcode < CLOSE {
            self.fragmented = !finished;
        }
        source.advance(head - 4);
        let mask = [source[0], source[1], source[2], source[3]];
        source.advance(4);
        let mut payload = source.split_to(length);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let payload = payload.freeze();
        Ok(Some(match opcode {
            CLOSE => Frame::Close,
            PING => Frame::Ping(payload),
            PONG => Frame::Pong(payload),
            _ => Frame::Data(payload),
        }))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        // A connection that ends within a frame has ended; the broker says what that means.
        self.decode(source)
    }
}

impl Encoder<Frame> for Frames {
    type Error = Fault;

    fn encode(&mut self, frame: Frame, target: &mut BytesMut) -> Result<(), Fault> {
        /// Gone normally (RFC 6455 7.4.1).
        const NORMAL: &[u8] = &1000_u16.to_be_bytes();
        let (opcode, payload) = match frame {
            Frame::Data(bytes) => (BINARY, bytes),
            Frame::Ping(bytes) => (PING, bytes),
            Frame::Pong(bytes) => (PONG, bytes),
            Frame::Close => (CLOSE, Bytes::from_static(NORMAL)),
        };
        target.put_u8(FIN | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..=125), _) => target.put_u8(length),
            (_, Ok(length)) => {
                target.put_u8(126);
                target.put_u16(length);
            }
            _ => {
                target.put_u8(127);
                target.put_u64(payload.len() as u64);
            }
        }
        target.extend_from_slice(&payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a client writes it.
    fn masked(first: u8, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        Frames::default().encode(Frame::Data(payload.to_vec().into()), &mut bytes).expect("written");
        let head = bytes.len() - payload.len();
        bytes[0] = first;
        bytes[1] |= MASKED;
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let body: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        bytes.truncate(head);
        bytes.extend_from_slice(&mask);
        bytes.extend_from_slice(&body);
        bytes
    }

    #[test]
    fn frames_of_every_size_are_read_at_any_cut() {
        for size in [0, 1, 125, 126, 65_535, 65_536, MAX_FRAME] {
            let payload = vec![7; size];
            let whole = masked(FIN | BINARY, &payload);
            let mut frames = Frames::default();
            let mut source = BytesMut::new();
            for cut in [1, 3, 9, whole.len() - 1].into_iter().filter(|cut| *cut < whole.len()) {
                source.clear();
                source.extend_from_slice(&whole[..cut]);
                assert!(matches!(frames.decode(&mut source), Ok(None)), "{size} {cut}");
            }
            source.clear();
            source.extend_from_slice(&whole);
            assert_eq!(frames.decode(&mut source).expect("good"), Some(Frame::Data(payload.into())), "{size}");
            assert!(source.is_empty());
        }
    }

    #[test]
    fn a_message_in_pieces_is_a_stream_with_control_frames_between() {
        let mut source = masked(BINARY, b"ab");
        source.unsplit(masked(FIN | PING, b"?"));
        source.unsplit(masked(CONTINUATION, b"c"));
        source.unsplit(masked(FIN | CONTINUATION, b"d"));
        source.unsplit(masked(FIN | CLOSE, b""));
        let mut frames = Frames::default();
        let mut read = Vec::new();
        while let Some(frame) = frames.decode(&mut source).expect("good") {
            read.push(frame);
        }
        let data = |text: &'static str| Frame::Data(Bytes::from_static(text.as_bytes()));
        assert_eq!(read, [data("ab"), Frame::Ping(Bytes::from_static(b"?")), data("c"), data("d"), Frame::Close]);
    }

    #[test]
    fn what_a_client_must_not_send_is_an_error() {
        let mut plain = masked(FIN | BINARY, b"ab");
        plain[1] &= !MASKED;
        let mut in_another = masked(BINARY, b"ab");
        in_another.unsplit(masked(FIN | BINARY, b"ab"));
        for mut wrong in [
            plain,
            in_another,
            masked(FIN | CONTINUATION, b"ab"),
            masked(FIN | 0x1, b"text"),
            masked(FIN | 0x40 | BINARY, b"ab"),
            masked(PING, b"ab"),
            masked(FIN | PING, &[0; 126]),
            masked(FIN | BINARY, &vec![0; MAX_FRAME + 1]),
            BytesMut::from(&[FIN | BINARY, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..]),
        ] {
            let mut frames = Frames::default();
            let fault = loop {
                match frames.decode(&mut wrong) {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(fault) => break Some(fault),
                }
            };
            assert!(matches!(fault, Some(Fault::Wrong(_))), "{fault:?}");
        }
    }
}
