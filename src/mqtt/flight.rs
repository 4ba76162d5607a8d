//! What waits for a PUBACK: messages of ours by packet id, and received ones in the order of arrival.
//!
//! Plain bookkeeping of one connection; it sends nothing.

use std::collections::VecDeque;

use crate::model::wire::{Delivery, MessageId};

/// Received messages that may wait for the daemon at a time, then for its Ack. Brokers keep 20 to 32 in flight when nobody changes
/// that, so this is no limit to them; at [`super::PACKET_LIMIT`] each it bounds the memory at 19 MiB.
pub(super) const DELIVERIES: usize = 64;

/// The messages of ours that the broker has not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    /// Ids that are not in use. The last one is taken first.
    free: Vec<u16>,
    /// By packet id - 1.
    flying: Vec<Option<MessageId>>,
}

impl Sent {
    /// As many ids as the window has, from 1, so that memory is bounded and an id is never met twice; not the one that is `taken`
    /// by something else.
    pub(super) fn new(window: u16, taken: Option<u16>) -> Self {
        let last = window.saturating_add(u16::from(taken.is_some()));
        let free = (1..=last).rev().filter(|id| Some(*id) != taken).collect();
        Self { free, flying: vec![None; usize::from(last)] }
    }

    /// A packet id for the message. None: all are in use.
    pub(super) fn take(&mut self, message: MessageId) -> Option<u16> {
        let id = self.free.pop()?;
        self.flying[usize::from(id) - 1] = Some(message);
        Some(id)
    }

    /// The message that this PUBACK is for. None: nothing with this id is in flight.
    pub(super) fn settle(&mut self, id: u16) -> Option<MessageId> {
        let message = self.flying.get_mut(usize::from(id).checked_sub(1)?)?.take()?;
        self.free.push(id);
        Some(message)
    }
}

/// The received messages that wait for their PUBACK, oldest first.
#[derive(Debug, Default)]
pub(super) struct Received {
    count: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    id: u16,
    acked: bool,
}

impl Received {
    /// Whether one more may be handed to the daemon.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < DELIVERIES
    }

    /// Numbers a message that is handed to the daemon; `id` is its packet id where it wants a PUBACK.
    pub(super) fn number(&mut self, id: Option<u16>) -> Delivery {
        self.count += 1;
        // The lowest bit tells the two kinds apart without a table on the other side of the queue.
        let delivery = Delivery(self.count << 1 | u64::from(id.is_some()));
        if let Some(id) = id {
            self.waiting.push_back(Waiting { delivery, id, acked: false });
        }
        delivery
    }

    /// Marks one; an unknown or repeated one changes nothing.
    pub(super) fn ack(&mut self, delivery: Delivery) {
        if let Ok(at) = self.waiting.binary_search_by_key(&delivery, |waiting| waiting.delivery) {
            self.waiting[at].acked = true;
        }
    }

    /// The packet id whose PUBACK is next to leave: the oldest one's, once it is marked \[MQTT-4.6.0-2\].
    pub(super) fn next(&mut self) -> Option<u16> {
        let oldest = self.waiting.front().filter(|waiting| waiting.acked)?.id;
        self.waiting.pop_front();
        Some(oldest)
    }
}

/// Whether the broker waits for a PUBACK of this one.
pub(super) fn needs_puback(delivery: Delivery) -> bool {
    delivery.0 & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_used_once_until_it_is_settled() {
        let mut sent = Sent::new(2, None);
        assert_eq!(sent.take(MessageId(10)), Some(1));
        assert_eq!(sent.take(MessageId(11)), Some(2));
        assert_eq!(sent.take(MessageId(12)), None, "the window is full");
        assert_eq!(sent.settle(1), Some(MessageId(10)));
        assert_eq!(sent.settle(1), None, "acknowledged twice");
        assert_eq!(sent.take(MessageId(12)), Some(1));
        for never in [0, 3, u16::MAX] {
            assert_eq!(sent.settle(never), None);
        }
    }

    #[test]
    fn an_id_that_is_taken_does_not_make_the_window_smaller() {
        let mut sent = Sent::new(2, Some(1));
        assert_eq!(sent.settle(1), None);
        assert_eq!((sent.take(MessageId(10)), sent.take(MessageId(11))), (Some(2), Some(3)));
        assert_eq!(sent.take(MessageId(12)), None);
        assert_eq!((sent.settle(1), sent.settle(3)), (None, Some(MessageId(11))));
    }

    #[test]
    fn pubacks_leave_in_the_order_of_arrival() {
        let mut received = Received::default();
        let all: Vec<_> = [7, 3, 9].map(|id| received.number(Some(id))).into();
        received.ack(all[2]);
        received.ack(all[1]);
        assert_eq!(received.next(), None, "the oldest is not acknowledged");
        received.ack(all[0]);
        received.ack(all[0]);
        let left: Vec<_> = std::iter::from_fn(|| received.next()).collect();
        assert_eq!(left, [7, 3, 9]);
        received.ack(all[1]);
        assert_eq!(received.next(), None);
    }

    #[test]
    fn numbers_grow_and_say_whether_a_puback_is_due() {
        let mut received = Received::default();
        let (first, second) = (received.number(None), received.number(Some(1)));
        assert!(first < second);
        assert!(!needs_puback(first));
        assert!(needs_puback(second));
        for id in 2..=u16::try_from(DELIVERIES).expect("small") {
            assert!(received.has_room());
            received.number(Some(id));
        }
        assert!(!received.has_room());
    }
}
