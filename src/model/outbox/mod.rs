//! What is on its way to the cloud, and what is due to be sent next: the only outbox there is.
//!
//! Nothing is queued here that the ledger knows: what is due is found by asking it. So a lost connection costs nothing
//! but to ask again. This file keeps what is in flight; `answers` finds the answers that are due, `document` knows where
//! the reported document stands, and `fate` what becomes of each message.

mod answers;
mod document;
mod fate;
mod senders;
mod synced;
mod tries;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::cloud::{Answer, CloudLimits, DocumentRules, Outbound, Road};
use super::command::{CommandId, Method, Outcome, ReplyTo};
use super::ledger::{Ledger, Number};
use super::now::{BootInstant, Now, Timestamp};
use super::own::CANCEL_COMMAND;
use super::places::{PlaceId, Places};
use super::reboot::CANCEL;
use super::record::Told;
use super::telemetry::{Message, Telemetry};
use super::twin::Report;
use super::wire::MessageId;
use document::{Content, Made, Reported};
use senders::{Sender, Senders};

/// Messages that may be on their way at a time. The connection has as many packet ids.
pub const WINDOW: usize = 64;

/// Messages on their way and what is due.
#[derive(Clone, Debug)]
pub struct Outbox {
    limits: CloudLimits,
    in_flight: BTreeMap<MessageId, Sent>,
    next: u64,
    /// There is a connection, though perhaps nothing new is to be sent on it.
    is_online: bool,
    places: Places,
    /// Best-effort answers to senders that wait on this connection.
    direct: Places,
    senders: Senders,
    /// Commands whose newest answer must be told again, because somebody sent them again; and where to.
    again: BTreeMap<Number, Again>,
    reported: Reported,
    telemetry: Telemetry,
}

/// One message on its way, and what its acknowledgement means.
#[derive(Clone, Debug)]
enum Sent {
    Answer {
        number: Number,
        what: Told,
        wanted: Wanted,
    },
    Place(PlaceId),
    /// A place among those of senders that wait.
    Direct(PlaceId),
    Telemetry(Message),
    FetchTwin,
    Document {
        content: Content,
        news: News,
    },
}

/// What the cloud has been told once it has a document.
#[derive(Clone, Debug)]
struct News {
    told: Vec<(Number, Told)>,
    /// Those of `told` that somebody had asked for again.
    again: Vec<(Number, Again)>,
    places: Vec<PlaceId>,
    more: bool,
    shows_reboot: Option<Number>,
}

/// For whom an answer is.
#[derive(Clone, Debug)]
enum Wanted {
    /// Somebody who waits on this connection.
    Sender(Sender),
    /// Whoever asked again, if somebody did.
    Again(Option<Again>),
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
        Self {
            telemetry: Telemetry::default(),
            places: Places::new(limits.answers),
            direct: Places::to_senders(),
            senders: Senders::default(),
            limits,
            in_flight: BTreeMap::new(),
            next: 0,
            is_online: false,
            again: BTreeMap::new(),
            reported: Reported::new(limits, heartbeat, start),
        }
    }

    /// Other limits hold from now on. Answers that wait for the old road are forgotten if there is a new one.
    pub fn set_limits(&mut self, limits: CloudLimits, heartbeat: Duration) {
        if limits.answers != self.limits.answers {
            self.places.begin_anew(limits.answers);
            self.direct.clear();
            self.senders.clear();
        }
        self.limits = limits;
        self.reported.set_limits(limits, heartbeat);
    }

    // === How it stands

    /// What the cloud takes for a reported document.
    pub fn rules(&self) -> DocumentRules {
        self.limits.document
    }

    pub fn road(&self) -> Road {
        self.limits.answers
    }

    /// When the cloud last acknowledged a reported document, in this run of the daemon.
    pub fn reported_at(&self) -> Option<Timestamp> {
        self.reported.settled_at()
    }

    /// Why the reported document does not reach the cloud, for people: it is refused, or has failed again and again.
    pub fn trouble(&self) -> Option<String> {
        self.reported.trouble()
    }

    /// The reported document is to leave out what local programs report: the cloud refused it with that.
    pub fn is_bare(&self) -> bool {
        self.reported.is_bare()
    }

    /// Nothing waits to be acknowledged.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Nor does anybody wait for an answer on this connection.
    pub fn may_disconnect(&self) -> bool {
        self.is_idle() && self.senders.is_empty() && !self.direct.have_more()
    }

    /// Best-effort answers that go by the cloud's own road for them.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Best-effort answers that found no room, since the daemon started.
    pub fn dropped(&self) -> u64 {
        self.places.dropped() + self.direct.dropped()
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Whether the cloud has all that there is to say.
    pub fn is_through(&self, ledger: &Ledger) -> bool {
        self.may_disconnect() && !self.reported.changed && !self.has_unsent(ledger) && self.telemetry.waiting() == 0
    }

    // === What is to be told

    /// Takes telemetry to be sent when it may.
    pub fn push_telemetry(&mut self, message: Message) {
        self.telemetry.push(message);
    }

    /// Takes a best-effort answer. One that somebody waited for on a connection that is gone is nobody's any more.
    pub fn add_place(&mut self, answer: Answer, refusal: bool, received: Timestamp, time: Timestamp) {
        if self.limits.answers == Road::Direct && answer.reply_to.is_some() {
            if self.is_online {
                self.direct.add(answer, refusal, received, time);
            }
            return;
        }
        self.places.add(answer, refusal, received, time);
        if self.limits.answers != Road::Own {
            self.reported.changed = true;
        }
    }

    /// This command was taken on: what it was told when it was refused before is no longer true.
    pub fn taken_on(&mut self, id: &CommandId) {
        if self.limits.answers != Road::Own {
            self.places.remove(id);
        }
    }

    /// That this command was cancelled could not be recorded; whoever was to be told gets this instead.
    pub fn amend_cancellation(&mut self, command: &CommandId, outcome: &Outcome) {
        let confirmed = json!(command);
        let is_it = |answer: &Answer| {
            let is_cancellation = |method: &Method| [CANCEL, CANCEL_COMMAND].contains(&method.as_str());
            answer.payload["cancelled"] == confirmed && answer.method.as_ref().is_some_and(is_cancellation)
        };
        self.places.amend(is_it, outcome);
        self.direct.amend(is_it, outcome);
    }

    /// The wall clock, by which this was noted, was set ahead by so many microseconds.
    pub fn shift_times(&mut self, by: i64) {
        self.reported.shift_times(by);
        self.places.shift_times(by);
        self.direct.shift_times(by);
    }

    /// The reported document may differ from what the cloud has.
    pub fn changed(&mut self) {
        self.reported.changed = true;
    }

    /// The cloud is to have all of the reported document anew, as soon as its rate allows.
    pub fn refresh(&mut self) {
        self.reported.refresh();
    }

    /// The twin is to be read again: what was heard of it does not fit together.
    pub fn read_again(&mut self) {
        self.reported.read_again();
    }

    // === The reported document

    /// When something is due about the reported document: it may go out and may have something new to say, or the cloud's
    /// answer to the last is overdue.
    pub fn deadline(&self) -> Option<BootInstant> {
        let is_on_its_way = self.in_flight.values().any(|sent| matches!(sent, Sent::Document { .. } | Sent::FetchTwin));
        match (is_on_its_way, self.reported.is_asked()) {
            (true, false) => None,
            (false, _) if self.in_flight.len() >= WINDOW => None,
            _ => self.reported.deadline(),
        }
    }

    fn may_make_one(&self) -> bool {
        let is_free = |sent: &Sent| !matches!(sent, Sent::Document { .. } | Sent::FetchTwin);
        self.in_flight.len() < WINDOW && self.in_flight.values().all(is_free)
    }

    /// Asks what the cloud has, if that is due.
    pub fn fetch(&mut self, now: BootInstant) -> Option<(MessageId, Outbound)> {
        if !self.may_make_one() || !self.reported.may_read(now) {
            return None;
        }
        self.reported.asks(now);
        Some((self.sent(Sent::FetchTwin), Outbound::FetchTwin))
    }

    /// Whether a reported document may go out now, and may have something new to say.
    pub fn may_report(&self, now: BootInstant) -> bool {
        self.may_make_one() && self.reported.may_report(now)
    }

    /// Sends the document, or what of it the cloud does not have. What the cloud has already is settled by that.
    pub fn report(
        &mut self,
        report: Report,
        shows_reboot: Option<Number>,
        now: &Now,
    ) -> (Option<(MessageId, Outbound)>, Settled) {
        let Report { document, told, places, more, .. } = report;
        let (message, content, is_last) = match self.reported.make(document, now.boot) {
            Made::Message { message, content, is_last } => (message, content, is_last),
            Made::Known => {
                self.again.retain(|number, _| !told.iter().any(|(told, _)| told == number));
                for place in places {
                    self.places.told(place);
                }
                self.reported.is_known(more, now);
                return (None, Settled { told, shows_reboot });
            }
            Made::Held => {
                self.reported.changed = false;
                return (None, Settled::default());
            }
        };
        self.reported.changed = false;
        let news = if is_last {
            let again = told.iter().filter_map(|(number, _)| self.again.remove_entry(number)).collect();
            News { told, again, places, more, shows_reboot }
        } else {
            News { told: Vec::new(), again: Vec::new(), places: Vec::new(), more: true, shows_reboot: None }
        };
        (Some((self.sent(Sent::Document { content, news }), message)), Settled::default())
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

    fn sent(&mut self, sent: Sent) -> MessageId {
        let id = MessageId(self.next);
        self.next += 1;
        self.in_flight.insert(id, sent);
        id
    }
}
