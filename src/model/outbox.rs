//! What is on its way to the cloud, and what is due to be sent next: the only outbox there is.
//!
//! Nothing is queued here that the ledger knows: what is due is found by asking it. So a lost connection costs nothing
//! but to ask again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::cloud::{Answer, CloudLimits, Outbound, Road};
use super::command::{CommandId, Outcome, ReplyTo};
use super::digest::Digest;
use super::ledger::{Entry, Ledger, Number};
use super::now::{BootInstant, Now, Timestamp};
use super::places::{PlaceId, Places};
use super::reboot::{CANCEL, is_reboot};
use super::record::Told;
use super::telemetry::{Message, Telemetry};
use super::twin::Report;
use super::wire::MessageId;

/// Messages that may be on their way at a time. The connection has as many packet ids.
pub const WINDOW: usize = 64;

/// Messages on their way and what is due.
#[derive(Clone, Debug)]
pub struct Outbox {
    limits: CloudLimits,
    in_flight: BTreeMap<MessageId, Sent>,
    next: u64,
    places: Places,
    /// Commands whose newest answer must be told again, because somebody sent them again; and where to.
    again: BTreeMap<Number, Again>,
    reported: Reported,
    telemetry: Telemetry,
    /// A document that is older than this is sent again, so that silence means something.
    heartbeat: Duration,
}

/// Where the reported document stands.
#[derive(Clone, Debug)]
struct Reported {
    /// Something may have changed since the last one was made.
    changed: bool,
    /// What the cloud has acknowledged last, in this run of the daemon.
    settled: Option<Digest>,
    /// And when that was.
    settled_at: Option<(BootInstant, Timestamp)>,
    /// None may be sent before this.
    not_before: BootInstant,
}

/// One message on its way, and what its acknowledgement means.
#[derive(Clone, Debug)]
enum Sent {
    Answer {
        number: Number,
        what: Told,
        again: Option<Again>,
    },
    Place(PlaceId),
    Telemetry(Message),
    Reported {
        digest: Digest,
        told: Vec<(Number, Told)>,
        /// Those of `told` that somebody had asked for again.
        again: Vec<(Number, Again)>,
        places: Vec<PlaceId>,
        more: bool,
        shows_reboot: Option<Number>,
    },
}

/// Where an answer is wanted that was asked for again; `None`: where it was wanted first.
type Again = Option<ReplyTo>;

/// What an acknowledgement has settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub told: Vec<(Number, Told)>,
    /// It was a reported document that shows this reboot as pending.
    pub shows_reboot: Option<Number>,
}

impl Outbox {
    /// `start`: when this run of the daemon began. The one before may have reported a moment ago.
    pub fn new(limits: CloudLimits, heartbeat: Duration, start: BootInstant) -> Self {
        let not_before = start + limits.reported_interval;
        Self {
            telemetry: Telemetry::default(),
            heartbeat,
            places: Places::new(limits.answers),
            limits,
            in_flight: BTreeMap::new(),
            next: 0,
            again: BTreeMap::new(),
            reported: Reported { changed: true, settled: None, settled_at: None, not_before },
        }
    }

    /// Other limits hold from now on. Answers that wait for the old road are forgotten if there is a new one.
    pub fn set_limits(&mut self, limits: CloudLimits, heartbeat: Duration) {
        if limits.answers != self.limits.answers {
            self.places = Places::new(limits.answers);
        }
        self.limits = limits;
        self.heartbeat = heartbeat;
        self.reported.changed = true;
    }

    /// Takes telemetry to be sent when it may.
    pub fn push_telemetry(&mut self, message: Message) {
        self.telemetry.push(message);
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// When the cloud last acknowledged a reported document, in this run of the daemon.
    pub fn reported_at(&self) -> Option<Timestamp> {
        self.reported.settled_at.map(|(_, at)| at)
    }

    pub fn road(&self) -> Road {
        self.limits.answers
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Takes a best-effort answer.
    pub fn add_place(&mut self, answer: Answer, refusal: bool, received: Timestamp, time: Timestamp) {
        self.places.add(answer, refusal, received, time);
        if self.limits.answers == Road::Reported {
            self.reported.changed = true;
        }
    }

    /// This command was taken on: what it was told when it was refused before is no longer true.
    pub fn taken_on(&mut self, id: &CommandId) {
        if self.limits.answers == Road::Reported {
            self.places.remove(id);
        }
    }

    /// That this reboot was cancelled could not be recorded; whoever was to be told gets this instead.
    pub fn amend_cancellation(&mut self, reboot: &CommandId, outcome: &Outcome) {
        let confirmed = json!({ "cancelled": reboot });
        let is_it = |answer: &Answer| {
            answer.payload == confirmed && answer.method.as_ref().is_some_and(|method| method.as_str() == CANCEL)
        };
        self.places.amend(is_it, outcome);
    }

    /// The wall clock, by which this was noted, was set ahead by so many microseconds.
    pub fn shift_times(&mut self, by: i64) {
        if let Some((_, at)) = &mut self.reported.settled_at {
            *at = at.shifted(by);
        }
        self.places.shift_times(by);
    }

    /// The reported document may differ from what the cloud has.
    pub fn changed(&mut self) {
        self.reported.changed = true;
    }

    /// The newest answer to this command is due, though it may have been told.
    pub fn tell_again(&mut self, number: Number, reply_to: Option<ReplyTo>) {
        self.again.insert(number, reply_to);
        self.reported.changed = true;
    }

    // === What is due

    /// Commands with something to tell, oldest first: those in `ledger` that are untold, and those asked for again.
    pub fn due<'a>(&self, ledger: &'a Ledger) -> Vec<(Number, &'a Entry, Told)> {
        let untold = ledger.untold().filter(|(_, entry)| !entry.local).filter_map(|(number, entry)| {
            let newest = if entry.outcome().is_some() { Told::Outcome } else { Told::Accepted };
            // Quick commands are not worth a 202, unless somebody asks.
            let is_told_at_once = newest == Told::Outcome || is_reboot(&entry.method);
            let due = (newest > entry.told && is_told_at_once) || self.again.contains_key(&number);
            due.then_some((number, entry, newest))
        });
        let again = self.again.keys().filter_map(|number| {
            let entry = ledger.get(*number)?;
            (entry.told == Told::Outcome).then_some((*number, entry, Told::Outcome))
        });
        // Repeats come last: whoever sends many of them must not hold up what was never told.
        untold.chain(again).collect()
    }

    /// The answers that go out now, each by itself.
    pub fn answers(&mut self, ledger: &Ledger, newest: impl Fn(&Entry) -> Outcome) -> Vec<(MessageId, Outbound)> {
        let mut out = Vec::new();
        self.again.retain(|number, _| ledger.get(*number).is_some());
        if self.limits.answers == Road::Reported {
            return out;
        }
        for (number, entry, what) in self.due(ledger) {
            if self.in_flight.len() >= WINDOW {
                return out;
            }
            if self.is_on_its_way(number, what) {
                continue;
            }
            let Outcome { status, payload } = newest(entry);
            let again = self.again.remove(&number);
            let reply_to = again.clone().flatten().or_else(|| entry.reply_to.clone());
            let answer = Answer {
                id: entry.key.id.clone(),
                method: Some(entry.method.clone()),
                status,
                payload,
                last: what == Told::Outcome,
                reply_to,
            };
            out.push((self.sent(Sent::Answer { number, what, again }), Outbound::Answer(answer)));
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
        match self.limits.answers {
            Road::Own => due.any(|(number, _, what)| !self.is_on_its_way(number, what)) || self.places.have_more(),
            Road::Reported | Road::Direct => self.reported.changed && (due.next().is_some() || self.places.have_more()),
        }
    }

    /// Whether the cloud has all that there is to say.
    pub fn is_through(&self, ledger: &Ledger) -> bool {
        self.is_idle() && !self.reported.changed && !self.has_unsent(ledger) && self.telemetry.waiting() == 0
    }

    /// Whether a reported document may go out now, and may have something new to say.
    pub fn may_report(&self, now: BootInstant) -> bool {
        self.deadline().is_some_and(|due| now >= due)
    }

    /// When a reported document may go out that may have something new to say, or is due again; none while one is on
    /// its way.
    pub fn deadline(&self) -> Option<BootInstant> {
        let is_free =
            self.in_flight.len() < WINDOW && !self.in_flight.values().any(|sent| matches!(sent, Sent::Reported { .. }));
        if !is_free {
            return None;
        }
        if self.reported.changed { Some(self.reported.not_before) } else { self.heartbeat_due() }
    }

    fn heartbeat_due(&self) -> Option<BootInstant> {
        self.reported.settled_at.map(|(at, _)| at + self.heartbeat)
    }

    /// The telemetry that goes out now.
    pub fn take_telemetry(&mut self) -> Vec<(MessageId, Outbound)> {
        let mut out = Vec::new();
        while self.in_flight.len() < WINDOW
            && let Some(message) = self.telemetry.pop()
        {
            out.push((self.sent(Sent::Telemetry(message.clone())), Outbound::Telemetry(message)));
        }
        out
    }

    /// Sends the document, unless the cloud has it.
    pub fn report(
        &mut self,
        report: Report,
        shows_reboot: Option<Number>,
        now: BootInstant,
    ) -> Option<(MessageId, Outbound)> {
        let Report { document, told, places, more } = report;
        let digest = Digest::of(document.to_string().as_bytes());
        let again = told.iter().filter_map(|(number, _)| self.again.remove_entry(number)).collect();
        let is_due_again = self.heartbeat_due().is_some_and(|due| now >= due);
        if self.reported.settled == Some(digest) && !is_due_again {
            // What is in it was in the one that the cloud has; what had no room is still to follow.
            self.reported.changed = more;
            return None;
        }
        self.reported.changed = false;
        let id = self.sent(Sent::Reported { digest, told, again, places, more, shows_reboot });
        Some((id, Outbound::Reported(document)))
    }

    fn sent(&mut self, sent: Sent) -> MessageId {
        let id = MessageId(self.next);
        self.next += 1;
        self.in_flight.insert(id, sent);
        id
    }

    fn is_on_its_way(&self, number: Number, what: Told) -> bool {
        self.in_flight.values().any(|sent| match sent {
            Sent::Answer { number: sent, what: told, .. } => *sent == number && *told == what,
            Sent::Place(_) | Sent::Telemetry(_) | Sent::Reported { .. } => false,
        })
    }

    // === What became of it

    /// The cloud has acknowledged a message. One that is not on its way any more settles nothing.
    pub fn settled(&mut self, id: MessageId, now: &Now) -> Settled {
        match self.in_flight.remove(&id) {
            None => Settled::default(),
            Some(Sent::Telemetry(_)) => {
                self.telemetry.arrived();
                Settled::default()
            }
            Some(Sent::Answer { number, what, .. }) => Settled { told: vec![(number, what)], shows_reboot: None },
            Some(Sent::Place(place)) => {
                self.places.told(place);
                Settled::default()
            }
            Some(Sent::Reported { digest, told, places, more, shows_reboot, .. }) => {
                self.reported.settled = Some(digest);
                self.reported.settled_at = Some((now.boot, now.wall));
                self.reported.not_before = now.boot + self.limits.reported_interval;
                self.reported.changed |= more;
                for place in places {
                    self.places.told(place);
                }
                Settled { told, shows_reboot }
            }
        }
    }

    /// A message was never sent.
    pub fn unsent(&mut self, id: MessageId) {
        match self.in_flight.remove(&id) {
            Some(Sent::Reported { again, .. }) => {
                self.reported.changed = true;
                self.still_wanted(again);
            }
            Some(Sent::Place(place)) => self.places.unsent(place),
            Some(Sent::Telemetry(message)) => self.telemetry.put_back(std::iter::once(message)),
            Some(Sent::Answer { number, again, .. }) => self.still_wanted(again.map(|again| (number, again))),
            None => {}
        }
    }

    /// These were asked for again, and what was sent has not arrived.
    fn still_wanted(&mut self, again: impl IntoIterator<Item = (Number, Again)>) {
        for (number, reply_to) in again {
            self.again.entry(number).or_insert(reply_to);
        }
    }

    /// The connection has ended: nothing is on its way any more. `closed`: the cloud has ended it.
    pub fn lost(&mut self, closed: bool, now: BootInstant) {
        let mut telemetry = Vec::new();
        for sent in std::mem::take(&mut self.in_flight).into_values() {
            match sent {
                Sent::Reported { again, .. } => {
                    // It may have arrived, so the cloud's rate counts from now on, and what the cloud has is not known.
                    self.reported.settled = None;
                    self.reported.not_before = now + self.limits.reported_interval;
                    self.reported.changed = true;
                    self.still_wanted(again);
                }
                Sent::Answer { number, again, .. } => self.still_wanted(again.map(|again| (number, again))),
                Sent::Place(_) => {}
                Sent::Telemetry(message) => telemetry.push(message),
            }
        }
        if closed {
            self.telemetry.closed_on(telemetry);
        } else {
            self.telemetry.put_back(telemetry.into_iter());
        }
        self.places.lost();
    }
}
