//! The story of the last reboot: who asked for it, how far it came, what proved it. The member `reboot` of the reported
//! document.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::command::{Key, Status};
use crate::model::now::{BootId, Doubt, Timestamp};

/// The last reboot: one that was asked for, or one that the machine has done on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Of the command that asked for it.
    #[serde(default)]
    pub key: Option<Key>,
    pub state: State,
    pub reason: Option<String>,
    pub requested: Option<Timestamp>,
    /// Where `requested` is that of a clock which was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_doubt: Option<Doubt>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Where `ended` is that of a clock which was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_doubt: Option<Doubt>,
    /// The boot in which it was asked for, or that it ended.
    pub asked_in: BootId,
    /// The boot that proved it.
    pub proved_by: Option<BootId>,
    pub simulated: bool,
    /// A local program asked for it, not the cloud.
    pub local: bool,
    /// Known once it is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
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

/// What made the machine reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    Command,
    /// Somebody or something on the machine, in good order.
    Local,
    /// Nothing was said before: a loss of power, a crash, a watchdog.
    Unexpected,
}

impl State {
    pub fn of(status: Status) -> Self {
        match status {
            Status::DONE => Self::Completed,
            Status::CANCELLED => Self::Cancelled,
            Status::HELD_BACK | Status::TOO_MANY => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl Story {
    pub fn is_of(&self, key: &Key) -> bool {
        self.key.as_ref() == Some(key)
    }

    /// It is known when the kernel of this boot started, whose clock was wrong by so many microseconds when the boot was
    /// noted.
    pub fn correct(&mut self, boot: BootId, kernel_start: Timestamp, by: i64) {
        let right = |doubt: &mut Option<Doubt>| {
            let right = doubt.and_then(|doubt| doubt.resolved(boot, kernel_start));
            if right.is_some() {
                *doubt = None;
            }
            right
        };
        if let Some(requested) = right(&mut self.requested_doubt) {
            self.requested = Some(requested);
        }
        if let Some(ended) = right(&mut self.ended_doubt) {
            self.ended = Some(ended);
        } else if self.proved_by == Some(boot) && self.asked_in != boot {
            self.ended = self.ended.map(|ended| ended.shifted(by));
        }
    }

    /// Whether its end is still to come.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Scheduled | State::Rebooting)
    }

    /// The member `reboot` of the reported document. `doubtful`: the clock of the boot that proved it is not set, so
    /// nobody knows how long the machine was down.
    pub fn document(&self, doubtful: bool) -> Value {
        let completed = self.ended.filter(|_| self.state == State::Completed);
        let asked_by = if self.local { Cause::Local } else { Cause::Command };
        let mut document = json!({
            "state": self.state,
            "cause": self.cause.unwrap_or(asked_by),
            "simulated": self.simulated,
        });
        let down = self.started.zip(completed).filter(|_| !doubtful);
        let optional = [
            ("commandId", self.key.as_ref().map(|key| json!(key.id))),
            ("reason", self.reason.as_ref().map(|reason| json!(reason))),
            ("requestedAt", self.requested.map(|at| json!(at))),
            ("startedAt", self.started.map(|at| json!(at))),
            ("completedAt", completed.map(|at| json!(at))),
            ("downSeconds", down.map(|(from, to)| json!(seconds(to.since(from))))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_of_an_older_journal_is_read_and_one_without_a_command_comes_back() {
        let older = r#"{"key":{"target":"gw","id":"r1"},"state":"completed","reason":null,
            "requested":"2026-11-21T04:00:00.000000Z","started":null,"ended":null,
            "askedIn":"7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10","provedBy":null,"simulated":false,"local":false}"#;
        let mut story: Story = serde_json::from_str(older).expect("as it was written before there was a cause");
        assert_eq!(story.key.as_ref().map(|key| key.id.as_str()), Some("r1"));
        assert_eq!(story.document(false)["cause"], "command");
        (story.key, story.requested, story.cause) = (None, None, Some(Cause::Unexpected));
        let line = serde_json::to_string(&story).expect("JSON");
        assert_eq!(serde_json::from_str::<Story>(&line).ok(), Some(story));
    }
}
