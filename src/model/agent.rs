//! The agent: every input goes in here, every effect comes out. Routes to the parts beside it and keeps them in step.
//!
//! Inputs come in batches. The loop appends the records among the effects to the journal, syncs once, and only then
//! performs the other effects, in order. [`Agent::stored`] or [`Agent::handle`] with [`Input::JournalFailed`] closes a
//! batch; the next one may only be handled after that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::applying::Wishes;
use super::asked::Callers;
use super::clock::{ClockWatch, Expiry, over_at};
use super::cloud::{CloudLimits, DocumentRules, Reporting, Road};
use super::command::{Method, MethodSpec, Outcome};
use super::connection::Connection;
use super::desired::Followed;
use super::device_key::DeviceKey;
use super::durable::Durable;
use super::goodbye::Goodbye;
use super::ledger::{Entry, Number, Run};
use super::now::{BootInstant, Clock, Doubt, Now, Timestamp};
use super::outage::Journal;
use super::outbox::{Outbox, Settled};
use super::own::own_methods;
use super::problems::{Code, Problems};
use super::queue::Queue;
use super::reboot::hold::Outlook;
use super::reboot::pending::{Pending, Step as RebootStep, is_done_by_this_boot};
use super::reboot::probe::Probe;
use super::reboot::{Policy, is_reboot};
use super::record::{Record, Told};
use super::runs::{Run as Running, Runs};
use super::serving::Serving;
use super::standing::{Renewals, Session};
use super::twin::About;
use super::wire::{MessageId, Reason};

pub use super::turn::{Attempt, Effect, Input, Settings};

/// Handlers that still run when the daemon is told to stop get this long.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What an outbox is made with when there is no cloud to send to.
const NO_CLOUD: CloudLimits = CloudLimits {
    reported_interval: Duration::ZERO,
    answers: Road::Reported,
    reporting: Reporting::Whole,
    document: DocumentRules::of_size(usize::MAX),
};

/// The model of everything.
#[derive(Clone, Debug)]
pub struct Agent {
    // The durable half.
    pub(super) durable: Durable,

    // The volatile half: gone with the process.
    pub(super) methods: BTreeMap<Method, MethodSpec>,
    pub(super) disabled: Vec<Method>,
    pub(super) aliases: BTreeMap<Method, Method>,
    pub(super) policy: Policy,
    /// The state folder forgets at a reboot, and where it lies.
    pub(super) volatile: Option<String>,
    pub(super) about: About,
    pub(super) unconfigured: Option<String>,
    /// Nothing, as long as nobody has looked for it.
    pub(super) device_key: Option<DeviceKey>,
    pub(super) connection: Connection,
    pub(super) clock: ClockWatch,
    pub(super) session: Option<Session>,
    pub(super) renewals: Renewals,
    /// The last end of a session that stood and was to go on. The tries that fail until the next one stands are no
    /// ends: they would hide what an outage began with, and are told as [`Connection::why`].
    pub(super) last_disconnect: Option<(Reason, Timestamp)>,
    pub(super) problems: Problems,
    pub(super) callers: Callers,
    pub(super) followed: Followed,
    pub(super) wishes: Wishes,
    /// What the reported document does not hold, and why.
    pub(super) left_out: Option<String>,
    pub(super) outbox: Outbox,
    pub(super) runs: Runs,
    pub(super) queue: Queue,
    pub(super) serving: Serving,
    pub(super) pending: Option<(Number, Pending)>,
    /// Why the machine does not do the reboot that it was asked for, as far as somebody has said so.
    pub(super) no_reboot: Option<String>,
    /// What can be said of it while it waits.
    pub(super) outlook: Option<Outlook>,
    pub(super) probe: Probe,
    /// Since when there is a session, renewals left aside.
    pub(super) well_since: Option<BootInstant>,
    pub(super) journal: Journal,
    /// The machine shuts down.
    pub(super) goodbye: Option<Goodbye>,
    /// When what still runs is left behind.
    pub(super) stopping: Option<BootInstant>,
    /// Nothing is waited for any more but the end of the connection.
    pub(super) leaving: bool,
    pub(super) minted: u64,
    /// All records so far are in the journal.
    is_stored: bool,
    pub(super) sentence: String,
}

impl Agent {
    /// The agent after a start, from the durable half that the journal holds. `seed` is its only randomness.
    ///
    /// `trouble`: why the journal cannot be written; then nothing that needs it is taken on until
    /// [`Input::JournalHealed`].
    pub fn new(settings: Settings, durable: Durable, trouble: Option<String>, seed: u64, now: &Now) -> Self {
        let Settings {
            cloud,
            terms,
            clock_wait,
            reboot,
            volatile,
            methods,
            disabled,
            enabled,
            aliases,
            heartbeat,
            about,
        } = settings;
        let (limits, unconfigured) = limits_of(cloud);
        let mut agent = Self {
            clock: ClockWatch::new(clock_wait, durable.ledger.ran(), now),
            durable,
            methods: BTreeMap::new(),
            wishes: Wishes::default(),
            disabled,
            aliases,
            policy: reboot,
            volatile,
            about,
            unconfigured,
            device_key: None,
            connection: Connection::new(terms, seed),
            session: None,
            renewals: Renewals::default(),
            last_disconnect: None,
            problems: Problems::default(),
            callers: Callers::default(),
            followed: Followed::default(),
            left_out: None,
            outbox: Outbox::new(limits, heartbeat, now.boot),
            runs: Runs::numbered_from(seed),
            queue: Queue::default(),
            serving: Serving::new(now.boot),
            pending: None,
            no_reboot: None,
            outlook: None,
            probe: Probe::default(),
            well_since: None,
            journal: Journal::new(trouble),
            goodbye: None,
            stopping: None,
            leaving: false,
            minted: 0,
            is_stored: true,
            sentence: String::new(),
        };
        agent.set_methods(methods, &enabled, now);
        agent
    }

    /// What a start from the journal would know.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Decides what a batch of inputs leads to.
    pub fn handle(&mut self, now: &Now, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let mut out = Vec::new();
        let mut inputs: Vec<Input> = inputs.into_iter().collect();
        // Before anything is noted: as long as the journal counts as broken, what is noted is taken for a part of the file
        // that was just written anew, and is not.
        if let Some(healed) = inputs.iter().position(|input| *input == Input::JournalHealed) {
            inputs.remove(healed);
            self.journal_healed(&mut out);
        }
        if self.is_stored {
            self.answer_callers(now, &mut out);
        }
        self.note_clock(now);
        self.set_boot_time(now, &mut out);
        for input in inputs {
            self.take(input, now, &mut out);
        }
        self.note_health(now, &mut out);
        self.note_time(now, &mut out);
        self.step_serving(now, &mut out);
        self.step_reboot(now, &mut out);
        self.look_around(now, &mut out);
        self.apply_desired(now, &mut out);
        self.start_waiting(now, &mut out);
        self.advance_queue(now, &mut out);
        self.note_refusal(now);
        // Sent before a planned end begins, which waits for it to be acknowledged.
        self.send_what_is_due(now, &mut out);
        self.say_goodbye(now);
        self.step_connection(now, &mut out);
        self.let_go(now, &mut out);
        self.note_journal(now);
        self.note_reboots(now);
        self.say(&mut out);
        self.tell_followers(now, &mut out);
        self.is_stored = !out.iter().any(|effect| matches!(effect, Effect::Record(_)));
        out
    }

    /// All records of the last batch are in the journal.
    pub fn stored(&mut self) {
        self.is_stored = true;
        self.durable.settle();
    }

    /// When the next [`Input::Tick`] is due, if nothing happens before. In the past if that moment came while the last
    /// batch was written.
    pub fn deadline(&mut self, now: &Now) -> Option<BootInstant> {
        let may_act = self.may_act();
        let reboot = self.pending_step(now).and_then(|step| match step {
            RebootStep::Wait(until) => Some(until),
            RebootStep::Act { .. } | RebootStep::Probe => may_act.then_some(now.boot),
            RebootStep::End(_) => Some(now.boot),
        });
        let report = self.outbox.deadline().filter(|_| self.connection.may_send());
        let senders = self.outbox.senders_due().filter(|_| self.connection.is_online());
        let local = if self.owes_an_answer() { Some(now.boot) } else { self.followers_due(now) };
        let stop = self.stopping.filter(|_| !self.leaving);
        let goodbye = self.goodbye.map(|goodbye| goodbye.deadline());
        let upkeep = self.upkeep_due(now);
        [
            self.connection.deadline(),
            reboot,
            report,
            senders,
            local,
            stop,
            goodbye,
            upkeep,
            self.serving_due(),
            self.applying_due(),
            self.clock_due(),
            self.next_expiry(now),
            self.queue_due(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the first of the waiting commands expires: its sender need not wait for what runs before it.
    fn next_expiry(&self, now: &Now) -> Option<BootInstant> {
        let waiting = self.durable.ledger.untold().filter(|(_, entry)| entry.is_waiting() && !is_reboot(&entry.method));
        let due = |entry: &Entry| match Expiry::of(entry.expires, now) {
            Expiry::Unknown => Some(self.clock_given_up(entry, now)),
            Expiry::InTime | Expiry::Over => Some(over_at(entry.expires?, now)),
        };
        waiting.filter_map(|(_, entry)| due(entry)).min().filter(|_| self.may_start())
    }

    // === One input

    fn take(&mut self, input: Input, now: &Now, out: &mut Vec<Effect>) {
        match input {
            Input::Begin { left_clean } => self.begin(left_clean, now, out),
            Input::Online { session_kept, tls } => self.online(session_kept, tls, now),
            Input::Offline(reason) => self.offline(reason, now, out),
            Input::Prepared(answer) => self.connection.prepared(&answer, now.boot),
            Input::NetworkChanged => self.connection.network_changed(now.boot),
            Input::ClockStepped { by } => {
                self.shift_times(by);
                self.clock_stepped(by, now);
            }
            Input::Cloud(inbound, delivery) => self.hear(inbound, delivery, now, out),
            Input::Settled(id) => self.settled(id, now, out),
            Input::Unsent(id, why) => {
                let connection = &mut self.connection;
                let settled = self.outbox.impossible(id, why, now, &mut |most| connection.chance(most));
                self.note_settled(settled, now, out);
            }
            Input::Finished(run, outcome) => self.run_ended(run, outcome, now, out),
            Input::Progress(run, text) => self.run_progresses(run, &text, now),
            Input::Probed(facts) => self.machine_answered(facts, now),
            Input::JournalFailed { why, held } => self.journal_failed(&why, held, now, out),
            Input::Stop => {
                self.stopping.get_or_insert(now.boot + STOP_WITHIN);
            }
            Input::ShuttingDown(begins) => self.shutting_down(begins, now),
            Input::Asked(question, caller) => self.asked(question, caller, now, out),
            Input::Gone(caller) => {
                self.caller_gone(caller);
                self.queue.forget_caller(caller);
                self.program_gone(caller, now, out);
            }
            Input::Problem { code, text } => self.note(code, text.as_deref(), now),
            Input::Key(key) => self.keys_found(key),
            Input::Reloaded { settings, anew } => self.reloaded(*settings, anew, now),
            Input::Hurry => self.hurry(now),
            Input::RebootAnswered { id, answer } => self.reboot_answered(&id, answer),
            // It was taken before all others.
            Input::JournalHealed | Input::Tick => {}
        }
    }

    fn reloaded(&mut self, settings: Settings, anew: bool, now: &Now) {
        let Settings {
            cloud,
            terms,
            clock_wait,
            reboot,
            volatile,
            methods,
            disabled,
            enabled,
            aliases,
            heartbeat,
            about,
        } = settings;
        let (limits, unconfigured) = limits_of(cloud);
        self.clock.wait = clock_wait;
        self.volatile = volatile;
        (self.disabled, self.aliases) = (disabled, aliases);
        self.set_methods(methods, &enabled, now);
        self.apply_without_waiting();
        self.policy = reboot;
        self.about = about;
        self.unconfigured = unconfigured;
        self.outbox.set_limits(limits, heartbeat);
        self.connection.set_terms(terms, anew, now.boot);
        let waits_forbidden = |entry: &Entry| entry.is_waiting() && !self.methods.contains_key(&entry.method);
        if self.pending.and_then(|(number, _)| self.durable.ledger.get(number)).is_some_and(waits_forbidden) {
            // It ends like any waiting command whose method is gone, as it would after a restart.
            self.no_reboot_waits();
        }
    }

    /// Whatever waits for its next try may go better now.
    pub(super) fn hurry(&mut self, now: &Now) {
        self.connection.hurry(now.boot);
        self.apply_without_waiting();
    }

    /// Takes note of a problem, or that it is gone.
    pub(super) fn note(&mut self, code: Code, text: Option<&str>, now: &Now) {
        if self.problems.note(code, text, now.wall) {
            self.outbox.changed();
        }
    }

    fn note_journal(&mut self, now: &Now) {
        let trouble = self.journal.trouble().map(str::to_owned);
        self.note(Code::Journal, trouble.as_deref(), now);
    }

    fn begin(&mut self, left_clean: Option<bool>, now: &Now, out: &mut Vec<Effect>) {
        if self.durable.rest.boots.current.is_none_or(|boot| boot.id != now.boot_id) {
            let (id, time, at) = (now.boot_id, now.kernel_start(), now.wall);
            let doubtful = now.clock == Clock::Doubtful;
            self.record(Record::Boot { id, time, at, doubtful, clean: left_clean }, out);
        }
        self.record(Record::Began { boot: now.boot_id, at: now.wall }, out);
        let unfinished: Vec<(Number, Entry)> = self
            .durable
            .ledger
            .untold()
            .filter(|(_, entry)| entry.outcome().is_none())
            .map(|(number, entry)| (number, entry.clone()))
            .collect();
        for (number, entry) in unfinished {
            // One that has neither begun nor been proved ends like any waiting command whose method is gone.
            let is_forbidden =
                entry.is_waiting() && !is_done_by_this_boot(&entry, now) && !self.methods.contains_key(&entry.method);
            if is_reboot(&entry.method) && !is_forbidden {
                self.pending = Some((number, Pending::new(&entry, now)));
            } else if matches!(entry.run, Run::Started { .. }) {
                let spec = self.methods.get(&entry.method);
                let run = Running::recorded(number, entry.method.clone(), spec.map(|spec| spec.class));
                let run = match spec {
                    Some(spec) => self.runs.begin_of(run, spec, &entry.payload),
                    None => self.runs.begin(run),
                };
                out.push(Effect::Resume(run, entry.command()));
            }
        }
        self.resume_applications(out);
    }

    fn settled(&mut self, id: MessageId, now: &Now, out: &mut Vec<Effect>) {
        let settled = self.outbox.settled(id, now);
        self.note_settled(settled, now, out);
    }

    /// The cloud has answered a message by itself.
    pub(super) fn answered(&mut self, id: MessageId, status: u16, now: &Now, out: &mut Vec<Effect>) {
        let connection = &mut self.connection;
        let settled = self.outbox.answered(id, status, now, &mut |most| connection.chance(most));
        self.note_settled(settled, now, out);
    }

    pub(super) fn note_settled(&mut self, settled: Settled, now: &Now, out: &mut Vec<Effect>) {
        for (number, what) in settled.told {
            if let Some(entry) = self.durable.ledger.get(number)
                && entry.told < what
            {
                let ran = Some(self.clock.ran(now));
                self.record(Record::Told { key: entry.key.clone(), what, ran }, out);
            }
        }
        if let Some((number, pending)) = &mut self.pending {
            let is_answered = |entry: &Entry| entry.local || entry.told >= Told::Accepted;
            let answered = self.durable.ledger.get(*number).is_some_and(is_answered);
            pending.settled(answered, settled.shows_reboot == Some(*number), now);
        }
    }

    // === Methods

    /// All methods that are to be had: those of handlers, the model's own, and those that local programs serve as far as
    /// nobody else has their names.
    fn set_methods(&mut self, handlers: Vec<MethodSpec>, enabled: &[Method], now: &Now) {
        let all = handlers.into_iter().chain(own_methods(enabled));
        let had = all.filter(|spec| !self.disabled.contains(&spec.name));
        self.methods = had.map(|spec| (spec.name.clone(), spec)).collect();
        let refused = |name: &Method| Some((name.clone(), self.refusal_to_serve(name)?));
        let refused = self.serving.names().filter_map(refused).collect();
        let served = self.serving.keep(&refused, now.boot);
        self.methods.extend(served.into_iter().map(|spec| (spec.name.clone(), spec)));
        self.wishes_changed();
    }

    // === Shared by the parts

    /// Ends a recorded command.
    pub(super) fn finish(&mut self, number: Number, outcome: Outcome, now: &Now, out: &mut Vec<Effect>) {
        if let Some(entry) = self.durable.ledger.get(number) {
            let (key, doubt) = (entry.key.clone(), Doubt::of(now));
            self.record(Record::Finished { key, outcome, at: now.wall, doubt }, out);
        }
    }
}

/// What the model must know of the cloud, or what is missing to have one.
fn limits_of(cloud: Result<CloudLimits, String>) -> (CloudLimits, Option<String>) {
    match cloud {
        Ok(limits) => (limits, None),
        Err(why) => (NO_CLOUD, Some(why)),
    }
}
