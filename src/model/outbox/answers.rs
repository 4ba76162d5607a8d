//! Which answers are due, and which of them travel by themselves: to the cloud's own place for them, or to senders that
//! wait on this connection.

use serde_json::json;

use super::{Outbox, Sender, Sent, WINDOW, Wanted};
use crate::model::cloud::{Answer, Outbound, Road};
use crate::model::command::{Outcome, ReplyTo};
use crate::model::ledger::{Entry, Ledger, Number};
use crate::model::now::BootInstant;
use crate::model::reboot::is_reboot;
use crate::model::record::Told;
use crate::model::wire::MessageId;

impl Outbox {
    /// Somebody waits, on this connection, for the answer to a command that was taken on just now.
    pub fn awaited(&mut self, number: Number, reply_to: Option<ReplyTo>, now: BootInstant) {
        if let Some(reply_to) = reply_to.filter(|_| self.is_direct()) {
            self.senders.begin(number, reply_to, now);
        }
    }

    /// The newest answer to this command is due, though it may have been told.
    pub fn tell_again(&mut self, number: Number, reply_to: Option<ReplyTo>, now: BootInstant) {
        match reply_to {
            Some(reply_to) if self.is_direct() && self.senders.ask_again(number, reply_to.clone(), now) => {}
            reply_to => {
                self.again.insert(number, reply_to);
                self.reported.changed = true;
            }
        }
    }

    /// A command that was told this much has said how it goes: whoever reads the document is to know that it runs, and how.
    pub fn progressed(&mut self, number: Number, told: Told, now: BootInstant) {
        match self.limits.answers {
            // Each answer travels by itself there, and this is none.
            Road::Own => {}
            // Who waits for its first answer has that soon.
            Road::Reported | Road::Direct if told == Told::Nothing && !self.senders.wait_for(number) => {
                self.tell_again(number, None, now);
            }
            Road::Reported | Road::Direct => self.reported.changed = true,
        }
    }

    fn is_direct(&self) -> bool {
        self.limits.answers == Road::Direct && self.is_online
    }

    /// When the first sender that waits on this connection must be answered.
    pub fn senders_due(&self) -> Option<BootInstant> {
        self.senders.deadline().filter(|_| self.in_flight.len() < WINDOW)
    }

    /// Commands with something to tell, oldest first: those in `ledger` that are untold, and those asked for again. Not
    /// those whose answer somebody waits for on this connection.
    pub fn due<'a>(&self, ledger: &'a Ledger) -> Vec<(Number, &'a Entry, Told)> {
        let untold = ledger.untold().filter(|(_, entry)| !entry.local).filter_map(|(number, entry)| {
            let newest = if entry.outcome().is_some() { Told::Outcome } else { Told::Accepted };
            // Quick commands are not worth a 202, unless somebody asks.
            let is_told_at_once = newest == Told::Outcome || is_reboot(&entry.method);
            let is_direct = self.senders.wait_for(number) || self.is_sent_directly(number, newest);
            let due = (newest > entry.told && is_told_at_once && !is_direct) || self.again.contains_key(&number);
            due.then_some((number, entry, newest))
        });
        let again = self.again.keys().filter_map(|number| {
            let entry = ledger.get(*number)?;
            (entry.told == Told::Outcome).then_some((*number, entry, Told::Outcome))
        });
        // Repeats come last: whoever sends many of them must not hold up what was never told.
        untold.chain(again).collect()
    }

    /// The answers that go out now, each by itself, to senders that wait on this connection.
    pub fn direct_answers(
        &mut self,
        ledger: &Ledger,
        newest: impl Fn(Number, &Entry) -> Outcome,
        now: BootInstant,
    ) -> Vec<(MessageId, Outbound)> {
        let mut out = Vec::new();
        let room = WINDOW.saturating_sub(self.in_flight.len());
        for sender in self.senders.take(ledger, room, now) {
            let Some(entry) = ledger.get(sender.number) else { continue };
            let what = if entry.outcome().is_some() { Told::Outcome } else { Told::Accepted };
            let Outcome { status, mut payload, .. } = newest(sender.number, entry);
            if what == Told::Accepted && payload.is_null() {
                // What the outcome is filed under in the reported document.
                payload = json!({ "commandId": entry.key.id });
            }
            let Sender { number, reply_to, .. } = sender.clone();
            let answer = answer(entry, Outcome::new(status, payload), what, Some(reply_to));
            let sent = Sent::Answer { number, what, wanted: Wanted::Sender(sender) };
            out.push((self.sent(sent), Outbound::Answer(answer)));
        }
        while self.in_flight.len() < WINDOW
            && let Some((place, answer)) = self.direct.take_next()
        {
            out.push((self.sent(Sent::Direct(place)), Outbound::Answer(answer)));
        }
        out
    }

    /// The answers that go out now, each by itself, where the cloud has a road of its own for them.
    pub fn answers(
        &mut self,
        ledger: &Ledger,
        newest: impl Fn(Number, &Entry) -> Outcome,
    ) -> Vec<(MessageId, Outbound)> {
        let mut out = Vec::new();
        self.again.retain(|number, _| ledger.get(*number).is_some());
        if self.limits.answers != Road::Own {
            return out;
        }
        for (number, entry, what) in self.due(ledger) {
            if self.in_flight.len() >= WINDOW {
                return out;
            }
            if self.is_on_its_way(number, what) {
                continue;
            }
            let again = self.again.remove(&number);
            let reply_to = again.clone().flatten().or_else(|| entry.reply_to.clone());
            let answer = answer(entry, newest(number, entry), what, reply_to);
            let sent = Sent::Answer { number, what, wanted: Wanted::Again(again) };
            out.push((self.sent(sent), Outbound::Answer(answer)));
        }
        while self.in_flight.len() < WINDOW
            && let Some((place, answer)) = self.places.take_next()
        {
            out.push((self.sent(Sent::Place(place)), Outbound::Answer(answer)));
        }
        out
    }

    /// Whether there are answers that have not been sent: those on the wire only wait to be acknowledged.
    pub fn has_unsent(&self, ledger: &Ledger) -> bool {
        let mut due = self.due(ledger).into_iter();
        let is_awaited = !self.senders.is_empty() || self.direct.have_more();
        is_awaited
            || match self.limits.answers {
                Road::Own => due.any(|(number, _, what)| !self.is_on_its_way(number, what)) || self.places.have_more(),
                Road::Reported | Road::Direct => {
                    self.reported.changed && (due.next().is_some() || self.places.have_more())
                }
            }
    }

    fn is_on_its_way(&self, number: Number, what: Told) -> bool {
        self.in_flight.values().any(|sent| match sent {
            Sent::Answer { number: sent, what: told, .. } => *sent == number && *told == what,
            Sent::Place(_) | Sent::Direct(_) | Sent::Telemetry(_) | Sent::FetchTwin | Sent::Document { .. } => false,
        })
    }

    /// Whether this answer is on its way to somebody who waits for it on this connection.
    fn is_sent_directly(&self, number: Number, what: Told) -> bool {
        self.limits.answers == Road::Direct && self.is_on_its_way(number, what)
    }
}

fn answer(entry: &Entry, Outcome { status, payload, .. }: Outcome, what: Told, reply_to: Option<ReplyTo>) -> Answer {
    Answer {
        id: entry.key.id.clone(),
        method: Some(entry.method.clone()),
        status,
        payload,
        last: what == Told::Outcome,
        reply_to,
    }
}
