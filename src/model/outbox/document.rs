//! Where the reported document stands with the cloud: what it has, when the next one may go, what became of the last.
//!
//! Some clouds take it as a whole. Others are sent patches onto what they have; that is read at the beginning of each
//! connection, and again whenever it is not certain.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::synced::{Part, next_part};
use super::tries::{Chance, FIRST_WAIT, Failure, REFUSED_WAIT, Request, Tries};
use crate::model::cloud::{CloudLimits, Outbound, Reporting};
use crate::model::digest::Digest;
use crate::model::now::{BootInstant, Now, Timestamp};
use crate::model::patch::without_nulls;

/// A request that the cloud has not answered by then is lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// On one connection the twin is read this often at most, however many changes of it are missed.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The state of it.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    limits: CloudLimits,
    /// A document that is older than this is sent again, so that silence means something.
    heartbeat: Duration,
    /// Something may have changed since the last one was made.
    pub changed: bool,
    /// What the cloud has acknowledged last, in this run of the daemon, where it takes whole documents.
    settled: Option<Digest>,
    /// And when that was.
    settled_at: Option<(BootInstant, Timestamp)>,
    /// None may be sent before this.
    not_before: BootInstant,
    /// The tries to bring it to the cloud.
    tries: Tries,
    /// The digest of the one that was sent last, the agent's problems left aside.
    sent: Option<Digest>,
    /// That of the one that the cloud refused for what it is. It is not sent again before its time.
    refused: Option<Digest>,
    /// What local programs report is left out until then, since the cloud refused a document that held it.
    bare_until: Option<BootInstant>,
    // The rest is of patches.
    /// What the cloud has, if that is known.
    base: Option<Map<String, Value>>,
    /// It is to be read, though it may be known: its other half is not.
    reads_again: bool,
    /// When that may be done on this connection.
    read_not_before: BootInstant,
    /// The tries to do so.
    reading: Tries,
    /// When the request was sent that is on its way.
    asked: Option<BootInstant>,
}

/// What is to be done with a document.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// This brings it to the cloud.
    Message {
        message: Outbound,
        content: Content,
        /// The cloud has the whole document once it has this one.
        is_last: bool,
    },
    /// The cloud has it.
    Known,
    /// The cloud has refused it: it waits.
    Held,
}

/// What the cloud has when it has taken it.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Whole(Digest),
    Patched(Map<String, Value>),
}

impl Reported {
    /// `start`: when this run of the daemon began. The one before may have reported a moment ago.
    pub(super) fn new(limits: CloudLimits, heartbeat: Duration, start: BootInstant) -> Self {
        Self {
            limits,
            heartbeat,
            changed: true,
            settled: None,
            settled_at: None,
            not_before: start + limits.reported_interval,
            tries: Tries::default(),
            sent: None,
            refused: None,
            bare_until: None,
            base: None,
            reads_again: true,
            read_not_before: BootInstant::default(),
            reading: Tries::default(),
            asked: None,
        }
    }

    pub(super) fn set_limits(&mut self, limits: CloudLimits, heartbeat: Duration) {
        if limits.reporting != self.limits.reporting {
            (self.base, self.settled, self.refused, self.bare_until) = (None, None, None, None);
            (self.tries, self.reading, self.reads_again) = (Tries::default(), Tries::default(), true);
        }
        self.limits = limits;
        self.heartbeat = heartbeat;
        self.changed = true;
    }

    pub(super) fn shift_times(&mut self, by: i64) {
        if let Some((_, at)) = &mut self.settled_at {
            *at = at.shifted(by);
        }
    }

    /// When the cloud last acknowledged a document, in this run of the daemon.
    pub(super) fn settled_at(&self) -> Option<Timestamp> {
        self.settled_at.map(|(_, at)| at)
    }

    /// Why the document does not reach the cloud, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        let parts: Vec<&str> = [self.reading.why(), self.tries.why()].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// What local programs report is to be left out: the cloud refused a document that held it.
    pub(super) fn is_bare(&self) -> bool {
        self.bare_until.is_some()
    }

    // === What is due

    /// When the next message may go that has something new to say, or is due again; or when the one that is on its way is
    /// lost.
    pub(super) fn deadline(&self) -> Option<BootInstant> {
        if let Some(asked) = self.asked {
            return Some(asked + ANSWERED_WITHIN);
        }
        let due = if self.reads() { Some(self.read_due()) } else { self.document_due() };
        [due, self.bare_until].into_iter().flatten().min()
    }

    fn read_due(&self) -> BootInstant {
        let due = self.read_not_before.max(self.reading.retry_at);
        // For the next document's sake alone it is read when that may go.
        if self.reads_again { due } else { due.max(self.tries.retry_at) }
    }

    fn document_due(&self) -> Option<BootInstant> {
        let due = if self.changed { Some(self.not_before) } else { self.heartbeat_due() };
        match self.refused {
            // It may be another one.
            Some(_) if self.changed => due,
            Some(_) => Some(self.tries.retry_at),
            None => due.map(|due| due.max(self.tries.retry_at)),
        }
    }

    /// Whether the twin is to be read before anything else.
    fn reads(&self) -> bool {
        self.limits.reporting == Reporting::Patches && (self.base.is_none() || self.reads_again)
    }

    /// Whether the twin is to be read now.
    pub(super) fn may_read(&self, now: BootInstant) -> bool {
        self.asked.is_none() && self.reads() && now >= self.read_due()
    }

    /// Whether a document may be made now.
    pub(super) fn may_report(&self, now: BootInstant) -> bool {
        self.asked.is_none() && !self.reads() && self.document_due().is_some_and(|due| now >= due)
    }

    fn heartbeat_due(&self) -> Option<BootInstant> {
        self.settled_at.map(|(at, _)| at + self.heartbeat)
    }

    /// The cloud's answer to what is sent now is waited for.
    pub(super) fn asks(&mut self, now: BootInstant) {
        self.asked = Some(now);
    }

    /// What is to be done with this document.
    pub(super) fn make(&mut self, mut document: Value, now: BootInstant) -> Made {
        if let (Reporting::Patches, Value::Object(members)) = (self.limits.reporting, &mut document) {
            without_nulls(members);
        }
        if self.refused.is_some_and(|refused| now < self.tries.retry_at && refused == essence(&document)) {
            return Made::Held;
        }
        self.refused = None;
        let is_due_again = self.heartbeat_due().is_some_and(|due| now >= due);
        let (Reporting::Patches, Some(base), Value::Object(members)) = (self.limits.reporting, &self.base, &document)
        else {
            let digest = Digest::of(document.to_string().as_bytes());
            if self.settled == Some(digest) && !is_due_again {
                return Made::Known;
            }
            self.sent = Some(essence(&document));
            let message = Outbound::Reported(document);
            return Made::Message { message, content: Content::Whole(digest), is_last: true };
        };
        let part = next_part(base, members, self.limits.document.bytes);
        let Some(Part { patch, after, is_last }) = part.or_else(|| is_due_again.then(|| beat(base, members))) else {
            return Made::Known;
        };
        self.sent = Some(essence(&document));
        self.asks(now);
        let message = Outbound::ReportedPatch(Value::Object(patch));
        Made::Message { message, content: Content::Patched(after), is_last }
    }

    /// The cloud has the document that was made; what had no room in it follows at the cloud's rate.
    pub(super) fn is_known(&mut self, more: bool, now: &Now) {
        self.changed = more;
        self.tries = Tries::default();
        // Whoever sent it, it counts: from then on silence means something.
        self.settled_at.get_or_insert((now.boot, now.wall));
        if more {
            self.not_before = self.not_before.max(now.boot + self.limits.reported_interval);
        }
    }

    /// Time has passed: what local programs report may be tried again.
    pub(super) fn pass(&mut self, now: BootInstant) {
        if self.bare_until.is_some_and(|until| now >= until) {
            self.bare_until = None;
            self.changed = true;
        }
    }

    // === What became of it

    /// The cloud has taken a document, or a part of one.
    pub(super) fn arrived(&mut self, content: Content, now: &Now) {
        match content {
            Content::Whole(digest) => self.settled = Some(digest),
            Content::Patched(after) => self.base = Some(after),
        }
        (self.asked, self.tries) = (None, Tries::default());
        self.settled_at = Some((now.boot, now.wall));
        self.not_before = now.boot + self.limits.reported_interval;
    }

    /// The cloud has said what it has.
    pub(super) fn read(&mut self, mut reported: Map<String, Value>, now: BootInstant) {
        without_nulls(&mut reported);
        // A name that this cloud does not take cannot be named to it either, so what has it cannot be removed.
        self.limits.document.keep_named(&mut reported);
        self.base = Some(reported);
        self.reads_again = false;
        self.read_not_before = now + READ_AGAIN;
        self.changed = true;
        // Of the document's own tries this says nothing.
        (self.asked, self.reading) = (None, Tries::default());
    }

    /// What the cloud is thought to have does not count any more: it is sent the whole again, or what it has is read first
    /// where it is sent patches.
    pub(super) fn refresh(&mut self) {
        self.settled = None;
        self.reads_again = true;
        self.changed = true;
    }

    /// The twin is to be read again.
    pub(super) fn read_again(&mut self) {
        self.reads_again = true;
    }

    /// A request failed. It is made again later, with what is true then.
    pub(super) fn failed(&mut self, request: Request, failure: &Failure, now: BootInstant, chance: Chance<'_>) {
        self.asked = None;
        self.changed = true;
        if request == Request::Read {
            self.reading.failed(request, failure, now, chance);
            return;
        }
        self.tries.failed(request, failure, now, chance);
        if failure.is_refusal() {
            self.refused = self.sent;
            self.not_before = self.not_before.max(now + FIRST_WAIT);
        }
        if !failure.is_certain() {
            self.base = None;
        }
        if matches!(failure, Failure::Status(_)) && failure.is_refusal() {
            // Of all that is in it, the agent's own words are the least likely to be at fault.
            self.bare_until = Some(now + REFUSED_WAIT);
        }
    }

    /// Whether the cloud's own answer to something is waited for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether what is on its way has been for too long.
    pub(super) fn is_overdue(&self, now: BootInstant) -> bool {
        self.asked.is_some_and(|asked| now >= asked + ANSWERED_WITHIN)
    }

    /// It was never sent.
    pub(super) fn unsent(&mut self) {
        self.asked = None;
        self.changed = true;
    }

    /// It may have arrived, so the cloud's rate counts from now on, and what the cloud has is not known.
    pub(super) fn lost(&mut self, now: BootInstant) {
        self.settled = None;
        self.not_before = now + self.limits.reported_interval;
        self.changed = true;
    }

    /// The connection has ended. Nobody tells on the next one what was changed in between, so it is read there.
    pub(super) fn ended(&mut self) {
        self.asked = None;
        self.reads_again = true;
        self.reading.begin_anew();
        self.read_not_before = BootInstant::default();
        self.base = None;
    }
}

/// The patch that says no more than that we live.
fn beat(base: &Map<String, Value>, document: &Map<String, Value>) -> Part {
    let agent = document.get("agent").cloned().unwrap_or_else(|| json!({}));
    Part { patch: Map::from_iter([("agent".to_owned(), agent)]), after: base.clone(), is_last: true }
}

/// What tells one document from another. That the last one was refused does not make it another.
fn essence(document: &Value) -> Digest {
    let mut document = document.clone();
    if let Some(agent) = document.get_mut("agent").and_then(Value::as_object_mut) {
        agent.remove("problems");
        agent.remove("health");
    }
    Digest::of(document.to_string().as_bytes())
}
