//! A broker's bytes, read without a socket: the same codec and the same checks as on a connection whose login was answered.
//!
//! For whoever has the bytes and no broker, such as the fuzzer. It keeps no state and waits for nothing.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{self, Codec};
use tokio_util::codec::Decoder as _;

use super::packets;
use crate::model::wire::{Packet, Reason};

/// What a broker says on a connection that is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// With the id that its PUBACK must name, where it wants one.
    Message(Packet, Option<u16>),
    /// The PUBACK of the message of ours with this id.
    Settled(u16),
    Pong,
}

/// All that was read, and why it went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub packets: Vec<Incoming>,
    /// Bytes of a packet whose end has not come, or the reason that would end the connection.
    pub rest: Result<usize, Reason>,
}

/// Reads packets of at most `limit` bytes, without their fixed headers, until one is not whole or must not be there.
pub fn read(bytes: &[u8], limit: usize) -> Heard {
    let mut codec = Codec { max_incoming_size: limit, max_outgoing_size: 0 };
    let mut bytes = BytesMut::from(bytes);
    let mut packets = Vec::new();
    let rest = loop {
        match codec.decode(&mut bytes).map_err(packets::reason).map(|packet| packet.map(one)) {
            Ok(Some(Ok(packet))) => packets.push(packet),
            Ok(None) => break Ok(bytes.len()),
            Ok(Some(Err(reason))) | Err(reason) => break Err(reason),
        }
    };
    Heard { packets, rest }
}

fn one(packet: v4::Packet) -> Result<Incoming, Reason> {
    match packet {
        v4::Packet::Publish(publish) => packets::received(publish).map(|(packet, id)| Incoming::Message(packet, id)),
        v4::Packet::PubAck(ack) => Ok(Incoming::Settled(ack.pkid)),
        v4::Packet::PingResp => Ok(Incoming::Pong),
        other => Err(packets::unexpected(&other)),
    }
}
