//! What a broker keeps for one client: its subscriptions and the messages on their way to it, in order.
//!
//! QoS 1 towards the device as in MQTT 3.1.1 section 4.3.2 and 4.4. No stream and no rule of any cloud is here.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;
use tokio::sync::oneshot;

/// Messages sent and not acknowledged at one time; further ones wait.
const WINDOW: usize = 2_048;
/// Messages that wait for room in the window.
const WAITING_ONLINE: usize = 16_384;
/// Messages kept while the client is away.
const WAITING_OFFLINE: usize = 1_000;

/// Who wants to know that a message was acknowledged.
#[derive(Debug)]
pub(crate) enum Receipt {
    Nobody,
    Caller(oneshot::Sender<()>),
    /// A document of the cloud, in this version.
    Version(u64),
}

/// There is no room for another message.
#[derive(Debug)]
pub(crate) struct Full;

#[derive(Debug, Default)]
pub(crate) struct Session {
    subscriptions: BTreeMap<String, QoS>,
    window: VecDeque<(Publish, Receipt)>,
    waiting: VecDeque<(Publish, Receipt)>,
    ids: HashSet<u16>,
    last_id: u16,
    /// Bytes that a test has put in, sent at each resumption.
    poison: Vec<Bytes>,
}

impl Session {
    pub(crate) fn subscribe(&mut self, filter: String, qos: QoS) {
        self.subscriptions.insert(filter, qos);
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        self.subscriptions.remove(filter);
    }

    /// The QoS granted to this filter, compared as a text.
    pub(crate) fn granted(&self, filter: &str) -> Option<QoS> {
        self.subscriptions.get(filter).copied()
    }

    /// Takes a message on. It leaves with [`Session::ready`].
    pub(crate) fn put(&mut self, message: Publish, receipt: Receipt, online: bool) -> Result<(), Full> {
        if self.waiting.len() >= if online { WAITING_ONLINE } else { WAITING_OFFLINE } {
            return Err(Full);
        }
        self.waiting.push_back((message, receipt));
        Ok(())
    }

    /// Whether messages wait for room in the window.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What may be sent now: each with its packet id.
    pub(crate) fn ready(&mut self) -> Vec<Publish> {
        let mut ready = Vec::new();
        while self.window.len() < WINDOW {
            let Some((mut message, receipt)) = self.waiting.pop_front() else { break };
            if message.qos == QoS::AtMostOnce {
                if let Receipt::Caller(caller) = receipt {
                    // A caller that is gone needs no answer.
                    let _ = caller.send(());
                }
            } else {
                message.pkid = self.free_id();
                self.window.push_back((message.clone(), receipt));
            }
            ready.push(message);
        }
        ready
    }

    /// What was sent on an earlier connection and not acknowledged: again, in order, with DUP (MQTT-4.4.0-1).
    pub(crate) fn resume(&mut self) -> Vec<Publish> {
        self.window.iter_mut().for_each(|(message, _)| message.dup = true);
        self.window.iter().map(|(message, _)| message.clone()).collect()
    }

    pub(crate) fn add_poison(&mut self, bytes: Bytes) {
        self.poison.push(bytes);
    }

    /// What a test has put in.
    pub(crate) fn poison(&self) -> Vec<Bytes> {
        self.poison.clone()
    }

    /// The message with this packet id once more, if it carries this version and is still not acknowledged.
    pub(crate) fn repeat(&mut self, id: u16, version: u64) -> Option<Publish> {
        let wanted = |receipt: &Receipt| matches!(receipt, Receipt::Version(number) if *number == version);
        let (message, _) = self.window.iter_mut().find(|(message, receipt)| message.pkid == id && wanted(receipt))?;
        message.dup = true;
        Some(message.clone())
    }

    /// A PUBACK arrived. One that nobody waits for is `None`.
    pub(crate) fn settle(&mut self, id: u16) -> Option<Receipt> {
        let at = self.window.iter().position(|(message, _)| message.pkid == id)?;
        self.ids.remove(&id);
        self.window.remove(at).map(|(_, receipt)| receipt)
    }

    /// Empties the session of its messages, in their order. Each is as it was put in.
    pub(crate) fn take_messages(&mut self) -> Vec<(Publish, Receipt)> {
        self.ids.clear();
        let mut messages: Vec<_> = self.window.drain(..).chain(self.waiting.drain(..)).collect();
        for (message, _) in &mut messages {
            message.dup = false;
            message.pkid = 0;
        }
        messages
    }

    /// The filters that are subscribed to.
    pub(crate) fn filters(&self) -> usize {
        self.subscriptions.len()
    }

    /// Messages neither sent nor acknowledged.
    pub(crate) fn unsettled(&self) -> usize {
        self.window.len() + self.waiting.len()
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            // Ends: the window is far smaller than the numbers there are.
            if self.ids.insert(self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Publish {
        Publish::new("topic", QoS::AtLeastOnce, text)
    }

    #[test]
    fn unacknowledged_messages_come_again_in_order_with_their_ids_and_no_id_is_in_use_twice() {
        let mut session = Session::default();
        for number in 0..WINDOW + 10 {
            session.put(message(&number.to_string()), Receipt::Nobody, true).expect("there is room");
        }
        let sent = session.ready();
        assert_eq!(sent.len(), WINDOW);
        let (first, second) = (sent[0].pkid, sent[1].pkid);
        assert!(session.settle(second).is_some());
        assert!(session.settle(second).is_none(), "a second PUBACK settles nothing");
        assert_eq!(session.ready().len(), 1, "one place was free");
        let again = session.resume();
        assert_eq!((again[0].pkid, again[0].dup), (first, true));
        assert_eq!(again[1].payload, "2");
        // The first message stays unacknowledged while the ids go round.
        for _ in 0..70_000 {
            let id = session.window.back().expect("the window is full").0.pkid;
            session.settle(id);
            session.put(message("x"), Receipt::Nobody, true).expect("there is room");
            session.ready();
        }
        assert_eq!(session.window.iter().filter(|(message, _)| message.pkid == first).count(), 1);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut session = Session::default();
        for _ in 0..WAITING_OFFLINE {
            session.put(message("x"), Receipt::Nobody, false).expect("there is room");
        }
        assert!(session.put(message("x"), Receipt::Nobody, false).is_err());
    }
}
