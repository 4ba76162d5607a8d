//! Where the reported document stands with the cloud: what it has, when the next one may go, what became of the last.
//!
//! Some clouds take it as a whole. Others are sent patches onto what they have; that is read at the beginning of each
//! connection, and again whenever it is not certain.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::synced::{Part, next_part};
use crate::model::cloud::{CloudLimits, Outbound, Reporting};
use crate::model::digest::Digest;
use crate::model::now::{BootInstant, Now, Timestamp};
use crate::model::patch::without_nulls;

/// A request that the cloud has not answered by then is lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// First wait after a request that failed; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// And the longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// A document that the cloud refuses for what it is will be refused again, unless it has changed.
const REFUSED_WAIT: Duration = Duration::from_secs(15 * 60);

/// On one connection the twin is read this often at most, however many changes of it are missed.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Draws a time up to this one.
pub(super) type Chance<'a> = &'a mut dyn FnMut(Duration) -> Duration;

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
    // The rest is of patches.
    /// What the cloud has, if that is known.
    base: Option<Map<String, Value>>,
    /// It is to be read again, though it is known: its other half is not.
    reads_again: bool,
    /// When that may be done on this connection.
    read_not_before: BootInstant,
    /// When the request was sent that is on its way.
    asked: Option<BootInstant>,
    failures: u32,
    /// After a failure, nothing is asked before this.
    retry_at: BootInstant,
    /// Why the last document did not reach the cloud, where that was for what it is.
    refused: Option<String>,
}

/// A message that brings the document to the cloud.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub message: Outbound,
    pub content: Content,
    /// The cloud has the whole document once it has this one.
    pub is_last: bool,
}

/// What the cloud has when it has taken it.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Whole(Digest),
    Patched(Map<String, Value>),
}

/// How a request ended that the cloud answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It did not.
    Silence,
    /// With this status.
    Status(u16),
    /// It was not even sent, since the cloud would not take it.
    Impossible(String),
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
            base: None,
            reads_again: false,
            read_not_before: BootInstant::default(),
            asked: None,
            failures: 0,
            retry_at: BootInstant::default(),
            refused: None,
        }
    }

    pub(super) fn set_limits(&mut self, limits: CloudLimits, heartbeat: Duration) {
        if limits.reporting != self.limits.reporting {
            (self.base, self.settled, self.refused) = (None, None, None);
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

    /// Why the last document did not reach the cloud, if that was for what it is.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    // === What is due

    /// When the next message may go that has something new to say, or is due again; or when the one that is on its way is
    /// lost.
    pub(super) fn deadline(&self) -> Option<BootInstant> {
        if let Some(asked) = self.asked {
            return Some(asked + ANSWERED_WITHIN);
        }
        let due = if self.reads() {
            Some(self.read_not_before)
        } else if self.changed {
            Some(self.not_before)
        } else {
            self.heartbeat_due()
        };
        due.map(|due| due.max(self.retry_at))
    }

    /// Whether the twin is to be read before anything else.
    fn reads(&self) -> bool {
        self.limits.reporting == Reporting::Patches && (self.base.is_none() || self.reads_again)
    }

    /// Whether the twin is to be read now.
    pub(super) fn may_read(&self, now: BootInstant) -> bool {
        self.asked.is_none() && self.reads() && self.deadline().is_some_and(|due| now >= due)
    }

    /// Whether a document may be made now.
    pub(super) fn may_report(&self, now: BootInstant) -> bool {
        self.asked.is_none() && !self.reads() && self.deadline().is_some_and(|due| now >= due)
    }

    fn heartbeat_due(&self) -> Option<BootInstant> {
        self.settled_at.map(|(at, _)| at + self.heartbeat)
    }

    /// The cloud's answer to what is sent now is waited for.
    pub(super) fn asks(&mut self, now: BootInstant) {
        self.asked = Some(now);
    }

    /// The message for this document; nothing, if the cloud has it.
    pub(super) fn make(&mut self, document: Value, now: BootInstant) -> Option<Made> {
        let is_due_again = self.heartbeat_due().is_some_and(|due| now >= due);
        match (self.limits.reporting, &self.base, document) {
            (Reporting::Patches, Some(base), Value::Object(mut document)) => {
                without_nulls(&mut document);
                let part = next_part(base, &document, self.limits.document.bytes);
                let part = part.or_else(|| is_due_again.then(|| beat(base, &document)))?;
                self.asks(now);
                let Part { patch, after, is_last } = part;
                let message = Outbound::ReportedPatch(Value::Object(patch));
                Some(Made { message, content: Content::Patched(after), is_last })
            }
            (_, _, document) => {
                let digest = Digest::of(document.to_string().as_bytes());
                if self.settled == Some(digest) && !is_due_again {
                    return None;
                }
                let message = Outbound::Reported(document);
                Some(Made { message, content: Content::Whole(digest), is_last: true })
            }
        }
    }

    // === What became of it

    /// The cloud has taken a document, or a part of one.
    pub(super) fn arrived(&mut self, content: Content, now: &Now) {
        match content {
            Content::Whole(digest) => self.settled = Some(digest),
            Content::Patched(after) => self.base = Some(after),
        }
        self.succeeded();
        self.refused = None;
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
        self.succeeded();
    }

    fn succeeded(&mut self) {
        (self.asked, self.failures) = (None, 0);
    }

    /// The twin is to be read again.
    pub(super) fn read_again(&mut self) {
        self.reads_again = true;
    }

    /// A request failed. It is made again later, with what is true then.
    pub(super) fn failed(&mut self, failure: Failure, now: BootInstant, chance: Chance<'_>) {
        self.asked = None;
        self.changed = true;
        let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        let most = match failure {
            // It was not looked at, so what the cloud has is still known.
            Failure::Status(429) => doubled,
            Failure::Status(status @ 400..500) => {
                self.base = None;
                self.refused = Some(format!("the cloud refused the reported document with status {status}"));
                REFUSED_WAIT
            }
            Failure::Impossible(why) => {
                self.refused = Some(format!("the reported document cannot be sent: {why}"));
                REFUSED_WAIT
            }
            Failure::Silence | Failure::Status(_) => {
                self.base = None;
                doubled
            }
        };
        self.retry_at = now + most / 2 + chance(most / 2);
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
        self.reads_again = false;
        self.read_not_before = BootInstant::default();
        self.base = None;
    }
}

/// The patch that says no more than that we live.
fn beat(base: &Map<String, Value>, document: &Map<String, Value>) -> Part {
    let agent = document.get("agent").cloned().unwrap_or_else(|| json!({}));
    Part { patch: Map::from_iter([("agent".to_owned(), agent)]), after: base.clone(), is_last: true }
}
