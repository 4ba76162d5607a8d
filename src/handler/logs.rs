//! `getLogs`: the newest lines that a unit wrote into the journal of the system, by way of the service that may read it.
//!
//! Only if `methods.enable` names it. Which units may be asked for, that service decides by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Handler, Running};
use crate::config::Folders;
use crate::host::clock;
use crate::host::journal::{LogError, Logs, MOST_BYTES, MOST_LINES, Query};
use crate::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};
use crate::model::duration;
use crate::model::now::Timestamp;
use crate::model::payload::{Member, PayloadRules, Shape};
use crate::model::unit_name::UnitName;

/// Whose log is read where none is named.
const OWN: &str = "twinagent.service";

/// Lines where no number is named.
const LINES: u16 = 100;

/// Names of priorities, by their numbers (syslog(3)).
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

#[derive(Clone, Debug)]
pub struct GetLogs {
    logs: Logs,
}

impl GetLogs {
    pub fn new(folders: &Folders) -> Self {
        Self { logs: Logs::beside(&folders.logs()) }
    }
}

impl Handler for GetLogs {
    fn spec(&self) -> MethodSpec {
        let member = |shape| Member { required: false, shape };
        let text = |longest| Shape::Text { longest, one_of: Vec::new() };
        let members = [
            ("unit", member(text(255))),
            ("lines", member(Shape::Integer { min: 1, max: i64::from(MOST_LINES) })),
            ("since", member(text(64))),
            ("priority", member(Shape::Any)),
        ];
        MethodSpec {
            harmless: true,
            // Each makes a process, on a machine that may be small.
            class: Class::Parallel(2),
            time_limit: Duration::from_secs(30),
            // What is around the lines is small.
            output_limit: MOST_BYTES + 1_024,
            description: "Shows the newest lines of a unit's log".to_owned(),
            payload: Some(PayloadRules {
                members: members
                    .into_iter()
                    .map(|(name, member)| (name.to_owned(), member))
                    .collect::<BTreeMap<_, _>>(),
                others: false,
            }),
            ..MethodSpec::new(Method::parse("getLogs").expect("`getLogs` is a method name"))
        }
    }

    fn run(&self, command: &Command, _: Context) -> Running {
        let (logs, query) = (self.logs.clone(), query(&command.payload, clock::wall()));
        Box::pin(async move {
            match query {
                Ok(query) => answer(&query, &logs).await,
                Err(why) => Outcome::failed(Status::UNFIT_PAYLOAD, why),
            }
        })
    }
}

async fn answer(query: &Query, logs: &Logs) -> Outcome {
    match logs.read(query).await {
        Ok(lines) => {
            let mut payload = json!({ "unit": query.unit, "entries": lines.entries });
            if lines.truncated {
                payload["truncated"] = true.into();
            }
            Outcome::new(Status::DONE, payload)
        }
        Err(error @ LogError::NotListed(_)) => Outcome::failed(Status::UNFIT_PAYLOAD, error.to_string()),
        Err(error @ LogError::Unreachable(_)) => Outcome::failed(Status::CANNOT_NOW, error.to_string()),
        Err(error @ LogError::Failed(_)) => Outcome::failed(Status::FAILED, error.to_string()),
    }
}

/// What a payload asks; the error is for people.
fn query(payload: &Value, now: Timestamp) -> Result<Query, String> {
    let unit = match &payload["unit"] {
        Value::Null => UnitName::parse(OWN),
        unit => UnitName::parse(unit.as_str().unwrap_or_default()),
    };
    let lines = match &payload["lines"] {
        Value::Null => Some(LINES),
        lines => {
            lines.as_u64().and_then(|lines| u16::try_from(lines).ok()).filter(|lines| (1..=MOST_LINES).contains(lines))
        }
    };
    Ok(Query {
        unit: unit.map_err(|error| format!("`unit` is {error}"))?,
        lines: lines.ok_or_else(|| format!("`lines` is a number from 1 to {MOST_LINES}"))?,
        since: since(&payload["since"], now)?,
        priority: priority(&payload["priority"])?,
        invocation: None,
    })
}

fn since(since: &Value, now: Timestamp) -> Result<Option<Timestamp>, String> {
    if since.is_null() {
        return Ok(None);
    }
    let text = since.as_str().unwrap_or_default();
    let ago = duration::parse(text).map(|ago| now.saturating_sub(ago)).ok();
    let moment = ago.or_else(|| text.parse().ok());
    moment.map(Some).ok_or_else(|| "`since` is a duration such as \"1h\" or a time in RFC 3339".to_owned())
}

fn priority(priority: &Value) -> Result<Option<u8>, String> {
    let number = match priority {
        Value::Null => return Ok(None),
        Value::String(name) => PRIORITIES.iter().position(|known| known == name).and_then(|at| u8::try_from(at).ok()),
        number => number.as_u64().and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= 7),
    };
    number.map(Some).ok_or_else(|| format!("`priority` is a number from 0 to 7, or one of {}", PRIORITIES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_asks_for_lines_within_bounds() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        let own = query(&Value::Null, now).expect("nothing is enough");
        assert_eq!((own.unit.as_str(), own.lines, own.since, own.priority), (OWN, LINES, None, None));
        let payload = json!({ "unit": "ssh.service", "lines": 1000, "since": "1h 30m", "priority": "err" });
        let asked = query(&payload, now).expect("all of it is known");
        assert_eq!((asked.unit.as_str(), asked.lines, asked.priority), ("ssh.service", 1_000, Some(3)));
        assert_eq!(asked.since.map(|since| since.to_string()).as_deref(), Some("2026-11-23T10:30:00.000000Z"));
        let exact = query(&json!({ "since": "2026-11-23T10:30:00Z", "priority": 7 }), now).expect("a time, a number");
        assert_eq!((exact.since, exact.priority), (asked.since, Some(7)));
        for (wrong, member) in [
            (json!({ "unit": "*" }), "unit"),
            (json!({ "unit": 7 }), "unit"),
            (json!({ "unit": "--since=now.service" }), "unit"),
            (json!({ "lines": 0 }), "lines"),
            (json!({ "lines": 1001 }), "lines"),
            (json!({ "lines": 1.5 }), "lines"),
            (json!({ "since": "yesterday" }), "since"),
            (json!({ "since": 5 }), "since"),
            (json!({ "priority": 8 }), "priority"),
            (json!({ "priority": "loud" }), "priority"),
        ] {
            let why = query(&wrong, now).expect_err("out of bounds");
            assert!(why.starts_with(&format!("`{member}`")), "{wrong}: {why}");
        }
    }
}
