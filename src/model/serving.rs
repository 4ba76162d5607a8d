//! Local programs that serve methods: which program has which, what it was handed, and until when it may take.
//!
//! A program is known by the caller that it is on the local interface; when that is gone, so are its methods, and what it
//! was running has failed (503). A command that waits for a method of a program that is gone waits a moment longer before
//! it is told 404: programs are restarted, and so is the agent. The model keeps the deadline of what was handed over, for
//! there is no task that could. A run that is to end is over when its program says so, or after a grace: until then it is
//! at it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::agent::{Agent, Effect};
use super::ask::{CallerId, Refusal, Reply};
use super::command::{Command, Method, MethodSpec, Origin, Outcome, Status};
use super::ledger::Entry;
use super::now::{BootInstant, Now};
use super::own::is_reserved;
use super::record::Record;
use super::runs::RunId;

/// Methods that local programs may serve, all of them together. Each is named in the reported document.
const METHODS: usize = 32;

/// A program that was told to stop a run, for whatever cause, has so long to say how it ended.
const GRACE: Duration = Duration::from_secs(10);

/// A command that waits for a program to come back waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a manifest may say of the time of a run, too.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a manifest may say of the largest payload of an outcome, too, in bytes of JSON.
const OUTPUT: usize = 256 * 1_024;

/// Why a run is to end, as its program is told.
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
    /// Programs that lost a method to somebody else, and why. They are told once nothing of theirs runs.
    ousted: BTreeMap<CallerId, Refusal>,
    /// When this run of the daemon began: whoever served before it is not back yet.
    began: BootInstant,
}

/// A command that a program has.
#[derive(Clone, Debug)]
struct Handed {
    to: CallerId,
    /// Then its time limit is over, or the grace of one that was told to stop.
    until: BootInstant,
    time_limit: Duration,
    output_limit: usize,
    /// Why the program was told to stop it, if it was.
    stopped: Option<Stop>,
}

impl Serving {
    pub(super) fn new(now: BootInstant) -> Self {
        Self {
            served: BTreeMap::new(),
            handed: BTreeMap::new(),
            gone: BTreeMap::new(),
            ousted: BTreeMap::new(),
            began: now,
        }
    }

    /// What is served.
    pub(super) fn names(&self) -> impl Iterator<Item = &Method> {
        self.served.keys()
    }

    /// All that is served from now on. A program that loses one of its methods has to serve anew, since it would never
    /// learn when it may have that again.
    pub(super) fn keep(&mut self, refused: &BTreeMap<Method, Refusal>, now: BootInstant) -> Vec<MethodSpec> {
        for (name, refusal) in refused {
            if let Some((caller, _)) = self.served.get(name) {
                self.ousted.insert(*caller, refusal.clone());
            }
        }
        for name in self.served_by(|caller| self.ousted.contains_key(&caller)) {
            self.served.remove(&name);
            self.gone.insert(name, now);
        }
        self.served.values().map(|(_, spec)| spec.clone()).collect()
    }

    /// The methods of these programs.
    fn served_by(&self, is_one: impl Fn(CallerId) -> bool) -> Vec<Method> {
        let theirs = self.served.iter().filter(|(_, (by, _))| is_one(*by));
        theirs.map(|(name, _)| name.clone()).collect()
    }

    /// Those that lost a method and run nothing any more.
    fn take_ousted(&mut self) -> BTreeMap<CallerId, Refusal> {
        let busy: BTreeSet<CallerId> = self.handed.values().map(|handed| handed.to).collect();
        let (later, ready) =
            std::mem::take(&mut self.ousted).into_iter().partition(|(caller, _)| busy.contains(caller));
        self.ousted = later;
        ready
    }

    /// Hands a command over: to whom, and in which words. Nothing if nobody serves it.
    pub(super) fn hand(&mut self, run: RunId, command: &Command, now: BootInstant) -> Option<(CallerId, Reply)> {
        let (to, spec) = self.served.get(&command.method)?;
        let (time_limit, output_limit) = (spec.time_limit, spec.output_limit);
        self.handed.insert(run, Handed { to: *to, until: now + time_limit, time_limit, output_limit, stopped: None });
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
        handed.until = now + GRACE;
        Some(handed.stop(run, Stop::Cancelled))
    }

    /// Nobody wants to know any more what becomes of it. The program is told to stop it, if it is a program that has it.
    pub(super) fn abandon(&mut self, run: RunId) -> Option<Effect> {
        Some(self.handed.remove(&run)?.stop(run, Stop::Cancelled))
    }

    /// It was never handed over.
    pub(super) fn forget(&mut self, run: RunId) {
        self.handed.remove(&run);
    }

    /// For how long somebody may still come back who served this until a moment ago. `before`: somebody did before this
    /// run of the daemon.
    fn is_back_within(&self, method: &Method, before: bool, now: BootInstant) -> Option<Duration> {
        let until = self.gone.get(method).copied().or(before.then_some(self.began))? + PATIENCE;
        Some(until.since(now)).filter(|wait| !wait.is_zero())
    }

    /// Until when commands for this method wait for somebody who serves it.
    fn patience(&self, method: &Method) -> BootInstant {
        self.gone.get(method).copied().unwrap_or(self.began).max(self.began) + PATIENCE
    }

    /// When the first of the runs is to stop, or over whatever its program does.
    fn next_end(&self) -> Option<BootInstant> {
        self.handed.values().map(|handed| handed.until).min()
    }
}

impl Handed {
    /// Word to its program that it is to end. The first cause is the one that counts.
    fn stop(&mut self, run: RunId, why: Stop) -> Effect {
        let cause = *self.stopped.get_or_insert(why);
        Effect::Reply(self.to, further([("run", json!(run.number())), ("stop", json!(cause.word()))]))
    }

    /// The end of one that was told to stop and whose program says no more.
    fn outcome(&self, cause: Stop) -> Outcome {
        match cause {
            Stop::Cancelled => Outcome::failed(Status::CANCELLED, "stopped; its program did not say how it ended"),
            Stop::TimedOut => {
                let why =
                    format!("its program had not ended it after its time limit of {} s", self.time_limit.as_secs());
                Outcome::failed(Status::TIMED_OUT, why)
            }
        }
    }

    /// What its program says of its end, within its limits. After the time limit it comes too late, whatever it is.
    fn said(&self, outcome: Outcome) -> Outcome {
        // 202 is ours to say, and what is below 200 is no end.
        let is_an_end = (200..600).contains(&outcome.status.0) && outcome.status != Status::ACCEPTED;
        if !is_an_end {
            let why = format!("its program ended it with {}, which is no outcome", outcome.status);
            return Outcome::failed(Status::FAILED, why);
        }
        let outcome = outcome.within(self.output_limit);
        match self.stopped {
            Some(Stop::TimedOut) if matches!(outcome.status, Status::TIMED_OUT | Status::CANCELLED) => {
                Outcome { status: Status::TIMED_OUT, ..outcome }
            }
            Some(Stop::TimedOut) => {
                let limit = self.time_limit.as_secs();
                let why = format!("its program ended it with {}, after its time limit of {limit} s", outcome.status);
                Outcome::failed(Status::TIMED_OUT, why)
            }
            Some(Stop::Cancelled) | None => outcome,
        }
    }
}

impl Stop {
    fn word(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timedOut",
        }
    }
}

impl Agent {
    /// The caller serves these methods from now on: all of them, or none.
    pub(super) fn serve(
        &mut self,
        methods: Vec<MethodSpec>,
        caller: CallerId,
        out: &mut Vec<Effect>,
    ) -> Result<Value, Refusal> {
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
            if !names.insert(name.clone()) {
                return Err(Refusal::MethodTaken { method: name.clone() });
            }
            if let Some(refusal) = self.refusal_to_serve(name) {
                return Err(refusal);
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
        let known = &self.durable.rest.served;
        if !names.is_subset(known) {
            let all: BTreeSet<Method> = known.union(&names).cloned().collect();
            // Beyond measure, those count that are there now.
            let methods = if all.len() <= METHODS { all } else { self.serving.served.keys().cloned().collect() };
            self.record(Record::Served { methods }, out);
        }
        Ok(json!({ "serving": names }))
    }

    /// Why no local program may serve a method of this name now.
    pub(super) fn refusal_to_serve(&self, name: &Method) -> Option<Refusal> {
        if self.methods.contains_key(name) || is_reserved(name) {
            return Some(Refusal::MethodTaken { method: name.clone() });
        }
        let is_configured = self.disabled.contains(name) || self.aliases.contains_key(name);
        is_configured
            .then(|| Refusal::CannotNow { why: format!("the configuration of the agent says what `{name}` is") })
    }

    /// For how long somebody may still come back who serves this method and was there before.
    pub(super) fn program_is_back_within(&self, method: &Method, now: &Now) -> Option<Duration> {
        let before = self.durable.rest.served.contains(method);
        let wait = self.serving.is_back_within(method, before, now.boot)?;
        self.refusal_to_serve(method).is_none().then_some(wait)
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
        self.run_ended(run, handed.said(outcome), now, out);
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
        self.serving.ousted.remove(&caller);
        let gone = self.serving.served_by(|by| by == caller);
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
        let cut: Vec<(RunId, Handed)> = had.map(|(run, handed)| (*run, handed.clone())).collect();
        for (run, handed) in cut {
            self.serving.handed.remove(&run);
            let why = "the program that ran this is gone; it may have taken effect and was not run again";
            let outcome = match handed.stopped {
                Some(Stop::TimedOut) => handed.outcome(Stop::TimedOut),
                Some(Stop::Cancelled) | None => Outcome::failed(Status::CANNOT_NOW, why),
            };
            self.run_ended(run, outcome, now, out);
        }
    }

    /// Stops what programs have had for long enough, and ends it if they go on all the same.
    pub(super) fn step_serving(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let mut over = Vec::new();
        for (run, handed) in &mut self.serving.handed {
            if now.boot < handed.until {
                continue;
            }
            if let Some(cause) = handed.stopped {
                over.push((*run, handed.outcome(cause)));
            } else {
                out.push(handed.stop(*run, Stop::TimedOut));
                handed.until = now.boot + GRACE;
                // It was told, so it need not be told again.
                self.runs.cancels(*run);
            }
        }
        for (run, outcome) in over {
            self.serving.handed.remove(&run);
            self.run_ended(run, outcome, now, out);
        }
        for (caller, refusal) in self.serving.take_ousted() {
            out.push(Effect::Reply(caller, Reply::Refused(refusal)));
        }
    }

    /// Until when a waiting command waits for somebody who serves its method; `None`: nobody may.
    pub(super) fn waits_for_program(&self, entry: &Entry) -> Option<BootInstant> {
        self.refusal_to_serve(&entry.method).is_none().then(|| self.serving.patience(&entry.method))
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
