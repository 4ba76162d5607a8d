//! The state of things, as documents: the status for people on this machine, and the picture that the reported document
//! is made of.

use serde_json::{Value, json};

use super::agent::Agent;
use super::answers::Answers;
use super::cloud::Road;
use super::command::{Outcome, Status};
use super::device_key::DeviceKey;
use super::ledger::{Entry, Number};
use super::now::Now;
use super::problems::Code;
use super::reboot::hold::Outlook;
use super::reboot::{Policy, is_reboot};
use super::record::Told;
use super::runs::{Run, RunId, Runs};
use super::twin::{About, Picture, Report};

/// Runs that the status names; the rest is counted.
const RUNS: usize = 16;

/// All that the newest word about a command is made from, beside its entry.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub policy: &'a Policy,
    pub outlook: Option<&'a Outlook>,
    pub runs: &'a Runs,
}

impl Known<'_> {
    /// The newest thing there is to tell of a command.
    pub(super) fn newest(&self, number: Number, entry: &Entry) -> Outcome {
        match entry.outcome() {
            Some(outcome) => outcome.clone(),
            None if is_reboot(&entry.method) => {
                Outcome::new(Status::ACCEPTED, self.policy.scheduled(entry, self.outlook))
            }
            None => {
                let progress = self.runs.of_recorded(number).and_then(|run| self.runs.progress(run));
                under_way(progress)
            }
        }
    }
}

/// The 202 of a run, with how it goes if it has said so.
pub(super) fn under_way(progress: Option<&str>) -> Outcome {
    Outcome::new(Status::ACCEPTED, progress.map_or(Value::Null, |text| json!({ "progress": text })))
}

impl Agent {
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// The newest thing there is to tell of a command.
    pub(super) fn newest(&self, number: Number, entry: &Entry) -> Outcome {
        Known { policy: &self.policy, outlook: self.outlook.as_ref(), runs: &self.runs }.newest(number, entry)
    }

    /// The reported document as it would be sent now.
    pub(super) fn reported_document(&self) -> Value {
        self.picture().report().document
    }

    pub(super) fn picture(&self) -> Picture<'_> {
        let ledger = &self.durable.ledger;
        let answers = (self.outbox.road() != Road::Own).then(|| Answers {
            due: self
                .outbox
                .due(ledger)
                .into_iter()
                .map(|(number, entry, _)| (number, entry, self.newest(number, entry)))
                .collect(),
            under_way: ledger
                .untold()
                .filter(|(_, entry)| entry.told == Told::Accepted && entry.outcome().is_none())
                .map(|(number, entry)| (entry, self.newest(number, entry)))
                .collect(),
            places: self.outbox.places(),
            dropped: self.outbox.dropped(),
        });
        Picture {
            about: &self.about,
            durable: &self.durable,
            methods: self.methods.keys().collect(),
            reboot: self.reboot_document(),
            reboot_mode: self.reboot_mode(),
            clock_unchecked: self.is_clock_unchecked(),
            shutting_down: self.is_going_down(),
            problems: &self.problems,
            last_disconnect: self.last_disconnect.as_ref(),
            applied: self.acknowledgements(),
            answers,
            rules: self.outbox.rules(),
            bare: self.outbox.is_bare(),
        }
    }

    /// The reported document as it is sent now. What it does not hold is told in it.
    pub(super) fn fitting_report(&mut self, now: &Now) -> Report {
        let report = self.picture().report();
        if report.left_out == self.left_out {
            return report;
        }
        self.left_out.clone_from(&report.left_out);
        self.note_refusal(now);
        self.picture().report()
    }

    /// Takes note of what the cloud does not take of the reported document.
    pub(super) fn note_refusal(&mut self, now: &Now) {
        let parts: Vec<String> = [self.outbox.trouble(), self.left_out.clone()].into_iter().flatten().collect();
        self.note(Code::Reported, (!parts.is_empty()).then(|| parts.join("; ")).as_deref(), now);
    }

    /// The status. Holds no time that passes, so that it changes only when something has happened.
    pub(super) fn status(&self, now: &Now) -> Value {
        let About { version, started, device, cloud, .. } = &self.about;
        let ledger = &self.durable.ledger;
        let running = self.runs.len();
        let waiting = ledger.untold().filter(|(_, entry)| entry.is_waiting()).count() + self.queue.len();
        let mut status = json!({
            "version": version,
            "startTime": started,
            "restarts": self.durable.rest.boots.restarts(),
            "state": self.stage(),
            "sentence": self.sentence(),
            "device": device,
            "cloud": cloud.as_ref().map(|cloud| json!({ "kind": cloud.kind, "host": cloud.host })),
            "problems": self.problems.document(),
            "journal": self.journal.trouble().unwrap_or("ok"),
            "commands": {
                "running": running,
                "runs": self.runs_document(),
                "waiting": waiting,
                "untold": ledger.untold_len(),
                "dropped": self.outbox.dropped(),
            },
            "reboot": self.reboot_document(),
            "twin": { "reportedAt": self.outbox.reported_at() },
            "telemetry": {
                "waiting": self.outbox.telemetry().waiting(),
                "dropped": self.outbox.telemetry().dropped(),
            },
        });
        if let Some(proof) = self.device_key.as_ref().and_then(DeviceKey::proof_document) {
            status["proof"] = proof;
        }
        let others = self.device_key.as_ref().filter(|key| !(key.others.is_empty() && key.unusable.is_empty()));
        if let Some(key) = others {
            status["otherKeys"] = key.others_document();
        }
        if let Some(desired) = &self.durable.rest.desired {
            status["twin"]["desired"] = json!({ "digest": desired.digest, "status": desired.status });
        }
        if let Some(session) = self.session_document(now) {
            status["session"] = session;
        }
        if let Some((reason, time)) = &self.last_disconnect {
            status["lastDisconnect"] =
                json!({ "code": reason.code(), "reason": reason.to_string(), "time": time, "hint": reason.hint() });
        }
        status
    }

    /// What runs at this moment, and how it goes.
    fn runs_document(&self) -> Value {
        let document = |(run, of): (RunId, &Run)| {
            let id = match of {
                Run::Recorded { number, .. } => &self.durable.ledger.get(*number)?.key.id,
                Run::Harmless { key, .. } => &key.id,
                Run::Desired { id, .. } => id,
            };
            let mut document = json!({ "id": id, "method": of.method() });
            if let Some(progress) = self.runs.progress(run) {
                document["progress"] = json!(progress);
            }
            Some(document)
        };
        self.runs.iter().filter_map(document).take(RUNS).collect()
    }
}
