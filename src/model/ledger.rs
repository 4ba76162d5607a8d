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
use super::now::{BootId, BootInstant, Clock, Doubt, Now, Timestamp};
use super::record::{Record, Told};

/// Commands that were told are remembered this long, so that a late duplicate finds its answer.
///
/// Of the time in which the agent runs: the wall clock may jump, and a machine that is off hears no duplicate.
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
    /// `accepted` is that of a clock which was not set.
    pub doubtful: bool,
    /// The boot in which it was accepted, and when by its clock. Journals of older agents do not tell when.
    pub boot: BootId,
    pub up: Option<BootInstant>,
    pub run: Run,
    pub told: Told,
    /// When that was, in seconds that the agent had run.
    told_after: u64,
}

/// How far a command has run.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    Waiting,
    Started {
        boot: BootId,
        at: Timestamp,
        until: Option<Timestamp>,
        /// Where `at` is that of a clock which was not set.
        doubt: Option<Doubt>,
    },
    Finished {
        outcome: Outcome,
        at: Timestamp,
        /// Where `at` is that of a clock which was not set.
        doubt: Option<Doubt>,
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
}

/// All commands that are remembered, in the order in which they were accepted.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Number, Entry>,
    by_key: HashMap<Key, Number>,
    untold: BTreeSet<Number>,
    next: u64,
    /// For how many seconds the agent had run when that was last noted, in all its lives.
    ran: u64,
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

    /// For how many seconds the agent had run, in all its lives, when that was last noted.
    pub fn ran(&self) -> u64 {
        self.ran
    }

    /// The command of unknown id that equal content would be taken for at `now`.
    pub fn find_derived(&self, key: &Key, digest: Digest, now: &Now) -> Option<(Number, &Entry)> {
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
            Record::Accepted { .. } => self.accept(record),
            Record::Started { key, boot, at, until, up, doubtful } => self.change(key, |entry| {
                let doubt = up.filter(|_| *doubtful).map(|up| Doubt { boot: *boot, up });
                entry.run = Run::Started { boot: *boot, at: *at, until: *until, doubt };
            }),
            Record::Finished { key, outcome, at, doubt } => self.change(key, |entry| {
                // A reboot that another boot has proved took effect without ever having been started by us.
                let ran = !entry.is_waiting() || outcome.status == Status::DONE;
                entry.payload = Value::Null;
                entry.run = Run::Finished { outcome: outcome.clone(), at: *at, doubt: *doubt, ran };
            }),
            Record::Told { key, what, ran } => {
                // What an older agent noted without it counts from now on.
                let ran = ran.unwrap_or(self.ran);
                self.ran = self.ran.max(ran);
                self.change(key, |entry| {
                    if *what == Told::Outcome && !entry.is_told() {
                        entry.told_after = ran;
                    }
                    entry.told = entry.told.max(*what);
                    if let Run::Finished { outcome, .. } = &mut entry.run
                        && entry.told == Told::Outcome
                        && outcome.payload.to_string().len() > REMEMBERED_PAYLOAD
                    {
                        outcome.payload = json!({ "payloadDropped": true });
                    }
                });
            }
            Record::Seen { ran, .. } => self.ran = self.ran.max(*ran),
            Record::BootTime { boot, time, .. } => self.correct(*boot, *time),
            Record::Boot { .. }
            | Record::GuardCleared { .. }
            | Record::Began { .. }
            | Record::Boots { .. }
            | Record::Reported { .. }
            | Record::Served { .. }
            | Record::Desired { .. }
            | Record::Applying(_)
            | Record::Applied(_)
            | Record::Unapplied { .. } => {}
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
                up: entry.up,
                doubtful: entry.doubtful,
            });
            match &entry.run {
                Run::Waiting => {}
                Run::Started { boot, at, until, doubt } => {
                    let (up, doubtful) = (doubt.map(|doubt| doubt.up), doubt.is_some());
                    records.push(Record::Started { key: key(), boot: *boot, at: *at, until: *until, up, doubtful });
                }
                Run::Finished { outcome, at, doubt, .. } => {
                    records.push(Record::Finished { key: key(), outcome: outcome.clone(), at: *at, doubt: *doubt });
                }
            }
        }
        for entry in self.entries.values().filter(|entry| entry.told > Told::Nothing) {
            let ran = entry.is_told().then_some(entry.told_after);
            records.push(Record::Told { key: entry.key.clone(), what: entry.told, ran });
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

    fn accept(&mut self, record: &Record) {
        let Record::Accepted {
            key,
            method,
            payload,
            digest,
            derived,
            local,
            reply_to,
            expires,
            started,
            boot,
            at,
            up,
            doubtful,
        } = record
        else {
            return;
        };
        if self.by_key.contains_key(key) {
            return;
        }
        self.forget();
        let doubt = up.filter(|_| *doubtful).map(|up| Doubt { boot: *boot, up });
        let run = if *started { Run::Started { boot: *boot, at: *at, until: None, doubt } } else { Run::Waiting };
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
            doubtful: *doubtful,
            boot: *boot,
            up: *up,
            run,
            told: Told::Nothing,
            told_after: 0,
        };
        let number = Number(self.next);
        self.next += 1;
        self.put(number, Some(entry));
    }

    /// Forgets commands that were told: those that were told long ago, and the oldest when there are too many.
    fn forget(&mut self) {
        let ran = self.ran;
        let is_old = |entry: &Entry| ran.saturating_sub(entry.told_after) >= REMEMBERED_FOR.as_secs();
        // In order of acceptance, so the search ends at the first that is to be kept, however many there are.
        while let Some(number) = self.oldest_told()
            && (self.entries.len() - self.untold.len() >= REMEMBERED || is_old(&self.entries[&number]))
        {
            self.put(number, None);
        }
    }

    fn oldest_told(&self) -> Option<Number> {
        self.entries.keys().find(|number| !self.untold.contains(number)).copied()
    }

    /// It is known when the kernel of this boot started: what was noted in it, while its clock was doubtful, is put right.
    fn correct(&mut self, boot: BootId, kernel_start: Timestamp) {
        let wrong = self.entries.iter().filter(|(_, entry)| entry.has_doubt_of(boot));
        let wrong: Vec<(Number, Entry)> = wrong.map(|(number, entry)| (*number, entry.clone())).collect();
        for (number, mut entry) in wrong {
            entry.correct(boot, kernel_start);
            self.put(number, Some(entry));
        }
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
    fn stands_for_a_repeat(&self, now: &Now) -> bool {
        match &self.run {
            Run::Waiting | Run::Started { .. } => true,
            Run::Finished { ran, .. } => *ran && self.age(now) < DERIVED_FOR,
        }
    }

    /// How long ago it was accepted, as far as that can be told; too short rather than too long.
    fn age(&self, now: &Now) -> Duration {
        match self.up {
            Some(up) if self.boot == now.boot_id => now.boot.since(up),
            // It was before this boot, and nobody knows how long.
            _ if self.boot != now.boot_id && (self.doubtful || now.clock == Clock::Doubtful) => now.boot.0,
            // Either way: when the clock was set back since, this must not last until it is there again.
            _ => now.wall.apart(self.accepted),
        }
    }

    /// When it was accepted, where the clock of then was not set.
    fn doubt(&self) -> Option<Doubt> {
        self.up.filter(|_| self.doubtful).map(|up| Doubt { boot: self.boot, up })
    }

    fn has_doubt_of(&self, boot: BootId) -> bool {
        let of_run = match self.run {
            Run::Waiting => None,
            Run::Started { doubt, .. } | Run::Finished { doubt, .. } => doubt,
        };
        [self.doubt(), of_run].into_iter().flatten().any(|doubt| doubt.boot == boot)
    }

    fn correct(&mut self, boot: BootId, kernel_start: Timestamp) {
        if let Some(right) = self.doubt().and_then(|doubt| doubt.resolved(boot, kernel_start)) {
            self.accepted = right;
            self.doubtful = false;
        }
        match &mut self.run {
            Run::Waiting => {}
            Run::Started { at, until, doubt, .. } => {
                if let Some(right) = doubt.and_then(|doubt| doubt.resolved(boot, kernel_start)) {
                    *until = until.map(|until| right.saturating_add(until.since(*at)));
                    (*at, *doubt) = (right, None);
                }
            }
            Run::Finished { at, doubt, .. } => {
                if let Some(right) = doubt.and_then(|doubt| doubt.resolved(boot, kernel_start)) {
                    (*at, *doubt) = (right, None);
                }
            }
        }
    }
}
