//! `twinagent invoke`: a command, on the same road as one from the cloud.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::ask::{follow, json};
use super::document::{count, word_or_dash};
use super::output::{note, pretty, print};
use super::{Exit, Failure};
use crate::config::Folders;
use crate::local::client::ClientError;
use crate::model::command::{CommandId, Method};
use crate::model::reboot::is_reboot;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do; `twinagent methods` lists what there is
    #[arg(value_parser = Method::parse)]
    method: Method,
    /// JSON; `-` reads it from stdin
    payload: Option<String>,
    /// Name the command, so that the same one sent again does not run again
    #[arg(long, value_parser = CommandId::parse)]
    id: Option<CommandId>,
}

/// Prints the payload of the outcome, and to stderr how far the command has come.
pub(super) fn run(folders: &Folders, arguments: &Arguments) -> Result<(), Failure> {
    let payload = arguments.payload.as_deref().map_or(Ok(Value::Null), |payload| json("payload", payload))?;
    let mut parameters = json!({ "method": arguments.method, "payload": payload });
    if let Some(id) = &arguments.id {
        parameters["id"] = json!(id);
    }
    let mut told = Value::Null;
    let heard = follow(folders, "Invoke", &parameters, |answer| {
        told = answer;
        if told.get("final") == Some(&json!(false)) {
            note(&format!("{} {}", word_or_dash(&told, "/id"), state(&told)))?;
        }
        Ok(true)
    });
    let id = word_or_dash(&told, "/id");
    if let Err(failure) = heard {
        return Err(match failure.cause() {
            _ if told.is_null() => failure,
            Some(ClientError::Lost(_)) => unknown(&arguments.method, &told),
            _ => failure.hint(format!("`twinagent history {id}` tells how it ended")),
        });
    }
    if let Some(payload) = told.get("payload").filter(|payload| !payload.is_null()) {
        print(&pretty(payload))?;
    }
    let status = count(&told, "/status").unwrap_or_default();
    match status {
        200..400 => Ok(note(&format!("{id} {status}"))?),
        _ => Err(Failure::new(Exit::Failed, anyhow!("{} {id} ended with {status}", arguments.method))),
    }
}

/// The daemon went away after it had accepted the command. That is how a reboot begins, so it may be no failure at all.
fn unknown(asked: &Method, told: &Value) -> Failure {
    let id = word_or_dash(told, "/id");
    let method = told.pointer("/method").and_then(Value::as_str).and_then(|name| Method::parse(name).ok());
    let machine = if is_reboot(method.as_ref().unwrap_or(asked)) { "; the machine may be going down" } else { "" };
    let why = anyhow!("the daemon ended before the outcome of {id} was known{machine}");
    Failure::new(Exit::Unreachable, why).hint(format!("`twinagent history {id}` tells it afterwards"))
}

/// Where a command is that has not ended: how it goes, if it says so.
fn state(told: &Value) -> String {
    let said = told.pointer("/payload/progress").or_else(|| told.pointer("/payload/state"));
    let words = said.and_then(Value::as_str).map_or("accepted".to_owned(), super::output::plain);
    format!("{} {words}; its outcome follows", word_or_dash(told, "/status"))
}
