//! The neutral vocabulary: all that a cloud can say to us, and all that we can say to a cloud.
//!
//! Nothing else crosses the border between the model and a dialect. No topic and no packet is named here. What is different
//! between clouds and must be known to the model is a value here ([`CloudLimits`]); `dialect/mod.rs` compares the clouds.
//! Who follows it:
//!
//! * [`Road`]: `answers.rs` puts answers into the document, `outbox/answers.rs` sends those that travel by themselves, and
//!   `outbox/senders.rs` knows who waits on this connection: for the outcome if it is there within three seconds, else for
//!   a 202, which a reboot gets at once.
//! * [`Reporting`]: `outbox/document.rs` reads the base of patches at the beginning of each connection. Our document
//!   becomes the new base when the cloud says that it has the patch; silence or an error makes it unknown, and it is read
//!   again. A refusal is a problem (`reported`), and the document goes on without what local programs report.
//! * [`DocumentRules`]: `fit.rs` judges before anything is sent. Answers that were told give way first, then the largest
//!   members of local programs, each told by its name and the rule, and last the list of methods.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::command::{CommandId, Method, ReplyTo, Request, Status};
use super::telemetry::Message;
use super::wire::MessageId;

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
    /// What has changed in the desired state: a merge patch (RFC 7396), and the version that it makes.
    DesiredPatch {
        patch: Map<String, Value>,
        version: u64,
    },
    /// The desired state has changed in a way that could not be read; the version that it has now, where that is known.
    DesiredUnread {
        version: Option<u64>,
    },
    /// The answer to [`Outbound::FetchTwin`]: both documents as the cloud has them, without members of the cloud's own.
    Twin {
        id: MessageId,
        desired: Map<String, Value>,
        version: u64,
        reported: Map<String, Value>,
    },
    /// The cloud's own answer to a message that is [settled by one](Settles::Answer): 2xx, or why it was not done.
    Answered {
        id: MessageId,
        status: u16,
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
            Self::DesiredPatch { version, .. } => write!(out, "DesiredPatch(version {version})"),
            Self::DesiredUnread { version } => write!(out, "DesiredUnread(version {version:?})"),
            Self::Twin { id, version, .. } => write!(out, "Twin({id:?}, version {version})"),
            Self::Answered { id, status } => write!(out, "Answered({id:?}, {status})"),
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
    /// What has changed in it: a merge patch (RFC 7396).
    ReportedPatch(Value),
    /// Asks for both documents of the twin.
    FetchTwin,
    Telemetry(Message),
}

impl fmt::Debug for Outbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => answer.fmt(out),
            Self::Reported(_) => out.write_str("Reported(…)"),
            Self::ReportedPatch(_) => out.write_str("ReportedPatch(…)"),
            Self::FetchTwin => out.write_str("FetchTwin"),
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
    pub reporting: Reporting,
    pub document: DocumentRules,
}

/// How answers travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Each by itself.
    Own,
    /// As members of the reported document.
    Reported,
    /// The first one to the sender that waits for it on this connection, where there is one; what follows, and what has no
    /// such sender, as members of the reported document.
    Direct,
}

/// How the reported document reaches the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// As a whole, each time. What the cloud has cannot be read.
    Whole,
    /// As merge patches onto what the cloud has, which is read at the beginning of each connection.
    Patches,
}

/// What a cloud takes for a reported document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentRules {
    /// How large it may be, as [`DocumentRules::size`] says it: in bytes of JSON, or as a strict cloud counts.
    pub bytes: usize,
    /// Objects and arrays within each other, the document itself left aside.
    pub depth: usize,
    /// The longest string, in bytes.
    pub string: usize,
    /// The longest name of a member, in bytes.
    pub key: usize,
    /// Names must hold no control characters, `.`, `$` and spaces; integers must lie within 2^52; there is no `null`.
    pub strict: bool,
}

impl DocumentRules {
    /// A cloud that looks at nothing but the size.
    pub const fn of_size(bytes: usize) -> Self {
        Self { bytes, depth: usize::MAX, string: usize::MAX, key: usize::MAX, strict: false }
    }
}

/// What settles a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settles {
    /// Its PUBACK, or that it was written where there is none.
    Puback,
    /// [`Inbound::Answered`] or [`Inbound::Twin`].
    Answer,
}
