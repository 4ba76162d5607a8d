//! What is remembered of boots, and of the last reboot. A part of the durable half: only records change it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::is_reboot;
use super::request::Request;
use super::story::{Cause, State, Story};
use crate::model::command::{Key, Outcome, Status};
use crate::model::ledger::Entry;
use crate::model::now::{BootId, BootInstant, Doubt, Timestamp};
use crate::model::record::Record;

/// Reboots that are remembered. More than the breaker may be told to count.
pub const REMEMBERED: usize = 32;

/// What is remembered of boots and of the last reboot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boots {
    /// The newest boot that we knew.
    pub current: Option<Boot>,
    pub previous: Option<BootId>,
    /// When the newest boot that followed another began; in a simulation, when that ended.
    pub reboot_time: Option<Timestamp>,
    /// When the last reboot was asked for.
    pub last_asked: Option<Timestamp>,
    pub story: Option<Story>,
    /// How often the daemon began in the newest boot.
    pub starts: u32,
    /// `last_asked` on the clocks of then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The last reboots, whoever caused them, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
}

/// One run of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    pub id: BootId,
    /// Wall clock at the start of the kernel.
    pub time: Timestamp,
    /// `time` is that of a clock that was not set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
    /// What ended the boot before, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// When a reboot was asked for, as no step of the wall clock can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub boot: BootId,
    pub up: BootInstant,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
}

/// A reboot that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The boot that it led to; in a simulation the one that went on.
    pub boot: BootId,
    pub time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
    /// The machine was well since, so the breaker does not count it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgiven: bool,
}

impl Boots {
    /// Whether [`Boots::apply`] could change anything.
    pub fn is_concerned_by(&self, record: &Record) -> bool {
        match record {
            Record::Boot { .. }
            | Record::BootTime { .. }
            | Record::Began { .. }
            | Record::Boots { .. }
            | Record::GuardCleared { .. } => true,
            Record::Accepted { method, .. } => is_reboot(method),
            Record::Started { key, .. } | Record::Finished { key, .. } => {
                self.story.as_ref().is_some_and(|story| story.is_of(key))
            }
            Record::Told { .. }
            | Record::Seen { .. }
            | Record::Reported { .. }
            | Record::Served { .. }
            | Record::Desired { .. }
            | Record::Applying(_)
            | Record::Applied(_)
            | Record::Unapplied { .. } => false,
        }
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Boots { boots } => *self = (**boots).clone(),
            Record::Boot { id, time, at, doubtful, clean } => {
                let boot = Boot { id: *id, time: *time, doubtful: *doubtful, cause: None };
                self.begins(boot, *at, *clean);
            }
            Record::BootTime { boot, time, .. } => self.correct(*boot, *time),
            Record::Began { .. } => self.starts = self.starts.saturating_add(1),
            Record::GuardCleared { .. } => self.past.iter_mut().for_each(|past| past.forgiven = true),
            Record::Accepted { key, method, payload, local, boot, at, up, doubtful, .. } if is_reboot(method) => {
                self.story = Some(Story {
                    key: Some(key.clone()),
                    state: State::Scheduled,
                    reason: Request::accepted(payload).reason,
                    requested: Some(*at),
                    requested_doubt: up.filter(|_| *doubtful).map(|up| Doubt { boot: *boot, up }),
                    started: None,
                    ended: None,
                    ended_doubt: None,
                    asked_in: *boot,
                    proved_by: None,
                    simulated: false,
                    local: *local,
                    cause: None,
                });
            }
            Record::Started { key, boot, at, until, up, doubtful } => {
                if let Some(story) = self.story.as_mut().filter(|story| story.is_of(key)) {
                    story.state = State::Rebooting;
                    story.started = Some(*at);
                    story.simulated = until.is_some();
                    // One that has outlived a boot is proved by the next one after this.
                    story.asked_in = *boot;
                    self.last_asked = Some(*at);
                    self.asked = up.map(|up| Asked { boot: *boot, up, doubtful: *doubtful });
                }
            }
            Record::Finished { key, outcome, at, doubt } => self.end_of_story(key, outcome.status, *at, *doubt),
            Record::Accepted { .. }
            | Record::Told { .. }
            | Record::Seen { .. }
            | Record::Reported { .. }
            | Record::Served { .. }
            | Record::Desired { .. }
            | Record::Applying(_)
            | Record::Applied(_)
            | Record::Unapplied { .. } => {}
        }
    }

    fn begins(&mut self, mut boot: Boot, at: Timestamp, clean: Option<bool>) {
        if let Some(before) = self.current.filter(|before| before.id != boot.id) {
            self.previous = Some(before.id);
            self.reboot_time = Some(boot.time);
            let open = self.story.as_ref().filter(|story| story.is_open());
            boot.cause = match (open, clean) {
                (Some(story), _) if story.state == State::Rebooting && !story.simulated => {
                    Some(if story.local { Cause::Local } else { Cause::Command })
                }
                (_, Some(true)) => Some(Cause::Local),
                (_, Some(false)) => Some(Cause::Unexpected),
                (_, None) => None,
            };
            if let (None, Some(cause)) = (open, boot.cause) {
                self.story = Some(Story {
                    key: None,
                    state: State::Completed,
                    reason: None,
                    requested: None,
                    requested_doubt: None,
                    started: None,
                    ended: Some(at),
                    ended_doubt: None,
                    asked_in: before.id,
                    proved_by: Some(boot.id),
                    simulated: false,
                    local: false,
                    cause: Some(cause),
                });
            }
            let Boot { id, time, doubtful, cause } = boot;
            self.remember(Past { boot: id, time, cause, simulated: false, doubtful, forgiven: false });
        }
        self.current = Some(boot);
        self.starts = 0;
    }

    /// The clock was set: this is when the kernel really started.
    fn correct(&mut self, boot: BootId, time: Timestamp) {
        let Some(current) = self.current.as_mut().filter(|current| current.id == boot && current.doubtful) else {
            return;
        };
        let wrong = std::mem::replace(&mut current.time, time);
        current.doubtful = false;
        // What has no note of the boot clock was noted when the boot was.
        let by = time.unix_micros().saturating_sub(wrong.unix_micros());
        let ended = self.story.as_ref().and_then(|story| story.ended);
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.boot == boot && asked.doubtful) {
            asked.doubtful = false;
            self.last_asked = Some(time.saturating_add(asked.up.0));
            if let Some(story) = self.story.as_mut().filter(|story| story.asked_in == boot && story.started.is_some()) {
                story.started = self.last_asked;
            }
        }
        if let Some(story) = &mut self.story {
            story.correct(boot, time, by);
        }
        let right_end = self.story.as_ref().and_then(|story| story.ended);
        if self.reboot_time == Some(wrong) {
            self.reboot_time = Some(time);
        } else if self.reboot_time.is_some() && self.reboot_time == ended {
            self.reboot_time = right_end;
        }
        for past in self.past.iter_mut().filter(|past| past.boot == boot && past.doubtful) {
            let is_last = past.simulated && Some(past.time) == ended;
            past.time = right_end.filter(|_| is_last).unwrap_or(past.time.shifted(by));
            past.doubtful = false;
        }
    }

    fn remember(&mut self, past: Past) {
        self.past.push(past);
        let too_many = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..too_many);
    }

    fn end_of_story(&mut self, key: &Key, status: Status, at: Timestamp, doubt: Option<Doubt>) {
        let current = self.current;
        let Some(story) = self.story.as_mut().filter(|story| story.is_of(key)) else { return };
        (story.ended, story.ended_doubt) = (Some(at), doubt);
        story.state = State::of(status);
        let (true, Some(current)) = (status == Status::DONE, current) else { return };
        story.simulated = current.id == story.asked_in;
        story.proved_by = Some(current.id);
        if story.simulated {
            self.reboot_time = Some(at);
            let Boot { id, doubtful, .. } = current;
            self.remember(Past {
                boot: id,
                time: at,
                cause: Some(Cause::Command),
                simulated: true,
                doubtful,
                forgiven: false,
            });
        } else {
            story.cause = current.cause;
        }
    }

    // === What it says

    /// How often the daemon began anew in the newest boot.
    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    /// The reboots that the breaker counts, oldest first.
    pub fn counted(&self) -> impl Iterator<Item = &Past> {
        self.past.iter().filter(|past| !past.forgiven)
    }

    /// The member `reboot` of the reported document, without what only this run of the daemon knows.
    pub fn document(&self) -> Option<Value> {
        let doubtful = self.current.filter(|current| current.doubtful).map(|current| current.id);
        self.story.as_ref().map(|story| story.document(doubtful.is_some() && story.proved_by == doubtful))
    }

    /// The outcome of a reboot that another boot id has proved.
    pub(super) fn proved(&self, entry: &Entry) -> Outcome {
        let boot = self.current;
        let mut payload = json!({
            "commandId": entry.key.id,
            "state": "completed",
            "rebootTime": boot.map(|boot| boot.time),
            "bootId": boot.map(|boot| boot.id),
            "previousBootId": self.previous,
            "simulated": false,
        });
        if let Some(cause) = boot.and_then(|boot| boot.cause) {
            payload["cause"] = json!(cause);
        }
        if boot.is_some_and(|boot| boot.doubtful) {
            payload["clock"] = json!("doubtful");
        }
        Outcome::new(Status::DONE, payload)
    }
}

impl Boot {
    /// The member `boot` of the reported document. `unchecked`: nobody says that the clock is right.
    pub fn document(&self, unchecked: bool) -> Value {
        let clock = match (self.doubtful, unchecked) {
            (true, _) => "doubtful",
            (false, true) => "unchecked",
            (false, false) => "synchronized",
        };
        json!({ "id": self.id, "time": self.time, "clock": clock })
    }
}

impl Past {
    pub fn document(&self) -> Value {
        let mut document = json!({ "bootId": self.boot, "time": self.time, "simulated": self.simulated });
        if let Some(cause) = self.cause {
            document["cause"] = json!(cause);
        }
        document
    }
}
