//! Which handlers run at this moment, and whether one more may start.

use std::collections::BTreeMap;

use super::ask::CallerId;
use super::command::{Class, CommandId, Method, MethodSpec, ReplyTo};
use super::ledger::Number;
use super::now::Timestamp;

/// One run of a handler. Never used twice in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

/// For whom a handler runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Run {
    /// For a command in the ledger. `alone`: no other of them may run beside it.
    Recorded { number: Number, method: Method, alone: bool },
    /// For a harmless one, known only here.
    Harmless { id: CommandId, method: Method, to: To, received: Timestamp },
    /// For a member of the desired document, which is recorded too. `resumed`: it was begun by the agent before.
    Desired { method: Method, alone: bool, resumed: bool },
}

impl Run {
    fn method(&self) -> &Method {
        match self {
            Self::Recorded { method, .. } | Self::Harmless { method, .. } | Self::Desired { method, .. } => method,
        }
    }

    fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded { .. } | Self::Desired { .. })
    }

    fn is_alone(&self) -> bool {
        matches!(self, Self::Recorded { alone: true, .. } | Self::Desired { alone: true, .. })
    }
}

/// Where the answer of what is not recorded goes.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    Cloud(Option<ReplyTo>),
    Caller(CallerId),
    /// Whoever waited for it is gone.
    Nobody,
}

/// All runs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    runs: BTreeMap<RunId, Run>,
    next: u64,
}

impl Runs {
    pub fn begin(&mut self, run: Run) -> RunId {
        let id = RunId(self.next);
        self.next += 1;
        self.runs.insert(id, run);
        id
    }

    /// `class`: missing if the method is not to be had any more.
    pub fn begin_recorded(&mut self, number: Number, method: Method, class: Option<Class>) -> RunId {
        self.begin(Run::Recorded { number, method, alone: class == Some(Class::Exclusive) })
    }

    pub fn begin_desired(&mut self, method: Method, class: Option<Class>, resumed: bool) -> RunId {
        self.begin(Run::Desired { method, alone: class == Some(Class::Exclusive), resumed })
    }

    pub fn end(&mut self, id: RunId) -> Option<Run> {
        self.runs.remove(&id)
    }

    /// The connection has ended on which somebody waited.
    pub fn forget_senders(&mut self) {
        for run in self.runs.values_mut() {
            if let Run::Harmless { to: to @ To::Cloud(Some(_)), .. } = run {
                *to = To::Nobody;
            }
        }
    }

    /// Whether somebody waits on the connection for the answer of what is not recorded.
    pub fn have_senders(&self) -> bool {
        let waits = |run: &Run| matches!(run, Run::Harmless { to: To::Cloud(Some(_)), .. });
        self.runs.values().any(waits)
    }

    pub fn is_harmless(&self, id: RunId) -> bool {
        matches!(self.runs.get(&id), Some(Run::Harmless { .. }))
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The recorded commands that run.
    pub fn all_recorded(&self) -> Vec<(RunId, Number)> {
        let recorded = |(id, run): (&RunId, &Run)| match run {
            Run::Recorded { number, .. } => Some((*id, *number)),
            Run::Harmless { .. } | Run::Desired { .. } => None,
        };
        self.runs.iter().filter_map(recorded).collect()
    }

    /// What runs for desired state.
    pub fn all_for_desired(&self) -> Vec<(RunId, Method)> {
        let desired = |(id, run): (&RunId, &Run)| match run {
            Run::Desired { method, .. } => Some((*id, method.clone())),
            Run::Recorded { .. } | Run::Harmless { .. } => None,
        };
        self.runs.iter().filter_map(desired).collect()
    }

    /// Whether this method runs for desired state.
    pub fn are_for_desired(&self, method: &Method) -> bool {
        self.runs.values().any(|run| matches!(run, Run::Desired { method: known, .. } if known == method))
    }

    /// How many run for recorded commands and for desired state.
    pub fn recorded(&self) -> usize {
        self.runs.values().filter(|run| run.is_recorded()).count()
    }

    /// Whether one more run of this method may start now.
    pub fn has_room_for(&self, spec: &MethodSpec) -> bool {
        let same = self.runs.values().filter(|run| *run.method() == spec.name).count();
        let one_is_alone = self.runs.values().any(Run::is_alone);
        if one_is_alone && !spec.harmless {
            return false;
        }
        match spec.class {
            Class::Exclusive => self.recorded() == 0,
            Class::Serial(_) => same == 0,
            Class::Parallel(most) => same < most,
        }
    }
}

/// How many commands of a method may wait while others of it run.
pub fn queue_length(class: Class) -> usize {
    match class {
        Class::Exclusive => 0,
        Class::Serial(waiting) => waiting,
        // Bounded by the ledger's own limit on what is untold.
        Class::Parallel(_) => usize::MAX,
    }
}
