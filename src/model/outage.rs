//! While the journal cannot be written: what is taken back, what is kept in memory, and what is refused.
//!
//! The agent stays connected and goes on with all that needs no journal.

use serde_json::json;

use super::agent::{Agent, Effect};
use super::ask::Reply;
use super::cancel::unconfirmed;
use super::command::{Key, Outcome, Status};
use super::now::Now;
use super::record::Record;
use super::runs::To;

/// Whether records reach the disk.
#[derive(Clone, Debug, Default)]
pub enum Journal {
    #[default]
    Sound,
    /// It cannot be written. `ended`: outcomes that must be on disk before anybody is told.
    Broken { why: String, ended: Vec<Record> },
}

impl Journal {
    /// A journal with this trouble, if there is one.
    pub fn new(trouble: Option<String>) -> Self {
        trouble.map_or(Self::Sound, |why| Self::Broken { why, ended: Vec::new() })
    }

    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Sound)
    }

    /// Whether the end of this command waits to be written.
    pub(super) fn keeps_end_of(&self, of: &Key) -> bool {
        let is_it = |record: &Record| matches!(record, Record::Finished { key, .. } if key == of);
        matches!(self, Self::Broken { ended, .. } if ended.iter().any(is_it))
    }

    /// What is wrong with it.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Sound => None,
            Self::Broken { why, .. } => Some(why),
        }
    }
}

impl Agent {
    /// Takes note of something, in memory now and on disk before anything that follows.
    pub(super) fn record(&mut self, record: Record, out: &mut Vec<Effect>) {
        if !matches!(record, Record::Told { .. } | Record::Seen { .. }) {
            self.outbox.changed();
        }
        match (&mut self.journal, &record) {
            (Journal::Sound, _) => {
                self.durable.apply(&record);
                out.push(Effect::Record(record));
            }
            // Nobody may be told of an outcome that a loss of power could change.
            (Journal::Broken { ended, .. }, Record::Finished { .. } | Record::Applied(_)) => ended.push(record),
            // What was never promised to anybody is known in memory, and written when the journal is made anew.
            (Journal::Broken { .. }, _) => {
                self.durable.apply(&record);
                self.durable.settle();
            }
        }
    }

    /// Takes back a batch that could not be written. None of its effects was performed.
    pub(super) fn journal_failed(&mut self, why: &str, held: Vec<Effect>, now: &Now, out: &mut Vec<Effect>) {
        self.durable.roll_back();
        if self.journal.is_sound() {
            self.journal = Journal::Broken { why: why.to_owned(), ended: Vec::new() };
        }
        if self.pending.is_some_and(|(number, _)| self.durable.ledger.get(number).is_none()) {
            self.no_reboot_waits();
        }
        let mut lost = None;
        let mut uncancelled = Vec::new();
        let mut forgotten = Vec::new();
        for effect in held {
            match effect {
                // A command is acknowledged right behind its record (`Agent::accept`), so the next Ack is its own.
                Effect::Record(Record::Accepted { key, method, local: true, .. }) => {
                    self.fail_callers(&key, &method, why, out);
                }
                Effect::Record(Record::Accepted { key, method, reply_to, at, .. }) => {
                    lost = Some((key.id, method, reply_to, at));
                }
                Effect::Record(Record::Started { .. } | Record::Applying(_)) | Effect::Reboot(_) => {}
                Effect::Record(record @ Record::Finished { .. }) => {
                    if let Record::Finished { key, outcome: Outcome { status: Status::CANCELLED, .. }, .. } = &record {
                        self.outbox.amend_cancellation(&key.id, &unconfirmed(why));
                        uncancelled.push(json!(key.id));
                    }
                    self.record(record, out);
                }
                Effect::Record(record) => self.record(record, out),
                Effect::Ack(delivery) => {
                    out.push(Effect::Ack(delivery));
                    if let Some((id, method, reply_to, at)) = lost.take() {
                        let outcome = Outcome::failed(Status::CANNOT_NOW, why);
                        self.answer_at_best((id, Some(method), To::Cloud(reply_to)), outcome, at, now, out);
                    }
                }
                Effect::Start(run, _) | Effect::Hand(_, run, _) => {
                    if self.runs.is_harmless(run) {
                        out.push(effect);
                    } else {
                        self.forget_run(run);
                        forgotten.push(json!(run.number()));
                    }
                }
                Effect::Send(id, _) => self.outbox.unsent(id),
                Effect::Reply(caller, Reply::Is { mut answer, last })
                    if answer.get("payload").is_some_and(|payload| uncancelled.contains(&payload["cancelled"])) =>
                {
                    let Outcome { status, payload, .. } = unconfirmed(why);
                    answer.insert("status".to_owned(), json!(status));
                    answer.insert("payload".to_owned(), payload);
                    out.push(Effect::Reply(caller, Reply::Is { answer, last }));
                }
                // Nobody has what is to be stopped here.
                Effect::Reply(_, Reply::Is { answer, .. })
                    if answer.contains_key("stop") && answer.get("run").is_some_and(|run| forgotten.contains(run)) => {}
                Effect::Resume(..)
                | Effect::Cancel(_)
                | Effect::Probe
                | Effect::Refused { .. }
                | Effect::Prepare
                | Effect::Connect(_)
                | Effect::Disconnect
                | Effect::Ended { .. }
                | Effect::CheckLink
                | Effect::LetGo
                | Effect::Reply(..)
                | Effect::Reload
                | Effect::Status(_)
                | Effect::Exit => {
                    out.push(effect);
                }
            }
        }
    }

    /// The journal was written anew from what is in memory.
    pub(super) fn journal_healed(&mut self, out: &mut Vec<Effect>) {
        let Journal::Broken { ended, .. } = &mut self.journal else { return };
        let ended = std::mem::take(ended);
        self.journal = Journal::Sound;
        for record in ended {
            self.record(record, out);
        }
    }
}
