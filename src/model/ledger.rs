//! The ledger: which commands were taken on, how far each has run, and what of it the cloud has been told.
//!
//! It changes by records alone, so that reading the journal gives the same ledger again. It decides nothing: whether a
//! command may start or must be told is asked of it by the agent. Every change goes through `Ledger::put`, which is
//! what makes a batch that could not be written undoable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use super::command::{Command, Key, Method, Outcome, ReplyTo, Status};
use super::digest::Digest;
use super::now::{BootId, Timestamp};
use super::record::{Record, Told};

/// Commands that were told are remembered this long, so that a late duplicate finds its answer.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// And no more of them than this; the oldest go first.
pub const REMEMBERED: usize = 4_096;

/// The largest payload of an outcome that is kept once it was told, in bytes of JSON.
pub const REMEMBERED_PAYLOAD: usize = 4 * 1_024;

/// Without an id, equal content is taken for the same command for so long after it was accepted.
pub const DERIVED_FOR: Duration = Duration::from_secs(10 * 60);

/// The place of a command in the order of acceptance, in this run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u64);

/// One command that was taken on.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Key,
    pub method: Method,
    /// What the handler gets; dropped when it has ended.
    pub payload: Value,
    pub digest: Digest,
    /// The agent minted the id, and equal content may be the same command.
    pub derived: bool,
    /// It came from this machine, and its answer goes to the caller alone.
    pub local: bool,
    pub reply_to: Option<ReplyTo>,
    pub expires: Option<Timestamp>,
    pub accepted: Timestamp,
    /// The boot in which it was accepted.
    pub boot: BootId,
    pub run: Run,
    pub told: Told,
}

/// How far a command has run.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    Waiting,
    Started {
        boot: BootId,
        at: Timestamp,
        until: Option<Timestamp>,
    },
    Finished {
        outcome: Outcome,
        at: Timestamp,
        /// It took effect, or may have.
        ran: bool,
    },
}

impl Entry {
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.run {
            Run::Finished { outcome, .. } => Some(outcome),
            Run::Waiting | Run::Started { .. } => None,
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.run == Run::Waiting
    }

    pub fn command(&self) -> Command {
        Command { key: self.key.clone(), method: self.method.clone(), payload: self.payload.clone() }
    }

    fn is_told(&self) -> bool {
        self.told == Told::Outcome
    }

    fn finished_before(&self, moment: Timestamp) -> bool {
        matches!(self.run, Run::Finished { at, .. } if at < moment)
    }
}

/// All commands that are remembered, in the order in which they were accepted.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Number, Entry>,
    by_key: HashMap<Key, Number>,
    untold: BTreeSet<Number>,
    next: u64,
    /// What each changed place held before, newest last, since the last [`Ledger::settle`].
    before: Vec<(Number, Option<Entry>)>,
}

/// Equal in what they remember; the numbers of places are private to one run.
impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        self.entries.values().eq(other.entries.values())
    }
}

impl Ledger {
    // === What is known

    pub fn get(&self, number: Number) -> Option<&Entry> {
        self.entries.get(&number)
    }

    pub fn find(&self, key: &Key) -> Option<(Number, &Entry)> {
        let number = *self.by_key.get(key)?;
        Some((number, self.entries.get(&number)?))
    }

    /// The command of unknown id that equal content would be taken for at `now`.
    pub fn find_derived(&self, key: &Key, digest: Digest, now: Timestamp) -> Option<(Number, &Entry)> {
        self.entries.iter().rev().map(|(number, entry)| (*number, entry)).find(|(_, entry)| {
            entry.derived && entry.digest == digest && entry.key.target == key.target && entry.stands_for_a_repeat(now)
        })
    }

    /// Every command whose outcome the cloud has not acknowledged, oldest first.
    pub fn untold(&self) -> impl Iterator<Item = (Number, &Entry)> {
        self.untold.iter().filter_map(|number| Some((*number, self.entries.get(number)?)))
    }

    pub fn untold_len(&self) -> usize {
        self.untold.len()
    }

    /// Every command whose outcome the cloud has acknowledged, newest first.
    pub fn told(&self) -> impl Iterator<Item = (Number, &Entry)> {
        self.entries.iter().rev().map(|(number, entry)| (*number, entry)).filter(|(_, entry)| entry.is_told())
    }

    // === What changes it

    /// Takes note of a record. One that fits no entry changes nothing: its entry was forgotten before.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Accepted { key, method, payload, digest, derived, local, reply_to, expires, started, boot, at } => {
                if self.by_key.contains_key(key) {
                    return;
                }
                self.forget(*at);
                let run = if *started { Run::Started { boot: *boot, at: *at, until: None } } else { Run::Waiting };
                let entry = Entry {
                    key: key.clone(),
                    method: method.clone(),
                    payload: payload.clone(),
                    digest: *digest,
                    derived: *derived,
                    local: *local,
                    reply_to: reply_to.clone(),
                    expires: *expires,
                    accepted: *at,
                    boot: *boot,
                    run,
                    told: Told::Nothing,
                };
                let number = Number(self.next);
                self.next += 1;
                self.put(number, Some(entry));
            }
            Record::Started { key, boot, at, until, .. } => self.change(key, |entry| {
                entry.run = Run::Started { boot: *boot, at: *at, until: *until };
            }),
            Record::Finished { key, outcome, at } => self.change(key, |entry| {
                // A reboot that another boot has proved took effect without ever having been started by us.
                let ran = !entry.is_waiting() || outcome.status == Status::DONE;
                entry.payload = Value::Null;
                entry.run = Run::Finished { outcome: outcome.clone(), at: *at, ran };
            }),
            Record::Told { key, what } => self.change(key, |entry| {
                entry.told = entry.told.max(*what);
                if let Run::Finished { outcome, .. } = &mut entry.run
                    && entry.told == Told::Outcome
                    && outcome.payload.to_string().len() > REMEMBERED_PAYLOAD
                {
                    outcome.payload = json!({ "payloadDropped": true });
                }
            }),
            Record::Boot { .. }
            | Record::BootTime { .. }
            | Record::GuardCleared { .. }
            | Record::Began { .. }
            | Record::Boots { .. }
            | Record::Reported { .. }
            | Record::Desired { .. } => {}
        }
    }

    /// The shortest list of records that gives this ledger again.
    ///
    /// What was told comes last, so that reading it forgets nothing that is remembered here.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for entry in self.entries.values() {
            let key = || entry.key.clone();
            records.push(Record::Accepted {
                key: key(),
                method: entry.method.clone(),
                payload: entry.payload.clone(),
                digest: entry.digest,
                derived: entry.derived,
                local: entry.local,
                reply_to: entry.reply_to.clone(),
                expires: entry.expires,
                // For a finished one, only whether it ever ran is still of interest.
                started: matches!(entry.run, Run::Finished { ran: true, .. }),
                boot: entry.boot,
                at: entry.accepted,
            });
            match &entry.run {
                Run::Waiting => {}
                Run::Started { boot, at, until } => {
                    // The clocks of then are the business of `Boots`.
                    let (up, doubtful) = (None, false);
                    records.push(Record::Started { key: key(), boot: *boot, at: *at, until: *until, up, doubtful });
                }
                Run::Finished { outcome, at, .. } => {
                    records.push(Record::Finished { key: key(), outcome: outcome.clone(), at: *at });
                }
            }
        }
        for entry in self.entries.values().filter(|entry| entry.told > Told::Nothing) {
            records.push(Record::Told { key: entry.key.clone(), what: entry.told });
        }
        records
    }

    /// What was applied until now stays.
    pub fn settle(&mut self) {
        self.before.clear();
    }

    /// Takes back all that was applied since the last [`Ledger::settle`].
    pub fn roll_back(&mut self) {
        while let Some((number, entry)) = self.before.pop() {
            self.put(number, entry);
            self.before.pop();
        }
    }

    /// Forgets commands that were told: those that ended long before `at`, and the oldest when there are too many.
    fn forget(&mut self, at: Timestamp) {
        let long_ago = at.saturating_sub(REMEMBERED_FOR);
        // In order of acceptance, so the search ends at the first that is to be kept, however many there are.
        while let Some(number) = self.oldest_told()
            && (self.entries.len() - self.untold.len() >= REMEMBERED || self.entries[&number].finished_before(long_ago))
        {
            self.put(number, None);
        }
    }

    fn oldest_told(&self) -> Option<Number> {
        self.entries.keys().find(|number| !self.untold.contains(number)).copied()
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Entry)) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        if let Some(mut entry) = self.entries.get(&number).cloned() {
            change(&mut entry);
            self.put(number, Some(entry));
        }
    }

    /// The only place that writes: keeps the two indexes and the way back.
    fn put(&mut self, number: Number, entry: Option<Entry>) {
        self.untold.remove(&number);
        let old = self.entries.remove(&number);
        if let Some(old) = &old {
            self.by_key.remove(&old.key);
        }
        if let Some(entry) = entry {
            if !entry.is_told() {
                self.untold.insert(number);
            }
            self.by_key.insert(entry.key.clone(), number);
            self.entries.insert(number, entry);
        }
        self.before.push((number, old));
    }
}

impl Entry {
    /// Whether equal content without an id is this command, sent again.
    fn stands_for_a_repeat(&self, now: Timestamp) -> bool {
        match &self.run {
            Run::Waiting | Run::Started { .. } => true,
            // Either way: when the clock was set back since, this must not last until it is there again.
            Run::Finished { ran, .. } => *ran && now.since(self.accepted).max(self.accepted.since(now)) < DERIVED_FOR,
        }
    }
}
