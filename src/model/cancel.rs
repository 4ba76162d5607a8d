//! Commands that are taken back while they wait, or told to stop while they run.
//!
//! What waited ends here, and never runs. What runs ends when it does: its outcome is its own to say.

use serde_json::json;

use super::agent::{Agent, Effect};
use super::command::{CommandId, Key, Outcome, Status};
use super::ledger::Number;
use super::now::Now;
use super::runs::RunId;

/// The end of a command that was taken back.
const TAKEN_BACK: &str = "cancelled before it started";

impl Agent {
    /// Stops a command, or takes it back while it waits. Of harmless ones with this id all are stopped.
    pub(super) fn cancel_command(&mut self, key: &Key, now: &Now, out: &mut Vec<Effect>) -> Outcome {
        let was_queued = self.take_out_of_queue(key, &Outcome::failed(Status::CANCELLED, TAKEN_BACK), now, out);
        let mut runs = self.runs.of_others(key, &self.own_target());
        match self.durable.ledger.find(key) {
            Some((number, _)) if self.pending.is_some_and(|(reboot, _)| reboot == number) => {
                return self.cancel_reboot(now, out);
            }
            Some((_, entry))
                if runs.is_empty() && !was_queued && (entry.outcome().is_some() || self.journal.keeps_end_of(key)) =>
            {
                return Outcome::failed(Status::CONFLICT, "too late: this command has ended");
            }
            Some((number, entry)) if entry.is_waiting() && !self.journal.keeps_end_of(key) => {
                self.stop_all(&runs, now, out);
                return self.take_back(number, &key.id, now, out);
            }
            Some((number, _)) => runs.extend(self.runs.of_recorded(number)),
            None => {}
        }
        if runs.is_empty() && was_queued {
            return Outcome::new(Status::DONE, json!({ "cancelled": key.id }));
        }
        if runs.is_empty() {
            return Outcome::failed(Status::CONFLICT, "no command with this id waits or runs");
        }
        self.stop_all(&runs, now, out);
        Outcome::new(Status::DONE, json!({ "cancelling": key.id }))
    }

    fn stop_all(&mut self, runs: &[RunId], now: &Now, out: &mut Vec<Effect>) {
        for run in runs {
            self.cancel_run(*run, now, out);
        }
    }

    /// Takes back a reboot that waits.
    pub(super) fn cancel_reboot(&mut self, now: &Now, out: &mut Vec<Effect>) -> Outcome {
        let waiting = self.pending.and_then(|(number, _)| Some((number, self.durable.ledger.get(number)?)));
        match waiting {
            Some((number, entry)) if entry.is_waiting() => {
                let id = entry.key.id.clone();
                let outcome = self.take_back(number, &id, now, out);
                self.no_reboot_waits();
                outcome
            }
            Some(_) => Outcome::failed(Status::CONFLICT, "too late: the reboot has started"),
            None => Outcome::failed(Status::CONFLICT, "no reboot waits"),
        }
    }

    fn take_back(&mut self, number: Number, id: &CommandId, now: &Now, out: &mut Vec<Effect>) -> Outcome {
        self.finish(number, Outcome::failed(Status::CANCELLED, TAKEN_BACK), now, out);
        match self.journal.trouble() {
            None => Outcome::new(Status::DONE, json!({ "cancelled": id })),
            Some(why) => unconfirmed(why),
        }
    }
}

/// The answer to a cancellation that a restart would forget: the command is taken back, but that must not be relied on.
pub(super) fn unconfirmed(why: &str) -> Outcome {
    Outcome::failed(Status::CANNOT_NOW, format!("taken back, but a restart of the agent would forget it: {why}"))
}
