//! Local programs that serve methods: which program has which, what it was handed, and until when it may take.
//!
//! A program is known by the caller that it is on the local interface; when that is gone, so are its methods and what it was
//! running. A command that waits for a method of a program that is gone waits a moment longer: programs are restarted, and
//! so is the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::agent::{Agent, Effect};
use super::ask::{CallerId, Refusal, Reply};
use super::command::{Command, Method, MethodSpec, Origin, Outcome, Status};
use super::ledger::Entry;
use super::now::{BootInstant, Now};
use super::runs::RunId;

/// Methods that local programs may serve, all of them together. Each is named in the reported document.
const METHODS: usize = 32;

/// A program that was told to stop a run has so long to say how it ended.
const GRACE: Duration = Duration::from_secs(10);

/// A command that waits for a program to come back waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a manifest may say of the time of a run, too.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a manifest may say of the largest payload of an outcome, too, in bytes of JSON.
const OUTPUT: usize = 256 * 1_024;

/// What a program is told of a run that is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled,
    TimedOut,
}

/// Who serves what, and what was handed over.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    served: BTreeMap<Method, (CallerId, MethodSpec)>,
    handed: BTreeMap<RunId, Handed>,
    /// When the programs of these went.
    gone: BTreeMap<Method, BootInstant>,
    /// When this run of the daemon began: whoever served before it is not back yet.
    began: BootInstant,
}

/// A command that a program has.
#[derive(Clone, Debug)]
struct Handed {
    to: CallerId,
    /// Then it is over, whatever the program does.
    until: BootInstant,
    time_limit: Duration,
    output_limit: usize,
    /// The program was told to stop it.
    cancelled: bool,
}

impl Serving {
    pub(super) fn new(now: BootInstant) -> Self {
        Self { served: BTreeMap::new(), handed: BTreeMap::new(), gone: BTreeMap::new(), began: now }
    }

    /// All that is served, less what others have a right to from now on.
    pub(super) fn keep(&mut self, may_be: impl Fn(&Method) -> bool) -> Vec<MethodSpec> {
        self.served.retain(|name, _| may_be(name));
        self.served.values().map(|(_, spec)| spec.clone()).collect()
    }

    /// Hands a command over: to whom, and in which words. Nothing if nobody serves it.
    pub(super) fn hand(&mut self, run: RunId, command: &Command, now: BootInstant) -> Option<(CallerId, Reply)> {
        let (to, spec) = self.served.get(&command.method)?;
        let (time_limit, output_limit) = (spec.time_limit, spec.output_limit);
        self.handed
            .insert(run, Handed { to: *to, until: now + time_limit, time_limit, output_limit, cancelled: false });
        let words = [
            ("run", json!(run.number())),
            ("id", json!(command.key.id)),
            ("method", json!(command.method)),
            ("payload", command.payload.clone()),
            ("timeLimitSeconds", json!(time_limit.as_secs())),
        ];
        Some((*to, further(words)))
    }

    /// The program is told to stop it, if it is a program that has it.
    pub(super) fn cancel(&mut self, run: RunId, now: BootInstant) -> Option<Effect> {
        let handed = self.handed.get_mut(&run)?;
        handed.cancelled = true;
        handed.until = handed.until.min(now + GRACE);
        Some(stop(handed.to, run, Stop::Cancelled))
    }

    /// Nobody wants to know any more what becomes of it. The program is told to stop it, if it is a program that has it.
    pub(super) fn abandon(&mut self, run: RunId) -> Option<Effect> {
        let handed = self.handed.remove(&run)?;
        Some(stop(handed.to, run, Stop::Cancelled))
    }

    /// It was never handed over.
    pub(super) fn forget(&mut self, run: RunId) {
        self.handed.remove(&run);
    }

    /// For how long somebody may still come back who served this until a moment ago.
    pub(super) fn is_back_within(&self, method: &Method, now: BootInstant) -> Option<Duration> {
        let until = *self.gone.get(method)? + PATIENCE;
        Some(until.since(now)).filter(|wait| !wait.is_zero())
    }

    /// Until when commands for this method wait for somebody who serves it.
    fn patience(&self, method: &Method) -> BootInstant {
        self.gone.get(method).copied().unwrap_or(self.began).max(self.began) + PATIENCE
    }

    /// When the first of the runs is over, whatever its program does.
    fn next_end(&self) -> Option<BootInstant> {
        self.handed.values().map(|handed| handed.until).min()
    }
}

impl Agent {
    /// The caller serves these methods from now on: all of them, or none.
    pub(super) fn serve(&mut self, methods: Vec<MethodSpec>, caller: CallerId) -> Result<Value, Refusal> {
        let cannot = |why: String| Err(Refusal::CannotNow { why });
        if self.stopping.is_some() || self.is_going_down() {
            return cannot("the agent is stopping".to_owned());
        }
        if methods.is_empty() {
            return cannot("no method is named".to_owned());
        }
        if self.serving.served.len() + methods.len() > METHODS {
            return cannot(format!("local programs serve at most {METHODS} methods, all of them together"));
        }
        let mut names = BTreeSet::new();
        for MethodSpec { name, .. } in &methods {
            if self.methods.contains_key(name) || !names.insert(name.clone()) {
                return Err(Refusal::MethodTaken { method: name.clone() });
            }
            if !self.may_be_served(name) {
                return cannot(format!("`{name}` is a name that the agent or its configuration has for itself"));
            }
        }
        for spec in methods {
            let spec = MethodSpec {
                origin: Origin::Program,
                outlives: false,
                time_limit: spec.time_limit.clamp(SHORTEST, LONGEST),
                output_limit: spec.output_limit.min(OUTPUT),
                ..spec
            };
            self.serving.gone.remove(&spec.name);
            self.methods.insert(spec.name.clone(), spec.clone());
            self.serving.served.insert(spec.name.clone(), (caller, spec));
        }
        self.outbox.changed();
        Ok(json!({ "serving": names }))
    }

    /// Takes what a program says of the end of a run.
    pub(super) fn program_finished(
        &mut self,
        number: u64,
        outcome: Outcome,
        now: &Now,
        out: &mut Vec<Effect>,
    ) -> Result<Value, Refusal> {
        let run = RunId::of_number(number);
        let handed = self.serving.handed.remove(&run).ok_or(Refusal::UnknownRun)?;
        // 202 is ours to say, and what is below 200 is no end.
        let is_an_end = (200..600).contains(&outcome.status.0) && outcome.status != Status::ACCEPTED;
        let outcome = if is_an_end {
            outcome.within(handed.output_limit)
        } else {
            Outcome::failed(
                Status::FAILED,
                format!("its program ended it with {}, which is no outcome", outcome.status),
            )
        };
        self.run_ended(run, outcome, now, out);
        Ok(json!({ "taken": true }))
    }

    /// Takes what a program says of how a run goes.
    pub(super) fn program_progresses(&mut self, number: u64, text: &str, now: &Now) -> Result<Value, Refusal> {
        let run = RunId::of_number(number);
        if !self.serving.handed.contains_key(&run) {
            return Err(Refusal::UnknownRun);
        }
        self.run_progresses(run, text, now);
        Ok(json!({ "taken": true }))
    }

    /// A caller is gone: it serves nothing any more, and what it ran is over.
    pub(super) fn program_gone(&mut self, caller: CallerId, now: &Now, out: &mut Vec<Effect>) {
        let serves = |(name, (by, _)): (&Method, &(CallerId, MethodSpec))| (*by == caller).then(|| name.clone());
        let gone: Vec<Method> = self.serving.served.iter().filter_map(serves).collect();
        if !gone.is_empty() {
            // Who was waited for in vain is not remembered, or names would pile up.
            self.serving.gone.retain(|_, since| now.boot < *since + PATIENCE);
            self.outbox.changed();
        }
        for name in gone {
            self.serving.served.remove(&name);
            self.methods.remove(&name);
            self.serving.gone.insert(name, now.boot);
        }
        let had = self.serving.handed.iter().filter(|(_, handed)| handed.to == caller);
        let cut: Vec<RunId> = had.map(|(run, _)| *run).collect();
        for run in cut {
            self.serving.handed.remove(&run);
            let why = "the program that ran this is gone; it may have taken effect and was not run again";
            self.run_ended(run, Outcome::failed(Status::CANNOT_NOW, why), now, out);
        }
    }

    /// Ends what programs have had for long enough.
    pub(super) fn step_serving(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let over = self.serving.handed.iter().filter(|(_, handed)| now.boot >= handed.until);
        let over: Vec<(RunId, Handed)> = over.map(|(run, handed)| (*run, handed.clone())).collect();
        for (run, Handed { to, time_limit, cancelled, .. }) in over {
            self.serving.handed.remove(&run);
            let outcome = if cancelled {
                Outcome::failed(Status::CANCELLED, "stopped; its program did not say how it ended")
            } else {
                out.push(stop(to, run, Stop::TimedOut));
                let why = format!("its program had not ended it after its time limit of {} s", time_limit.as_secs());
                Outcome::failed(Status::TIMED_OUT, why)
            };
            self.run_ended(run, outcome, now, out);
        }
    }

    /// Until when a waiting command waits for somebody who serves its method; `None`: nobody may.
    pub(super) fn waits_for_program(&self, entry: &Entry) -> Option<BootInstant> {
        self.may_be_served(&entry.method).then(|| self.serving.patience(&entry.method))
    }

    /// When any of this is due by itself.
    pub(super) fn serving_due(&self) -> Option<BootInstant> {
        let waiting =
            self.durable.ledger.untold().filter(|(_, entry)| {
                entry.is_waiting() && !self.methods.contains_key(&entry.method) && self.may_start()
            });
        let patience = waiting.filter_map(|(_, entry)| self.waits_for_program(entry)).min();
        self.serving.next_end().into_iter().chain(patience).min()
    }
}

/// One more answer to a program.
fn further<const N: usize>(words: [(&str, Value); N]) -> Reply {
    let answer: Map<String, Value> = words.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Reply::Is { answer, last: false }
}

fn stop(to: CallerId, run: RunId, why: Stop) -> Effect {
    let why = match why {
        Stop::Cancelled => "cancelled",
        Stop::TimedOut => "timedOut",
    };
    Effect::Reply(to, further([("run", json!(run.number())), ("stop", json!(why))]))
}
