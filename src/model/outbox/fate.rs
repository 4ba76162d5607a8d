//! What becomes of each message: settled, answered, refused, never sent, or lost with its connection.
//!
//! Says what the cloud has been told by it, and makes due again what it has not.

use serde_json::{Map, Value};

use super::document::Content;
use super::tries::{Chance, Failure, Request};
use super::{Again, News, Outbox, Sent, Settled, Wanted};
use crate::model::cloud::Road;
use crate::model::ledger::Number;
use crate::model::now::{BootInstant, Now};
use crate::model::record::Told;
use crate::model::wire::MessageId;

impl Outbox {
    /// The cloud has acknowledged a message. One that is not on its way any more settles nothing, nor does this one that
    /// the cloud answers by itself.
    pub fn settled(&mut self, id: MessageId, now: &Now) -> Settled {
        match self.in_flight.get(&id) {
            Some(Sent::FetchTwin | Sent::Document { content: Content::Patched(_), .. }) | None => Settled::default(),
            Some(_) => self.arrived(id, now),
        }
    }

    /// The cloud has answered a message by itself, with this status.
    pub fn answered(&mut self, id: MessageId, status: u16, now: &Now, chance: Chance<'_>) -> Settled {
        match (self.in_flight.get(&id), status) {
            (Some(Sent::Document { content: Content::Patched(_), .. }), 200..300) => self.arrived(id, now),
            (Some(Sent::FetchTwin | Sent::Document { content: Content::Patched(_), .. }), status) => {
                self.request_failed(id, &Failure::Status(status), now.boot, chance);
                Settled::default()
            }
            _ => Settled::default(),
        }
    }

    /// The cloud has said what it has of the reported document. False: that was not asked.
    pub fn fetched(&mut self, id: MessageId, reported: Map<String, Value>, now: BootInstant) -> bool {
        let is_asked = matches!(self.in_flight.get(&id), Some(Sent::FetchTwin));
        if is_asked {
            self.in_flight.remove(&id);
            self.reported.read(reported, now);
        }
        is_asked
    }

    /// Gives up a request whose answer is overdue.
    pub fn give_up(&mut self, now: BootInstant, chance: Chance<'_>) {
        self.reported.pass(now);
        let is_request =
            |sent: &Sent| matches!(sent, Sent::FetchTwin | Sent::Document { content: Content::Patched(_), .. });
        let request = self.in_flight.iter().find(|(_, sent)| is_request(sent)).map(|(id, _)| *id);
        if let Some(id) = request.filter(|_| self.reported.is_overdue(now)) {
            self.request_failed(id, &Failure::Silence, now, chance);
        }
    }

    fn request_failed(&mut self, id: MessageId, failure: &Failure, now: BootInstant, chance: Chance<'_>) {
        let request = if let Some(Sent::Document { news, .. }) = self.in_flight.remove(&id) {
            self.still_wanted(news.again);
            Request::Document
        } else {
            Request::Read
        };
        self.reported.failed(request, failure, now, chance);
    }

    fn arrived(&mut self, id: MessageId, now: &Now) -> Settled {
        match self.in_flight.remove(&id) {
            None | Some(Sent::FetchTwin) => Settled::default(),
            Some(Sent::Telemetry(_)) => {
                self.telemetry.arrived();
                Settled::default()
            }
            Some(Sent::Answer { number, what, .. }) => {
                if self.limits.answers == Road::Direct {
                    // A 202 is also shown, for as long as the outcome is not there.
                    self.reported.changed = true;
                }
                Settled { told: vec![(number, what)], shows_reboot: None }
            }
            Some(Sent::Place(place)) => {
                self.places.told(place);
                Settled::default()
            }
            Some(Sent::Direct(place)) => {
                self.direct.told(place);
                Settled::default()
            }
            Some(Sent::Document { content, news: News { told, places, more, shows_reboot, .. } }) => {
                self.reported.arrived(content, now);
                self.reported.changed |= more;
                for place in places {
                    self.places.told(place);
                }
                Settled { told, shows_reboot }
            }
        }
    }

    /// A message will never be sent: the cloud would not take it, for this reason.
    ///
    /// Of an answer with a road of its own no more is told than how it ended; what is too much for whoever waits on this
    /// connection is told by the reported document.
    pub fn impossible(&mut self, id: MessageId, why: String, now: &Now, chance: Chance<'_>) -> Settled {
        match self.in_flight.remove(&id) {
            Some(Sent::Answer { wanted: Wanted::Sender(_), .. }) => {
                self.reported.changed = true;
                Settled::default()
            }
            Some(Sent::Answer { number, what, wanted: Wanted::Again(again) }) => {
                // A long payload is dropped once it was told. What is too much even then is told to nobody.
                if again.is_none() && what == Told::Outcome {
                    self.again.insert(number, None);
                }
                Settled { told: vec![(number, what)], shows_reboot: None }
            }
            Some(Sent::Place(place)) => {
                self.places.shorten(place);
                Settled::default()
            }
            Some(Sent::Direct(place)) => {
                self.direct.shorten(place);
                Settled::default()
            }
            Some(Sent::Telemetry(_)) => {
                self.telemetry.gave_up();
                Settled::default()
            }
            Some(Sent::Document { news, .. }) => {
                self.still_wanted(news.again);
                self.reported.failed(Request::Document, &Failure::Impossible(why), now.boot, chance);
                Settled::default()
            }
            Some(Sent::FetchTwin) => {
                self.reported.failed(Request::Read, &Failure::Impossible(why), now.boot, chance);
                Settled::default()
            }
            None => Settled::default(),
        }
    }

    /// A message was never sent.
    pub fn unsent(&mut self, id: MessageId) {
        match self.in_flight.remove(&id) {
            Some(Sent::Document { news, .. }) => {
                self.reported.unsent();
                self.still_wanted(news.again);
            }
            Some(Sent::FetchTwin) => self.reported.unsent(),
            Some(Sent::Place(place)) => self.places.unsent(place),
            Some(Sent::Direct(place)) => self.direct.unsent(place),
            Some(Sent::Telemetry(message)) => self.telemetry.put_back(std::iter::once(message)),
            Some(Sent::Answer { wanted: Wanted::Sender(sender), .. }) => self.senders.put_back(sender),
            Some(Sent::Answer { number, wanted: Wanted::Again(again), .. }) => {
                self.still_wanted(again.map(|again| (number, again)));
            }
            None => {}
        }
    }

    /// These were asked for again, and what was sent has not arrived.
    pub(super) fn still_wanted(&mut self, again: impl IntoIterator<Item = (Number, Again)>) {
        for (number, reply_to) in again {
            self.again.entry(number).or_insert(reply_to);
        }
    }

    /// A connection stands.
    pub fn begins(&mut self) {
        self.is_online = true;
    }

    /// The connection has ended: nothing is on its way any more. `closed`: the cloud has ended it.
    pub fn lost(&mut self, closed: bool, now: BootInstant) {
        let mut telemetry = Vec::new();
        for sent in std::mem::take(&mut self.in_flight).into_values() {
            match sent {
                Sent::Document { news, .. } => {
                    self.reported.lost(now);
                    self.still_wanted(news.again);
                }
                Sent::Answer { number, wanted: Wanted::Again(again), .. } => {
                    self.still_wanted(again.map(|again| (number, again)));
                }
                Sent::Answer { wanted: Wanted::Sender(_), .. } => self.reported.changed = true,
                Sent::Place(_) | Sent::Direct(_) | Sent::FetchTwin => {}
                Sent::Telemetry(message) => telemetry.push(message),
            }
        }
        if closed {
            self.telemetry.closed_on(telemetry);
        } else {
            self.telemetry.put_back(telemetry.into_iter());
        }
        self.places.lost();
        self.is_online = false;
        self.reported.changed |= !self.senders.is_empty();
        self.direct.clear();
        self.senders.clear();
        self.reported.ended();
    }
}
