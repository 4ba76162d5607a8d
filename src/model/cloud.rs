//! The neutral vocabulary: all that a cloud can say to us, and all that we can say to a cloud.
//!
//! Nothing else crosses the border between the model and a dialect. No topic and no packet is named here.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use super::command::{CommandId, Method, ReplyTo, Request, Status};
use super::telemetry::Message;

/// What a cloud said.
#[derive(Clone, PartialEq)]
pub enum Inbound {
    Command(Request),
    /// It was meant as a command and is none. Whatever of it could be read is used to address the refusal.
    Malformed {
        id: Option<CommandId>,
        method: Option<Method>,
        reply_to: Option<ReplyTo>,
        status: Status,
        why: String,
    },
    /// The desired state as a whole.
    Desired {
        body: Bytes,
        version: Option<u64>,
    },
    /// Not for us, or not to be acted upon: acknowledged, counted, dropped.
    Dropped {
        why: &'static str,
    },
}

impl fmt::Debug for Inbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(request) => out.debug_tuple("Command").field(request).finish(),
            Self::Malformed { id, method, status, why, .. } => {
                write!(out, "Malformed({status} {why:?}, id {id:?}, method {method:?})")
            }
            Self::Desired { body, version } => write!(out, "Desired({} bytes, version {version:?})", body.len()),
            Self::Dropped { why } => write!(out, "Dropped({why:?})"),
        }
    }
}

/// What we tell a cloud.
#[derive(Clone, PartialEq)]
pub enum Outbound {
    /// The answer to one command, where this cloud has a road of its own for answers.
    Answer(Answer),
    /// The reported document as a whole.
    Reported(Value),
    Telemetry(Message),
}

impl fmt::Debug for Outbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => answer.fmt(out),
            Self::Reported(_) => out.write_str("Reported(…)"),
            Self::Telemetry(message) => {
                write!(out, "Telemetry({:?}, {} bytes)", message.subfolder, message.payload.len())
            }
        }
    }
}

/// What there is to tell of one command: 202 while it is under way, its outcome afterwards.
#[derive(Clone, PartialEq)]
pub struct Answer {
    pub id: CommandId,
    /// Missing where the method could not be read.
    pub method: Option<Method>,
    pub status: Status,
    pub payload: Value,
    /// No further answer follows.
    pub last: bool,
    pub reply_to: Option<ReplyTo>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Answer({} {:?} {}{})",
            self.id,
            self.method,
            self.status,
            if self.last { "" } else { ", more follows" }
        )
    }
}

/// What the model must know of one cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloudLimits {
    /// The least time between the acknowledgement of one reported document and the next.
    pub reported_interval: std::time::Duration,
    pub answers: Road,
}

/// How answers travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Each by itself.
    Own,
    /// As members of the reported document.
    Reported,
}
