//! What a local caller can ask the agent, and how it is answered: the neutral words behind the local interface.
//!
//! Who may ask what is judged before a question gets here, by the kernel's word on who is calling.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::command::{CommandId, Method, MethodSpec, Outcome};
use super::telemetry::Subfolder;

/// One caller waiting for an answer. Never used twice in one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub u64);

/// A question. `follow`: further answers come whenever there is something new, until the caller is gone.
#[derive(Clone, PartialEq)]
pub enum Question {
    /// Session, lease, twin, commands under way, problems.
    Status { follow: bool },
    /// The public half of the device's key, and where it comes from.
    Key,
    /// The methods that this device answers.
    Methods,
    /// A command, on the same road as one from the cloud; answered at each change of its status with `follow`, else
    /// with its outcome.
    Invoke { method: Method, payload: Value, id: Option<CommandId>, follow: bool },
    /// Takes back a reboot that waits.
    Cancel { id: CommandId },
    /// What the ledger knows of past commands, newest first, or of one.
    History { id: Option<CommandId> },
    /// Desired and reported, as the agent knows them.
    Twin,
    /// Merges a patch (RFC 7396) into the reported document.
    Report { patch: Map<String, Value> },
    /// Sends telemetry, now or when there is a connection; when too much waits, the oldest is dropped and counted.
    Telemetry { subfolder: Subfolder, payload: Bytes },
    /// The desired document, and with `follow` each further one.
    Desired { follow: bool },
    /// The breaker: whether it has tripped, and on which reboots. `reset`: they do not count any more.
    Guard { reset: bool },
    /// Reads the configuration again.
    Reload,
    /// The caller serves these methods until it is gone: each command of theirs is a further answer to it.
    Serve { methods: Vec<MethodSpec> },
    /// How a command ended that was handed to a program. `run` is the number that it was handed over with.
    Finish { run: u64, outcome: Outcome },
    /// How it goes, in a line for people.
    Progress { run: u64, text: String },
}

impl Question {
    /// Whether asking it changes something, on the device or in the cloud.
    pub fn acts(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::Key
            | Self::Methods
            | Self::History { .. }
            | Self::Twin
            | Self::Desired { .. } => false,
            Self::Guard { reset } => *reset,
            Self::Invoke { .. }
            | Self::Cancel { .. }
            | Self::Report { .. }
            | Self::Telemetry { .. }
            | Self::Reload
            | Self::Serve { .. }
            | Self::Finish { .. }
            | Self::Progress { .. } => true,
        }
    }
}

/// Payloads stay out of the log.
impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { follow } => write!(out, "Status(follow {follow})"),
            Self::Key => out.write_str("Key"),
            Self::Methods => out.write_str("Methods"),
            Self::Invoke { method, id, .. } => write!(out, "Invoke({method} {id:?})"),
            Self::Cancel { id } => write!(out, "Cancel({id})"),
            Self::History { id } => write!(out, "History({id:?})"),
            Self::Twin => out.write_str("Twin"),
            Self::Report { patch } => write!(out, "Report({} members)", patch.len()),
            Self::Telemetry { subfolder, payload } => write!(out, "Telemetry({subfolder:?}, {} bytes)", payload.len()),
            Self::Desired { follow } => write!(out, "Desired(follow {follow})"),
            Self::Guard { reset } => write!(out, "Guard(reset {reset})"),
            Self::Reload => out.write_str("Reload"),
            Self::Serve { methods } => write!(out, "Serve({} methods)", methods.len()),
            Self::Finish { run, outcome } => write!(out, "Finish({run} {})", outcome.status),
            Self::Progress { run, .. } => write!(out, "Progress({run})"),
        }
    }
}

/// An answer to a caller.
#[derive(Clone, PartialEq)]
pub enum Reply {
    /// The members of the answer. `last`: nothing follows.
    Is { answer: Map<String, Value>, last: bool },
    /// The question cannot be answered; nothing follows.
    Refused(Refusal),
}

impl fmt::Debug for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is { last, .. } => write!(out, "Is(…, last {last})"),
            Self::Refused(refusal) => write!(out, "Refused({refusal:?})"),
        }
    }
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the ledger knows no command with this id")]
    UnknownCommand,
    #[error("`{member}` is the agent's own member of the reported document")]
    OwnMember { member: String },
    /// The cloud does not take this member of the reported document.
    #[error("`{member}` cannot be reported to this cloud: {rule}")]
    Unfit { member: String, rule: String },
    #[error("the reported document would have more than {limit} bytes")]
    TooLarge { limit: usize },
    /// Another handler has a method of this name.
    #[error("`{method}` is served already")]
    MethodTaken { method: Method },
    /// No command was handed over with this number, or it has ended.
    #[error("no command of this number is under way")]
    UnknownRun,
    #[error("cannot now: {why}")]
    CannotNow { why: String },
}
