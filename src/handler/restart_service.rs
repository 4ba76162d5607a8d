//! `restartService`: restarts one unit of systemd, as far as polkit lets the agent.
//!
//! Only if `methods.enable` names it. Which units that are is written by `twinagent allow-units` into polkit's rules, and
//! nowhere else. Of the agent's own unit the answer comes from the next life of the agent.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Handler, Running, interrupted};
use crate::config::Folders;
use crate::host::services::{Active, CallError, Changes, Exit, Loaded, Services};
use crate::model::command::{Class, Command, Method, MethodSpec, Outcome, Status};
use crate::model::payload::{Member, PayloadRules, Shape};
use crate::model::unit_name::UnitName;

/// Most units may take 90 s to stop and as many to start (systemd-system.conf(5)).
const LIMIT: Duration = Duration::from_secs(200);

#[derive(Clone, Debug)]
pub struct RestartService {
    bus: String,
}

impl RestartService {
    pub fn new(folders: &Folders) -> Self {
        Self { bus: folders.bus.clone() }
    }
}

impl Handler for RestartService {
    fn spec(&self) -> MethodSpec {
        let unit = Member { required: true, shape: Shape::Text { longest: 255, one_of: Vec::new() } };
        MethodSpec {
            class: Class::Serial(8),
            time_limit: LIMIT,
            description: "Restarts a unit of systemd that was allowed by `twinagent allow-units`".to_owned(),
            payload: Some(PayloadRules { members: [("unit".to_owned(), unit)].into(), others: false }),
            // systemd goes on with it, and it may be the agent itself that stops for it.
            outlives: true,
            ..MethodSpec::new(Method::parse("restartService").expect("`restartService` is a method name"))
        }
    }

    fn run(&self, command: &Command, _: Context) -> Running {
        let (bus, name) = (self.bus.clone(), name(&command.payload));
        Box::pin(async move {
            match name {
                Ok(name) => restart(&bus, &name).await.unwrap_or_else(|error| refused(&error, &name)),
                Err(outcome) => outcome,
            }
        })
    }

    /// That we run again is the answer, where we were to be restarted. What became of another unit nobody saw.
    fn resume(&self, cut: &Command, _: Context) -> Running {
        let (bus, name) = (self.bus.clone(), name(&cut.payload));
        Box::pin(async move {
            let own = match Services::connect(&bus).await {
                Ok(services) => services.own().await,
                Err(error) => Err(error),
            };
            match (own, name) {
                (Ok(own), Ok(name)) if own == name => {
                    Outcome::new(Status::DONE, json!({ "unit": name, "state": "active" }))
                }
                _ => interrupted(),
            }
        })
    }
}

fn name(payload: &Value) -> Result<UnitName, Outcome> {
    let name = UnitName::parse(payload["unit"].as_str().unwrap_or_default());
    name.map_err(|error| Outcome::failed(Status::UNFIT_PAYLOAD, format!("`unit` is {error}")))
}

async fn restart(bus: &str, asked: &UnitName) -> Result<Outcome, CallError> {
    let services = Services::connect(bus).await?;
    let unit = services.load(asked).await?;
    // Of one that goes by several names, that of polkit's rule.
    let name = unit.name();
    let before = services.state(&unit).await?;
    if before.load != "loaded" {
        let why = match before.load.as_str() {
            "not-found" => format!("there is no unit {name}"),
            load => format!("{name} cannot be restarted: it is {load}"),
        };
        return Ok(Outcome::failed(Status::FAILED, why));
    }
    let mut changes = services.changes(&unit).await?;
    match services.restart(&unit).await {
        Err(error @ CallError::Refused(_)) => return Ok(refused(&error, name)),
        // 503 would be word to send it again, and it may have been done.
        Err(CallError::Lost(why)) => {
            let why = format!(
                "systemd was asked to restart {name}, and did not answer ({why}); whether it has started is not known"
            );
            return Ok(Outcome::failed(Status::FAILED, why));
        }
        begun => begun?,
    }
    match ended(&services, &unit, &mut changes).await {
        Err(CallError::Lost(why)) => {
            let why =
                format!("systemd restarts {name}, and was lost then ({why}); whether it has started is not known");
            Ok(Outcome::failed(Status::FAILED, why))
        }
        outcome => outcome,
    }
}

/// The outcome of a restart that has begun.
async fn ended(services: &Services, unit: &Loaded, changes: &mut Changes) -> Result<Outcome, CallError> {
    let name = unit.name();
    loop {
        let state = services.state(unit).await?;
        // A restart is over with its job; that of a unit which restarts itself again and again, too.
        if !state.has_job && (state.is_settled() || changes.job().is_some()) {
            let job = changes.job();
            let is_done = state.active != Active::Failed && job.as_deref().is_none_or(|job| job == "done");
            let shown = match state.active {
                Active::Active => "active",
                Active::Changing => "changing",
                Active::Inactive => "inactive",
                Active::Failed => "failed",
            };
            let mut payload = json!({ "unit": name, "state": shown });
            if is_done {
                return Ok(Outcome::new(Status::DONE, payload));
            }
            let why = job.filter(|job| job != "done").unwrap_or_else(|| state.result.clone());
            payload["error"] = format!("{name} did not start again: {why}; hint: `systemctl status {name}`").into();
            match state.exit {
                Some(Exit::Code(code)) if code != 0 => payload["exitCode"] = code.into(),
                Some(Exit::Signal(signal)) => payload["signal"] = signal.into(),
                _ => {}
            }
            return Ok(Outcome::new(Status::FAILED, payload));
        }
        changes.next().await?;
    }
}

fn refused(error: &CallError, name: &UnitName) -> Outcome {
    match error {
        CallError::Lost(_) => Outcome::failed(Status::CANNOT_NOW, error.to_string()),
        CallError::Refused(why) => Outcome::failed(
            Status::FAILED,
            format!("the agent may not restart {name}: {why}; hint: `sudo twinagent allow-units {name}`"),
        ),
        error => Outcome::failed(Status::FAILED, format!("{name} cannot be restarted: {error}")),
    }
}

#[cfg(test)]
mod tests;
