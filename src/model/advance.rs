//! What follows from the state of things, whatever has just happened: a reboot that is due, a command that may start, an
//! answer to be sent, a sentence to be said. When a connection is made or closed, `standing` says.

use super::agent::{Agent, Effect};
use super::clock::{Expiry, NOT_SET};
use super::command::{CommandId, Outcome, Status};
use super::device_key::{DeviceKey, Found};
use super::ledger::{Entry, Number, Run as Stage};
use super::now::{Clock, Now};
use super::reboot::Mode;
use super::reboot::facts::Way;
use super::reboot::pending::Step as RebootStep;
use super::reboot::plan::Plan;
use super::record::Record;
use super::runs::Run;
use super::status::Known;
use super::wire::Reason;

/// What a device without a key is told to do.
const NO_KEY: &str = "there is no key yet; `sudo twinagent keygen` makes one";

/// The stage of a device that does not log in before it knows what time it is.
const WAITS_FOR_CLOCK: &str = "waiting for the clock";

impl Agent {
    pub(super) fn pending_step(&mut self, now: &Now) -> Option<RebootStep> {
        let (number, mut pending) = self.pending?;
        let entry = self.durable.ledger.get(number)?;
        let (step, outlook) = pending.next(entry, &self.situation(now));
        self.pending = Some((number, pending));
        if let Some(outlook) = outlook
            && self.outlook.as_ref().is_none_or(|known| outlook.differs_from(known))
        {
            self.outlook = Some(outlook);
            self.outbox.changed();
        }
        Some(step)
    }

    /// Whether what waits may be done. Without a journal nothing could be proved afterwards.
    pub(super) fn may_act(&self) -> bool {
        self.journal.is_sound() && self.stopping.is_none() && !self.is_going_down()
    }

    pub(super) fn step_reboot(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let step = self.pending_step(now);
        let Some((number, _)) = self.pending else { return };
        let Some(entry) = self.durable.ledger.get(number) else {
            self.no_reboot_waits();
            return;
        };
        let key = entry.key.clone();
        // Root's side of the helper judges a request by itself, so it may be asked where nothing else is known.
        let way = self.probe.way().and_then(|way| way.clone().ok()).unwrap_or(Way::Helper);
        let plan = Plan::new(entry, way, now);
        match step {
            Some(RebootStep::End(outcome)) => {
                let outcome = explained(outcome, self.no_reboot.take());
                self.finish(number, outcome, now, out);
                self.no_reboot_waits();
            }
            Some(RebootStep::Probe) if self.may_act() => self.ask_the_machine(now, out),
            Some(RebootStep::Act { forced }) if self.may_act() => {
                if forced {
                    self.stop_what_runs(now, out);
                }
                let (up, doubtful) = (Some(now.boot), now.clock == Clock::Doubtful);
                let until = match self.policy.mode {
                    Mode::Simulated(time) => Some(now.wall.saturating_add(time)),
                    Mode::Machine => None,
                };
                self.record(Record::Started { key, boot: now.boot_id, at: now.wall, until, up, doubtful }, out);
                self.outlook = None;
                if until.is_some() {
                    // The machine is to be taken for down, and its health begins anew.
                    self.well_since = None;
                }
                self.no_reboot = None;
                out.extend(until.is_none().then(|| Effect::Reboot(plan)));
                self.outbox.changed();
            }
            Some(RebootStep::Act { .. } | RebootStep::Probe | RebootStep::Wait(_)) | None => {}
        }
    }

    /// Takes note of what is said of a reboot that was asked for. That changes words and nothing else: an error proves no
    /// more than a success does.
    pub(super) fn reboot_answered(&mut self, id: &CommandId, answer: Result<(), String>) {
        let pending = self.pending.and_then(|(number, _)| self.durable.ledger.get(number));
        let is_asked = |entry: &Entry| entry.key.id == *id && matches!(entry.run, Stage::Started { until: None, .. });
        if pending.is_some_and(is_asked) {
            self.no_reboot = answer.err();
        }
    }

    /// Whether waiting commands may start now. None does while a reboot is about to be done.
    pub(super) fn may_start(&self) -> bool {
        self.may_act() && !self.pending.is_some_and(|(_, pending)| pending.is_exclusive())
    }

    pub(super) fn start_waiting(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if !self.may_start() {
            return;
        }
        let reboot = self.pending.map(|(number, _)| number);
        let waiting = self.durable.ledger.untold().filter(|(_, entry)| entry.is_waiting()).map(|(number, _)| number);
        let waiting: Vec<Number> = waiting.filter(|number| Some(*number) != reboot).collect();
        for number in waiting {
            let Some(entry) = self.durable.ledger.get(number) else { continue };
            let key = entry.key.clone();
            let expiry = Expiry::of(entry.expires, now);
            let ended = match expiry {
                Expiry::InTime => None,
                Expiry::Over => Some(Outcome::failed(Status::EXPIRED, "expired while it waited to be run")),
                Expiry::Unknown if now.boot < self.clock_given_up(entry, now) => None,
                Expiry::Unknown => Some(Outcome::failed(Status::CANNOT_NOW, NOT_SET)),
            };
            if let Some(outcome) = ended {
                self.finish(number, outcome, now, out);
                continue;
            }
            let Some(spec) = self.methods.get(&entry.method).cloned() else {
                if self.waits_for_program(entry).is_some_and(|until| now.boot < until) {
                    continue;
                }
                let outcome = Outcome::failed(
                    Status::UNKNOWN_METHOD,
                    "this method is not to be had any more; the command did not run",
                );
                self.finish(number, outcome, now, out);
                continue;
            };
            // One that waits for the clock does so only while its method is to be had.
            if expiry == Expiry::InTime && self.runs.has_room_for(&spec) {
                let command = entry.command();
                let run = Run::recorded(number, entry.method.clone(), Some(spec.class));
                let (boot, at, doubtful) = (now.boot_id, now.wall, now.clock == Clock::Doubtful);
                let up = doubtful.then_some(now.boot);
                self.record(Record::Started { key, boot, at, until: None, up, doubtful }, out);
                self.begin_run(run, &spec, command, now, out);
            }
        }
    }

    /// A simulated reboot is on: the machine is to be taken for down.
    pub(super) fn is_away(&self) -> bool {
        let Some((number, _)) = self.pending else { return false };
        self.durable.ledger.get(number).is_some_and(|entry| matches!(entry.run, Stage::Started { until: Some(_), .. }))
    }

    pub(super) fn send_what_is_due(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if !self.connection.is_online() {
            return;
        }
        let ledger = &self.durable.ledger;
        let known = Known { policy: &self.policy, outlook: self.outlook.as_ref(), runs: &self.runs };
        // Also while a planned end waits for what is on its way: who waits on this connection can be told on no other.
        let newest = |number, entry: &Entry| known.newest(number, entry);
        let answers = self.outbox.direct_answers(ledger, newest, now.boot);
        out.extend(answers.into_iter().map(|(id, message)| Effect::Send(id, message)));
        if !self.connection.may_send() {
            return;
        }
        let answers = self.outbox.answers(ledger, newest);
        out.extend(answers.into_iter().map(|(id, message)| Effect::Send(id, message)));
        let connection = &mut self.connection;
        self.outbox.give_up(now.boot, &mut |most| connection.chance(most));
        out.extend(self.outbox.fetch(now.boot).map(|(id, message)| Effect::Send(id, message)));
        if self.outbox.may_report(now.boot) {
            let report = self.fitting_report(now);
            let shows_reboot = self.pending.map(|(number, _)| number);
            let (sent, settled) = self.outbox.report(report, shows_reboot, now);
            out.extend(sent.map(|(id, message)| Effect::Send(id, message)));
            self.note_settled(settled, now, out);
        }
        out.extend(self.outbox.take_telemetry().into_iter().map(|(id, message)| Effect::Send(id, message)));
    }

    pub(super) fn say(&mut self, out: &mut Vec<Effect>) {
        let sentence = self.compose();
        if sentence != self.sentence {
            self.sentence.clone_from(&sentence);
            out.push(Effect::Status(sentence));
        }
    }

    /// What is to be done before a connection can be tried at all.
    pub(super) fn not_configured(&self) -> Option<&str> {
        // What stands or was begun has the key that it needs.
        let has_no_key = |key: &&DeviceKey| key.is_absent() && key.others.is_empty() && self.connection.is_at_rest();
        self.unconfigured.as_deref().or_else(|| self.device_key.as_ref().filter(has_no_key).map(missing))
    }

    /// What is the matter: what is serious first, a hint last, for whoever shows it may have to cut it.
    fn compose(&self) -> String {
        let connection = match (self.not_configured(), self.connection.why()) {
            (None, Some(reason)) if self.stage() == "not connected" && *reason != Reason::Planned => {
                format!("not connected: {reason} (hint: {})", reason.hint())
            }
            (Some(why), _) => format!("not configured: {why}"),
            (None, _) if self.stage() == WAITS_FOR_CLOCK => {
                format!("{WAITS_FOR_CLOCK} to be set, for `session.clock_wait` at most (hint: `timedatectl`)")
            }
            (None, _) => self.stage().to_owned(),
        };
        let journal = self.journal.trouble().map(|why| format!("commands are refused: {why}"));
        let reboot = self.no_reboot.as_ref().map(|why| format!("no reboot so far: {why}"));
        let parts: Vec<String> = [journal, reboot, Some(connection)].into_iter().flatten().collect();
        parts.join("; ")
    }

    /// What is to be said of the agent, for people.
    pub(super) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The stage of the connection, in a word or two.
    pub(super) fn stage(&self) -> &'static str {
        if self.not_configured().is_some() {
            "not configured"
        } else if self.is_away() {
            "a simulated reboot is on"
        } else if self.is_going_down() {
            "the machine is shutting down"
        } else if self.waits_for_clock() {
            WAITS_FOR_CLOCK
        } else if !self.connection.is_online() && self.connection.why().is_some_and(|reason| *reason != Reason::Planned)
        {
            "not connected"
        } else {
            self.connection.stage()
        }
    }
}

/// What is to be done by who has no key.
fn missing(key: &DeviceKey) -> &str {
    match &key.found {
        Found::Awaited(why) => why,
        _ => NO_KEY,
    }
}

/// A reboot that did not come, with what was said of it meanwhile.
fn explained(outcome: Outcome, why: Option<String>) -> Outcome {
    match (why, outcome.payload["error"].as_str()) {
        (Some(why), Some(error)) if outcome.status == Status::FAILED => {
            Outcome::failed(Status::FAILED, format!("{error}: {why}"))
        }
        _ => outcome,
    }
}
