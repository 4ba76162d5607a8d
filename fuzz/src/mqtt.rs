//! Any bytes, as a broker could send them once it has answered the login: read without a panic up to a typed reason, no
//! packet larger than we take, and each message is the same when it is written again by the standard.

use twinagent::dialect::Dialect as _;
use twinagent::model::wire::{Packet, Qos};
use twinagent::mqtt::PACKET_LIMIT;
use twinagent::mqtt::incoming::{Incoming, read as packets};

use super::iotcore;

pub const VERDICTS: &[&str] = &["whole", "part", "undecodable", "protocol"];

pub fn read(bytes: &[u8]) -> String {
    let heard = packets(bytes, PACKET_LIMIT);
    let dialect = iotcore::dialect();
    for one in &heard.packets {
        if let Incoming::Message(packet, id) = one {
            assert_eq!(packet.qos == Qos::AtLeastOnce, id.is_some());
            assert_ne!(*id, Some(0), "MQTT 3.1.1 section 2.3.1");
            let written = written(packet, *id);
            assert!(written.len() <= PACKET_LIMIT + 5);
            let again = packets(&written, PACKET_LIMIT);
            assert_eq!((again.packets.as_slice(), again.rest), (&[one.clone()][..], Ok(0)));
            iotcore::judge(&dialect.decode(packet));
        }
    }
    match heard.rest {
        Ok(0) => "whole",
        Ok(left) => {
            // What waits for its end must not wait for more than one packet of ours.
            assert!(left <= PACKET_LIMIT + 5);
            "part"
        }
        Err(reason) => {
            assert!(reason.to_string().len() < 1_000 && !reason.hint().is_empty());
            reason.code()
        }
    }
    .to_owned()
}

/// MQTT 3.1.1 sections 2.2.3 and 3.3, by hand: what our codec reads is not judged by what it writes.
fn written(packet: &Packet, id: Option<u16>) -> Vec<u8> {
    let id: Vec<u8> = id.map(u16::to_be_bytes).into_iter().flatten().collect();
    let mut left = 2 + packet.topic.len() + id.len() + packet.payload.len();
    let mut bytes = vec![0x30 | u8::from(!id.is_empty()) << 1 | u8::from(packet.retain)];
    loop {
        let low = u8::try_from(left % 128).expect("a remainder of 128");
        left /= 128;
        bytes.push(low | u8::from(left > 0) << 7);
        if left == 0 {
            break;
        }
    }
    let topic = u16::try_from(packet.topic.len()).expect("a topic that was read");
    bytes.extend(topic.to_be_bytes());
    bytes.extend(packet.topic.as_bytes());
    bytes.extend(id);
    bytes.extend(&packet.payload[..]);
    bytes
}
