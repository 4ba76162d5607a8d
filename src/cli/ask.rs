//! Asking the daemon that runs on this machine, and what to tell a person if it cannot be asked.

use std::io::{self, Read as _};

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use super::{Exit, Failure};
use crate::config::Folders;
use crate::local::client::{Client, ClientError, Wait};
use crate::local::interface::LARGEST_TELEMETRY;

/// A payload or patch of the command line, and a message of telemetry, has at most so many bytes.
const LARGEST_INPUT: usize = LARGEST_TELEMETRY;

/// One question and its answer.
pub(super) fn ask(folders: &Folders, method: &str, parameters: &Value) -> Result<Value, Failure> {
    Ok(Client::connect(&folders.runtime)?.call(method, parameters, Wait::Short)?.into())
}

/// Something to be done at once, and what is said of it.
pub(super) fn tell(folders: &Folders, method: &str, parameters: &Value) -> Result<Value, Failure> {
    Ok(Client::connect(&folders.runtime)?.call(method, parameters, Wait::Disk)?.into())
}

/// One question and each of its answers, until the last or until `each` says that it has seen enough.
pub(super) fn follow(
    folders: &Folders,
    method: &str,
    parameters: &Value,
    mut each: impl FnMut(Value) -> io::Result<bool>,
) -> Result<(), Failure> {
    let mut failed = None;
    let mut client = Client::connect(&folders.runtime)?;
    client.follow(method, parameters, |answer| match each(answer.into()) {
        Ok(goes_on) => goes_on,
        Err(error) => {
            failed = Some(error);
            false
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = error.hint().map(str::to_owned);
        match &error {
            _ if error.is_not_permitted() => Self::new(Exit::NotPermitted, error)
                .hint(hint.unwrap_or_else(|| "ask as root, or as a member of a group that [local] names".to_owned())),
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, error)
                .hint("is it running? `systemctl status twinagent` tells, `sudo systemctl start twinagent` starts it"),
            ClientError::Lost(_) => {
                Self::new(Exit::Unreachable, error).hint("has it ended? `systemctl status twinagent` and its log tell")
            }
            ClientError::Silent(_) => Self::new(Exit::Unreachable, error).hint(
                "is it stopped, or is its disk slow? `systemctl status twinagent` and its log tell, \
                 `sudo systemctl restart twinagent` starts it anew",
            ),
            ClientError::Refused { .. } | ClientError::NotUnderstood(_) => Self::new(Exit::Failed, error),
        }
    }
}

/// All of stdin.
pub(super) fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LARGEST_INPUT).expect("small");
    io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).context("stdin cannot be read")?;
    if bytes.len() > LARGEST_INPUT {
        return Err(Failure::new(Exit::Failed, anyhow!("stdin has more than {LARGEST_INPUT} bytes")));
    }
    Ok(bytes)
}

/// JSON of the command line; `-` reads it from stdin. `what` names it for people.
pub(super) fn json(what: &str, argument: &str) -> Result<Value, Failure> {
    let from_stdin = if argument == "-" { Some(stdin()?) } else { None };
    serde_json::from_slice(from_stdin.as_deref().unwrap_or(argument.as_bytes())).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("the {what} is not JSON"));
        Failure::new(Exit::Usage, error)
            .hint("quote it for the shell: '{\"reason\": \"text\"}'; a bare text is '\"text\"'")
    })
}
