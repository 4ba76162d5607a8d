//! Who waits, on this connection, for the first answer to a command: senders of direct methods.
//!
//! Nothing here outlives the connection. Whoever is gone with it has been told by the cloud that nobody answered.

use std::time::Duration;

use crate::model::command::ReplyTo;
use crate::model::ledger::{Ledger, Number};
use crate::model::now::BootInstant;
use crate::model::reboot::is_reboot;

/// A sender gets the outcome if it is there within this time, else a 202. The shortest time-out that IoT Hub lets a caller
/// choose is 5 s (devguide-direct-methods), and both ways must fit in.
const PATIENCE: Duration = Duration::from_secs(3);

/// Senders that may wait at a time: as many as commands that may be untold. Whoever comes on top finds the answer in the
/// reported document.
const MOST: usize = crate::model::intake::UNTOLD;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub number: Number,
    pub reply_to: ReplyTo,
    /// It gets an answer by then, whatever there is to say.
    until: BootInstant,
}

/// All of them, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders(Vec<Sender>);

impl Senders {
    /// The command was taken on just now.
    pub(super) fn begin(&mut self, number: Number, reply_to: ReplyTo, now: BootInstant) -> bool {
        self.add(Sender { number, reply_to, until: now + PATIENCE })
    }

    /// The command was sent again: this sender gets what there is to say.
    pub(super) fn ask_again(&mut self, number: Number, reply_to: ReplyTo, now: BootInstant) -> bool {
        self.add(Sender { number, reply_to, until: now })
    }

    /// What was to be sent to it was not.
    pub(super) fn put_back(&mut self, sender: Sender) {
        self.0.insert(0, sender);
    }

    /// Whether there was room.
    fn add(&mut self, sender: Sender) -> bool {
        let has_room = self.0.len() < MOST;
        if has_room {
            self.0.push(sender);
        }
        has_room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody waits for the answer to this command.
    pub(super) fn wait_for(&self, number: Number) -> bool {
        self.0.iter().any(|sender| sender.number == number)
    }

    /// When the first of them must be answered.
    pub(super) fn deadline(&self) -> Option<BootInstant> {
        self.0.iter().map(|sender| sender.until).min()
    }

    /// Those that can be answered now, `most` of them; they do not wait any more. Those whose command was taken back are
    /// forgotten.
    pub(super) fn take(&mut self, ledger: &Ledger, most: usize, now: BootInstant) -> Vec<Sender> {
        let mut taken = Vec::new();
        self.0.retain(|sender| {
            let Some(entry) = ledger.get(sender.number) else { return false };
            let is_due = entry.outcome().is_some() || is_reboot(&entry.method) || now >= sender.until;
            if is_due && taken.len() < most {
                taken.push(sender.clone());
            }
            !is_due || !taken.contains(sender)
        });
        taken
    }

    /// The connection has ended.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
