//! The agent: every input goes in here, every effect comes out. Routes to the parts beside it and keeps them in step.
//!
//! Inputs come in batches. The loop appends the records among the effects to the journal, syncs once, and only then
//! performs the other effects, in order. [`Agent::stored`] or [`Agent::handle`] with [`Input::JournalFailed`] closes a
//! batch; the next one may only be handled after that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::{CallerId, Question, Reply};
use super::asked::Callers;
use super::cloud::{CloudLimits, Inbound, Outbound, Road};
use super::command::{Command, CommandId, Method, MethodSpec, Outcome, Status};
use super::connection::{Connection, Step as ConnectionStep, Terms};
use super::durable::Durable;
use super::intake::own_methods;
use super::ledger::{Entry, Number, Run};
use super::now::{BootInstant, Now, Timestamp};
use super::outage::Journal;
use super::outbox::Outbox;
use super::problems::{Code, Problems};
use super::reboot::pending::{Pending, Step as RebootStep};
use super::reboot::{Mode, Policy, is_reboot};
use super::record::{Record, Told};
use super::runs::{RunId, Runs};
use super::status::Session;
use super::twin::About;
use super::wire::{Delivery, MessageId, Reason};

/// Handlers that still run when the daemon is told to stop get this long.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The daemon has started; the first input of all.
    Begin,
    /// The session stands. Whether the broker had kept it makes no difference: what is due is sent in either case.
    Online {
        session_kept: bool,
    },
    Offline(Reason),
    Cloud(Inbound, Delivery),
    /// The cloud has acknowledged a message.
    Settled(MessageId),
    /// A handler has ended.
    Finished(RunId, Outcome),
    /// A batch could not be written; none of its effects was performed. `why` is for people.
    JournalFailed {
        why: String,
        held: Vec<Effect>,
    },
    /// The journal was rewritten from [`Agent::durable`] and can be written again.
    JournalHealed,
    /// The daemon was told to stop.
    Stop,
    /// A local caller asks something.
    Asked(Question, CallerId),
    /// A local caller is gone.
    Gone(CallerId),
    /// The edge has found something wrong, or right again.
    Problem {
        code: Code,
        text: Option<String>,
    },
    /// What the operator decided has changed. `anew`: and with it what a login says.
    Reloaded {
        settings: Box<Settings>,
        anew: bool,
    },
    /// The device's key may have changed.
    KeysChanged,
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To be on disk before anything after it is done, if it [must be](Record::must_be_synced).
    Record(Record),
    /// PUBACK.
    Ack(Delivery),
    /// Run the handler.
    Start(RunId, Command),
    /// The daemon stopped while this ran: ask the handler what became of it.
    Resume(RunId, Command),
    Send(MessageId, Outbound),
    Connect,
    Disconnect,
    /// Nothing to be done, but somebody may want to know: a command was not taken on.
    Refused {
        id: CommandId,
        method: Method,
        status: Status,
        why: String,
    },
    /// Reboot the machine.
    Reboot,
    /// Answer a local caller.
    Reply(CallerId, Reply),
    /// Read the configuration again.
    Reload,
    /// A sentence for people about the state of things.
    Status(String),
    /// End the program.
    Exit,
}

/// What the operator decided and the cloud allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// No connection is made without; the text says what is missing.
    pub cloud: Result<CloudLimits, String>,
    pub terms: Terms,
    pub reboot: Policy,
    /// The methods of the handlers; the model adds its own two.
    pub methods: Vec<MethodSpec>,
    /// Methods that are not to be had.
    pub disabled: Vec<Method>,
    /// Other names for methods.
    pub aliases: BTreeMap<Method, Method>,
    /// A reported document that is older than this is sent again.
    pub heartbeat: Duration,
    pub about: About,
}

/// What an outbox is made with when there is no cloud to send to.
const NO_CLOUD: CloudLimits = CloudLimits { reported_interval: Duration::ZERO, answers: Road::Reported };

/// The model of everything.
#[derive(Clone, Debug)]
pub struct Agent {
    // The durable half.
    pub(super) durable: Durable,

    // The volatile half: gone with the process.
    pub(super) methods: BTreeMap<Method, MethodSpec>,
    pub(super) aliases: BTreeMap<Method, Method>,
    pub(super) policy: Policy,
    pub(super) about: About,
    pub(super) unconfigured: Option<String>,
    pub(super) connection: Connection,
    pub(super) session: Option<Session>,
    /// Why there is no connection, if there is none.
    last_reason: Option<Reason>,
    /// The last end of a connection that was not planned.
    pub(super) last_disconnect: Option<(Reason, Timestamp)>,
    pub(super) problems: Problems,
    pub(super) callers: Callers,
    pub(super) outbox: Outbox,
    pub(super) runs: Runs,
    pub(super) pending: Option<(Number, Pending)>,
    pub(super) journal: Journal,
    /// When what still runs is left behind.
    pub(super) stopping: Option<BootInstant>,
    /// Nothing is waited for any more but the end of the connection.
    leaving: bool,
    pub(super) minted: u64,
    /// All records so far are in the journal.
    is_stored: bool,
    sentence: String,
}

impl Agent {
    /// The agent after a start, from the durable half that the journal holds. `seed` is its only randomness.
    ///
    /// `trouble`: why the journal cannot be written; then nothing that needs it is taken on until
    /// [`Input::JournalHealed`].
    pub fn new(settings: Settings, durable: Durable, trouble: Option<String>, seed: u64, now: &Now) -> Self {
        let Settings { cloud, terms, reboot, methods, disabled, aliases, heartbeat, about } = settings;
        let (limits, unconfigured) = limits_of(cloud);
        Self {
            durable,
            methods: methods_of(methods, &disabled),
            aliases,
            policy: reboot,
            about,
            unconfigured,
            connection: Connection::new(terms, seed),
            session: None,
            last_reason: None,
            last_disconnect: None,
            problems: Problems::default(),
            callers: Callers::default(),
            outbox: Outbox::new(limits, heartbeat, now.boot),
            runs: Runs::default(),
            pending: None,
            journal: Journal::new(trouble),
            stopping: None,
            leaving: false,
            minted: 0,
            is_stored: true,
            sentence: String::new(),
        }
    }

    /// What a start from the journal would know.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Decides what a batch of inputs leads to.
    pub fn handle(&mut self, now: &Now, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.is_stored {
            self.answer_callers(&mut out);
        }
        for input in inputs {
            self.take(input, now, &mut out);
        }
        self.step_reboot(now, &mut out);
        self.start_waiting(now, &mut out);
        // Sent before a planned end begins, which waits for it to be acknowledged.
        self.send_what_is_due(now, &mut out);
        self.step_connection(now, &mut out);
        self.note_journal(now);
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
            RebootStep::Act => may_act.then_some(now.boot),
            RebootStep::End(_) => Some(now.boot),
        });
        let report = self.outbox.deadline().filter(|_| self.connection.may_send());
        let local = if self.owes_an_answer() { Some(now.boot) } else { self.followers_due(now) };
        let stop = self.stopping.filter(|_| !self.leaving);
        [self.connection.deadline(), reboot, report, local, stop, self.next_expiry(now)].into_iter().flatten().min()
    }

    /// When the first of the waiting commands expires: its sender need not wait for what runs before it.
    fn next_expiry(&self, now: &Now) -> Option<BootInstant> {
        let waiting = self.durable.ledger.untold().filter(|(_, entry)| entry.is_waiting());
        let first = waiting.filter_map(|(_, entry)| entry.expires).min().filter(|_| self.may_start())?;
        // At that very moment it could still start.
        Some(now.boot + first.saturating_add(Duration::from_micros(1)).since(now.wall))
    }

    // === One input

    fn take(&mut self, input: Input, now: &Now, out: &mut Vec<Effect>) {
        match input {
            Input::Begin => self.begin(now, out),
            Input::Online { session_kept } => {
                self.connection.online(now.boot);
                self.last_reason = None;
                self.session = Some(Session { since: now.wall, kept: session_kept });
                self.note(Code::Key, None, now);
            }
            Input::Offline(reason) => self.offline(reason, now),
            Input::Cloud(inbound, delivery) => self.hear(inbound, delivery, now, out),
            Input::Settled(id) => self.settled(id, now, out),
            Input::Finished(run, outcome) => self.run_ended(run, outcome, now, out),
            Input::JournalFailed { why, held } => self.journal_failed(&why, held, now, out),
            Input::JournalHealed => self.journal_healed(out),
            Input::Stop => {
                self.stopping.get_or_insert(now.boot + STOP_WITHIN);
            }
            Input::Asked(question, caller) => self.asked(question, caller, now, out),
            Input::Gone(caller) => self.caller_gone(caller),
            Input::Problem { code, text } => self.note(code, text.as_deref(), now),
            Input::Reloaded { settings, anew } => self.reloaded(*settings, anew, now),
            Input::KeysChanged => self.connection.hurry(now.boot),
            Input::Tick => {}
        }
    }

    fn offline(&mut self, reason: Reason, now: &Now) {
        self.connection.offline(&reason, now.boot);
        self.outbox.lost(now.boot);
        self.session = None;
        if let Reason::NoLogin(why) = &reason {
            self.note(Code::Key, Some(why), now);
        }
        if reason != Reason::Planned {
            self.last_disconnect = Some((reason.clone(), now.wall));
            self.outbox.changed();
        }
        self.last_reason = Some(reason);
    }

    fn reloaded(&mut self, settings: Settings, anew: bool, now: &Now) {
        let Settings { cloud, terms, reboot, methods, disabled, aliases, heartbeat, about } = settings;
        let (limits, unconfigured) = limits_of(cloud);
        self.methods = methods_of(methods, &disabled);
        self.aliases = aliases;
        self.policy = reboot;
        self.about = about;
        self.unconfigured = unconfigured;
        self.outbox.set_limits(limits, heartbeat);
        self.connection.set_terms(terms, anew, now.boot);
        let waits_forbidden = |entry: &Entry| entry.is_waiting() && !self.methods.contains_key(&entry.method);
        if self.pending.and_then(|(number, _)| self.durable.ledger.get(number)).is_some_and(waits_forbidden) {
            // It ends like any waiting command whose method is gone, as it would after a restart.
            self.pending = None;
        }
    }

    /// Takes note of a problem, or that it is gone.
    fn note(&mut self, code: Code, text: Option<&str>, now: &Now) {
        if self.problems.note(code, text, now.wall) {
            self.outbox.changed();
        }
    }

    fn note_journal(&mut self, now: &Now) {
        let trouble = self.journal.trouble().map(str::to_owned);
        self.note(Code::Journal, trouble.as_deref(), now);
    }

    fn begin(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if self.durable.rest.boots.current.is_none_or(|boot| boot.id != now.boot_id) {
            self.record(Record::Boot { id: now.boot_id, time: now.kernel_start(), at: now.wall }, out);
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
                entry.is_waiting() && entry.boot == now.boot_id && !self.methods.contains_key(&entry.method);
            if is_reboot(&entry.method) && !is_forbidden {
                self.pending = Some((number, Pending::new(now)));
            } else if matches!(entry.run, Run::Started { .. }) {
                let class = self.methods.get(&entry.method).map(|spec| spec.class);
                let run = self.runs.begin_recorded(number, entry.method.clone(), class);
                out.push(Effect::Resume(run, entry.command()));
            }
        }
    }

    fn settled(&mut self, id: MessageId, now: &Now, out: &mut Vec<Effect>) {
        let settled = self.outbox.settled(id, now);
        for (number, what) in settled.told {
            if let Some(entry) = self.durable.ledger.get(number)
                && entry.told < what
            {
                self.record(Record::Told { key: entry.key.clone(), what }, out);
            }
        }
        if let Some((number, pending)) = &mut self.pending {
            let is_answered = |entry: &Entry| entry.local || entry.told >= Told::Accepted;
            let answered = self.durable.ledger.get(*number).is_some_and(is_answered);
            pending.settled(answered, settled.shows_reboot == Some(*number), now);
        }
    }

    // === What follows from the state of things

    fn pending_step(&mut self, now: &Now) -> Option<RebootStep> {
        let (number, pending) = self.pending.as_mut()?;
        let entry = self.durable.ledger.get(*number)?;
        Some(pending.next(entry, &self.policy, self.runs.recorded(), &self.durable.rest.boots, now))
    }

    /// Whether what waits may be done. Without a journal nothing could be proved afterwards.
    fn may_act(&self) -> bool {
        self.journal.is_sound() && self.stopping.is_none()
    }

    fn step_reboot(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let step = self.pending_step(now);
        let Some((number, _)) = self.pending else { return };
        let Some(entry) = self.durable.ledger.get(number) else {
            self.pending = None;
            return;
        };
        let key = entry.key.clone();
        match step {
            Some(RebootStep::End(outcome)) => {
                self.finish(number, outcome, now, out);
                self.pending = None;
            }
            Some(RebootStep::Act) if self.may_act() => {
                let until = match self.policy.mode {
                    Mode::Simulated(time) => Some(now.wall.saturating_add(time)),
                    Mode::Machine | Mode::Unavailable(_) => None,
                };
                self.record(Record::Started { key, boot: now.boot_id, at: now.wall, until }, out);
                if until.is_none() {
                    out.push(Effect::Reboot);
                }
                self.outbox.changed();
            }
            Some(RebootStep::Act | RebootStep::Wait(_)) | None => {}
        }
    }

    /// Whether waiting commands may start now. None does while a reboot is pending.
    fn may_start(&self) -> bool {
        self.may_act() && self.pending.is_none()
    }

    fn start_waiting(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if !self.may_start() {
            return;
        }
        let waiting: Vec<Number> =
            self.durable.ledger.untold().filter(|(_, entry)| entry.is_waiting()).map(|(number, _)| number).collect();
        for number in waiting {
            let Some(entry) = self.durable.ledger.get(number) else { continue };
            let key = entry.key.clone();
            if entry.expires.is_some_and(|expires| now.wall > expires) {
                let outcome = Outcome::failed(Status::EXPIRED, "expired while it waited to be run");
                self.finish(number, outcome, now, out);
                continue;
            }
            let Some(spec) = self.methods.get(&entry.method) else {
                let outcome = Outcome::failed(
                    Status::UNKNOWN_METHOD,
                    "this method is not to be had any more; the command did not run",
                );
                self.finish(number, outcome, now, out);
                continue;
            };
            if self.runs.has_room_for(spec) {
                let command = entry.command();
                let run = self.runs.begin_recorded(number, entry.method.clone(), Some(spec.class));
                self.record(Record::Started { key, boot: now.boot_id, at: now.wall, until: None }, out);
                out.push(Effect::Start(run, command));
            }
        }
    }

    fn step_connection(&mut self, now: &Now, out: &mut Vec<Effect>) {
        // For good: what is heard while the connection is closed must not open it again.
        let may_leave = self.runs.is_empty() && !self.has_more_to_tell();
        self.leaving |= self.stopping.is_some_and(|until| now.boot >= until || may_leave);
        let wanted = self.unconfigured.is_none() && !self.leaving && !self.is_away();
        match self.connection.next(wanted, self.outbox.is_idle(), now.boot) {
            Some(ConnectionStep::Connect) => out.push(Effect::Connect),
            Some(ConnectionStep::Disconnect) => out.push(Effect::Disconnect),
            None => {}
        }
        if self.leaving && self.connection.is_off() {
            out.push(Effect::Exit);
        }
    }

    /// There are answers that are not on their way, and a connection to send them on.
    fn has_more_to_tell(&self) -> bool {
        self.connection.may_send() && self.outbox.has_unsent(&self.durable.ledger)
    }

    /// A simulated reboot is on: the machine is to be taken for down.
    fn is_away(&self) -> bool {
        let Some((number, _)) = self.pending else { return false };
        self.durable.ledger.get(number).is_some_and(|entry| matches!(entry.run, Run::Started { until: Some(_), .. }))
    }

    fn send_what_is_due(&mut self, now: &Now, out: &mut Vec<Effect>) {
        if !self.connection.may_send() {
            return;
        }
        let policy = &self.policy;
        let answers = self.outbox.answers(&self.durable.ledger, |entry| newest(policy, entry));
        out.extend(answers.into_iter().map(|(id, message)| Effect::Send(id, message)));
        if self.outbox.may_report(now.boot) {
            let report = self.picture().report();
            let shows_reboot = self.pending.map(|(number, _)| number);
            let sent = self.outbox.report(report, shows_reboot, now.boot);
            out.extend(sent.map(|(id, message)| Effect::Send(id, message)));
        }
        out.extend(self.outbox.take_telemetry().into_iter().map(|(id, message)| Effect::Send(id, message)));
    }

    fn say(&mut self, out: &mut Vec<Effect>) {
        let sentence = self.compose();
        if sentence != self.sentence {
            self.sentence.clone_from(&sentence);
            out.push(Effect::Status(sentence));
        }
    }

    fn compose(&self) -> String {
        let connection = match (&self.unconfigured, &self.last_reason) {
            (None, Some(reason)) if self.stage() == "not connected" && *reason != Reason::Planned => {
                format!("not connected: {reason} (hint: {})", reason.hint())
            }
            (Some(why), _) => format!("not configured: {why}"),
            (None, _) => self.stage().to_owned(),
        };
        match self.journal.trouble() {
            Some(why) => format!("{connection}; commands are refused: {why}"),
            None => connection,
        }
    }

    /// What is to be said of the agent, for people.
    pub(super) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The stage of the connection, in a word or two.
    pub(super) fn stage(&self) -> &'static str {
        if self.unconfigured.is_some() {
            "not configured"
        } else if self.is_away() {
            "a simulated reboot is on"
        } else if !self.connection.is_online()
            && self.last_reason.as_ref().is_some_and(|reason| *reason != Reason::Planned)
        {
            "not connected"
        } else {
            self.connection.stage()
        }
    }

    // === Shared by the parts

    /// Ends a recorded command.
    pub(super) fn finish(&mut self, number: Number, outcome: Outcome, now: &Now, out: &mut Vec<Effect>) {
        if let Some(entry) = self.durable.ledger.get(number) {
            self.record(Record::Finished { key: entry.key.clone(), outcome, at: now.wall }, out);
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

/// All methods that are to be had: those of handlers, and the model's own.
fn methods_of(handlers: Vec<MethodSpec>, disabled: &[Method]) -> BTreeMap<Method, MethodSpec> {
    handlers
        .into_iter()
        .chain(own_methods())
        .filter(|spec| !disabled.contains(&spec.name))
        .map(|spec| (spec.name.clone(), spec))
        .collect()
}

/// The newest thing there is to tell of a command.
pub(super) fn newest(policy: &Policy, entry: &Entry) -> Outcome {
    match entry.outcome() {
        Some(outcome) => outcome.clone(),
        None if is_reboot(&entry.method) => Outcome::new(Status::ACCEPTED, policy.scheduled(entry)),
        None => Outcome::new(Status::ACCEPTED, serde_json::Value::Null),
    }
}
