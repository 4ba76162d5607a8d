//! The reboot under way: told, then the grace, then the act, then the proof. Says what is next and performs nothing.

use std::time::Duration;

use serde_json::json;

use super::boots::Boots;
use super::{Mode, Policy};
use crate::model::command::{Outcome, Status};
use crate::model::ledger::{Entry, Run};
use crate::model::now::{BootInstant, Now};

/// The cloud gets this long to acknowledge the 202; then the reboot goes on without.
pub const TELL_WITHIN: Duration = Duration::from_secs(10);

/// A machine that still runs this long after it was asked to reboot will not do it any more.
pub const REBOOT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The reboot under way, as far as this run of the daemon knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When this run of the daemon took it on or found it.
    since: BootInstant,
    /// The cloud has acknowledged a reported document that shows it.
    shown: bool,
    /// When the cloud had acknowledged that document and the 202.
    told: Option<BootInstant>,
    /// When the simulation ends, or when it is too late for the machine to still do it.
    end: Option<BootInstant>,
}

/// What is next for a reboot.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this moment, unless something happens.
    Wait(BootInstant),
    /// Now.
    Act,
    /// It is over.
    End(Outcome),
}

impl Pending {
    pub fn new(now: &Now) -> Self {
        Self { since: now.boot, shown: false, told: None, end: None }
    }

    /// The cloud has acknowledged something. `answered`: it has the 202. `shown`: this was a document with the reboot.
    pub fn settled(&mut self, answered: bool, shown: bool, now: &Now) {
        self.shown |= shown;
        if answered && self.shown {
            self.told.get_or_insert(now.boot);
        }
    }

    /// What is next, while `running` other commands run.
    pub fn next(&mut self, entry: &Entry, policy: &Policy, running: usize, boots: &Boots, now: &Now) -> Step {
        match entry.run {
            // It waited to be done without delay, and the machine has rebooted: that was it.
            Run::Waiting if entry.boot != now.boot_id => Step::End(boots.proved(entry)),
            Run::Waiting => self.before_the_act(entry, policy, running, now),
            Run::Started { boot, .. } if boot != now.boot_id => Step::End(boots.proved(entry)),
            Run::Started { at, until, .. } => {
                let end = *self.end.get_or_insert_with(|| {
                    let whole = until.map_or(REBOOT_WITHIN, |until| until.since(at));
                    // Found after a restart, what has passed of it counts, as far as the wall clock can be believed.
                    now.boot + whole.saturating_sub(now.wall.since(at))
                });
                match until {
                    _ if now.boot < end => Step::Wait(end),
                    Some(_) => Step::End(simulated(entry, now)),
                    None => Step::End(Outcome::failed(
                        Status::FAILED,
                        format!("the machine was asked to reboot and still runs {} s later", REBOOT_WITHIN.as_secs()),
                    )),
                }
            }
            Run::Finished { ref outcome, .. } => Step::End(outcome.clone()),
        }
    }

    fn before_the_act(&mut self, entry: &Entry, policy: &Policy, running: usize, now: &Now) -> Step {
        if entry.expires.is_some_and(|expires| now.wall > expires) {
            return Step::End(Outcome::failed(Status::EXPIRED, "expired before the reboot could start"));
        }
        // It was taken on under another configuration.
        if let Mode::Unavailable(why) = &policy.mode {
            return Step::End(Outcome::failed(Status::CANNOT_NOW, why.clone()));
        }
        let told = match self.told {
            Some(told) => told.min(self.since + TELL_WITHIN),
            None if now.boot < self.since + TELL_WITHIN => return Step::Wait(self.since + TELL_WITHIN),
            None => self.since + TELL_WITHIN,
        };
        let due = told + policy.grace;
        if now.boot < due {
            return Step::Wait(due);
        }
        if running == 0 {
            return Step::Act;
        }
        let drained = due + policy.drain;
        if now.boot < drained {
            return Step::Wait(drained);
        }
        let why = format!("{running} commands still run after `reboot.drain` ({} s)", policy.drain.as_secs());
        Step::End(Outcome::new(Status::HELD_BACK, json!({ "error": why, "heldBy": ["drain"] })))
    }
}

/// The outcome of a simulated reboot that is over.
fn simulated(entry: &Entry, now: &Now) -> Outcome {
    let payload = json!({
        "commandId": entry.key.id,
        "state": "completed",
        "rebootTime": now.wall,
        "bootId": now.boot_id,
        "previousBootId": entry.boot,
        "simulated": true,
    });
    Outcome::new(Status::DONE, payload)
}
