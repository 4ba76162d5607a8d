//! How a unit stands, as systemd tells it in the properties of the unit and of the service (org.freedesktop.systemd1(5)).
//! Reads; what follows from it, others know.

use std::collections::HashMap;
use std::time::Duration;

use zbus::message::Message;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::CallError;
use crate::host::clock;

/// The longest text of a unit that is passed on, in characters. Its author may be anybody.
const LONGEST: usize = 200;

/// A unit at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    pub active: Active,
    /// Such as `running`, `exited`, `auto-restart`.
    pub sub: String,
    /// Something is queued or under way for it: it is being started, stopped or restarted.
    pub has_job: bool,
    /// `inactive`: what failed stays in memory until it is reset.
    pub collect: String,
    /// Since its state last changed, without the time that the machine slept.
    pub unchanged_for: Duration,
    /// Since it last began to start, without the time that the machine slept; nothing if it never has.
    pub begun: Option<Duration>,
    /// Of this start, in hexadecimal; empty if it has not started.
    pub invocation: String,
    /// `oneshot`, `simple` …; empty where it is no service. So are all that follow.
    pub kind: String,
    pub remains: bool,
    /// How long it may take to stop (`TimeoutStopSec=`); nothing where that has no end.
    pub stops_within: Option<Duration>,
    /// `success`, `exit-code`, `signal`, `timeout`, `oom-kill` …
    pub result: String,
    /// How its main process ended, if it has.
    pub exit: Option<Exit>,
    /// What it last said of itself (`STATUS=` of `sd_notify(3)`), in a line; may be empty.
    pub said: String,
}

/// `ActiveState`, as far as somebody asks for the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// Runs, or has run to its end and remains.
    Active,
    /// On its way to another state: `activating`, `deactivating`, `reloading`, `refreshing`, `maintenance`.
    Changing,
    Inactive,
    Failed,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// By this signal, with or without a core.
    Signal(i32),
}

impl State {
    /// Nothing is under way, and nothing will be by itself.
    pub fn is_settled(&self) -> bool {
        !self.has_job && self.active != Active::Changing
    }

    pub(super) fn read(unit: &Message, service: Option<&Message>) -> Result<Self, CallError> {
        let unit = Properties::read(unit)?;
        let service = service.map_or_else(|| Ok(Properties::default()), Properties::read)?;
        Ok(Self {
            load: unit.text("LoadState"),
            active: match unit.text("ActiveState").as_str() {
                "active" => Active::Active,
                "inactive" => Active::Inactive,
                "failed" => Active::Failed,
                // What a later systemd may say is not an end.
                _ => Active::Changing,
            },
            sub: unit.text("SubState"),
            has_job: unit.has_job(),
            collect: unit.text("CollectMode"),
            unchanged_for: since(unit.number("StateChangeTimestampMonotonic")),
            begun: Some(unit.number("InactiveExitTimestampMonotonic")).filter(|at| *at != 0).map(since),
            invocation: unit.bytes("InvocationID"),
            kind: service.text("Type"),
            remains: matches!(service.get("RemainAfterExit"), Some(Value::Bool(true))),
            stops_within: Some(service.number("TimeoutStopUSec"))
                .filter(|time| ![0, u64::MAX].contains(time))
                .map(Duration::from_micros),
            result: service.text("Result"),
            exit: service.exit(),
            said: service.text("StatusText"),
        })
    }
}

/// `at`: microseconds of `CLOCK_MONOTONIC`.
fn since(at: u64) -> Duration {
    clock::awake().saturating_sub(Duration::from_micros(at))
}

#[derive(Default)]
struct Properties(HashMap<String, OwnedValue>);

impl Properties {
    fn read(answer: &Message) -> Result<Self, CallError> {
        let all = answer.body().deserialize().map_err(|error| CallError::Failed(error.to_string()))?;
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&Value<'_>> {
        self.0.get(name).map(|value| &**value)
    }

    /// In one line, and not without end.
    fn text(&self, name: &str) -> String {
        let Some(Value::Str(text)) = self.get(name) else { return String::new() };
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn number(&self, name: &str) -> u64 {
        if let Some(Value::U64(number)) = self.get(name) { *number } else { 0 }
    }

    fn bytes(&self, name: &str) -> String {
        let Some(Value::Array(bytes)) = self.get(name) else { return String::new() };
        let hex = |byte: &Value<'_>| if let Value::U8(byte) = byte { format!("{byte:02x}") } else { String::new() };
        bytes.iter().take(16).map(hex).collect()
    }

    /// `Job`: its number, which is 0 where there is none, and its path.
    fn has_job(&self) -> bool {
        let job = self.0.get("Job").and_then(|job| job.try_clone().ok());
        let job: Option<(u32, OwnedObjectPath)> = job.and_then(|job| job.try_into().ok());
        job.is_some_and(|(number, _)| number != 0)
    }

    /// `ExecMainCode` is `si_code` of sigaction(2): 1 `CLD_EXITED`, 2 `CLD_KILLED`, 3 `CLD_DUMPED`.
    fn exit(&self) -> Option<Exit> {
        let (Some(Value::I32(code)), Some(Value::I32(status))) = (self.get("ExecMainCode"), self.get("ExecMainStatus"))
        else {
            return None;
        };
        match code {
            1 => Some(Exit::Code(*status)),
            2 | 3 => Some(Exit::Signal(*status)),
            _ => None,
        }
    }
}
