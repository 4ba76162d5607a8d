//! Tells the log what happens: one line a stage of a command or the session, never a payload.
//!
//! What others can cause at will is counted and cut, so that nobody can fill a disk by talking to us.

use std::time::Duration;

use crate::model::agent::{Attempt, Effect, Input};
use crate::model::application::Application;
use crate::model::cloud::Inbound;
use crate::model::device_key::{Found, KeySlot};
use crate::model::now::BootInstant;
use crate::model::record::Record;
use crate::model::wire::{Handshake, Reason};

/// Lines about bad input in one minute; the rest is summed up in one.
const LINES: u32 = 30;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Narrator {
    /// A boot before this one is known, so that another one is news.
    knows_a_boot: bool,
    window: Option<BootInstant>,
    told: u32,
    untold: u32,
}

impl Narrator {
    /// `knows_a_boot`: the journal tells of one.
    pub(super) fn new(knows_a_boot: bool) -> Self {
        Self { knows_a_boot, ..Self::default() }
    }

    pub(super) fn hear(&mut self, inputs: &[Input], now: BootInstant) {
        for input in inputs {
            match input {
                Input::Online { session_kept, tls } => {
                    tracing::info!(session_kept, tls = tls.map(Handshake::name), "connected");
                }
                Input::Prepared(Err(reason)) => {
                    tracing::warn!(
                        "the login cannot be renewed yet, the session goes on: {reason}; hint: {}",
                        reason.hint()
                    );
                }
                Input::Cloud(Inbound::Malformed { status, why, .. }, _) if self.may_tell(now) => {
                    tracing::warn!(%status, "not a command: {why}");
                }
                Input::Cloud(Inbound::Dropped { why }, _) if self.may_tell(now) => {
                    tracing::warn!("a message was dropped: {why}");
                }
                Input::ShuttingDown(true) => tracing::info!("the machine shuts down"),
                Input::ShuttingDown(false) => tracing::info!("the machine does not shut down after all"),
                Input::Key(key) => {
                    match &key.found {
                        Found::Absent => {
                            tracing::info!("there is no key: {}; hint: `sudo twinagent keygen` makes one", key.path);
                        }
                        Found::Awaited(why) => tracing::info!("{why}"),
                        Found::Usable { .. } | Found::Shared | Found::Certificate { .. } | Found::Unusable(_) => {}
                    }
                    for (slot, why) in &key.unusable {
                        tracing::warn!("the {} key cannot be used: {why}", slot.name());
                    }
                }
                Input::Stop => tracing::info!("stopping"),
                _ => {}
            }
        }
    }

    pub(super) fn tell(&mut self, effect: &Effect, now: BootInstant) {
        match effect {
            Effect::Record(Record::Accepted { key, method, .. }) => {
                tracing::info!(id = %key.id, %method, "command accepted");
            }
            Effect::Record(Record::Started { key, until, .. }) => {
                tracing::info!(id = %key.id, simulated = until.is_some(), "command started");
            }
            Effect::Record(Record::Finished { key, outcome, .. }) => {
                tracing::info!(id = %key.id, status = %outcome.status, "command finished");
            }
            Effect::Record(Record::Applying(application)) => {
                let Application { id, method, member, .. } = &**application;
                tracing::info!(%id, %method, member, "desired state: a handler starts for another value");
            }
            Effect::Record(Record::Applied(application)) => {
                let Application { id, method, member, end, .. } = &**application;
                let status = end.as_ref().map(|end| end.status.0);
                tracing::info!(%id, %method, member, status, "desired state: this is what became of a value");
            }
            Effect::Record(Record::Boot { id, .. }) => {
                let is_first = !std::mem::replace(&mut self.knows_a_boot, true);
                tracing::info!(boot = %id, "{}", if is_first { "the first boot that is known" } else { "a new boot" });
            }
            Effect::Ended { reason: Reason::Planned, .. } => tracing::info!("disconnected as planned"),
            Effect::Ended { reason, wait } => {
                let wait = format_args!("{:.1}s", wait.as_secs_f64());
                tracing::warn!(code = reason.code(), %wait, "not connected: {reason}; hint: {}", reason.hint());
            }
            Effect::Connect(Attempt { drop_session: true, .. }) => {
                tracing::warn!(
                    "a packet that cannot be read came again and again: dropping what the broker keeps for us"
                );
            }
            Effect::Connect(Attempt { key, .. }) if *key != KeySlot::Current => {
                tracing::info!(key = key.name(), "logging in with another key than the current one");
            }
            Effect::Refused { id, method, status, why } if self.may_tell(now) => {
                tracing::warn!(%id, %method, %status, "command refused: {why}");
            }
            Effect::Status(sentence) => tracing::debug!("{sentence}"),
            _ => {}
        }
    }

    /// Whether one more line about bad input may be written in this minute.
    fn may_tell(&mut self, now: BootInstant) -> bool {
        if self.window.is_none_or(|start| now.since(start) >= MINUTE) {
            if self.untold > 0 {
                tracing::warn!("{} more messages like these in the last minute", self.untold);
            }
            *self = Self { window: Some(now), told: 0, untold: 0, ..*self };
        }
        let may = self.told < LINES;
        if may {
            self.told += 1;
        } else {
            self.untold = self.untold.saturating_add(1);
        }
        may
    }
}
