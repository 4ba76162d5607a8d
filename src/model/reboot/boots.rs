//! What is remembered of boots, and of the last reboot that was asked for. A part of the durable half.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{is_reboot, read};
use crate::model::command::{Key, Outcome, Status};
use crate::model::ledger::Entry;
use crate::model::now::{BootId, Timestamp};
use crate::model::record::Record;

/// What is remembered of boots and of the last reboot that was asked for.
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
}

/// One run of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    pub id: BootId,
    /// Wall clock at the start of the kernel.
    pub time: Timestamp,
}

/// The last reboot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    pub key: Key,
    pub state: State,
    pub reason: Option<String>,
    pub requested: Timestamp,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// The boot in which it was asked for.
    pub asked_in: BootId,
    /// The boot that proved it.
    pub proved_by: Option<BootId>,
    pub simulated: bool,
    /// A local program asked for it, not the cloud.
    pub local: bool,
}

/// How far the last reboot has come, as the reported document calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Scheduled,
    Rebooting,
    Completed,
    Failed,
    Cancelled,
    Refused,
}

impl Boots {
    /// Whether [`Boots::apply`] could change anything.
    pub fn is_concerned_by(&self, record: &Record) -> bool {
        match record {
            Record::Boot { .. } | Record::Began { .. } | Record::Boots { .. } => true,
            Record::Accepted { method, .. } => is_reboot(method),
            Record::Started { key, .. } | Record::Finished { key, .. } => {
                self.story.as_ref().is_some_and(|story| story.key == *key)
            }
            Record::Told { .. } | Record::Reported { .. } | Record::Desired { .. } => false,
        }
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Boots { boots } => *self = (**boots).clone(),
            Record::Boot { id, time, .. } => {
                if let Some(before) = self.current.filter(|before| before.id != *id) {
                    self.previous = Some(before.id);
                    self.reboot_time = Some(*time);
                }
                self.current = Some(Boot { id: *id, time: *time });
                self.starts = 0;
            }
            Record::Began { .. } => self.starts = self.starts.saturating_add(1),
            Record::Accepted { key, method, payload, local, boot, at, .. } if is_reboot(method) => {
                self.story = Some(Story {
                    key: key.clone(),
                    state: State::Scheduled,
                    reason: read(payload).ok().and_then(|request| request.reason),
                    requested: *at,
                    started: None,
                    ended: None,
                    asked_in: *boot,
                    proved_by: None,
                    simulated: false,
                    local: *local,
                });
            }
            Record::Started { key, at, until, .. } => {
                if let Some(story) = self.story.as_mut().filter(|story| story.key == *key) {
                    story.state = State::Rebooting;
                    story.started = Some(*at);
                    story.simulated = until.is_some();
                    self.last_asked = Some(*at);
                }
            }
            Record::Finished { key, outcome, at } => self.end_of_story(key, outcome.status, *at),
            Record::Accepted { .. } | Record::Told { .. } | Record::Reported { .. } | Record::Desired { .. } => {}
        }
    }

    /// How often the daemon began anew in the newest boot.
    pub fn restarts(&self) -> u32 {
        self.starts.saturating_sub(1)
    }

    fn end_of_story(&mut self, key: &Key, status: Status, at: Timestamp) {
        let current = self.current.map(|boot| boot.id);
        let Some(story) = self.story.as_mut().filter(|story| story.key == *key) else { return };
        story.ended = Some(at);
        story.state = match status {
            Status::DONE => State::Completed,
            Status::CANCELLED => State::Cancelled,
            Status::HELD_BACK => State::Refused,
            _ => State::Failed,
        };
        if status == Status::DONE {
            let really = current != Some(story.asked_in);
            story.proved_by = current;
            story.simulated = !really;
            if !really {
                self.reboot_time = Some(at);
            }
        }
    }

    /// The outcome of a reboot that another boot id has proved.
    pub(super) fn proved(&self, entry: &Entry) -> Outcome {
        let boot = self.current;
        let payload = json!({
            "commandId": entry.key.id,
            "state": "completed",
            "rebootTime": boot.map(|boot| boot.time),
            "bootId": boot.map(|boot| boot.id),
            "previousBootId": entry.boot,
            "simulated": false,
        });
        Outcome::new(Status::DONE, payload)
    }
}

impl Story {
    /// The member `reboot` of the reported document.
    pub fn document(&self) -> Value {
        let completed = self.ended.filter(|_| self.state == State::Completed);
        let mut document = json!({
            "state": self.state,
            "commandId": self.key.id,
            "cause": if self.local { "local" } else { "command" },
            "requestedAt": self.requested,
            "simulated": self.simulated,
        });
        let optional = [
            ("reason", self.reason.as_ref().map(|reason| json!(reason))),
            ("startedAt", self.started.map(|at| json!(at))),
            ("completedAt", completed.map(|at| json!(at))),
            ("downSeconds", self.started.zip(completed).map(|(from, to)| json!(seconds(to.since(from))))),
            ("bootId", self.proved_by.map(|id| json!(id))),
            ("previousBootId", self.proved_by.map(|_| json!(self.asked_in))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                document[name] = value;
            }
        }
        document
    }
}

/// Seconds with one digit behind the point: more would claim a precision that nobody measured.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
