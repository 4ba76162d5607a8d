//! Cloud-to-device messages that wait for a device which is not subscribed to them.
//!
//! The cloud keeps a queue for each device, whatever becomes of its sessions. What a device is subscribed to moves into its
//! session, and back when that session ends.

use std::collections::{HashMap, VecDeque};

use rumqttc::mqttbytes::v4::Publish;

use crate::bridge::broker::{ClientNumber, Receipt};

/// Messages of one device that are not completed: the quota of the real service.
pub(crate) const QUEUE: usize = 50;

#[derive(Debug, Default)]
pub(crate) struct Mailboxes(HashMap<ClientNumber, VecDeque<(Publish, Receipt)>>);

impl Mailboxes {
    /// The last of the queue.
    pub(crate) fn put(&mut self, client: ClientNumber, message: Publish, receipt: Receipt) {
        self.0.entry(client).or_default().push_back((message, receipt));
    }

    /// Puts messages back that had left the queue: they are its first again.
    pub(crate) fn put_back(&mut self, client: ClientNumber, messages: Vec<(Publish, Receipt)>) {
        if messages.is_empty() {
            return;
        }
        let queue = self.0.entry(client).or_default();
        for message in messages.into_iter().rev() {
            queue.push_front(message);
        }
    }

    /// Empties the queue.
    pub(crate) fn take(&mut self, client: ClientNumber) -> VecDeque<(Publish, Receipt)> {
        self.0.remove(&client).unwrap_or_default()
    }

    pub(crate) fn len(&self, client: ClientNumber) -> usize {
        self.0.get(&client).map_or(0, VecDeque::len)
    }
}
