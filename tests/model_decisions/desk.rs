//! An agent on the desk: it is given inputs, its records are kept, and its effects are handed back.
//!
//! Nothing is performed by itself but what a story is not about: the connection comes up, and the cloud acknowledges.

use std::time::Duration;

use serde_json::{Map, Value};
use twinagent::model::agent::{Agent, Attempt, Effect, Input, Settings};
use twinagent::model::cloud::{Answer, Inbound, Outbound, Road};
use twinagent::model::command::{Command, Method, Outcome, Request, Status};
use twinagent::model::durable::Durable;
use twinagent::model::now::{Clock, Now};
use twinagent::model::patch::merge;
use twinagent::model::reboot::Mode;
use twinagent::model::reboot::facts::{Facts, Way};
use twinagent::model::record::Record;
use twinagent::model::runs::RunId;
use twinagent::model::wire::{Delivery, MessageId, Reason};

use crate::given::{moment, settings};

pub(crate) const SIMULATED: Mode = Mode::Simulated(Duration::from_secs(20));

pub(crate) struct Desk {
    pub agent: Agent,
    pub settings: Settings,
    pub records: Vec<Record>,
    /// The last reported document that was sent.
    pub twin: Value,
    /// Whether the cloud acknowledges what it is sent, at once.
    pub acknowledges: bool,
    /// What a cloud has that is read and sent patches.
    pub hub: Hub,
    /// What becomes of the stream of the next connection; without it, nothing.
    pub stream: Option<Result<(), Reason>>,
    /// What the machine says when it is asked; without it, it says nothing.
    pub facts: Option<Facts>,
    /// Whether the wall clock may be believed.
    pub clock: Clock,
    /// The machine says that it will shut down before it does.
    pub is_orderly: bool,
    /// The time that has passed; a story may set it ahead.
    pub wall: Duration,
    /// How far the wall clock is off, in seconds.
    off: i64,
    kernel_start: Duration,
    boot: u128,
    deliveries: u64,
}

impl Desk {
    /// Online, on a machine that has been up for 1 000 s.
    pub(crate) fn new(road: Road, mode: Mode) -> Self {
        Self::with(settings(road, mode))
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut desk = Self::offline(settings);
        desk.online();
        desk.wait(2);
        desk
    }

    /// Before its first connection.
    pub(crate) fn offline(settings: Settings) -> Self {
        let wall = Duration::from_secs(1_000);
        let now = moment(wall, Duration::ZERO, 1);
        let mut desk = Self {
            agent: Agent::new(settings.clone(), Durable::default(), None, 1, &now),
            settings,
            records: Vec::new(),
            twin: Value::Null,
            acknowledges: true,
            hub: Hub::default(),
            stream: Some(Ok(())),
            facts: Some(Facts::clear(Way::Logind)),
            clock: Clock::Trusted,
            is_orderly: false,
            wall,
            off: 0,
            kernel_start: Duration::ZERO,
            boot: 1,
            deliveries: 0,
        };
        desk.take([Input::Begin { left_clean: Some(false) }]);
        desk
    }

    pub(crate) fn now(&self) -> Now {
        let now = moment(self.wall, self.kernel_start, self.boot);
        let off = Duration::from_secs(self.off.unsigned_abs());
        let wall = if self.off < 0 { now.wall.saturating_sub(off) } else { now.wall.saturating_add(off) };
        Now { wall, clock: self.clock, ..now }
    }

    // === What happens

    /// Handles one batch, and what the cloud and the machine say to it in further ones.
    pub(crate) fn take(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let mut all = self.take_one(inputs);
        let mut seen = 0;
        loop {
            let news = all[seen..].to_vec();
            let answers: Vec<Input> = news.iter().filter_map(|effect| self.answer_to(effect)).collect();
            if answers.is_empty() {
                return all;
            }
            seen = all.len();
            let more = self.take_one(answers);
            all.extend(more);
        }
    }

    fn answer_to(&mut self, effect: &Effect) -> Option<Input> {
        match effect {
            Effect::Send(id, message @ (Outbound::FetchTwin | Outbound::ReportedPatch(_))) if self.acknowledges => {
                let answer = self.hub.answer(*id, message)?;
                Some(self.delivery(answer))
            }
            Effect::Send(id, _) if self.acknowledges => Some(Input::Settled(*id)),
            Effect::Prepare => self.stream.clone().map(Input::Prepared),
            Effect::Probe => self.facts.clone().map(Input::Probed),
            _ => None,
        }
    }

    fn take_one(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let effects = self.agent.handle(&self.now(), inputs);
        self.agent.stored();
        for effect in &effects {
            match effect {
                Effect::Record(record) => self.records.push(record.clone()),
                Effect::Send(_, Outbound::Reported(document)) => self.twin = document.clone(),
                Effect::Send(_, Outbound::ReportedPatch(patch)) => {
                    self.hub.patches.push(patch.clone());
                }
                _ => {}
            }
        }
        effects
    }

    pub(crate) fn hear(&mut self, request: Request) -> Vec<Effect> {
        self.hear_all([request])
    }

    /// All of them in one batch.
    pub(crate) fn hear_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<Effect> {
        let inputs = self.deliveries(requests);
        self.take(inputs)
    }

    pub(crate) fn deliveries(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<Input> {
        requests.into_iter().map(|request| self.delivery(Inbound::Command(request))).collect()
    }

    pub(crate) fn delivery(&mut self, inbound: Inbound) -> Input {
        self.deliveries += 1;
        Input::Cloud(inbound, Delivery(self.deliveries))
    }

    pub(crate) fn ends(&mut self, run: RunId, outcome: Outcome) -> Vec<Effect> {
        self.take([Input::Finished(run, outcome)])
    }

    pub(crate) fn online(&mut self) -> Vec<Effect> {
        self.take([Input::Online { session_kept: false, tls: None }])
    }

    pub(crate) fn cut(&mut self) -> Vec<Effect> {
        self.take([Input::Offline(Reason::Closed)])
    }

    /// Lets time pass, with a tick whenever the agent asked for one.
    pub(crate) fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        let end = self.wall + Duration::from_secs(seconds);
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let due = self.agent.deadline(&self.now()).map(|due| self.kernel_start + due.0).filter(|due| *due <= end);
            let Some(due) = due else {
                self.wall = end;
                return all;
            };
            self.wall = due.max(self.wall);
            let more = self.take([Input::Tick]);
            all.extend(more);
        }
        panic!("the deadline never moves on: a hot loop");
    }

    /// The wall clock jumps by so many seconds; the boot clock goes on as before.
    pub(crate) fn steps(&mut self, seconds: i64) {
        self.off += seconds;
    }

    /// A batch that cannot be written; what is done instead.
    pub(crate) fn fails(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        let held = self.agent.handle(&self.now(), inputs);
        assert!(held.iter().any(|effect| matches!(effect, Effect::Record(_))), "nothing was to be written");
        self.take([Input::JournalFailed { why: "no space left".to_owned(), held }])
    }

    pub(crate) fn heals(&mut self) -> Vec<Effect> {
        self.records = self.agent.durable().records();
        self.take([Input::JournalHealed])
    }

    /// Another process in the same boot, with the same settings unless they were changed; online again.
    pub(crate) fn restarts(&mut self) -> Vec<Effect> {
        let now = self.now();
        self.agent = Agent::new(self.settings.clone(), Durable::replay(&self.records), None, 2, &now);
        let mut effects = self.take([Input::Begin { left_clean: Some(self.is_orderly) }]);
        if effects.contains(&Effect::Connect(Attempt::default())) {
            effects.extend(self.online());
        }
        effects
    }

    /// The machine starts anew: another boot, 30 s later.
    pub(crate) fn boots(&mut self) -> Vec<Effect> {
        self.wall += Duration::from_secs(10);
        self.kernel_start = self.wall;
        self.wall += Duration::from_secs(20);
        self.boot += 1;
        self.restarts()
    }
}

/// A cloud that has a twin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hub {
    pub desired: Map<String, Value>,
    pub version: u64,
    pub reported: Map<String, Value>,
    /// The next requests are answered with these; 0: not at all.
    pub statuses: Vec<u16>,
    /// The next patches are answered with these; 0: not at all.
    pub patch_statuses: Vec<u16>,
    /// Patches that are answered so have been applied even so.
    pub applies_failed: bool,
    /// All that it was sent.
    pub patches: Vec<Value>,
}

impl Hub {
    fn answer(&mut self, id: MessageId, message: &Outbound) -> Option<Inbound> {
        if !self.statuses.is_empty() {
            let status = self.statuses.remove(0);
            return (status > 0).then_some(Inbound::Answered { id, status });
        }
        if let Outbound::ReportedPatch(patch) = message {
            if !self.patch_statuses.is_empty() {
                let status = self.patch_statuses.remove(0);
                if self.applies_failed {
                    merge(&mut self.reported, patch.as_object().expect("a patch is an object"));
                }
                return (status > 0).then_some(Inbound::Answered { id, status });
            }
            merge(&mut self.reported, patch.as_object().expect("a patch is an object"));
            return Some(Inbound::Answered { id, status: 204 });
        }
        let (desired, reported) = (self.desired.clone(), self.reported.clone());
        Some(Inbound::Twin { id, desired, version: self.version, reported })
    }
}

// === What is to be seen in effects

pub(crate) fn starts(effects: &[Effect]) -> Vec<RunId> {
    started(effects).into_iter().map(|(run, _)| run).collect()
}

pub(crate) fn started(effects: &[Effect]) -> Vec<(RunId, Command)> {
    let start = |effect: &Effect| match effect {
        Effect::Start(run, command) => Some((*run, command.clone())),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

pub(crate) fn acks(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Ack(_))).count()
}

pub(crate) fn answers(effects: &[Effect]) -> Vec<Answer> {
    let answer = |effect: &Effect| match effect {
        Effect::Send(_, Outbound::Answer(answer)) => Some(answer.clone()),
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

/// Which messages are answers.
pub(crate) fn answer_ids(effects: &[Effect]) -> Vec<MessageId> {
    let id = |effect: &Effect| match effect {
        Effect::Send(id, Outbound::Answer(_)) => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(id).collect()
}

/// Ids and statuses of the answers.
pub(crate) fn told(effects: &[Effect]) -> Vec<(String, u16)> {
    answers(effects).into_iter().map(|answer| (answer.id.to_string(), answer.status.0)).collect()
}

pub(crate) fn status_of(effects: &[Effect], id: &str) -> Option<u16> {
    told(effects).into_iter().rev().find(|(told, _)| told == id).map(|(_, status)| status)
}

/// The one answer among the effects.
pub(crate) fn answer(effects: &[Effect]) -> Answer {
    let [answer] = &answers(effects)[..] else { panic!("not one answer: {:?}", told(effects)) };
    answer.clone()
}

pub(crate) fn documents(effects: &[Effect]) -> Vec<Value> {
    let document = |effect: &Effect| match effect {
        Effect::Send(_, Outbound::Reported(document)) => Some(document.clone()),
        _ => None,
    };
    effects.iter().filter_map(document).collect()
}

pub(crate) fn patches(effects: &[Effect]) -> Vec<Value> {
    let patch = |effect: &Effect| match effect {
        Effect::Send(_, Outbound::ReportedPatch(patch)) => Some(patch.clone()),
        _ => None,
    };
    effects.iter().filter_map(patch).collect()
}

/// How often the twin is asked for.
pub(crate) fn fetches(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send(_, Outbound::FetchTwin))).count()
}

pub(crate) fn sends(effects: &[Effect]) -> Vec<MessageId> {
    let send = |effect: &Effect| match effect {
        Effect::Send(id, _) => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(send).collect()
}

pub(crate) fn sentences(effects: &[Effect]) -> Vec<String> {
    let sentence = |effect: &Effect| match effect {
        Effect::Status(sentence) => Some(sentence.clone()),
        _ => None,
    };
    effects.iter().filter_map(sentence).collect()
}

pub(crate) fn method(name: &str) -> Method {
    Method::parse(name).expect("a method name")
}

pub(crate) fn done(payload: Value) -> Outcome {
    Outcome::new(Status::DONE, payload)
}

/// The machine is asked to reboot.
pub(crate) fn is_rebooting(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Reboot(_)))
}
