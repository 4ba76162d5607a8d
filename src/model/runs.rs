//! Which handlers run at this moment, how each goes, and whether one more may start.
//!
//! Who performs a run, a task of this program or a local program that serves its method, makes no difference here. How it
//! goes is known in memory alone: it is no record, and travels when the reported document does.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ask::CallerId;
use super::command::{Class, CommandId, DeviceId, Key, Method, MethodSpec, Origin, ReplyTo};
use super::fit::boundary;
use super::ledger::Number;
use super::now::Timestamp;

/// How a run goes is told in so many characters.
const PROGRESS: usize = 200;

/// One run of a handler. Never used twice in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    /// The run that was handed over with this number.
    pub(super) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// What a program knows it by: below 2^52, so that it is exact wherever numbers are floating.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// For whom a handler runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// For a command in the ledger. `alone`: no other of them may run beside it.
    Recorded { number: Number, method: Method, alone: bool },
    /// For a harmless one, known only here.
    Harmless { key: Key, method: Method, to: To, received: Timestamp },
    /// For a member of the desired document, which is recorded too. `resumed`: it was begun by the agent before.
    Desired { id: CommandId, method: Method, alone: bool, resumed: bool },
}

impl To {
    /// Whether it is somebody who waits on the connection.
    pub(super) fn is_on_connection(&self) -> bool {
        matches!(self, Self::Cloud(Some(_)))
    }
}

impl Run {
    /// For a command in the ledger. `class`: missing if the method is not to be had any more.
    pub fn recorded(number: Number, method: Method, class: Option<Class>) -> Self {
        Self::Recorded { number, method, alone: class == Some(Class::Exclusive) }
    }

    pub(super) fn method(&self) -> &Method {
        match self {
            Self::Recorded { method, .. } | Self::Harmless { method, .. } | Self::Desired { method, .. } => method,
        }
    }

    fn is_harmless(&self) -> bool {
        matches!(self, Self::Harmless { .. })
    }

    fn is_alone(&self) -> bool {
        matches!(self, Self::Recorded { alone: true, .. } | Self::Desired { alone: true, .. })
    }
}

/// Where the answer of what is not recorded goes.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    Cloud(Option<ReplyTo>),
    /// `follow`: who is told how it goes, too.
    Caller {
        id: CallerId,
        follow: bool,
    },
    /// Whoever waited for it is gone.
    Nobody,
}

/// A run, and what is known of it beside what it is for.
#[derive(Clone, Debug)]
pub struct Active {
    pub run: Run,
    /// It goes on while the agent is away.
    outlives: bool,
    /// Members of its payload that mean nothing to its method.
    pub(super) ignored: Vec<String>,
    /// How it goes, as it last said.
    progress: Option<String>,
    /// It was told to stop.
    cancelled: bool,
}

/// All runs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    runs: BTreeMap<RunId, Active>,
    next: u64,
}

impl Runs {
    /// No run has a number that an earlier run of the daemon gave away, as far as chance can see to that: a program may
    /// still speak of those.
    pub(super) fn numbered_from(seed: u64) -> Self {
        Self { runs: BTreeMap::new(), next: (seed % (1 << 31)) << 20 }
    }

    pub fn begin(&mut self, run: Run) -> RunId {
        let id = RunId(self.next);
        self.next += 1;
        let (outlives, ignored) = (false, Vec::new());
        self.runs.insert(id, Active { run, outlives, ignored, progress: None, cancelled: false });
        id
    }

    /// Begins one of a method that is to be had.
    pub(super) fn begin_of(&mut self, run: Run, spec: &MethodSpec, payload: &Value) -> RunId {
        let id = self.begin(run);
        if let Some(active) = self.runs.get_mut(&id) {
            active.outlives = spec.outlives;
            let rules = spec.payload.as_ref().filter(|_| matches!(spec.origin, Origin::Agent | Origin::BuiltIn));
            active.ignored = rules.map(|rules| rules.ignored(payload)).unwrap_or_default();
        }
        id
    }

    pub fn end(&mut self, id: RunId) -> Option<Active> {
        self.runs.remove(&id)
    }

    // === How a run goes

    pub(super) fn get(&self, id: RunId) -> Option<&Active> {
        self.runs.get(&id)
    }

    /// The run of this command.
    pub(super) fn of_recorded(&self, of: Number) -> Option<RunId> {
        let is_it = |active: &Active| matches!(active.run, Run::Recorded { number, .. } if number == of);
        self.runs.iter().find(|(_, active)| is_it(active)).map(|(id, _)| *id)
    }

    /// The runs of what is not in the ledger and has this key; several harmless ones may. `own`: for whom desired state
    /// is applied.
    pub(super) fn of_others(&self, of: &Key, own: &DeviceId) -> Vec<RunId> {
        let is_one = |run: &Run| match run {
            Run::Harmless { key, .. } => key == of,
            Run::Desired { id, .. } => *id == of.id && of.target == *own,
            Run::Recorded { .. } => false,
        };
        self.iter().filter(|(_, run)| is_one(run)).map(|(id, _)| id).collect()
    }

    /// Takes note of how it goes; whether that is news.
    pub(super) fn progresses(&mut self, id: RunId, text: &str) -> bool {
        let Some(active) = self.runs.get_mut(&id) else { return false };
        let told = line(text);
        let is_news = !told.is_empty() && active.progress.as_ref() != Some(&told);
        if is_news {
            active.progress = Some(told);
        }
        is_news
    }

    pub(super) fn progress(&self, id: RunId) -> Option<&str> {
        self.runs.get(&id)?.progress.as_deref()
    }

    /// It is to stop; whether that is news.
    pub(super) fn cancels(&mut self, id: RunId) -> bool {
        self.runs.get_mut(&id).is_some_and(|active| !std::mem::replace(&mut active.cancelled, true))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RunId, &Run)> {
        self.runs.iter().map(|(id, active)| (*id, &active.run))
    }

    /// Whether nothing runs that an agent which ends should wait for.
    pub(super) fn may_be_left(&self) -> bool {
        self.runs.values().all(|active| active.outlives)
    }

    /// The connection has ended on which somebody waited.
    pub fn forget_senders(&mut self) {
        for active in self.runs.values_mut() {
            if let Run::Harmless { to, .. } = &mut active.run
                && to.is_on_connection()
            {
                *to = To::Nobody;
            }
        }
    }

    /// Whether somebody waits on the connection for the answer of what is not recorded.
    pub fn have_senders(&self) -> bool {
        let waits = |active: &Active| matches!(&active.run, Run::Harmless { to, .. } if to.is_on_connection());
        self.runs.values().any(waits)
    }

    pub fn is_harmless(&self, id: RunId) -> bool {
        self.runs.get(&id).is_some_and(|active| active.run.is_harmless())
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether this method runs for desired state.
    pub(super) fn are_for_desired(&self, method: &Method) -> bool {
        self.iter().any(|(_, run)| matches!(run, Run::Desired { method: known, .. } if known == method))
    }

    /// All that is not harmless.
    pub(super) fn all_that_count(&self) -> Vec<RunId> {
        self.iter().filter(|(_, run)| !run.is_harmless()).map(|(id, _)| id).collect()
    }

    /// How many runs are not harmless: a reboot waits for those.
    pub fn recorded(&self) -> usize {
        self.all_that_count().len()
    }

    /// Whether one runs beside which no other may.
    pub(super) fn one_is_alone(&self) -> bool {
        self.iter().any(|(_, run)| run.is_alone())
    }

    /// Whether one more run of this method may start now.
    pub fn has_room_for(&self, spec: &MethodSpec) -> bool {
        let same = self.iter().filter(|(_, run)| *run.method() == spec.name).count();
        if self.one_is_alone() && !spec.harmless {
            return false;
        }
        match spec.class {
            Class::Exclusive => self.recorded() == 0,
            Class::Serial(_) => same == 0,
            Class::Parallel(most) => same < most,
        }
    }
}

/// How many commands of a method may wait in the ledger while others of it run.
pub fn queue_length(class: Class) -> usize {
    match class {
        Class::Exclusive => 0,
        Class::Serial(waiting) => waiting,
        // Bounded by the ledger's own limit on what is untold.
        Class::Parallel(_) => usize::MAX,
    }
}

/// One line for people, of what a program says.
fn line(text: &str) -> String {
    // A character has four bytes at most; whoever sends megabytes is not read to the end.
    let text = &text[..boundary(text, 4 * PROGRESS + 64)];
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(PROGRESS).collect();
    clean.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_says_becomes_one_bounded_line() {
        assert_eq!(line("  50 %\n"), "50 %");
        assert_eq!(line("a\u{1b}[31mb\r\nc\0"), "a [31mb  c");
        assert_eq!(line(&"ä".repeat(100_000)).chars().count(), PROGRESS);
        assert_eq!(line("\n\0 "), "");
    }

    #[test]
    fn numbers_are_exact_where_numbers_are_floating_and_new_after_a_restart() {
        for seed in [0, 1, u64::MAX] {
            let mut runs = Runs::numbered_from(seed);
            let (id, method) = (CommandId::parse("1").expect("an id"), Method::parse("m").expect("a name"));
            let key = Key { target: DeviceId::parse("d").expect("an id"), id };
            let run = runs.begin(Run::Harmless { key, method, to: To::Nobody, received: Timestamp::from_micros(0) });
            assert!(run.number() < 1 << 52, "{run:?}");
        }
    }
}
