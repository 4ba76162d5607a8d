//! One life of an agent: inputs go in, the effects are performed in a toy world, and every batch is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use twinagent::model::agent::{Agent, Effect, Input, Settings};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::cloud::{Answer, Inbound, Outbound, Road};
use twinagent::model::command::{
    Class, Command, CommandId, Identity, Key, Method, MethodSpec, Outcome, ReplyTo, Status,
};
use twinagent::model::device_key::{DeviceKey, Found, KeySlot};
use twinagent::model::durable::Durable;
use twinagent::model::intake::UNTOLD;
use twinagent::model::now::{Clock, Now};
use twinagent::model::outbox::WINDOW;
use twinagent::model::patch::merge;
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Way};
use twinagent::model::record::Record;
use twinagent::model::runs::RunId;
use twinagent::model::wire::{Delivery, MessageId, Reason};

use crate::given::{hub, moment, request, settings};
use crate::{Batch, Deed, Fate, HARMLESS, METHODS};

/// The members of `commands`, and what surrounds them.
const COMMANDS: usize = 16 * 1_024 + 512;

/// A message on its way.
#[derive(Clone, Debug)]
enum Sent {
    /// An answer, telemetry.
    Other,
    Document(Value),
    FetchTwin,
    Patch(Value),
}

impl Sent {
    /// Whether it is about the reported document; there is one of those at a time.
    fn is_reported(&self) -> bool {
        !matches!(self, Self::Other)
    }
}

pub(crate) struct Life {
    agent: Agent,
    settings: Settings,
    disk: Durable,
    /// Sabotage: outcomes never reach the disk.
    pub loses_outcomes: bool,
    /// Sabotage: nor does what was applied.
    pub forgets_applications: bool,
    broken: bool,
    stopped: bool,
    /// The machine shuts down; it may go on once it was let go.
    going_down: Option<Duration>,
    let_go: bool,

    wall: Duration,
    kernel_start: Duration,
    up: Duration,
    boot: u128,

    /// A connection was ordered and has not ended.
    ordered: bool,
    /// Its end was ordered.
    closing: bool,
    connected: bool,
    in_flight: BTreeMap<MessageId, Sent>,
    road: Road,
    /// Which connection this is, for those who wait on it.
    connection: u64,
    /// Senders of direct methods that wait on it.
    waiting: BTreeSet<String>,
    /// When the last request about the twin was sent.
    asked_at: Option<Duration>,
    /// What a cloud has that is sent patches.
    twin: Map<String, Value>,
    desired: (Map<String, Value>, u64),
    running: Vec<(RunId, Command)>,
    /// The local program that serves `lamp`, and what it was handed.
    program: Option<CallerId>,
    /// Those that went with this very batch: what is on its way to them is lost.
    going: Vec<CallerId>,
    handed: Vec<(u64, Command)>,
    /// Those of them that it was told to stop, and when.
    told_to_stop: BTreeMap<u64, Duration>,
    /// The wall clock is not to be believed.
    doubtful: bool,
    callers: u64,
    /// The machine was asked whether it may reboot.
    asked: bool,
    deliveries: u64,
    open: BTreeSet<Delivery>,

    started: BTreeSet<Key>,
    /// The value that the handler of desired state was last run for.
    applied: Option<Value>,
    /// It said that it could not do that.
    may_try_again: bool,
    outcomes: BTreeMap<CommandId, Outcome>,
    /// The document that the cloud has for certain, and when it acknowledged it.
    settled: Option<(Duration, Value)>,
}

impl Life {
    pub(crate) fn new(road: Road, mode: Mode) -> Self {
        let mut settings = settings(road, mode);
        // Renewals fall into the life, whenever the story leaves a session alone for long enough.
        settings.terms.lease = Some(Duration::from_secs(60));
        let mut alone: MethodSpec = settings.methods[1].clone();
        (alone.name, alone.class) = (Method::parse("alone").expect("a method name"), Class::Exclusive);
        settings.methods.push(alone);
        let look = Method::parse("look").expect("a method name");
        settings.methods.push(MethodSpec { harmless: true, class: Class::Serial(2), ..MethodSpec::new(look) });
        settings.methods[1].class = Class::Parallel(60);
        // Also run for desired state, among commands.
        settings.methods[2].desired = Some("a".to_owned());
        let wall = Duration::from_secs(1_000_000);
        let now = moment(wall, wall.checked_sub(Duration::from_secs(500)).expect("later"), 1);
        let mut life = Self {
            agent: Agent::new(settings.clone(), Durable::default(), None, 1, &now),
            settings,
            disk: Durable::default(),
            loses_outcomes: false,
            forgets_applications: false,
            broken: false,
            stopped: false,
            going_down: None,
            let_go: false,
            wall,
            kernel_start: Duration::ZERO,
            up: Duration::from_secs(500),
            boot: 1,
            ordered: false,
            closing: false,
            connected: false,
            in_flight: BTreeMap::new(),
            road,
            connection: 0,
            waiting: BTreeSet::new(),
            asked_at: None,
            twin: Map::from_iter([("stale".to_owned(), json!({ "x": [1] }))]),
            desired: (Map::new(), 1),
            running: Vec::new(),
            program: None,
            going: Vec::new(),
            handed: Vec::new(),
            told_to_stop: BTreeMap::new(),
            doubtful: false,
            callers: 10,
            asked: false,
            deliveries: 0,
            open: BTreeSet::new(),
            started: BTreeSet::new(),
            applied: None,
            may_try_again: false,
            outcomes: BTreeMap::new(),
            settled: None,
        };
        life.handle(vec![Input::Begin { left_clean: None }], false);
        life
    }

    fn now(&self) -> Now {
        let mut now = moment(self.wall, self.kernel_start, self.boot);
        now.boot.0 = self.up;
        if self.doubtful {
            now.clock = Clock::Doubtful;
        }
        now
    }

    fn pass(&mut self, millis: u32) {
        let time = Duration::from_millis(millis.into());
        self.wall += time;
        self.up += time;
    }

    pub(crate) fn live(&mut self, batch: &Batch) {
        self.pass(batch.passes);
        let step = Duration::from_secs(batch.wall_steps.unsigned_abs().into());
        self.wall = if batch.wall_steps < 0 { self.wall.saturating_sub(step) } else { self.wall + step };
        let mut inputs: Vec<Input> = Vec::new();
        for deed in &batch.deeds {
            inputs.extend(self.inputs_of(deed));
        }
        match batch.fate {
            Fate::Fails => self.handle(inputs, true),
            Fate::Written => self.handle(inputs, false),
            Fate::Heals => {
                self.handle(inputs, false);
                self.heal();
            }
            Fate::Stop => {
                self.stopped = true;
                inputs.push(Input::Stop);
                self.handle(inputs, false);
            }
            Fate::Restart => {
                self.handle(inputs, false);
                self.restart();
            }
            Fate::Reboot => {
                self.handle(inputs, false);
                self.boot += 1;
                self.up = Duration::from_secs(20);
                self.restart();
            }
        }
    }

    fn inputs_of(&mut self, deed: &Deed) -> Vec<Input> {
        match deed {
            Deed::Hear { method, id, payload, expires } => {
                let payload = match (METHODS[*method], *payload) {
                    ("cancelCommand", payload) => json!({ "commandId": format!("id{}", payload + id.unwrap_or(1)) }),
                    (_, 0) => Value::Null,
                    _ => json!({ "reason": "x" }),
                };
                let somebody_waits = id.is_some_and(|id| id % 2 == 1);
                let id = id.map(|id| format!("id{id}"));
                let mut heard = request(METHODS[*method], id.as_deref(), payload);
                heard.expires = expires.map(|seconds| {
                    let time = Duration::from_secs(seconds.unsigned_abs().into());
                    let wall = self.now().wall;
                    if seconds < 0 { wall.saturating_sub(time) } else { wall.saturating_add(time) }
                });
                heard.reply_to = if somebody_waits { self.sender() } else { None };
                self.heard(Inbound::Command(heard))
            }
            Deed::Unique(method) => {
                let mut heard = request(METHODS[*method], None, Value::Null);
                heard.identity = Identity::Unique;
                heard.reply_to = self.sender();
                self.heard(Inbound::Command(heard))
            }
            Deed::Burst(number) => (0..70)
                .flat_map(|n| {
                    self.heard(Inbound::Command(request("count", Some(&format!("b{number}-{n}")), Value::Null)))
                })
                .collect(),
            Deed::Malformed => self.heard(Inbound::Malformed {
                id: None,
                method: None,
                reply_to: None,
                status: Status::NOT_A_COMMAND,
                why: "no JSON".to_owned(),
            }),
            Deed::Desired(number) if self.road == Road::Direct => {
                let (document, version) = &mut self.desired;
                let patch = Map::from_iter([("a".to_owned(), json!(number))]);
                // Some are repeats, some are missed.
                *version += 2 - u64::from(*number).min(2);
                merge(document, &patch);
                let version = *version;
                self.heard(Inbound::DesiredPatch { patch, version })
            }
            Deed::Desired(number) => {
                let body = [&b"{\"a\":1}"[..], b"{\"a\":2}", b""][usize::from(*number)];
                self.heard(Inbound::Desired { body: body.into(), version: None })
            }
            Deed::Settle(n) => {
                let unknown = MessageId(u64::MAX);
                let id = self.in_flight.keys().nth(*n).copied().unwrap_or(unknown);
                self.settle(id, 204)
            }
            Deed::SettleAll => {
                let ids: Vec<MessageId> = self.in_flight.keys().copied().collect();
                ids.into_iter().flat_map(|id| self.settle(id, 204)).collect()
            }
            Deed::Throttle(status) => {
                let request = |sent: &Sent| matches!(sent, Sent::FetchTwin | Sent::Patch(_));
                let id = self.in_flight.iter().find(|(_, sent)| request(sent)).map(|(id, _)| *id);
                id.map(|id| self.settle(id, *status)).unwrap_or_default()
            }
            Deed::Finish(n, size) => {
                if *n >= self.running.len() {
                    return Vec::new();
                }
                let (run, _) = self.running.remove(*n);
                let outcome = Outcome::new(Status::DONE, json!("x".repeat((*size).into())));
                // A run that nobody knows any more ends once again: it must not matter.
                vec![Input::Finished(run, outcome.clone()), Input::Finished(run, outcome)]
            }
            Deed::Fail(n) => {
                if *n >= self.running.len() {
                    return Vec::new();
                }
                let (run, command) = self.running.remove(*n);
                self.may_try_again |= self.disk.rest.applications.values().any(|known| known.id == command.key.id);
                let not_now = Outcome::failed(Status::CANNOT_NOW, "not now");
                let missing = Outcome::failed(Status::FAILED, "no such program").not_run();
                vec![Input::Finished(run, if n % 2 == 0 { not_now } else { missing })]
            }
            Deed::Program(comes) => {
                let gone = self.program.take();
                self.going.extend(gone);
                let gone = gone.map(Input::Gone);
                self.handed.clear();
                let mut inputs: Vec<Input> = gone.into_iter().collect();
                if *comes {
                    let (name, time_limit) = (Method::parse("lamp").expect("a name"), Duration::from_secs(90));
                    let lamp = MethodSpec { class: Class::Parallel(3), time_limit, ..MethodSpec::new(name) };
                    let caller = self.caller();
                    self.program = Some(caller);
                    inputs.push(Input::Asked(Question::Serve { methods: vec![lamp] }, caller));
                }
                inputs
            }
            Deed::Doubt(doubtful) => {
                self.doubtful = *doubtful;
                Vec::new()
            }
            Deed::FinishHanded(n) => {
                if *n >= self.handed.len() {
                    return Vec::new();
                }
                let (run, _) = self.handed.remove(*n);
                let finish = || Question::Finish { run, outcome: Outcome::new(Status::DONE, json!("lit")) };
                let (once, twice) = (self.caller(), self.caller());
                vec![Input::Asked(finish(), once), Input::Asked(finish(), twice)]
            }
            Deed::Progress(n) => {
                let text = format!("{} so far", self.deliveries);
                let mut inputs: Vec<Input> =
                    self.running.get(*n).map(|(run, _)| Input::Progress(*run, text.clone())).into_iter().collect();
                if let Some((run, _)) = self.handed.get(*n).cloned() {
                    let caller = self.caller();
                    inputs.push(Input::Asked(Question::Progress { run, text }, caller));
                }
                inputs
            }
            Deed::Probed if self.asked => {
                self.asked = false;
                vec![Input::Probed(Facts::clear(Way::Helper))]
            }
            Deed::ShuttingDown(begins) => {
                self.let_go = false;
                self.going_down = begins.then_some(self.up);
                vec![Input::ShuttingDown(*begins)]
            }
            Deed::Online if self.ordered && !self.connected => {
                self.connected = true;
                vec![Input::Online { session_kept: false, tls: None }]
            }
            Deed::Offline if self.ordered => {
                let reason = if self.closing { Reason::Planned } else { Reason::Closed };
                self.went_offline();
                vec![Input::Offline(reason)]
            }
            Deed::Ends(kind) => {
                let reason = match kind {
                    0 => Reason::Refused { code: 5 },
                    1 => Reason::Undecodable("a length".to_owned()),
                    2 => Reason::Dns("no such host".to_owned()),
                    _ => Reason::Closed,
                };
                if self.ordered {
                    self.went_offline();
                }
                vec![Input::Offline(reason)]
            }
            Deed::Prepared(is_open) => {
                let answer = if *is_open { Ok(()) } else { Err(Reason::Dns("no such host".to_owned())) };
                vec![Input::Prepared(answer)]
            }
            Deed::NetworkChanged => vec![Input::NetworkChanged],
            Deed::ClockStepped(by) => vec![Input::ClockStepped { by: *by }],
            Deed::Keys(has_next) => {
                let found = Found::Usable { public: "PEM".to_owned(), algorithm: "ES256" };
                let (path, folder) = ("/keys/device.key".to_owned(), "/keys".to_owned());
                let others = if *has_next { vec![KeySlot::Next] } else { Vec::new() };
                vec![Input::Key(DeviceKey { is_credential: false, path, folder, found, others, unusable: Vec::new() })]
            }
            Deed::Online | Deed::Offline | Deed::Probed | Deed::Tick => vec![Input::Tick],
        }
    }

    fn caller(&mut self) -> CallerId {
        self.callers += 1;
        CallerId(self.callers)
    }

    fn heard(&mut self, inbound: Inbound) -> Vec<Input> {
        if !self.connected {
            return Vec::new();
        }
        let delivery = Delivery(self.deliveries);
        self.deliveries += 1;
        self.open.insert(delivery);
        vec![Input::Cloud(inbound, delivery)]
    }

    /// What the cloud says of a message, with this status if it says one.
    fn settle(&mut self, id: MessageId, status: u16) -> Vec<Input> {
        // Whatever it is, it was written; where the cloud answers by itself, that must not count.
        let mut inputs = vec![Input::Settled(id)];
        match self.in_flight.remove(&id) {
            Some(Sent::Document(document)) => self.settled = Some((self.up, document)),
            Some(Sent::FetchTwin) if status < 300 => {
                let ((desired, version), reported) = (self.desired.clone(), self.twin.clone());
                inputs.extend(self.heard(Inbound::Twin { id, desired, version, reported }));
            }
            Some(Sent::Patch(patch)) if status < 300 => {
                self.patched(&patch);
                // One that was given up was done long ago; its answer is late.
                let is_late = self.asked_at.is_none_or(|at| self.up >= at + Duration::from_secs(30));
                self.settled = (!is_late).then_some((self.up, Value::Null));
                inputs.extend(self.heard(Inbound::Answered { id, status }));
            }
            Some(Sent::FetchTwin | Sent::Patch(_)) => inputs.extend(self.heard(Inbound::Answered { id, status })),
            Some(Sent::Other) | None => {}
        }
        inputs
    }

    /// The cloud merges a patch, whether we hear of that or not.
    fn patched(&mut self, patch: &Value) {
        merge(&mut self.twin, patch.as_object().expect("a patch is an object"));
        let bytes = Value::Object(self.twin.clone()).to_string().len();
        assert!(bytes <= hub().document.bytes, "a twin of {bytes} bytes");
    }

    /// Somebody who waits on this connection, where the cloud has such.
    fn sender(&mut self) -> Option<ReplyTo> {
        if self.road != Road::Direct || !self.connected {
            return None;
        }
        let rid = format!("{}-{}", self.connection, self.deliveries);
        self.waiting.insert(rid.clone());
        Some(ReplyTo(rid))
    }

    fn went_offline(&mut self) {
        (self.ordered, self.closing, self.connected) = (false, false, false);
        let last = std::mem::take(&mut self.in_flight).into_values().find(Sent::is_reported);
        if let Some(Sent::Document(_) | Sent::Patch(_)) = last {
            // Whether the cloud has it is not known; the rate counts from here.
            self.settled = Some((self.up, Value::Null));
        }
        // It has it, now and then.
        if let Some(Sent::Patch(patch)) = last.filter(|_| self.deliveries.is_multiple_of(2)) {
            self.patched(&patch);
        }
        self.waiting.clear();
        self.asked_at = None;
        self.connection += 1;
    }

    fn heal(&mut self) {
        if self.broken {
            self.disk = Durable::replay(&self.agent.durable().records());
            self.broken = false;
            self.handle(vec![Input::JournalHealed], false);
        }
    }

    fn restart(&mut self) {
        (self.ordered, self.closing, self.connected) = (false, false, false);
        self.stopped = false;
        (self.going_down, self.let_go) = (None, false);
        self.broken = false;
        self.went_offline();
        self.settled = Some((self.up, Value::Null));
        self.running.clear();
        self.handed.clear();
        self.program = None;
        self.asked = false;
        self.open.clear();
        if self.forgets_applications {
            self.disk.rest.applications.clear();
        }
        let now = self.now();
        self.agent = Agent::new(self.settings.clone(), self.disk.clone(), None, 2, &now);
        self.handle(vec![Input::Begin { left_clean: None }], false);
    }

    // === One batch, as the loop does it

    fn handle(&mut self, inputs: Vec<Input>, fails: bool) {
        let before = self.agent.durable().clone();
        let count = inputs.len();
        let effects = self.agent.handle(&self.now(), inputs);
        assert!(effects.len() <= 4 * count + 3 * WINDOW + 16, "{} effects of {count} inputs", effects.len());
        let records: Vec<&Record> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(record) => Some(record),
                _ => None,
            })
            .collect();
        let mut taken_back = self.agent.durable().clone();
        taken_back.roll_back();
        if self.broken {
            assert!(records.is_empty(), "nothing can be written");
        } else {
            assert_eq!(taken_back, before, "taking a batch back is exact");
        }
        if fails && !records.is_empty() {
            self.broken = true;
            let why = "no space left".to_owned();
            let instead = self.agent.handle(&self.now(), [Input::JournalFailed { why, held: effects }]);
            assert!(!instead.iter().any(|effect| matches!(effect, Effect::Record(_))));
            self.agent.stored();
            self.perform(instead);
        } else {
            for record in records {
                let line = serde_json::to_string(record).expect("a record is JSON");
                let read: Record = serde_json::from_str(&line).expect("a record can be read back");
                assert_eq!(&read, record, "what is read back is what was written");
                if !(self.loses_outcomes && matches!(read, Record::Finished { .. })) {
                    self.disk.apply(&read);
                    self.disk.settle();
                }
            }
            self.agent.stored();
            self.perform(effects);
        }
        self.going.clear();
        self.judge();
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ack(delivery) => assert!(self.open.remove(&delivery), "{delivery:?} acknowledged twice"),
                Effect::Start(run, command) => {
                    assert!(self.running.iter().all(|(other, _)| *other != run), "{run:?} is used twice");
                    let application = self.disk.rest.applications.get(&command.method);
                    if application.is_some_and(|known| known.id == command.key.id && known.end.is_none()) {
                        assert!(self.started.insert(command.key.clone()), "one run for each change");
                        let value = Some(command.payload.clone());
                        let may_try_again = std::mem::take(&mut self.may_try_again);
                        assert!(self.applied != value || may_try_again, "run again for the same value");
                        self.applied = value;
                    } else if !HARMLESS.contains(&command.method.as_str()) {
                        let (_, entry) = self.disk.ledger.find(&command.key).expect("on disk before it starts");
                        assert!(!entry.is_waiting(), "its start is on disk");
                        assert!(self.started.insert(command.key.clone()), "{} started twice", command.key);
                    }
                    self.running.push((run, command));
                }
                Effect::Resume(run, command) => self.running.push((run, command)),
                Effect::Hand(to, _, reply) => self.hand(to, &reply),
                Effect::Reply(to, Reply::Is { answer, .. }) if answer.contains_key("stop") => {
                    let run = answer["run"].as_u64().expect("a number");
                    assert!(self.is_there(to), "a program that is gone is told to stop");
                    let is_told_twice = self.told_to_stop.insert(run, self.up).is_some();
                    assert!(!is_told_twice || answer["stop"] == "cancelled", "told twice that its time is over");
                }
                Effect::Probe => self.asked = true,
                Effect::Send(id, message) => self.sent(id, message),
                Effect::Reboot(_) => {
                    let story = self.disk.rest.boots.story.as_ref().expect("its record is on disk");
                    let key = story.key.clone().expect("a command asked for it");
                    assert!(self.started.insert(key.clone()), "asked to reboot twice for {key}");
                }
                Effect::Exit => assert!(self.stopped, "nobody told it to end"),
                Effect::Connect(_) => {
                    assert!(!self.ordered, "a second connection beside the first");
                    // One that still runs after five minutes does not go down.
                    let is_going = |since: Duration| self.up.saturating_sub(since) < Duration::from_secs(303);
                    assert!(!self.going_down.is_some_and(is_going), "a new connection of a machine that goes down");
                    self.ordered = true;
                }
                Effect::LetGo => {
                    assert!(
                        self.going_down.is_some() && !std::mem::replace(&mut self.let_go, true),
                        "let go once a shutdown"
                    );
                }
                // Its end is reported when the story says so.
                Effect::Disconnect => self.closing = true,
                // What is cancelled ends when the story says so.
                Effect::Record(_)
                | Effect::Cancel(_)
                | Effect::CheckLink
                | Effect::Ended { .. }
                | Effect::Refused { .. }
                | Effect::Reply(..)
                | Effect::Reload
                | Effect::Status(_) => {}
                Effect::Prepare => assert!(self.connected && !self.closing, "prepared though no session stands"),
            }
        }
        assert!(self.open.is_empty(), "{:?} were not acknowledged", self.open);
    }

    fn hand(&mut self, to: CallerId, reply: &Reply) {
        let Reply::Is { answer, last: false } = reply else { panic!("{reply:?}") };
        assert!(self.is_there(to), "handed to a program that is gone");
        let text = |name: &str| answer[name].as_str().expect("a text");
        let id = CommandId::parse(text("id")).expect("an id");
        let key = Key { target: request("echo", None, Value::Null).target, id };
        let (_, entry) = self.disk.ledger.find(&key).expect("on disk before it is handed over");
        assert!(!entry.is_waiting(), "its start is on disk");
        assert!(self.started.insert(key.clone()), "{key} started twice");
        let method = Method::parse(text("method")).expect("a name");
        let run = answer["run"].as_u64().expect("a number");
        if Some(to) == self.program {
            self.handed.push((run, Command { key, method, payload: Value::Null }));
        }
    }

    fn is_there(&self, program: CallerId) -> bool {
        self.program == Some(program) || self.going.contains(&program)
    }

    fn sent(&mut self, id: MessageId, message: Outbound) {
        assert!(self.connected, "sent while there is no connection");
        let is_patched = matches!(message, Outbound::ReportedPatch(_) | Outbound::FetchTwin);
        let is_reported = is_patched || matches!(message, Outbound::Reported(_));
        assert!(!is_reported || is_patched == (self.road == Road::Direct), "this cloud has no such message");
        if is_patched && self.asked_at.is_none_or(|at| self.up >= at + Duration::from_secs(30)) {
            // The last one was given up; it may have arrived even so.
            let last = self.in_flight.iter().find(|(_, sent)| sent.is_reported()).map(|(id, _)| *id);
            if let Some(Sent::Patch(patch)) = last.and_then(|id| self.in_flight.remove(&id)) {
                self.patched(&patch);
                self.settled = None;
            }
        }
        if is_patched {
            self.asked_at = Some(self.up);
        }
        assert!(!is_reported || !self.in_flight.values().any(Sent::is_reported), "one of them at a time");
        let sent = match message {
            Outbound::Answer(answer) => {
                let rid = answer.reply_to.as_ref().map(|reply_to| reply_to.0.as_str());
                let is_awaited = rid.is_some_and(|rid| self.waiting.remove(rid));
                assert!(self.road != Road::Direct || is_awaited, "{} is answered to nobody who waits", answer.id);
                if answer.last {
                    self.told(&answer);
                }
                Sent::Other
            }
            Outbound::Telemetry(_) => Sent::Other,
            Outbound::FetchTwin => Sent::FetchTwin,
            Outbound::ReportedPatch(patch) => {
                let bytes = patch.to_string().len();
                assert!(bytes <= hub().document.bytes, "a patch of {bytes} bytes");
                if let Some((at, _)) = &self.settled {
                    assert!(self.up >= *at + Duration::from_secs(1), "faster than the cloud allows");
                }
                Sent::Patch(patch)
            }
            Outbound::Reported(document) => {
                let commands = document["commands"].to_string().len();
                assert!(commands <= COMMANDS, "{commands} bytes of commands");
                if let Some((at, last)) = &self.settled {
                    assert!(self.up >= *at + Duration::from_secs(1), "faster than the cloud allows");
                    assert_ne!(*last, document, "sent though the cloud has it");
                }
                Sent::Document(document)
            }
        };
        assert!(self.in_flight.insert(id, sent).is_none(), "{id:?} is used twice");
        assert!(self.in_flight.len() <= WINDOW, "{} are on their way", self.in_flight.len());
    }

    /// The outcome of a recorded command never changes. Refusals are told under the same ids and are no outcomes.
    fn told(&mut self, answer: &Answer) {
        let Answer { id, method, status, payload, .. } = answer;
        let key = Key { target: request("echo", None, Value::Null).target, id: id.clone() };
        let Some((_, entry)) = self.disk.ledger.find(&key) else { return };
        if matches!(*status, Status::DONE | Status::FAILED) && *method == Some(entry.method.clone()) {
            let outcome = Outcome::new(*status, payload.clone());
            let first = self.outcomes.entry(id.clone()).or_insert_with(|| outcome.clone());
            let is_same = *first == outcome || *payload == json!({ "payloadDropped": true });
            assert!(is_same && first.status == *status, "{id} was told {first:?} and then {outcome:?}");
        }
    }

    fn judge(&mut self) {
        let durable = self.agent.durable();
        if !self.broken {
            assert_eq!(self.disk, *durable, "the journal leads to the same state");
        }
        assert_eq!(Durable::replay(&durable.records()), *durable, "and so does a compacted one");
        for local in [false, true] {
            assert!(durable.ledger.untold().filter(|(_, entry)| entry.local == local).count() <= UNTOLD);
        }
        for spec in &self.settings.methods {
            let runs = self.running.iter().filter(|(_, command)| command.method == spec.name).count();
            let most = match spec.class {
                Class::Exclusive | Class::Serial(_) => 1,
                Class::Parallel(most) => most,
            };
            assert!(runs <= most, "{runs} of {} run", spec.name);
        }
        // It has a while to end what it was told to stop.
        let over =
            |run: &u64| self.told_to_stop.get(run).is_some_and(|told| self.up >= *told + Duration::from_secs(10));
        let alive: Vec<(u64, Command)> = self.handed.iter().filter(|(run, _)| !over(run)).cloned().collect();
        self.handed = alive;
        assert!(self.handed.len() <= 3 + 3, "{} were handed over", self.handed.len());
        let all =
            || self.running.iter().map(|(_, command)| command).chain(self.handed.iter().map(|(_, command)| command));
        let names: Vec<&str> = all().map(|command| command.method.as_str()).collect();
        let recorded = names.iter().filter(|name| !HARMLESS.contains(name)).count();
        assert!(!names.contains(&"alone") || recorded == 1, "not alone: {names:?}");
        assert!(!self.is_spinning(), "the deadline stays in the past: a hot loop");
    }

    /// Whether ticks at this very moment never come to an end, tried on a copy.
    fn is_spinning(&self) -> bool {
        let now = self.now();
        let mut copy = self.agent.clone();
        for _ in 0..4 {
            if copy.deadline(&now).is_none_or(|due| due > now.boot) {
                return false;
            }
            copy.handle(&now, [Input::Tick]);
            copy.stored();
        }
        true
    }

    // === The end

    /// The cloud and the disk are well and everything ends: nothing may be left.
    pub(crate) fn calm_down(&mut self) {
        self.doubtful = false;
        self.heal();
        if self.stopped {
            self.restart();
        }
        let goes_on = self.inputs_of(&Deed::ShuttingDown(false));
        self.handle(goes_on, false);
        // Nor is a session to be renewed.
        self.settings.terms.lease = None;
        self.handle(vec![Input::Reloaded { settings: Box::new(self.settings.clone()), anew: true }], false);
        self.come_to_rest();
        if self.road == Road::Direct {
            // What was told since is kept shorter, and that alone is no reason to patch the twin.
            let inputs = self.inputs_of(&Deed::Offline);
            self.handle(inputs, false);
            self.come_to_rest();
            let ours = self.ours();
            assert_eq!(Value::Object(self.twin.clone()), ours, "the cloud has another document");
            assert_eq!(ours["desired"]["version"], self.desired.1);
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..400 {
            if self.is_calm() && self.in_flight.is_empty() && self.running.is_empty() && self.connected {
                break;
            }
            let end = if self.closing { Deed::Offline } else { Deed::Online };
            let deeds =
                [end, Deed::SettleAll, Deed::Prepared(true), Deed::Probed, Deed::Finish(0, 1), Deed::FinishHanded(0)];
            let inputs: Vec<Input> = deeds.iter().flat_map(|deed| self.inputs_of(deed)).collect();
            self.handle(inputs, false);
            let due = self.agent.deadline(&self.now()).map_or(Duration::ZERO, |due| due.0.saturating_sub(self.up));
            let millis = u32::try_from(due.as_millis()).expect("no deadline is weeks away") + 1;
            self.pass(millis.min(60_000));
        }
        assert!(self.is_calm(), "due: {:?}", self.agent.deadline(&self.now()));
        assert_eq!(self.agent.durable().ledger.untold_len(), 0, "nothing is untold");
        if let Some(wanted) = self.wanted() {
            assert_eq!(self.applied.clone().unwrap_or_default(), wanted, "what is wanted is what was last applied");
            let ends = self.agent.durable().rest.applications.values().filter_map(|known| known.end.as_ref());
            assert!(ends.into_iter().all(|end| end.again.is_none()), "it was tried until it was done");
        }
        assert!(self.running.is_empty() && self.in_flight.is_empty());
        assert_eq!(self.waiting(), 0, "nothing waits to be run");
    }

    /// The member that a handler is run for, if the cloud has said what it is to be in this run of the daemon.
    fn wanted(&self) -> Option<Value> {
        let mut copy = self.agent.clone();
        let effects = copy.handle(&self.now(), [Input::Asked(Question::Twin, CallerId(1))]);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Is { answer, .. }) => Some(answer),
            _ => None,
        });
        let Some(Value::Object(desired)) = answer?.remove("desired") else { return None };
        desired.get("text").is_none().then(|| desired.get("a").cloned().unwrap_or_default())
    }

    /// How many commands wait, by the status.
    fn waiting(&self) -> u64 {
        let mut copy = self.agent.clone();
        let effects = copy.handle(&self.now(), [Input::Asked(Question::Status { follow: false }, CallerId(1))]);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Is { answer, .. }) => answer["commands"]["waiting"].as_u64(),
            _ => None,
        });
        answer.expect("the status")
    }

    /// The reported document as the agent would have it.
    fn ours(&self) -> Value {
        let mut copy = self.agent.clone();
        let effects = copy.handle(&self.now(), [Input::Asked(Question::Twin, CallerId(1))]);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Is { answer, .. }) => Some(answer["reported"].clone()),
            _ => None,
        });
        answer.expect("the twin")
    }

    /// Nothing is due but the document that is sent once a day, and the note of the time four times a day.
    fn is_calm(&mut self) -> bool {
        let due = self.agent.deadline(&self.now());
        due.is_none_or(|due| due.0.saturating_sub(self.up) > Duration::from_secs(60 * 60))
    }
}
