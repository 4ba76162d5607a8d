//! `rebootDevice`: whether a reboot may be had, and what its 202 says. Then `pending`: when it is due and how it is
//! proved; and `boots`: what is remembered.
//!
//! The life of one reboot is its entry in the ledger. This file reads that entry and says what is next; it performs
//! nothing. That the machine rebooted is known from the kernel's boot id alone, never from a clock or a reply.

pub mod boots;
pub mod pending;
pub mod window;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::command::{Method, Outcome, Status};
use super::ledger::Entry;
use super::nearest::nearest;
use super::now::Now;
use boots::Boots;

/// The method that asks for a reboot.
pub const REBOOT: &str = "rebootDevice";

/// The method that takes a waiting reboot back.
pub const CANCEL: &str = "cancelReboot";

/// The longest `reason` of a command, in bytes.
const REASON: usize = 1_024;

/// Members without a meaning that are ignored. All of them are listed in the answer, which must stay small.
const IGNORED: usize = 16;

/// The longest name of an ignored member, in bytes.
const IGNORED_NAME: usize = 64;

/// The members that a payload of `rebootDevice` may have.
const MEMBERS: [&str; 4] = ["delay", "at", "force", "reason"];

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// Least time between two reboots that were asked for.
    pub min_interval: Duration,
    /// A machine younger than this is not rebooted; needs no disk to be known. Not in a simulation.
    pub min_uptime: Duration,
    /// Time between the acknowledged 202 and the act, so that a reboot can be cancelled.
    pub grace: Duration,
    /// Running handlers are waited for this long after `grace`.
    pub drain: Duration,
}

/// How a reboot is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The machine reboots.
    Machine,
    /// Nothing reboots: the agent disconnects and is back after this time.
    Simulated(Duration),
    /// It cannot be done, and why.
    Unavailable(String),
}

impl Mode {
    /// As the reported document calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Simulated(_) => "simulate",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

pub fn is_reboot(method: &Method) -> bool {
    method.as_str() == REBOOT
}

impl Policy {
    /// Whether a reboot may be taken on now; if not, the answer.
    pub fn judge(&self, payload: &Value, boots: &Boots, now: &Now) -> Result<(), Outcome> {
        read(payload)?;
        if let Mode::Unavailable(why) = &self.mode {
            return Err(Outcome::failed(Status::CANNOT_NOW, why.clone()));
        }
        let too_young = match self.mode {
            Mode::Machine => self.min_uptime.saturating_sub(now.boot.0),
            Mode::Simulated(_) | Mode::Unavailable(_) => Duration::ZERO,
        };
        let too_soon = match boots.last_asked {
            // A clock without a battery comes up a little behind. A reboot that seems to lie further ahead was noted
            // under another clock and says nothing about spacing.
            Some(last) if last.since(now.wall) < self.min_interval => {
                self.min_interval.saturating_sub(now.wall.since(last))
            }
            _ => Duration::ZERO,
        };
        let wait = too_young.max(too_soon);
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let (held_by, why) = if too_young >= too_soon {
            ("minUptime", "the machine has only just started")
        } else {
            ("minInterval", "the last reboot was only just now")
        };
        let payload = json!({ "error": format!("too soon: {why}"), "heldBy": [held_by], "retryAfterSeconds": seconds });
        Err(Outcome::new(Status::TOO_MANY, payload))
    }

    /// What the 202 says.
    pub fn scheduled(&self, entry: &Entry) -> Value {
        let mut answer = json!({
            "commandId": entry.key.id,
            "state": "scheduled",
            "rebootAt": entry.accepted.saturating_add(self.grace),
            "heldBy": [],
        });
        if let Ok(Request { ignored, .. }) = read(&entry.payload)
            && !ignored.is_empty()
        {
            answer["ignored"] = json!(ignored);
        }
        answer
    }
}

/// What a payload of `rebootDevice` asks.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    reason: Option<String>,
    /// Members that mean nothing to this method.
    ignored: Vec<String>,
}

/// Reads the payload of `rebootDevice`; the error is the answer.
fn read(payload: &Value) -> Result<Request, Outcome> {
    let unfit = |why: String| Outcome::failed(Status::UNFIT_PAYLOAD, why);
    let nothing = Map::new();
    let members = match payload {
        Value::Null => &nothing,
        Value::Object(members) => members,
        _ => return Err(unfit(format!("the payload of {REBOOT} is a JSON object or nothing"))),
    };
    let mut request = Request { reason: None, ignored: Vec::new() };
    for (name, value) in members {
        match (name.as_str(), value) {
            ("reason", Value::String(reason)) if reason.len() <= REASON => request.reason = Some(reason.clone()),
            ("reason", _) => return Err(unfit(format!("`reason` is a string of at most {REASON} bytes"))),
            ("delay" | "at" | "force", _) => {
                return Err(unfit(format!("`{name}` is not understood by this version; leave it out")));
            }
            (unknown, _) if request.ignored.len() >= IGNORED || unknown.len() > IGNORED_NAME => {
                return Err(unfit("too many or too long members that are not understood; leave them out".to_owned()));
            }
            (unknown, _) => match nearest(unknown, MEMBERS) {
                Some(known) => return Err(unfit(format!("unknown member `{unknown}`; did you mean `{known}`?"))),
                None => request.ignored.push(unknown.to_owned()),
            },
        }
    }
    Ok(request)
}
