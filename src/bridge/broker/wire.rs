//! MQTT 3.1.1 on the wire: rumqttc's codec, plus what it does not do for a server.
//!
//! It tells another protocol level apart before the codec misreads it, and it can write bytes that are no packet.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self, v4};
use tokio_util::codec::{Decoder, Encoder};

/// The largest packet taken from a device, in bytes after the fixed header: 256 KiB of telemetry, the longest topic
/// that MQTT allows, and the packet id.
pub(crate) const MAX_PACKET: usize = 256 * 1024 + 2 + u16::MAX as usize + 2;

/// The largest CONNECT, in the same measure: nobody has to be trusted with more before the login.
const MAX_CONNECT: usize = 16 * 1024;

/// The only protocol level spoken here, that of MQTT 3.1.1 (section 3.1.2.2).
const LEVEL: u8 = 4;

/// What is written: a packet, or bytes as they are.
#[derive(Debug)]
pub(crate) enum Frame {
    Packet(v4::Packet),
    Raw(Bytes),
}

impl From<v4::Packet> for Frame {
    fn from(packet: v4::Packet) -> Self {
        Self::Packet(packet)
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Raw(bytes)
    }
}

/// Why nothing more can be read from a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the client does not speak MQTT 3.1.1")]
    Level,
    #[error("no CONNECT as the first packet")]
    NoConnect,
    #[error("{0}")]
    Packet(#[from] mqttbytes::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Reads the packets of one client, of which the first must be a CONNECT, and writes frames.
#[derive(Debug)]
pub(crate) struct Wire {
    codec: v4::Codec,
    connected: bool,
}

impl Default for Wire {
    fn default() -> Self {
        // What goes out is ours, and a fault may ask for any size.
        let codec = v4::Codec { max_incoming_size: MAX_CONNECT, max_outgoing_size: usize::MAX };
        Self { codec, connected: false }
    }
}

impl Decoder for Wire {
    type Item = v4::Packet;
    type Error = WireError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<v4::Packet>, WireError> {
        if !self.connected {
            // MQTT-3.1.0-1, judged by the first byte: another protocol may never complete what looks like a packet.
            if source.first().is_some_and(|first| first >> 4 != 1) {
                return Err(WireError::NoConnect);
            }
            if level(source).is_some_and(|level| level != LEVEL) {
                return Err(WireError::Level);
            }
        }
        match self.codec.decode(source) {
            Err(mqttbytes::Error::InvalidProtocol | mqttbytes::Error::InvalidProtocolLevel(_)) => Err(WireError::Level),
            other => {
                let packet = other?;
                if packet.is_some() && !self.connected {
                    self.connected = true;
                    self.codec.max_incoming_size = MAX_PACKET;
                }
                Ok(packet)
            }
        }
    }
}

/// The protocol level of a CONNECT that calls itself MQTT.
///
/// The CONNECT of MQTT 5 has more fields, which the codec of 3.1.1 would take for a client id.
fn level(source: &[u8]) -> Option<u8> {
    let (_, rest) = source.split_first()?;
    let length = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    rest.get(length..)?.strip_prefix(b"\0\x04MQTT")?.first().copied()
}

impl Encoder<Frame> for Wire {
    type Error = WireError;

    fn encode(&mut self, frame: Frame, target: &mut BytesMut) -> Result<(), WireError> {
        match frame {
            Frame::Packet(packet) => self.codec.encode(packet, target)?,
            Frame::Raw(bytes) => target.extend_from_slice(&bytes),
        }
        Ok(())
    }
}

/// The bytes of one packet.
pub(crate) fn bytes_of(packet: v4::Packet) -> Bytes {
    let mut bytes = BytesMut::new();
    Wire::default().encode(packet.into(), &mut bytes).expect("a packet of ours can be written");
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_levels_are_told_apart_and_broken_bytes_are_an_error() {
        let mut packet = BytesMut::from(&bytes_of(v4::Packet::Connect(v4::Connect::new("client")))[..]);
        assert!(matches!(Wire::default().decode(&mut packet.clone()), Ok(Some(v4::Packet::Connect(_)))));
        for level in [0, 3, 5, 255] {
            packet[8] = level;
            assert!(matches!(Wire::default().decode(&mut packet.clone()), Err(WireError::Level)), "{level}");
        }
        let mut old = BytesMut::from(&b"\x10\x0e\0\x06MQIsdp\x03\0\0\0\0\0"[..]);
        assert!(matches!(Wire::default().decode(&mut old), Err(WireError::Level)));
        assert!(matches!(Wire::default().decode(&mut BytesMut::from("GET")), Err(WireError::NoConnect)));
        for broken in [&b"\xff\xff\xff\xff\xff"[..], b"\x30\xff\xff\xff\x7f", b"\x32\x05\0\x03a/b\0\0", b"\0\0"] {
            let mut wire = Wire { connected: true, ..Wire::default() };
            assert!(wire.decode(&mut BytesMut::from(broken)).is_err(), "{broken:?}");
        }
    }
}
