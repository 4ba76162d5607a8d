//! What local callers ask, and how they are answered: status, history, twin, and commands of this machine's own.
//!
//! A caller is owed an answer until it has it or is gone. What follows a question further (status, desired) is sent
//! when there is something new, at least a quarter of a second apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::agent::{Agent, Effect};
use super::ask::{CallerId, Question, Refusal, Reply};
use super::command::{CommandId, DeviceId, Identity, Key, Method, Outcome, Request, Status};
use super::desired::desired_document;
use super::fit::Unfit;
use super::intake::Source;
use super::ledger::{Entry, Number, Run};
use super::now::{BootInstant, Now};
use super::patch::merge;
use super::reboot::boots::Past;
use super::record::{Record, Told};
use super::runs::{Run as Progressing, RunId, To};
use super::status::under_way;
use super::telemetry::Message;
use super::twin::OWN_MEMBERS;

/// Least time between two answers to one who follows the status.
const FOLLOW: Duration = Duration::from_millis(250);

/// The members that local programs may keep in the reported document, by the measure of the cloud's rules; less where that
/// document may not be twice as large.
const MEMBERS: usize = 32 * 1_024;

/// Commands that a history shows at most.
const HISTORY: usize = 100;

/// Everybody on this machine who waits for something.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// Who waits for the outcome of which command; true: and is told how it goes.
    invokers: BTreeMap<Key, Vec<(CallerId, bool)>>,
    /// Runs that have said how they go since those were told.
    progressed: BTreeSet<RunId>,
    /// Who follows the status, and what each was told last.
    status: BTreeMap<CallerId, Value>,
    /// When those may be told again.
    not_before: BootInstant,
    pub(super) desired: Vec<CallerId>,
    /// The desired document, as it last arrived in this run of the daemon.
    pub(super) document: Option<(Bytes, Option<u64>)>,
}

impl Callers {
    /// This run has said how it goes; who follows it is told soon.
    pub(super) fn progressed(&mut self, run: RunId) {
        self.progressed.insert(run);
    }
}

impl Agent {
    pub(super) fn asked(&mut self, question: Question, caller: CallerId, now: &Now, out: &mut Vec<Effect>) {
        let answer = match question {
            Question::Status { follow } => {
                let status = self.status(now);
                if follow {
                    self.callers.status.insert(caller, status.clone());
                }
                Ok((status, !follow))
            }
            Question::Key => {
                Ok((self.device_key.as_ref().map_or_else(|| json!({}), super::device_key::DeviceKey::document), true))
            }
            Question::Methods => Ok((self.method_list(), true)),
            Question::Invoke { method, payload, id, follow } => {
                let request = Request {
                    identity: id.map_or(Identity::Unique, Identity::Given),
                    target: self.own_target(),
                    method,
                    payload,
                    reply_to: None,
                    expires: None,
                };
                self.hear_command(request, Source::Caller { id: caller, follow }, now, out);
                return;
            }
            Question::Cancel { id } => Ok((self.cancel(&id, now, out), true)),
            Question::History { id } => self.history(id.as_ref()).map(|history| (history, true)),
            Question::Twin => Ok((self.twin_document(), true)),
            Question::Report { patch } => self.report_members(patch, out).map(|()| (json!({ "merged": true }), true)),
            Question::Telemetry { subfolder, payload } => {
                self.outbox.push_telemetry(Message { subfolder, payload });
                Ok((json!({ "queued": true }), true))
            }
            Question::Desired { follow } => {
                if follow {
                    self.callers.desired.push(caller);
                }
                Ok((desired_document(self.callers.document.as_ref()), !follow))
            }
            Question::Guard { reset } => Ok((self.guard(reset, now, out), true)),
            Question::Serve { methods } => self.serve(methods, caller, out).map(|serving| (serving, false)),
            Question::Finish { run, outcome } => {
                self.program_finished(run, outcome, now, out).map(|taken| (taken, true))
            }
            Question::Progress { run, text } => self.program_progresses(run, &text, now).map(|taken| (taken, true)),
            Question::Reload => {
                self.reload(now, out);
                Ok((json!({ "reloading": true }), true))
            }
        };
        out.push(Effect::Reply(
            caller,
            match answer {
                Ok((Value::Object(answer), last)) => Reply::Is { answer, last },
                Ok((other, last)) => Reply::Is { answer: Map::from_iter([("answer".to_owned(), other)]), last },
                Err(refusal) => Reply::Refused(refusal),
            },
        ));
    }

    /// A caller is gone, and owed nothing any more.
    pub(super) fn caller_gone(&mut self, caller: CallerId) {
        self.callers.status.remove(&caller);
        self.callers.desired.retain(|follower| *follower != caller);
        self.callers.invokers.retain(|_, waiting| {
            waiting.retain(|(waiter, _)| *waiter != caller);
            !waiting.is_empty()
        });
    }

    // === Commands of this machine's own

    /// Makes this caller wait for the outcome of a command in the ledger.
    pub(super) fn await_outcome(&mut self, key: &Key, caller: CallerId, follow: bool, out: &mut Vec<Effect>) {
        self.callers.invokers.entry(key.clone()).or_default().push((caller, follow));
        if follow && let Some((number, entry)) = self.durable.ledger.find(key) {
            let newest = self.newest(number, entry);
            if newest.status == Status::ACCEPTED {
                let answer = outcome_document(&entry.key.id, Some(&entry.method), &newest, false);
                out.push(Effect::Reply(caller, Reply::Is { answer, last: false }));
            }
        }
    }

    /// Whether an outcome that is on disk waits to be told on this machine.
    pub(super) fn owes_an_answer(&self) -> bool {
        let is_ended = |key: &Key| self.durable.ledger.find(key).is_none_or(|(_, entry)| entry.outcome().is_some());
        self.callers.invokers.keys().any(is_ended)
            || self.durable.ledger.untold().any(|(_, entry)| entry.local && entry.outcome().is_some())
    }

    /// Tells callers the outcomes that were recorded in batches before this one, so that they are on disk.
    ///
    /// A local command counts as told when its caller has the answer or is gone; the cloud never hears of it.
    pub(super) fn answer_callers(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let ledger = &self.durable.ledger;
        self.callers.invokers.retain(|key, waiting| {
            let Some((_, entry)) = ledger.find(key) else {
                // It was taken back with a batch that could not be written; who asked has been told.
                return false;
            };
            let Some(outcome) = entry.outcome() else { return true };
            for (caller, _) in waiting {
                let answer = outcome_document(&key.id, Some(&entry.method), outcome, true);
                out.push(Effect::Reply(*caller, Reply::Is { answer, last: true }));
            }
            false
        });
        let ended: Vec<Key> = ledger
            .untold()
            .filter(|(_, entry)| entry.local && entry.outcome().is_some())
            .map(|(_, entry)| entry.key.clone())
            .collect();
        for key in ended {
            let ran = Some(self.clock.ran(now));
            self.record(Record::Told { key, what: Told::Outcome, ran }, out);
        }
    }

    /// The record of this local command could not be written, so it was not taken on.
    pub(super) fn fail_callers(&mut self, key: &Key, method: &Method, why: &str, out: &mut Vec<Effect>) {
        for (caller, _) in self.callers.invokers.remove(key).unwrap_or_default() {
            let outcome = Outcome::failed(Status::CANNOT_NOW, why);
            let answer = outcome_document(&key.id, Some(method), &outcome, true);
            out.push(Effect::Reply(caller, Reply::Is { answer, last: true }));
        }
    }

    fn cancel(&mut self, id: &CommandId, now: &Now, out: &mut Vec<Effect>) -> Value {
        let key = Key { target: self.own_target(), id: id.clone() };
        let outcome = self.cancel_command(&key, now, out);
        Value::Object(outcome_document(id, None, &outcome, true))
    }

    // === The twin

    fn report_members(&mut self, patch: Map<String, Value>, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let Some(member) = patch.keys().find(|member| OWN_MEMBERS.contains(&member.as_str())) {
            return Err(Refusal::OwnMember { member: member.clone() });
        }
        let mut merged = self.durable.rest.members.clone();
        merge(&mut merged, &patch);
        if merged == self.durable.rest.members {
            return Ok(());
        }
        let rules = self.outbox.rules();
        for name in patch.keys() {
            if let Some(value) = merged.get(name) {
                rules.judge(name, value).map_err(|Unfit { member, rule }| Refusal::Unfit { member, rule })?;
            }
        }
        let limit = MEMBERS.min(rules.bytes / 2);
        let size = rules.size_of(&merged);
        // What another cloud took may be too much for this one. It can be made smaller step by step.
        if size > limit && size > rules.size_of(&self.durable.rest.members) {
            return Err(Refusal::TooLarge { limit });
        }
        self.record(Record::Reported { patch }, out);
        Ok(())
    }

    fn twin_document(&self) -> Value {
        let desired = desired_document(self.callers.document.as_ref());
        let mut twin = json!({ "desired": desired["document"], "reported": self.reported_document() });
        if let Some(version) = desired.get("version") {
            twin["desiredVersion"] = version.clone();
        }
        twin
    }

    // === Status

    /// Tells those who follow a command how it goes.
    fn tell_progress(&mut self, now: &Now, out: &mut Vec<Effect>) {
        for run in std::mem::take(&mut self.callers.progressed) {
            let Some(active) = self.runs.get(run) else { continue };
            let words = |id, method| outcome_document(id, Some(method), &under_way(self.runs.progress(run)), false);
            let (told, answer) = match &active.run {
                Progressing::Recorded { number, .. } => {
                    let Some(entry) = self.durable.ledger.get(*number) else { continue };
                    let invokers = self.callers.invokers.get(&entry.key).into_iter().flatten();
                    let followers = invokers.filter(|(_, follows)| *follows).map(|(caller, _)| *caller).collect();
                    (followers, words(&entry.key.id, &entry.method))
                }
                Progressing::Harmless { key, method, to: To::Caller { id: caller, follow: true }, .. } => {
                    (vec![*caller], words(&key.id, method))
                }
                Progressing::Harmless { .. } | Progressing::Desired { .. } => continue,
            };
            let told: Vec<CallerId> = told;
            if !told.is_empty() {
                self.callers.not_before = now.boot + FOLLOW;
            }
            for caller in told {
                out.push(Effect::Reply(caller, Reply::Is { answer: answer.clone(), last: false }));
            }
        }
    }

    /// Tells those who follow a command or the status what is new.
    pub(super) fn tell_followers(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if now.boot < self.callers.not_before {
            return;
        }
        self.tell_progress(now, out);
        if self.callers.status.is_empty() {
            return;
        }
        let status = self.status(now);
        for (caller, known) in &mut self.callers.status {
            if *known != status
                && let Value::Object(answer) = &status
            {
                out.push(Effect::Reply(*caller, Reply::Is { answer: answer.clone(), last: false }));
                known.clone_from(&status);
                self.callers.not_before = now.boot + FOLLOW;
            }
        }
    }

    /// When followers of the status may be told again, if there may be something to tell.
    pub(super) fn followers_due(&self, now: &Now) -> Option<BootInstant> {
        let waits = !self.callers.status.is_empty() || !self.callers.progressed.is_empty();
        (waits && self.callers.not_before > now.boot).then_some(self.callers.not_before)
    }

    fn history(&self, id: Option<&CommandId>) -> Result<Value, Refusal> {
        let untold = self.durable.ledger.untold();
        let mut entries: Vec<(Number, &Entry)> = untold.chain(self.durable.ledger.told()).collect();
        entries.retain(|(_, entry)| id.is_none_or(|id| entry.key.id == *id));
        if entries.is_empty() && id.is_some() {
            return Err(Refusal::UnknownCommand);
        }
        entries.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        entries.truncate(HISTORY);
        let commands: Vec<Value> =
            entries.into_iter().map(|(number, entry)| self.past(number, entry, id.is_some())).collect();
        let boots = &self.durable.rest.boots;
        let mut reboots = json!({ "current": boots.current });
        for (name, value) in [
            ("previous", boots.previous.map(|id| json!(id))),
            ("rebootTime", boots.reboot_time.map(|time| json!(time))),
            ("story", self.reboot_document()),
            ("past", (!boots.past.is_empty()).then(|| boots.past.iter().map(Past::document).collect())),
        ] {
            if let Some(value) = value {
                reboots[name] = value;
            }
        }
        Ok(json!({ "commands": commands, "reboots": reboots }))
    }

    /// One command of the history; `whole`: with what it answered.
    fn past(&self, number: Number, entry: &Entry, whole: bool) -> Value {
        let newest = self.newest(number, entry);
        let mut past = json!({
            "id": entry.key.id,
            "target": entry.key.target,
            "method": entry.method,
            "status": newest.status,
            "accepted": entry.accepted,
            "told": entry.told == Told::Outcome,
            "local": entry.local,
        });
        match &entry.run {
            Run::Waiting => past["state"] = json!("waiting"),
            Run::Started { at, .. } => {
                past["state"] = json!("running");
                past["started"] = json!(at);
                if let Some(progress) = newest.payload.get("progress") {
                    past["progress"] = progress.clone();
                }
            }
            Run::Finished { at, .. } => {
                past["state"] = json!("finished");
                past["finished"] = json!(at);
            }
        }
        if whole && !newest.payload.is_null() {
            past["payload"] = newest.payload;
        }
        past
    }

    /// What a command of this machine's own is filed under.
    pub(super) fn own_target(&self) -> DeviceId {
        let local = || DeviceId::parse("local").expect("a word is fit for a device id");
        self.about().device.clone().unwrap_or_else(local)
    }
}

/// An outcome, or a 202, as a caller gets it.
pub(super) fn outcome_document(
    id: &CommandId,
    method: Option<&Method>,
    outcome: &Outcome,
    last: bool,
) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("id".to_owned(), json!(id));
    if let Some(method) = method {
        document.insert("method".to_owned(), json!(method));
    }
    document.insert("status".to_owned(), json!(outcome.status));
    if !outcome.payload.is_null() {
        document.insert("payload".to_owned(), outcome.payload.clone());
    }
    document.insert("final".to_owned(), json!(last));
    document
}
