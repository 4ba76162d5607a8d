//! The first part of a connection: CONNECT, CONNACK, SUBSCRIBE, SUBACK.
//!
//! Sets no time limit of its own; whoever calls it names one and can tell from the stage what it waited for.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode, Publish};

use super::connection::Wire;
use super::stage::Stage;
use super::{Order, packets};
use crate::model::wire::Reason;

/// The packet id of the SUBSCRIBE; ids of messages are in use only afterwards.
const SUBSCRIBE_ID: u16 = 1;

/// What may arrive before the SUBACK in all, in bytes and in messages. It cannot be left unread, as the SUBACK stands behind it.
/// A kept session may bring everything that waited for us; brokers keep 100 to 1000 messages unless told otherwise.
const EARLY_BYTES: usize = 4 * 1024 * 1024;
const EARLY_MESSAGES: usize = 4096;

/// What a login brought.
pub(super) struct Session {
    pub(super) kept: bool,
    /// Messages of a kept session that came before the SUBACK, in order.
    pub(super) early: VecDeque<Publish>,
}

/// Logs in and subscribes. `stage` says what is being waited for.
pub(super) async fn greet(wire: &mut Wire, order: &Order, stage: &mut Stage) -> Result<Session, Reason> {
    *stage = Stage::Connack;
    wire.send(packets::connect(&order.login)?).await.map_err(before_answer)?;
    let kept = match wire.next().await {
        Some(Ok(v4::Packet::ConnAck(answer))) if answer.code == ConnectReturnCode::Success => answer.session_present,
        Some(Ok(v4::Packet::ConnAck(answer))) => return Err(Reason::Refused { code: answer.code as u8 }),
        Some(Ok(other)) => return Err(packets::unexpected(&other)),
        // Some brokers have codes of their own (ClearBlade: 0x13); table 3.1 of the standard and the codec end at 5.
        Some(Err(Error::InvalidConnectReturnCode(code))) => return Err(Reason::Refused { code }),
        Some(Err(error)) => return Err(before_answer(error)),
        None => return Err(Reason::ClosedBeforeAnswer),
    };
    let early = if order.subscriptions.is_empty() { VecDeque::new() } else { subscribe(wire, order, stage).await? };
    Ok(Session { kept, early })
}

async fn subscribe(wire: &mut Wire, order: &Order, stage: &mut Stage) -> Result<VecDeque<Publish>, Reason> {
    *stage = Stage::Suback;
    wire.send(packets::subscribe(&order.subscriptions, SUBSCRIBE_ID)).await.map_err(packets::reason)?;
    let mut early = VecDeque::new();
    let mut bytes = 0;
    loop {
        match wire.next().await {
            Some(Ok(v4::Packet::SubAck(answer))) if answer.pkid == SUBSCRIBE_ID => {
                packets::granted(&order.subscriptions, &answer.return_codes)?;
                return Ok(early);
            }
            Some(Ok(v4::Packet::Publish(publish))) => {
                bytes += publish.size();
                if bytes > EARLY_BYTES || early.len() == EARLY_MESSAGES {
                    return Err(Reason::Protocol(format!(
                        "more than {EARLY_BYTES} bytes or {EARLY_MESSAGES} messages before the SUBACK"
                    )));
                }
                early.push_back(publish);
            }
            Some(Ok(other)) => return Err(packets::unexpected(&other)),
            // Only 0x80 is a failure in MQTT 3.1.1; brokers that also speak MQTT 5 are known to send its codes. The codec does not
            // say which filter it was.
            Some(Err(Error::InvalidSubscribeReasonCode(code))) if code >= 0x80 => {
                let filters: Vec<_> = order.subscriptions.iter().map(|wanted| wanted.filter.as_str()).collect();
                return Err(Reason::SubscriptionRefused { filter: filters.join("` or `") });
            }
            Some(Err(error)) => return Err(packets::reason(error)),
            None => return Err(Reason::Closed),
        }
    }
}

/// A stream that ends before the CONNACK is an answer: some brokers say no in no other way, and with bytes of ours unread that
/// arrives as a reset.
fn before_answer(error: Error) -> Reason {
    match packets::reason(error) {
        Reason::Closed | Reason::Lost(_) => Reason::ClosedBeforeAnswer,
        other => other,
    }
}
