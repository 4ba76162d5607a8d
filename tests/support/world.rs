//! A toy world around the model: a disk, a cloud and handlers, in which power can go between any two effects.
//!
//! It performs what the agent orders, one effect at a time, and keeps the books that a judge needs: what ran how often,
//! what was acknowledged when, who was told what. It knows no socket, no file and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Agent, Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Inbound, Outbound, Road};
use twinagent::model::command::{
    Class, Command, CommandId, Identity, Method, MethodSpec, Outcome, ReplyTo, Request, Status,
};
use twinagent::model::digest::Digest;
use twinagent::model::durable::Durable;
use twinagent::model::now::{BootInstant, Now, Timestamp};
use twinagent::model::patch::merge;
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Inhibitor, Veto, Way};
use twinagent::model::reboot::window::Windows;
use twinagent::model::record::Record;
use twinagent::model::wire::{Delivery, MessageId, Reason};

use crate::given::{moment, request, settings};

/// The largest twin that a cloud keeps, in bytes of JSON.
const LARGEST_TWIN: usize = 32 * 1_024;

/// Methods that are run for desired state, if a story has them: once, harmless, going on while the daemon is away, putting
/// off what it is run for first, and with a program that is missing until then.
const WANTED: [&str; 5] = ["apply", "again", "job", "later", "missing"];

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// The process ends before this step of the whole story.
    pub crash_at: Option<usize>,
    /// The machine loses power with it: another boot follows.
    pub power: bool,
    /// What was written and not synced is gone.
    pub forgets_unsynced: bool,
    /// The broker keeps no sessions: what was not acknowledged is not sent again by itself.
    pub no_sessions: bool,
    /// The n-th sync fails.
    pub sync_fails_at: Option<usize>,
    /// And what it should have written is on the disk all the same.
    pub failed_bytes_stay: bool,
}

/// A guard taken away, to see that the judge notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// Effects are performed before the records are written.
    EffectsFirst,
    /// Nothing is ever synced.
    NoSync,
    /// A restart begins with an empty ledger.
    Amnesia,
    /// Batches that could not be written are performed all the same.
    IgnoresFailedSync,
    /// The agent knows of no windows.
    NoWindows,
    /// The machine does not tell who holds it back.
    TellsNoHolders,
    /// The cloud says that nothing was ever reported.
    TellsNoTwin,
    /// Nobody says of a handler that it was not run.
    HidesNotRun,
    /// A handler is said not to have been run that was.
    ClaimsNotRun,
}

/// What the caller in the cloud does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Sends these commands at once. What is not acknowledged is sent again until it is.
    Send(Vec<Request>),
    /// Waits.
    Wait(Duration),
    /// The network drops.
    Cut,
    /// A local program runs `count` with this id, and asks again until it has the outcome.
    Invoke(&'static str),
    /// The daemon is stopped, and started again.
    Stop,
    /// From now on whoever is asked to reboot the machine refuses, and says so.
    Refuse,
    /// The machine loses power, and is back.
    PowerCut,
    /// Somebody on the machine reboots it, in good order.
    ShutDown,
    /// A program on the machine holds shutdowns back, or lets go.
    Inhibit(bool),
    /// An operator does, for so long.
    Veto(Option<Duration>),
    /// The cloud wants the member `mode` of desired to be this; `null`: not to be there.
    Want(Value),
    /// A local program that serves `lamp` and `slow` comes, or goes. Once it is there it is there again after each restart.
    Program(bool),
}

/// What a story changes of the settings that are given.
pub(crate) type Change = fn(&mut Settings);

#[derive(Clone)]
pub(crate) struct World {
    fault: Fault,
    sabotage: Sabotage,
    road: Road,
    reboot: Mode,
    change: Change,

    // The disk.
    synced: Vec<Record>,
    unsynced: Vec<Record>,
    syncs: usize,
    broken: bool,

    // The machine.
    wall: Duration,
    kernel_start: Duration,
    /// The moment at which its kernel started.
    kernel: Now,
    boots: u128,
    refuses: bool,
    /// It goes down when the daemon has ended.
    shuts_down: bool,
    steps: usize,
    /// Something was not synced when a process came to a bad end.
    pub could_forget: bool,
    inhibitors: Vec<Inhibitor>,
    vetoes: Vec<Veto>,

    // The process.
    agent: Agent,
    inputs: Vec<Input>,

    // The cloud.
    connected: bool,
    deliveries: u64,
    /// Sent and not acknowledged.
    outstanding: Vec<Request>,
    on_the_wire: BTreeMap<Delivery, Request>,
    /// Senders of direct methods who wait on this connection, where the cloud has such.
    waiting: BTreeSet<String>,
    rids: u64,
    /// What a cloud has that is sent patches.
    twin: Map<String, Value>,
    /// The desired document, once there is one, and its version.
    desired: Option<(Map<String, Value>, u64)>,

    // The programs on this machine.
    callers: u64,
    /// Who waits for the outcome of what.
    invokers: BTreeMap<CallerId, String>,
    /// Runs of the method `job`, which go on while the daemon is away.
    jobs: BTreeSet<CommandId>,
    /// Values that a handler could not take when it was run for them first.
    put_off: BTreeSet<String>,
    /// A process ended in the midst of a batch.
    was_cut: bool,
    /// What they have asked for, and the outcome once they have it.
    invoked: BTreeMap<String, Option<u64>>,
    /// A program serves its methods whenever the agent is there.
    serves: bool,
    /// As which caller it does so now.
    program: Option<CallerId>,
    /// Callers whose answers are of no interest.
    others: BTreeSet<CallerId>,

    // The books.
    /// Acknowledged while the record was on the disk: these must be answered.
    promised: Vec<Request>,
    pub ran: BTreeMap<String, usize>,
    pub told: BTreeMap<String, Vec<(u16, Value, bool)>>,
    pub reported: Option<Value>,
    /// How often the machine was asked to reboot.
    pub machine_reboots: usize,
    /// When the machine was told to reboot, on the wall clock.
    pub rebooted_at: Vec<Duration>,
    pub violations: Vec<String>,
}

/// What a step led to.
#[derive(PartialEq, Eq)]
enum Went {
    On,
    /// The fault has come.
    Down,
    /// The machine goes down as it was told to.
    Rebooted,
    /// The daemon ended as it was told to, and is started again.
    Exited,
}

impl World {
    pub(crate) fn new(road: Road, reboot: Mode, fault: Fault, sabotage: Sabotage) -> Self {
        Self::with(road, reboot, |_| {}, fault, sabotage)
    }

    /// With other settings than those that are given.
    pub(crate) fn with(road: Road, reboot: Mode, change: Change, fault: Fault, sabotage: Sabotage) -> Self {
        let now = moment(Duration::ZERO, Duration::ZERO, 1);
        let mut given = settings(road, reboot.clone());
        change(&mut given);
        if sabotage == Sabotage::NoWindows {
            given.reboot.windows.list.clear();
        }
        let mut world = Self {
            fault,
            sabotage,
            road,
            reboot,
            change,
            synced: Vec::new(),
            unsynced: Vec::new(),
            syncs: 0,
            broken: false,
            wall: Duration::from_secs(100),
            kernel_start: Duration::ZERO,
            kernel: now,
            boots: 1,
            refuses: false,
            shuts_down: false,
            steps: 0,
            could_forget: false,
            inhibitors: Vec::new(),
            vetoes: Vec::new(),
            agent: Agent::new(given, Durable::default(), None, 1, &now),
            inputs: vec![Input::Begin { left_clean: Some(false) }],
            connected: false,
            deliveries: 0,
            outstanding: Vec::new(),
            on_the_wire: BTreeMap::new(),
            waiting: BTreeSet::new(),
            rids: 0,
            twin: Map::from_iter([("stale".to_owned(), json!({ "of": "a former life" }))]),
            desired: None,
            jobs: BTreeSet::new(),
            put_off: BTreeSet::new(),
            was_cut: false,
            callers: 0,
            invokers: BTreeMap::new(),
            invoked: BTreeMap::new(),
            serves: false,
            program: None,
            others: BTreeSet::new(),
            promised: Vec::new(),
            ran: BTreeMap::new(),
            told: BTreeMap::new(),
            reported: None,
            machine_reboots: 0,
            rebooted_at: Vec::new(),
            violations: Vec::new(),
        };
        world.settle();
        world
    }

    /// Lives through a story to its end, and until nothing more happens.
    pub(crate) fn live(&mut self, story: &[Deed]) {
        for deed in story {
            self.perform(deed);
        }
        self.rest();
    }

    /// The same, and the worlds as they were before each deed and before the rest.
    pub(crate) fn live_and_keep(&mut self, story: &[Deed]) -> Vec<Self> {
        let mut kept = vec![self.clone()];
        for deed in story {
            self.perform(deed);
            kept.push(self.clone());
        }
        self.rest();
        kept
    }

    /// Such a world once more, with a fault that differs from its own by what comes with a crash that is still ahead.
    pub(crate) fn again(&self, fault: Fault) -> Self {
        Self { fault, ..self.clone() }
    }

    fn perform(&mut self, deed: &Deed) {
        match deed {
            Deed::Send(requests) => {
                self.outstanding.extend(requests.iter().cloned());
                self.deliver(requests, true);
            }
            Deed::Wait(time) => self.pass(*time),
            Deed::Cut => self.cut(),
            Deed::Invoke(id) => {
                self.invoked.insert((*id).to_owned(), None);
                self.ask_again();
            }
            Deed::Stop => self.inputs.push(Input::Stop),
            Deed::Refuse => self.refuses = true,
            Deed::PowerCut => {
                // Its faults are still to come.
                let fault = self.fault;
                self.fault = Fault { crash_at: None, power: true, forgets_unsynced: false, ..fault };
                self.restart();
                self.fault = fault;
            }
            Deed::ShutDown => self.inputs.push(Input::ShuttingDown(true)),
            Deed::Inhibit(true) => {
                self.inhibitors.push(Inhibitor { who: "apt".to_owned(), why: "an upgrade".to_owned() });
            }
            Deed::Inhibit(false) => self.inhibitors.clear(),
            Deed::Veto(time) => {
                let expires = time.map(|time| self.now().wall.saturating_add(time));
                let (name, reason) = ("harvest".to_owned(), "not now".to_owned());
                self.vetoes = vec![Veto { name, reason, expires }];
            }
            Deed::Want(value) => self.want(value),
            Deed::Program(comes) => {
                self.serves = *comes;
                if let Some(gone) = self.program.take() {
                    self.inputs.push(Input::Gone(gone));
                }
                self.serve();
            }
        }
        self.settle();
    }

    fn rest(&mut self) {
        // The caller does not give up, and the agent gets all the time it wants.
        let mut left = Duration::from_secs(20 * 60);
        while !left.is_zero() {
            if self.connected {
                let again = self.outstanding.clone();
                self.deliver(&again, false);
            }
            self.heal();
            self.ask_again();
            let time = self.until_somebody_acts().min(left);
            self.pass(time);
            left -= time;
        }
    }

    /// Callers ask again every 20 s. Nobody else wakes an agent that nobody waits for.
    fn until_somebody_acts(&mut self) -> Duration {
        let again = Duration::from_secs(20);
        let is_owed = !self.outstanding.is_empty() || self.invoked.values().any(Option::is_none);
        if is_owed || self.broken {
            return again;
        }
        let due = self.agent.deadline(&self.now()).map(|due| self.kernel_start + due.0);
        due.map_or(Duration::MAX, |due| due.saturating_sub(self.wall)).max(again)
    }

    /// Steps that were taken.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn syncs(&self) -> usize {
        self.syncs
    }

    /// What is wrong, by the promises.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut wrong = self.violations.clone();
        for (what, runs) in &self.ran {
            if *runs > 1 {
                wrong.push(format!("{what} ran {runs} times"));
            }
        }
        for (status, payload, _) in self.told.values().flatten() {
            let taken_back = payload["cancelled"].as_str().filter(|_| *status == 200);
            if let Some(id) = taken_back.filter(|id| self.ran.contains_key(*id)) {
                wrong.push(format!("{id} ran though it was confirmed that it was taken back"));
            }
        }
        for request in &self.promised {
            let Identity::Given(id) = &request.identity else { continue };
            let answers = self.told.get(id.as_str()).map_or(&[][..], Vec::as_slice);
            let finals: Vec<_> = answers.iter().filter(|(_, _, last)| *last).collect();
            if finals.is_empty() {
                wrong.push(format!("{id} was recorded, acknowledged and never answered"));
            }
            // Refusals are not outcomes: the same command, sent again, may fare better.
            let outcomes: Vec<_> = finals.iter().filter(|(status, ..)| ![409, 429, 503].contains(status)).collect();
            if outcomes.windows(2).any(|pair| (pair[0].0, &pair[0].1) != (pair[1].0, &pair[1].1)) {
                wrong.push(format!("{id} was answered differently: {outcomes:?}"));
            }
        }
        for record in self.synced.iter().filter(|record| matches!(record, Record::Accepted { local: false, .. })) {
            let Record::Accepted { key, .. } = record else { continue };
            let answers = self.told.get(key.id.as_str()).map_or(&[][..], Vec::as_slice);
            if !answers.iter().any(|(.., last)| *last) {
                wrong.push(format!("{} was taken on and its outcome never told", key.id));
            }
        }
        if self.road == Road::Direct && self.ours() != Some(Value::Object(self.twin.clone())) {
            wrong.push("the cloud has another document than the agent".to_owned());
        }
        for (id, outcome) in &self.invoked {
            if outcome.is_none() {
                wrong.push(format!("the caller of {id} never had an outcome"));
            }
            if self.told.contains_key(id) {
                wrong.push(format!("the cloud was told of {id}, which is none of its business"));
            }
        }
        wrong.extend(self.judge_desired());
        if !self.outstanding.is_empty() {
            wrong.push(format!("{} commands were never acknowledged", self.outstanding.len()));
        }
        let journal = Durable::replay(self.synced.iter().chain(&self.unsynced));
        if journal != *self.agent.durable() {
            wrong.push("the journal does not lead to the state in memory".to_owned());
        }
        let compacted = Durable::replay(&self.agent.durable().records());
        if compacted != *self.agent.durable() {
            wrong.push("compaction changes the state".to_owned());
        }
        wrong
    }

    /// What was last wanted is what was last applied, and told.
    fn judge_desired(&self) -> Option<String> {
        let (document, _) = self.desired.as_ref()?;
        let spec = self.given().methods.into_iter().find(|spec| spec.desired.is_some())?;
        let wanted = document.get("mode").cloned().unwrap_or_default();
        if wanted.is_null() && self.agent.durable().rest.applications.is_empty() {
            // It came and went before anything could be done about it.
            return None;
        }
        let digest = Digest::of(wanted.to_string().as_bytes()).to_string();
        let shown = &self.reported.as_ref()?["desired"]["members"]["mode"];
        // What was cut off is not run again, and may have taken effect; what is harmless is.
        let is_cut_off = shown["error"] == "interrupted" && self.was_cut && !spec.harmless;
        let is_told = shown["digest"] == digest.as_str() && (shown["status"] == 200 || is_cut_off);
        (!is_told).then(|| format!("{wanted} was wanted, and this is told: {shown}"))
    }

    // === Time and network

    fn given(&self) -> Settings {
        let mut given = settings(self.road, self.reboot.clone());
        (self.change)(&mut given);
        given
    }

    fn now(&self) -> Now {
        let up = self.wall.saturating_sub(self.kernel_start);
        Now { wall: self.kernel.wall.saturating_add(up), boot: BootInstant(up), ..self.kernel }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.wall + time;
        // As many deadlines as fall into this time; a loop without end would be a hot loop of the agent.
        for _ in 0..1_000 {
            let now = self.now();
            let due = self.agent.deadline(&now).map(|due| self.kernel_start + due.0).filter(|due| *due <= end);
            self.wall = due.unwrap_or(end).max(self.wall);
            self.inputs.push(Input::Tick);
            self.settle();
            if due.is_none() {
                return;
            }
        }
        self.violations.push("the agent's deadline never moves on: a hot loop".to_owned());
    }

    /// `first`: where the cloud has direct methods, somebody waits for the answer on this connection. What is sent again is a
    /// message that the cloud has kept.
    fn deliver(&mut self, requests: &[Request], first: bool) {
        if !self.connected {
            return;
        }
        for request in requests {
            let delivery = self.delivery();
            self.on_the_wire.insert(delivery, request.clone());
            let mut heard = request.clone();
            if first && self.road == Road::Direct {
                self.rids += 1;
                let rid = format!("rid{}", self.rids);
                self.waiting.insert(rid.clone());
                heard.reply_to = Some(ReplyTo(rid));
            }
            self.inputs.push(Input::Cloud(Inbound::Command(heard), delivery));
        }
    }

    fn want(&mut self, value: &Value) {
        let (mut document, version) = self.desired.take().unwrap_or((Map::new(), 1));
        let patch = Map::from_iter([("mode".to_owned(), value.clone())]);
        merge(&mut document, &patch);
        self.desired = Some((document, version + 1));
        if self.connected && self.road == Road::Direct {
            let change = Inbound::DesiredPatch { patch, version: version + 1 };
            let delivery = self.delivery();
            self.inputs.push(Input::Cloud(change, delivery));
        } else if self.connected {
            self.say_desired();
        }
    }

    /// The whole document, as it is said at each login too.
    fn say_desired(&mut self) {
        let Some((document, _)) = self.desired.clone() else { return };
        let body = Value::Object(document).to_string().into();
        let delivery = self.delivery();
        self.inputs.push(Input::Cloud(Inbound::Desired { body, version: None }, delivery));
    }

    fn delivery(&mut self) -> Delivery {
        self.deliveries += 1;
        Delivery(self.deliveries)
    }

    /// The end of a connection, as the cloud sees it.
    fn disconnected(&mut self) {
        self.connected = false;
        self.on_the_wire.clear();
        // Who waited there has been told that nobody answered.
        self.waiting.clear();
    }

    /// Each program that has no outcome yet and is not waiting for it asks once more, under the same id.
    fn ask_again(&mut self) {
        let asking: Vec<String> = self.invokers.values().cloned().collect();
        let owed: Vec<String> = self
            .invoked
            .iter()
            .filter(|(id, outcome)| outcome.is_none() && !asking.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in owed {
            let caller = CallerId(self.callers);
            self.callers += 1;
            let Request { method, payload, .. } = request("count", Some(&id), json!({ "n": id }));
            let invoke = Question::Invoke {
                method,
                payload,
                id: CommandId::parse(&id).ok(),
                follow: caller.0.is_multiple_of(2),
            };
            self.invokers.insert(caller, id);
            self.inputs.push(Input::Asked(invoke, caller));
        }
        self.settle();
    }

    /// The program offers its methods, if there is one.
    fn serve(&mut self) {
        if self.serves {
            let spec = |name: &str| MethodSpec {
                class: Class::Serial(4),
                time_limit: Duration::from_secs(60),
                ..MethodSpec::new(Method::parse(name).expect("a method name"))
            };
            let methods = vec![spec("lamp"), spec("slow")];
            let caller = self.caller();
            self.program = Some(caller);
            self.inputs.push(Input::Asked(Question::Serve { methods }, caller));
        }
    }

    /// A caller whose answer is of no interest.
    fn caller(&mut self) -> CallerId {
        let caller = CallerId(self.callers);
        self.callers += 1;
        self.others.insert(caller);
        caller
    }

    /// The program does what it was handed at once, or begins with it.
    fn handed(&mut self, to: CallerId, reply: &Reply) {
        let Reply::Is { answer, .. } = reply else { return };
        if Some(to) != self.program {
            self.violations.push("a command was handed to a program that is gone".to_owned());
        }
        let (id, run) = (answer["id"].as_str().unwrap_or_default().to_owned(), answer["run"].as_u64());
        if !self.is_on_disk(&id) {
            self.violations.push(format!("{id} was handed over before it was on disk"));
        }
        *self.ran.entry(id).or_default() += 1;
        let run = run.unwrap_or(u64::MAX);
        let caller = self.caller();
        self.inputs.push(Input::Asked(Question::Progress { run, text: "half".to_owned() }, caller));
        if answer["method"] == "lamp" {
            self.finish(run, Outcome::new(Status::DONE, json!({ "lit": true })));
        }
    }

    fn finish(&mut self, run: u64, outcome: Outcome) {
        let caller = self.caller();
        self.inputs.push(Input::Asked(Question::Finish { run, outcome }, caller));
    }

    fn reply(&mut self, caller: CallerId, reply: &Reply) {
        if let Reply::Is { answer, .. } = reply
            && answer.get("stop").is_some_and(|stop| stop == "cancelled")
        {
            let run = answer["run"].as_u64().unwrap_or(u64::MAX);
            self.finish(run, Outcome::failed(Status::CANCELLED, "put down"));
        }
        if self.others.contains(&caller) {
            return;
        }
        let Reply::Is { answer, last: true } = reply else { return };
        let Some(id) = self.invokers.remove(&caller) else {
            self.violations.push(format!("{caller:?} was answered twice"));
            return;
        };
        let status = answer["status"].as_u64();
        if status.is_some_and(|status| ![429, 503, 409].contains(&status)) {
            let is_on_disk = |record: &Record| matches!(record, Record::Finished { key, .. } if key.id.as_str() == id);
            if !self.synced.iter().any(is_on_disk) {
                self.violations.push(format!("a caller was told of {id} before its outcome was on disk"));
            }
            self.invoked.insert(id, status);
        }
    }

    fn cut(&mut self) {
        if self.connected {
            self.disconnected();
            self.inputs.push(Input::Offline(Reason::Closed));
        }
    }

    // === The loop, as in the daemon

    /// Handles batches until nothing is left to handle.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.inputs.is_empty() {
                return;
            }
            let inputs = std::mem::take(&mut self.inputs);
            let now = self.now();
            let effects = self.agent.handle(&now, inputs);
            match self.batch(effects) {
                Went::On => {}
                Went::Down => {
                    self.was_cut = true;
                    self.could_forget |= !self.unsynced.is_empty();
                    self.restart();
                }
                Went::Rebooted => {
                    // Its faults are still to come, but for what was not synced.
                    self.was_cut = true;
                    self.could_forget |= !self.unsynced.is_empty();
                    let fault = self.fault;
                    self.fault = Fault { crash_at: None, power: true, ..fault };
                    self.restart();
                    self.fault = fault;
                }
                Went::Exited => {
                    // Its faults are still to come.
                    let fault = self.fault;
                    let power = std::mem::take(&mut self.shuts_down);
                    self.fault = Fault { crash_at: None, power, forgets_unsynced: false, ..fault };
                    self.restart();
                    self.fault = fault;
                }
            }
        }
        self.violations.push("batches never end: a hot loop".to_owned());
    }

    fn batch(&mut self, effects: Vec<Effect>) -> Went {
        let (records, others): (Vec<Effect>, Vec<Effect>) =
            effects.iter().cloned().partition(|effect| matches!(effect, Effect::Record(_)));
        let records: Vec<Record> = records
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Record(record) => Some(record),
                _ => None,
            })
            .collect();
        if self.sabotage == Sabotage::EffectsFirst {
            for effect in &others {
                let went = self.step(effect);
                if went != Went::On {
                    return went;
                }
            }
        }
        if !records.is_empty() {
            if self.is_over() {
                return Went::Down;
            }
            let synced = records.iter().any(Record::must_be_synced) && self.sabotage != Sabotage::NoSync;
            self.unsynced.extend(records);
            if synced {
                if self.is_over() {
                    return Went::Down;
                }
                self.syncs += 1;
                if self.broken || self.fault.sync_fails_at == Some(self.syncs) {
                    return self.sync_failed(effects);
                }
                self.synced.append(&mut self.unsynced);
            }
        }
        self.agent.stored();
        if self.sabotage != Sabotage::EffectsFirst {
            for effect in &others {
                let went = self.step(effect);
                if went != Went::On {
                    return went;
                }
            }
        }
        Went::On
    }

    fn sync_failed(&mut self, effects: Vec<Effect>) -> Went {
        if self.sabotage == Sabotage::IgnoresFailedSync {
            self.unsynced.clear();
            self.agent.stored();
            for effect in effects.iter().filter(|effect| !matches!(effect, Effect::Record(_))) {
                let went = self.step(effect);
                if went != Went::On {
                    return went;
                }
            }
            return Went::On;
        }
        self.broken = true;
        // The file was cut back, but a disk that fails to sync may have written it all the same.
        if !self.fault.failed_bytes_stay {
            self.unsynced.clear();
        }
        self.inputs.push(Input::JournalFailed { why: "no space left".to_owned(), held: effects });
        if self.is_over() { Went::Down } else { Went::On }
    }

    fn heal(&mut self) {
        if self.broken && self.inputs.is_empty() {
            self.broken = false;
            self.synced = self.agent.durable().records();
            self.unsynced.clear();
            self.inputs.push(Input::JournalHealed);
            self.settle();
        }
    }

    /// Counts a step; true if this is the one before which everything ends.
    fn is_over(&mut self) -> bool {
        self.steps += 1;
        self.fault.crash_at == Some(self.steps)
    }

    fn step(&mut self, effect: &Effect) -> Went {
        if matches!(effect, Effect::Record(_) | Effect::Refused { .. } | Effect::Ended { .. } | Effect::Status(_)) {
            return Went::On;
        }
        if self.is_over() {
            return Went::Down;
        }
        match effect {
            Effect::Ack(delivery) => {
                if let Some(request) = self.on_the_wire.remove(delivery) {
                    self.acknowledge(&request);
                }
            }
            Effect::Start(run, command) if WANTED.contains(&command.method.as_str()) => {
                let outcome = self.apply(command);
                self.inputs.push(Input::Finished(*run, outcome));
            }
            Effect::Resume(run, command) if self.jobs.contains(&command.key.id) => {
                self.inputs.push(Input::Finished(*run, Outcome::new(Status::DONE, Value::Null)));
            }
            Effect::Start(run, command) => {
                let name = command.key.id.to_string();
                let recorded = command.method.as_str() != "echo";
                if recorded && !self.is_on_disk(&name) {
                    self.violations.push(format!("{name} ran before it was on disk"));
                }
                let times = self.ran.entry(if recorded { name } else { String::new() }).or_default();
                *times = if recorded { *times + 1 } else { 0 };
                let payload = json!({ "run": *times });
                if command.method.as_str() == "queue" {
                    self.inputs.push(Input::Progress(*run, "half".to_owned()));
                }
                self.inputs.push(Input::Finished(*run, Outcome::new(Status::DONE, payload)));
            }
            Effect::Resume(run, _) => {
                let payload = json!({ "error": "interrupted", "interrupted": true });
                self.inputs.push(Input::Finished(*run, Outcome::new(Status::FAILED, payload)));
            }
            Effect::Send(id, message) => {
                if self.connected {
                    self.hear(message);
                    // A message with an answer of its own is written too, and that must not count.
                    self.inputs.push(Input::Settled(*id));
                    self.answer(*id, message);
                }
            }
            Effect::Connect(_) => {
                self.connected = true;
                self.inputs.push(Input::Online { session_kept: !self.fault.no_sessions, tls: None });
                if !self.fault.no_sessions {
                    let again = self.outstanding.clone();
                    self.deliver(&again, false);
                }
                if self.road != Road::Direct {
                    self.say_desired();
                }
            }
            Effect::Prepare => self.inputs.push(Input::Prepared(Ok(()))),
            Effect::Disconnect => {
                if self.connected {
                    self.disconnected();
                }
                self.inputs.push(Input::Offline(Reason::Planned));
            }
            Effect::Probe => {
                let (mut inhibitors, vetoes) = (self.inhibitors.clone(), self.vetoes.clone());
                if self.sabotage == Sabotage::TellsNoHolders {
                    inhibitors.clear();
                }
                self.inputs.push(Input::Probed(Facts { way: Ok(Way::Logind), inhibitors, vetoes }));
            }
            Effect::Reboot(plan) => {
                self.machine_reboots += 1;
                self.rebooted_at.push(self.wall);
                let (now, vetoes) = (self.now(), self.vetoes.iter());
                if !self.inhibitors.is_empty()
                    || vetoes.clone().any(|veto| veto.expires.is_none_or(|end| end > now.wall))
                {
                    self.violations.push("the machine was rebooted though somebody held it back".to_owned());
                }
                let windows = Windows { spread: Duration::ZERO, ..self.given().reboot.windows };
                if windows.next(now.wall, now.wall) > now.wall {
                    self.violations.push("the machine was rebooted outside its window".to_owned());
                }
                let asked = self.agent.durable().ledger.untold().find(|(_, entry)| entry.payload.get("at").is_some());
                let at = asked.and_then(|(_, entry)| entry.payload["at"].as_str()?.parse().ok());
                if at.is_some_and(|at: Timestamp| at > now.wall) {
                    self.violations.push("the machine was rebooted before its moment".to_owned());
                }
                if self.refuses {
                    let answer = Err("somebody works here".to_owned());
                    self.inputs.push(Input::RebootAnswered { id: plan.id.clone(), answer });
                    return Went::On;
                }
                if !self.told.values().flatten().any(|(status, ..)| *status == 202) && self.connected {
                    self.violations.push("the machine went down before the cloud had the 202".to_owned());
                }
                return Went::Rebooted;
            }
            Effect::LetGo => {
                if self.connected {
                    self.violations.push("the machine was let go before the connection was closed".to_owned());
                }
                // Services are stopped now, each in its time.
                self.shuts_down = true;
                self.inputs.push(Input::Stop);
            }
            Effect::Reply(caller, reply) => self.reply(*caller, reply),
            Effect::Hand(caller, _, reply) => self.handed(*caller, reply),
            Effect::Exit => return Went::Exited,
            // Whoever ran has ended before, so there is nothing to cancel.
            Effect::Record(_)
            | Effect::Cancel(_)
            | Effect::CheckLink
            | Effect::Refused { .. }
            | Effect::Reload
            | Effect::Ended { .. }
            | Effect::Status(_) => {}
        }
        Went::On
    }

    /// A handler runs for desired state, or says that it cannot now, or cannot be run.
    fn apply(&mut self, command: &Command) -> Outcome {
        let done = Outcome::new(Status::DONE, Value::Null);
        let id = &command.key.id;
        let is_its = |record: &Record| matches!(record, Record::Applying(application) if application.id == *id);
        if !self.synced.iter().any(is_its) {
            self.violations.push(format!("{} ran before it was on disk", command.payload));
        }
        match command.method.as_str() {
            "job" => {
                self.jobs.insert(id.clone());
            }
            "again" => return done,
            "later" if self.put_off.insert(command.payload.to_string()) => {
                return Outcome::new(Status::CANNOT_NOW, Value::Null);
            }
            "missing" if self.put_off.insert(command.payload.to_string()) => {
                let missing = Outcome::failed(Status::FAILED, "no such program");
                match self.sabotage {
                    Sabotage::HidesNotRun => return missing,
                    Sabotage::ClaimsNotRun => {
                        *self.ran.entry(format!("the handler for {}", command.payload)).or_default() += 1;
                    }
                    _ => {}
                }
                return missing.not_run();
            }
            _ => {}
        }
        *self.ran.entry(format!("the handler for {}", command.payload)).or_default() += 1;
        done
    }

    fn is_on_disk(&self, id: &str) -> bool {
        self.synced.iter().any(|record| matches!(record, Record::Accepted { key, .. } if key.id.as_str() == id))
    }

    fn acknowledge(&mut self, request: &Request) {
        self.outstanding.retain(|waiting| waiting != request);
        let taken_on = |record: &Record| matches!((record, &request.identity), (Record::Accepted { key, .. }, Identity::Given(id)) if key.id == *id);
        if self.synced.iter().any(taken_on) {
            self.promised.push(request.clone());
        } else if self.unsynced.iter().any(taken_on) && !self.broken {
            self.violations.push("acknowledged before it was on disk".to_owned());
        }
    }

    fn hear(&mut self, message: &Outbound) {
        match message {
            Outbound::Answer(answer) => {
                let rid = answer.reply_to.as_ref().map(|reply_to| reply_to.0.as_str());
                if self.road == Road::Direct && !rid.is_some_and(|rid| self.waiting.remove(rid)) {
                    self.violations.push(format!("{} was answered to nobody who waits: {rid:?}", answer.id));
                }
                let told = (answer.status.0, answer.payload.clone(), answer.last);
                self.told.entry(answer.id.to_string()).or_default().push(told);
            }
            Outbound::Reported(document) => {
                self.is_expected(self.road != Road::Direct);
                self.read_commands(document, document);
                self.reported = Some(document.clone());
            }
            Outbound::ReportedPatch(patch) => {
                self.is_expected(self.road == Road::Direct);
                merge(&mut self.twin, patch.as_object().expect("a patch is an object"));
                let document = Value::Object(self.twin.clone());
                let bytes = document.to_string().len();
                if bytes > LARGEST_TWIN {
                    self.violations.push(format!("a twin of {bytes} bytes"));
                }
                self.read_commands(patch, &document);
                self.reported = Some(document);
            }
            Outbound::FetchTwin => self.is_expected(self.road == Road::Direct),
            Outbound::Telemetry(_) => {}
        }
    }

    fn is_expected(&mut self, is: bool) {
        if !is {
            self.violations.push("this cloud has no such message".to_owned());
        }
    }

    /// Takes note of the commands that `change` names, as they are in `document`.
    fn read_commands(&mut self, change: &Value, document: &Value) {
        for id in change["commands"].as_object().into_iter().flat_map(Map::keys) {
            let Some(command) = document["commands"].get(id) else { continue };
            let status = u16::try_from(command["status"].as_u64().unwrap_or(0)).unwrap_or(0);
            let told = (status, command["payload"].clone(), status != 202);
            self.told.entry(id.clone()).or_default().push(told);
        }
    }

    /// What the cloud says by itself to a message about the twin.
    fn answer(&mut self, id: MessageId, message: &Outbound) {
        let answer = match message {
            Outbound::FetchTwin => {
                let is_told = self.sabotage != Sabotage::TellsNoTwin;
                let reported = if is_told { self.twin.clone() } else { Map::new() };
                let (desired, version) = self.desired.clone().unwrap_or((Map::new(), 1));
                Inbound::Twin { id, desired, version, reported }
            }
            Outbound::ReportedPatch(_) => Inbound::Answered { id, status: 204 },
            Outbound::Answer(_) | Outbound::Reported(_) | Outbound::Telemetry(_) => return,
        };
        let delivery = self.delivery();
        self.inputs.push(Input::Cloud(answer, delivery));
    }

    /// The reported document as the agent would have it.
    fn ours(&self) -> Option<Value> {
        let mut copy = self.agent.clone();
        let effects = copy.handle(&self.now(), [Input::Asked(Question::Twin, CallerId(u64::MAX))]);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Is { answer, .. }) => Some(answer["reported"].clone()),
            _ => None,
        })
    }

    /// Another process, perhaps after another boot.
    fn restart(&mut self) {
        self.fault.crash_at = None;
        if self.fault.forgets_unsynced || (self.fault.power && self.sabotage == Sabotage::NoSync) {
            self.unsynced.clear();
        }
        self.synced.append(&mut self.unsynced);
        self.broken = false;
        self.wall += Duration::from_secs(2);
        if std::mem::take(&mut self.fault.power) {
            self.boots += 1;
            self.jobs.clear();
            // Programs that held the machine back are gone with it; what an operator has put down is still there.
            self.inhibitors.clear();
            self.kernel_start = self.wall;
            self.kernel = moment(self.wall, self.wall, self.boots);
            self.wall += Duration::from_secs(30);
        }
        self.disconnected();
        self.shuts_down = false;
        self.invokers.clear();
        if self.sabotage == Sabotage::Amnesia {
            self.synced.clear();
        }
        let durable = Durable::replay(&self.synced);
        let mut given = self.given();
        if self.sabotage == Sabotage::NoWindows {
            given.reboot.windows.list.clear();
        }
        self.agent = Agent::new(given, durable, None, 2, &self.now());
        self.inputs = vec![Input::Begin { left_clean: Some(false) }];
        // The program's connection has gone with the process.
        self.program = None;
        self.serve();
    }
}
