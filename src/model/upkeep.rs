//! What is looked after beside commands, for the sake of reboots: who can do them, how long the session has stood, when
//! this boot began once the clock is set, and what is told of all that.

use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{Agent, Effect};
use super::now::{BootInstant, Now};
use super::problems::Code;
use super::reboot::Mode;
use super::reboot::facts::Facts;
use super::reboot::policy::Situation;
use super::record::Record;

/// While the clock is doubtful, it is looked at this often at least.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

impl Agent {
    /// All that a decision about a reboot is made from.
    pub(super) fn situation<'a>(&'a self, now: &'a Now) -> Situation<'a> {
        let stood = self.well_since.map(|since| now.boot.since(since)).unwrap_or_default();
        Situation {
            policy: &self.policy,
            boots: &self.durable.rest.boots,
            probe: &self.probe,
            volatile: self.volatile.is_some(),
            running: self.runs.recorded(),
            healthy_in: self.policy.healthy.saturating_sub(stood),
            now,
        }
    }

    /// No reboot waits or is under way any more.
    pub(super) fn no_reboot_waits(&mut self) {
        self.pending = None;
        self.outlook = None;
    }

    // === The machine

    /// The machine has said how things stand.
    pub(super) fn machine_answered(&mut self, facts: Facts, now: &Now) {
        let known = self.reboot_mode();
        self.probe.answered(facts, now);
        if self.reboot_mode() != known {
            self.outbox.changed();
        }
    }

    pub(super) fn ask_the_machine(&mut self, now: &Now, out: &mut Vec<Effect>) {
        self.probe.asked(now);
        out.push(Effect::Probe);
    }

    /// Asks who can reboot the machine before anybody needs it.
    pub(super) fn look_around(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if self.next_look(now).is_some_and(|due| due <= now.boot) {
            self.ask_the_machine(now, out);
        }
    }

    fn next_look(&self, now: &Now) -> Option<BootInstant> {
        let is_real = self.policy.mode == Mode::Machine;
        self.probe.next_look(now).filter(|_| is_real && self.stopping.is_none() && !self.is_going_down())
    }

    // === Health

    /// A session that stood for long enough shows that the machine is well: its reboots do not count any more.
    pub(super) fn note_health(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if self.healthy_at().is_some_and(|due| due <= now.boot) {
            self.record(Record::GuardCleared { by_hand: false, at: now.wall }, out);
        }
    }

    /// When the session will have stood for long enough, if that matters to anybody.
    fn healthy_at(&self) -> Option<BootInstant> {
        let counts = self.durable.rest.boots.counted().next().is_some();
        self.well_since.filter(|_| counts).map(|since| since + self.policy.healthy)
    }

    /// The breaker; its reboots do not count any more after a `reset`.
    pub(super) fn guard(&mut self, reset: bool, now: &Now, out: &mut Vec<Effect>) -> Value {
        if reset && self.durable.rest.boots.counted().next().is_some() {
            self.record(Record::GuardCleared { by_hand: true, at: now.wall }, out);
        }
        let mut guard = self.policy.guard(&self.durable.rest.boots);
        if let (true, Some(why)) = (reset, self.journal.trouble()) {
            guard["forgotten"] = json!(format!("a restart of the agent would forget the reset: {why}"));
        }
        guard
    }

    // === The clock

    /// Once the clock can be believed, notes when this boot really began.
    pub(super) fn set_boot_time(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let current = self.durable.rest.boots.current;
        let is_wrong = current.is_some_and(|boot| boot.doubtful && boot.id == now.boot_id);
        if is_wrong && now.clock.is_believed() {
            self.record(Record::BootTime { boot: now.boot_id, time: now.kernel_start(), at: now.wall }, out);
        }
    }

    /// When any of this is due by itself.
    pub(super) fn upkeep_due(&self, now: &Now) -> Option<BootInstant> {
        let is_wrong = self.durable.rest.boots.current.is_some_and(|boot| boot.doubtful);
        let clock = is_wrong.then_some(now.boot + CLOCK_LOOK);
        [self.next_look(now), self.healthy_at(), clock].into_iter().flatten().min()
    }

    // === What is told

    /// Takes note of what keeps this machine from being rebooted.
    pub(super) fn note_reboots(&mut self, now: &Now) {
        let tripped = self.policy.tripped(&self.durable.rest.boots);
        self.note(Code::Guard, tripped.as_deref(), now);
        let volatile = self.volatile.clone();
        self.note(Code::Volatile, volatile.as_deref(), now);
        let way = self.probe.way().filter(|_| self.policy.mode == Mode::Machine);
        let nobody = way.and_then(|way| way.as_ref().err()).cloned();
        self.note(Code::RebootNotPermitted, nobody.as_deref(), now);
    }

    /// The last reboot, or the one that waits and what it waits for.
    pub(super) fn reboot_document(&self) -> Option<Value> {
        let Some(mut document) = self.durable.rest.boots.document() else {
            // There may have been one, and it is forgotten.
            return self.volatile.as_ref().map(|_| json!({ "state": "unknown" }));
        };
        if let Some(outlook) = &self.outlook {
            outlook.write_into(&mut document);
        }
        Some(document)
    }

    /// How reboots are done here.
    pub(super) fn reboot_mode(&self) -> &'static str {
        match (&self.policy.mode, self.probe.way()) {
            (Mode::Simulated(_), _) => "simulate",
            (Mode::Machine, Some(Ok(way))) => way.name(),
            (Mode::Machine, Some(Err(_))) => "unavailable",
            (Mode::Machine, None) => "unknown",
        }
    }
}
