//! What keeps a reboot back, and what is told of that: names that programs can read, and the best guess of when.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::facts::Facts;
use crate::model::command::{Outcome, Status};
use crate::model::now::{Now, Timestamp};

/// A change of the expected moment below this is no news: clocks are slewed all the time.
const NEWS: Duration = Duration::from_secs(1);

/// Whoever waits for what nobody can foresee may try again after this.
const RETRY: Duration = Duration::from_secs(60);

/// What holds a reboot back, as answers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeldBy {
    MinInterval,
    MinUptime,
    Window,
    /// The breaker.
    Guard,
    /// The clock is not set, and without it no window can be told.
    Clock,
    /// Commands that still run.
    Drain,
    Inhibitor,
    Veto,
    /// Nobody can reboot the machine.
    NotPermitted,
    /// The machine does not say who holds it back.
    NoAnswer,
}

/// What can be said of a reboot that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    pub held_by: Vec<HeldBy>,
    /// When it will probably be done, if that can be foreseen.
    pub reboot_at: Option<Timestamp>,
    /// `inhibitors` and `vetoes`.
    pub holders: Value,
}

impl Outlook {
    /// Nothing holds it back but time.
    pub fn at(reboot_at: Timestamp, held_by: Vec<HeldBy>) -> Self {
        Self { held_by, reboot_at: Some(reboot_at), holders: json!({}) }
    }

    /// It is due, and this holds it back.
    pub fn held(by: HeldBy) -> Self {
        Self { held_by: vec![by], reboot_at: None, holders: json!({}) }
    }

    /// It is due, and commands that still run are waited for: no longer than until they end, so what was foreseen stands.
    pub fn drains(foreseen: Option<Self>) -> Self {
        let mut outlook = Self::held(HeldBy::Drain);
        outlook.reboot_at = foreseen.and_then(|foreseen| foreseen.reboot_at);
        outlook
    }

    /// It is due, and somebody on the machine holds it back.
    pub fn held_by(facts: &Facts, now: &Now) -> Self {
        let inhibited = (!facts.inhibitors.is_empty()).then_some(HeldBy::Inhibitor);
        let vetoed = facts.vetoes(now).next().map(|_| HeldBy::Veto);
        Self {
            held_by: inhibited.into_iter().chain(vetoed).collect(),
            reboot_at: facts.vetoed_until(now).filter(|_| inhibited.is_none()),
            holders: facts.holders(now),
        }
    }

    /// Whether somebody who knows the other must be told.
    pub fn differs_from(&self, other: &Self) -> bool {
        let moved = match (self.reboot_at, other.reboot_at) {
            (Some(one), Some(two)) => one.since(two).max(two.since(one)) >= NEWS,
            (one, two) => one != two,
        };
        moved || self.held_by != other.held_by || self.holders != other.holders
    }

    /// Its members, written into an answer or a document.
    pub fn write_into(&self, document: &mut Value) {
        document["heldBy"] = json!(self.held_by);
        if let Some(reboot_at) = self.reboot_at {
            document["rebootAt"] = json!(reboot_at);
        }
        for (name, holders) in self.holders.as_object().into_iter().flatten() {
            document[name] = holders.clone();
        }
    }

    /// It was held back for too long, and is given up.
    pub fn given_up(&self, why: &str, now: &Now) -> Outcome {
        let cannot = [HeldBy::Clock, HeldBy::NotPermitted, HeldBy::NoAnswer];
        let is_unable = self.held_by.iter().any(|by| cannot.contains(by));
        let status = if is_unable { Status::CANNOT_NOW } else { Status::HELD_BACK };
        let mut payload = json!({ "error": why });
        self.write_into(&mut payload);
        let wait = self.reboot_at.map_or(RETRY, |at| at.since(now.wall));
        payload["retryAfterSeconds"] = json!(whole_seconds(wait));
        Outcome::new(status, payload)
    }
}

/// Rounded up: whoever comes back after so many seconds is not too early.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
