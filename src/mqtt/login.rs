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
use crate::model::wire::{Reason, Subscription};

/// The packet id of the SUBSCRIBE. No message has it before the SUBACK.
pub(super) const SUBSCRIBE_ID: u16 = 1;

/// What is kept of messages that arrive before the SUBACK, in bytes and in number. They cannot be left unread, as the SUBACK
/// stands behind them. A kept session may bring everything that waited for us; brokers keep 100 to 1000 messages unless told
/// otherwise. If there is more, the session that the broker has kept holds our subscriptions already, so it counts as standing:
/// the messages go on to the daemon, which makes room for the next ones, and the SUBACK is taken when it comes. So nothing is
/// lost and memory is bounded. Without a kept session a broker has nothing to send before we subscribed.
const EARLY_BYTES: usize = 4 * 1024 * 1024;
const EARLY_MESSAGES: usize = 4096;

/// What a login brought.
pub(super) struct Session {
    pub(super) kept: bool,
    /// Messages of a kept session that came before the SUBACK, in order.
    pub(super) early: VecDeque<Publish>,
    /// The SUBACK is still to come, behind more messages.
    pub(super) suback_due: bool,
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
    if order.subscriptions.is_empty() {
        return Ok(Session { kept, early: VecDeque::new(), suback_due: false });
    }
    subscribe(wire, order, kept, stage).await
}

async fn subscribe(wire: &mut Wire, order: &Order, kept: bool, stage: &mut Stage) -> Result<Session, Reason> {
    *stage = Stage::Suback;
    wire.send(packets::subscribe(&order.subscriptions, SUBSCRIBE_ID)).await.map_err(packets::reason)?;
    let mut early = VecDeque::new();
    let mut bytes = 0;
    loop {
        match wire.next().await {
            Some(Ok(v4::Packet::SubAck(answer))) if answer.pkid == SUBSCRIBE_ID => {
                packets::granted(&order.subscriptions, &answer.return_codes)?;
                return Ok(Session { kept, early, suback_due: false });
            }
            Some(Ok(v4::Packet::Publish(publish))) => {
                bytes += publish.size();
                early.push_back(publish);
                if bytes > EARLY_BYTES || early.len() > EARLY_MESSAGES {
                    if kept {
                        return Ok(Session { kept, early, suback_due: true });
                    }
                    return Err(Reason::Protocol(format!(
                        "more than {EARLY_BYTES} bytes or {EARLY_MESSAGES} messages before the SUBACK of a new session"
                    )));
                }
            }
            Some(Ok(other)) => return Err(packets::unexpected(&other)),
            Some(Err(error)) => return Err(unsubscribed(&order.subscriptions, error)),
            None => return Err(Reason::Closed),
        }
    }
}

/// What an error means while the SUBACK is due.
pub(super) fn unsubscribed(subscriptions: &[Subscription], error: Error) -> Reason {
    match error {
        // Only 0x80 is a failure in MQTT 3.1.1; brokers that also speak MQTT 5 are known to send its codes. The codec does not say
        // which filter it was.
        Error::InvalidSubscribeReasonCode(code) if code >= 0x80 => {
            let filters: Vec<_> = subscriptions.iter().map(|wanted| wanted.filter.as_str()).collect();
            Reason::SubscriptionRefused { filter: filters.join("` or `") }
        }
        error => packets::reason(error),
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
