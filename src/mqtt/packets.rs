//! Between the words of the model and those of rumqttc's codec, and what MQTT 3.1.1 demands that the codec does not check.
//!
//! No I/O. The codec's own `Debug` of a login shows the password: never print one.

use std::io;
use std::time::Duration;

use rumqttc::mqttbytes::v4::{self, Connect, LastWill, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode};
use rumqttc::mqttbytes::{Error, QoS};

use super::{distrust, websocket};
use crate::model::wire::{Login, Packet, Qos, Reason, Subscription};

/// The longest text or binary field (MQTT 3.1.1 section 1.5.3); the codec would write a wrong length for a longer one.
const FIELD_MAX: usize = 65_535;

/// The CONNECT of a login, or why there can be none.
pub(super) fn connect(login: &Login) -> Result<v4::Packet, Reason> {
    let fields = [
        ("client id", login.client_id.len()),
        ("user name", login.username.len()),
        ("password", login.password.reveal().len()),
        ("will", login.will.as_ref().map_or(0, |will| will.payload.len())),
    ];
    if let Some((field, size)) = fields.into_iter().find(|(_, size)| *size > FIELD_MAX) {
        return Err(Reason::NoLogin(format!("the {field} has {size} bytes, MQTT allows {FIELD_MAX}")));
    }
    if login.username.is_empty() && !login.password.reveal().is_empty() {
        return Err(Reason::NoLogin("MQTT 3.1.1 has no password without a user name".to_owned()));
    }
    if let Some(fault) = login.will.as_ref().and_then(|will| topic_fault(&will.topic)) {
        return Err(Reason::NoLogin(format!("the will's topic {fault}")));
    }
    let mut connect = Connect::new(&*login.client_id);
    connect.keep_alive = seconds(login);
    connect.clean_session = login.clean;
    connect.last_will = login.will.as_ref().map(|will| LastWill {
        topic: will.topic.clone(),
        message: will.payload.clone(),
        qos: qos(will.qos),
        retain: will.retain,
    });
    // Onto the wire, and nowhere else.
    connect.set_login(&*login.username, login.password.reveal());
    Ok(v4::Packet::Connect(connect))
}

/// The keep-alive as the broker is told it. 0 would mean that nobody watches the link, so it counts as 1.
pub(super) fn keep_alive(login: &Login) -> Duration {
    Duration::from_secs(seconds(login).into())
}

fn seconds(login: &Login) -> u16 {
    u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1)
}

/// One SUBSCRIBE with all filters.
pub(super) fn subscribe(subscriptions: &[Subscription], id: u16) -> v4::Packet {
    let filters = subscriptions.iter().map(|wanted| SubscribeFilter::new(wanted.filter.clone(), qos(wanted.qos)));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = id;
    v4::Packet::Subscribe(subscribe)
}

/// Whether a SUBACK grants all that was asked.
pub(super) fn granted(subscriptions: &[Subscription], answers: &[SubscribeReasonCode]) -> Result<(), Reason> {
    if answers.len() != subscriptions.len() {
        let (asked, answered) = (subscriptions.len(), answers.len());
        return Err(Reason::Protocol(format!("SUBACK with {answered} answers to {asked} subscriptions")));
    }
    let refused = subscriptions.iter().zip(answers).find(|(_, answer)| **answer == SubscribeReasonCode::Failure);
    refused.map_or(Ok(()), |(wanted, _)| Err(Reason::SubscriptionRefused { filter: wanted.filter.clone() }))
}

/// A message of ours; `id` is 0 with QoS 0.
pub(super) fn publish(packet: Packet, id: u16) -> v4::Packet {
    v4::Packet::Publish(Publish {
        dup: false,
        qos: qos(packet.qos),
        retain: packet.retain,
        topic: packet.topic,
        pkid: id,
        payload: packet.payload,
    })
}

/// The size of a PUBLISH on the wire, in bytes with its fixed header.
pub(super) fn publish_size(packet: &Packet) -> usize {
    let id = if packet.qos == Qos::AtLeastOnce { 2 } else { 0 };
    let rest = 2 + packet.topic.len() + id + packet.payload.len();
    // Seven bits of the length in each byte (section 2.2.3).
    let length = match rest {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    };
    1 + length + rest
}

/// A received PUBLISH whose topic and QoS were checked, and the packet id that its PUBACK must name.
pub(super) fn received(publish: Publish) -> Result<(Packet, Option<u16>), Reason> {
    let (qos, id) = match publish.qos {
        QoS::AtMostOnce => (Qos::AtMostOnce, None),
        QoS::AtLeastOnce => (Qos::AtLeastOnce, Some(publish.pkid)),
        QoS::ExactlyOnce => return Err(Reason::Protocol("PUBLISH with QoS 2, which was never subscribed".to_owned())),
    };
    if let Some(fault) = topic_fault(&publish.topic) {
        return Err(Reason::Protocol(format!("PUBLISH whose topic {fault}")));
    }
    let Publish { topic, payload, retain, .. } = publish;
    Ok((Packet { topic, payload, qos, retain }, id))
}

/// What keeps a text from being a topic name (sections 3.3.2.1, 4.7.1 and 4.7.3).
pub(super) fn topic_fault(topic: &str) -> Option<&'static str> {
    if topic.is_empty() {
        Some("is empty")
    } else if topic.len() > FIELD_MAX {
        Some("is longer than 65535 bytes")
    } else if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        Some("has a wildcard")
    } else if topic.as_bytes().contains(&0) {
        Some("has a NUL")
    } else {
        None
    }
}

/// A packet that has no place here.
pub(super) fn unexpected(packet: &v4::Packet) -> Reason {
    let name = match packet {
        v4::Packet::Connect(_) => "CONNECT",
        v4::Packet::ConnAck(_) => "a second CONNACK",
        v4::Packet::Publish(_) => "PUBLISH before CONNACK",
        v4::Packet::PubAck(_) => "PUBACK before the login was answered",
        v4::Packet::PubRec(_) => "PUBREC",
        v4::Packet::PubRel(_) => "PUBREL",
        v4::Packet::PubComp(_) => "PUBCOMP",
        v4::Packet::Subscribe(_) => "SUBSCRIBE",
        v4::Packet::SubAck(_) => "a SUBACK that nobody waits for",
        v4::Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        v4::Packet::UnsubAck(_) => "a UNSUBACK that nobody waits for",
        v4::Packet::PingReq => "PINGREQ",
        v4::Packet::PingResp => "PINGRESP before CONNACK",
        v4::Packet::Disconnect => "DISCONNECT",
    };
    Reason::Protocol(format!("the broker sent {name}"))
}

/// What an error of the codec or of the stream below it means.
pub(super) fn reason(error: Error) -> Reason {
    match error {
        Error::Io(error) => lost(&error),
        Error::PayloadSizeLimitExceeded(size) => Reason::Undecodable(format!("{size} bytes, more than we take")),
        other => Reason::Undecodable(other.to_string()),
    }
}

fn lost(error: &io::Error) -> Reason {
    websocket::reason(error).or_else(|| distrust::reason(error)).unwrap_or_else(|| match error.kind() {
        // TLS without a close_notify. Brokers do that, and MQTT frames its packets itself: nothing can be cut unseen.
        io::ErrorKind::UnexpectedEof => Reason::Closed,
        _ => Reason::Lost(error.to_string()),
    })
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;

    #[test]
    fn the_size_is_what_the_codec_writes() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            for size in [0, 1, 118, 119, 120, 121, 122, 16_374, 16_376, 16_378, 16_380, 300_000, 2_097_150] {
                let packet =
                    Packet { topic: "a/b/c".to_owned(), payload: Bytes::from(vec![0; size]), qos, retain: true };
                let expected = publish_size(&packet);
                let mut written = BytesMut::new();
                let id = u16::from(qos == Qos::AtLeastOnce);
                publish(packet, id).write(&mut written, usize::MAX).expect("it fits");
                assert_eq!(written.len(), expected, "{qos:?} with {size} bytes");
            }
        }
    }

    #[test]
    fn only_a_topic_name_is_a_topic() {
        assert_eq!(topic_fault("/devices/d/config"), None);
        for bad in ["", "a/+", "#", "a\0b", &"t".repeat(65_536)] {
            assert!(topic_fault(bad).is_some(), "{:?}", bad.get(..8));
        }
    }
}
