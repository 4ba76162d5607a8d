//! What a payload of `rebootDevice` asks. Reads and bounds it; whether it is granted is for `policy`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::REBOOT;
use crate::model::command::{Outcome, Status};
use crate::model::duration;
use crate::model::nearest::nearest;
use crate::model::now::Timestamp;

/// The longest `reason` of a command, in bytes.
const REASON: usize = 1_024;

/// How far ahead a reboot may be ordered. Later ones are for whoever plans to order them then.
pub const FARTHEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Members without a meaning that are ignored. All of them are listed in the answer, which must stay small.
const IGNORED: usize = 16;

/// The longest name of an ignored member, in bytes.
const IGNORED_NAME: usize = 64;

/// The members that a payload of `rebootDevice` may have.
const MEMBERS: [&str; 4] = ["delay", "at", "force", "reason"];

/// What a payload of `rebootDevice` asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// When; without it as soon as it may be.
    pub wish: Option<Wish>,
    /// Over the operator's spacing, windows and drain.
    pub force: bool,
    pub reason: Option<String>,
    /// Members that mean nothing to this method.
    pub ignored: Vec<String>,
}

/// When the sender wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So long after it was accepted; at most [`FARTHEST`].
    After(Duration),
    /// At this moment, or as soon after it as may be.
    At(Timestamp),
}

/// Reads the payload; the error is the answer.
pub fn read(payload: &Value) -> Result<Request, Outcome> {
    let nothing = Map::new();
    let members = match payload {
        Value::Null => &nothing,
        Value::Object(members) => members,
        _ => return Err(unfit(format!("the payload of {REBOOT} is a JSON object or nothing"))),
    };
    let mut request = Request::default();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("reason", Value::String(reason)) if reason.len() <= REASON => request.reason = Some(reason.clone()),
            ("reason", _) => return Err(unfit(format!("`reason` is a string of at most {REASON} bytes"))),
            ("force", Value::Bool(force)) => request.force = *force,
            ("force", _) => return Err(unfit("`force` is true or false".to_owned())),
            ("delay" | "at", _) if request.wish.is_some() => {
                return Err(unfit("`delay` and `at` exclude each other; leave one out".to_owned()));
            }
            ("delay", value) => request.wish = Some(Wish::After(delay(value)?)),
            ("at", value) => {
                let time = value.as_str().and_then(|text| text.parse().ok());
                let wrong = || unfit("`at` is a time in RFC 3339, such as \"2026-11-21T04:00:00Z\"".to_owned());
                request.wish = Some(Wish::At(time.ok_or_else(wrong)?));
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

fn delay(value: &Value) -> Result<Duration, Outcome> {
    let delay = value.as_str().and_then(|text| duration::parse(text).ok());
    let delay =
        delay.ok_or_else(|| unfit("`delay` is a duration with its unit, such as \"30s\" or \"1h 30m\"".into()))?;
    if delay > FARTHEST {
        return Err(unfit(format!("`delay` is at most {}", duration::show(FARTHEST))));
    }
    Ok(delay)
}

pub(super) fn unfit(why: String) -> Outcome {
    Outcome::failed(Status::UNFIT_PAYLOAD, why)
}

impl Request {
    /// The request of a command that was accepted. What this version cannot read it was not accepted for.
    pub fn accepted(payload: &Value) -> Self {
        read(payload).unwrap_or_default()
    }

    /// The moment before which it is not wanted.
    pub fn earliest(&self, accepted: Timestamp) -> Timestamp {
        match self.wish {
            None => accepted,
            Some(Wish::After(delay)) => accepted.saturating_add(delay),
            Some(Wish::At(at)) => at.max(accepted),
        }
    }

    /// Whether it was meant for a moment of its own, so that a reboot before does not do it.
    pub fn outlives_a_boot(&self) -> bool {
        self.wish.is_some()
    }
}
