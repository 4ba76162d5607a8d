//! One run, from its beginning to its end, whoever performs it: a handler of this program, or a local program.
//!
//! What it is for (a command in the ledger, a harmless one) decides where its end goes.

use serde_json::json;

use super::agent::{Agent, Effect};
use super::command::{Command, MethodSpec, Origin, Outcome, Status};
use super::now::Now;
use super::runs::{Run, RunId};

impl Agent {
    /// Begins a run. What it is for was recorded before.
    pub(super) fn begin_run(
        &mut self,
        run: Run,
        spec: &MethodSpec,
        command: Command,
        now: &Now,
        out: &mut Vec<Effect>,
    ) -> RunId {
        let run = self.runs.begin_of(run, spec, &command.payload);
        let handed = match spec.origin {
            Origin::Program => self.serving.hand(run, &command, now.boot),
            Origin::Agent | Origin::BuiltIn | Origin::File(_) => None,
        };
        out.push(match handed {
            Some((to, words)) => Effect::Hand(to, run, words),
            None => Effect::Start(run, command),
        });
        run
    }

    /// The batch with its beginning could not be written: it has not begun.
    pub(super) fn forget_run(&mut self, run: RunId) {
        self.runs.end(run);
        self.serving.forget(run);
    }

    /// A handler says how its run goes.
    pub(super) fn run_progresses(&mut self, run: RunId, text: &str, now: &Now) {
        if !self.runs.progresses(run, text) {
            return;
        }
        self.callers.progressed(run);
        if let Some(Run::Recorded { number, .. }) = self.runs.get(run).map(|active| &active.run)
            && let Some(entry) = self.durable.ledger.get(*number).filter(|entry| !entry.local)
        {
            self.outbox.progressed(*number, entry.told, now.boot);
        }
    }

    /// Tells a run to stop. Its end comes like any other, in a while.
    pub(super) fn cancel_run(&mut self, run: RunId, now: &Now, out: &mut Vec<Effect>) {
        if self.runs.cancels(run) {
            out.push(self.serving.cancel(run, now.boot).unwrap_or(Effect::Cancel(run)));
        }
    }

    /// A run has ended.
    pub(super) fn run_ended(&mut self, run: RunId, outcome: Outcome, now: &Now, out: &mut Vec<Effect>) {
        let Some(active) = self.runs.end(run) else { return };
        let outcome = outcome.noting(active.ignored);
        match active.run {
            Run::Recorded { number, .. } => self.finish(number, outcome, now, out),
            Run::Harmless { key, method, to, received } => {
                self.tell_at_best((key.id, Some(method), to), outcome, false, (received, now.wall), out);
            }
            Run::Desired { method, resumed, .. } => self.application_ended(&method, resumed, &outcome, now, out),
        }
    }

    /// Stops all that is not harmless, for a reboot that does not wait for it.
    pub(super) fn stop_what_runs(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let stopped = json!({ "error": "stopped by a forced reboot", "interrupted": true });
        for run in self.runs.all_that_count() {
            self.run_ended(run, Outcome::new(Status::CANCELLED, stopped.clone()), now, out);
            out.push(self.serving.abandon(run).unwrap_or(Effect::Cancel(run)));
        }
    }
}
