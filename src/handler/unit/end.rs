//! What the end of a job is as an outcome, and what keeps one from beginning, in words for whoever sent the command.

use serde_json::{Value, json};

use crate::host::journal::{Logs, Query};
use crate::host::services::{Active, CallError, Exit, State};
use crate::model::command::{Outcome, Status};
use crate::model::unit_name::UnitName;

/// Lines of the log that come with an outcome, and their characters in all.
const LINES: u16 = 50;
const MOST: usize = 4_096;

/// Exit codes with a meaning (sysexits.h), the same as for programs.
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;

/// How following it came to an end.
pub(super) enum End {
    /// systemd knows nothing of it.
    Gone,
    /// Nothing goes on any more. `job`: how systemd's last job for it ended. `is_known`: it was seen before its end.
    Settled { state: Box<State>, job: Option<String>, is_known: bool },
    /// It was to stop, has had all the time that systemd gives it, and is still there or not heard of.
    Overdue { invocation: String },
}

/// The end of the log, or why it is not there.
pub(super) type Log = Result<Vec<String>, String>;

/// Whether the unit is one whose result lasts until it was read.
pub(super) fn check_template(state: &State, name: &UnitName) -> Result<(), Outcome> {
    let template = match name.as_str().split_once('@') {
        Some((prefix, _)) => format!("{prefix}@.service"),
        None => name.to_string(),
    };
    let mend = "then `sudo systemctl daemon-reload`";
    let why = match state.load.as_str() {
        "loaded" if state.kind != "oneshot" => {
            format!("{template} has Type={}; hint: a job has Type=oneshot, {mend}", state.kind)
        }
        "loaded" if !state.remains => format!(
            "{template} has not RemainAfterExit=yes, so its result could be lost; hint: set it under [Service], {mend}"
        ),
        "loaded" if state.collect == "inactive-or-failed" => format!(
            "{template} has CollectMode=inactive-or-failed, so its result could be lost; hint: leave that out, {mend}"
        ),
        "loaded" => return Ok(()),
        "not-found" => format!("there is no unit {template}; hint: put it into /etc/systemd/system, {mend}"),
        "masked" => format!("{template} is masked; hint: `sudo systemctl unmask {template}`"),
        other => format!("{template} cannot be used ({other}); hint: `systemd-analyze verify {template}`"),
    };
    Err(Outcome::failed(Status::FAILED, why))
}

/// The outcome of a call that systemd did not do.
pub(super) fn refused(error: &CallError, verb: &str, name: &UnitName) -> Outcome {
    match error {
        CallError::Lost(_) => {
            Outcome::failed(Status::CANNOT_NOW, format!("{error}; hint: jobs need D-Bus and systemd"))
        }
        CallError::Refused(why) => Outcome::failed(
            Status::FAILED,
            format!(
                "the agent may not {verb} {name}: {why}; hint: polkit 0.106 or newer, with the rule of this package \
                 (/usr/share/polkit-1/rules.d/50-twinagent.rules), lets it"
            ),
        ),
        CallError::NoSuchUnit(_) | CallError::Failed(_) => {
            Outcome::failed(Status::FAILED, format!("{name} cannot be used: {error}"))
        }
    }
}

/// The last lines that the job wrote in this start of it, within a part of what an answer may hold.
pub(super) async fn tail(logs: &Logs, name: &UnitName, state: &State, output_limit: usize) -> Log {
    if state.invocation.is_empty() {
        // It has not started. What there may be in the log is of another one.
        return Ok(Vec::new());
    }
    let query = Query { lines: LINES, invocation: Some(state.invocation.clone()), ..Query::of(name.clone()) };
    let lines = logs.read(&query).await.map_err(|error| error.to_string())?;
    let mut left = MOST.min(output_limit / 2);
    let mut tail: Vec<String> = Vec::new();
    for entry in lines.entries.into_iter().rev() {
        // As JSON, which is how it counts.
        let length = Value::from(entry.message.as_str()).to_string().len() + 1;
        let Some(rest) = left.checked_sub(length) else { break };
        left = rest;
        tail.push(entry.message);
    }
    tail.reverse();
    Ok(tail)
}

/// The outcome of a job that has ended. `stopped`: what is to be said if it ended because it was told to.
pub(super) fn outcome(state: &State, job: Option<&str>, stopped: Option<Outcome>, log: Log) -> Outcome {
    let is_done = state.active == Active::Active && state.result == "success";
    let (status, error) = match (state.active, stopped, state.exit) {
        _ if is_done => (Status::DONE, None),
        (_, Some(stopped), _) => (stopped.status, stopped.payload["error"].as_str().map(str::to_owned)),
        (Active::Failed, None, Some(Exit::Code(EX_DATAERR))) if state.result == "exit-code" => {
            (Status::UNFIT_PAYLOAD, Some("the payload is not what the job takes (exit status 65)".to_owned()))
        }
        (Active::Failed, None, Some(Exit::Code(EX_TEMPFAIL))) if state.result == "exit-code" => {
            (Status::CANNOT_NOW, Some("the job cannot be done now (exit status 75)".to_owned()))
        }
        (Active::Failed, None, _) if state.result == "timeout" => {
            (Status::TIMED_OUT, Some("stopped after the time limit of its unit".to_owned()))
        }
        (Active::Failed, None, exit) => (Status::FAILED, Some(failure(&state.result, exit))),
        _ => (Status::FAILED, Some(idle(job))),
    };
    let mut payload = json!({ "result": state.result });
    if let Some(error) = error {
        payload["error"] = error.into();
    }
    match state.exit {
        Some(Exit::Code(0)) | None => {}
        Some(Exit::Code(code)) => payload["exitCode"] = code.into(),
        Some(Exit::Signal(signal)) => payload["signal"] = signal.into(),
    }
    match log {
        Ok(log) => payload["log"] = log.into(),
        Err(why) => payload["logMissing"] = why.into(),
    }
    Outcome::new(status, payload)
}

/// The outcome of a job that was told to stop and whose end did not come. `stopped`: what its end would have been.
pub(super) fn overdue(stopped: &Outcome, name: &UnitName) -> Outcome {
    let why = stopped.payload["error"].as_str().unwrap_or_default();
    let why =
        format!("{why}, but {name} has not ended in the time that it has for that; hint: `systemctl status {name}`");
    Outcome::failed(stopped.status, why)
}

fn failure(result: &str, exit: Option<Exit>) -> String {
    match (result, exit) {
        ("exit-code", Some(Exit::Code(code))) => format!("the job failed with exit status {code}"),
        ("signal" | "core-dump", Some(Exit::Signal(signal))) => format!("the job was ended by signal {signal}"),
        ("oom-kill", _) => "the job was ended because memory ran out".to_owned(),
        (result, _) => format!("the job failed: {result}"),
    }
}

/// Of a job that is inactive, though nobody told us to stop it.
fn idle(job: Option<&str>) -> String {
    match job {
        Some("dependency") => "the job did not run: a unit that it needs failed".to_owned(),
        Some("done" | "skipped") => {
            "the job did not run, since a condition of its unit was not met, or it was stopped by somebody else"
                .to_owned()
        }
        Some(result) => format!("the job did not run to its end: systemd says `{result}`"),
        None => "the job was stopped by somebody else".to_owned(),
    }
}
