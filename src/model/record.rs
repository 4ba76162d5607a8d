//! Every line that the journal can hold: the on-disk format, and the only thing that changes the durable half.
//!
//! A member may be added with a default; anything else, a new kind of record too, is a new [`FORMAT`], and an older agent will
//! leave such a journal alone. Formats count from the first version that is released.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::application::Application;
use super::command::{Key, Method, Outcome, ReplyTo};
use super::digest::Digest;
use super::now::{BootId, BootInstant, Doubt, Timestamp};
use super::reboot::boots::Boots;

/// The number of this format, written at the head of each journal.
pub const FORMAT: u32 = 1;

/// One thing that happened.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Record {
    /// The daemon found itself on a boot that it had not seen.
    Boot {
        id: BootId,
        /// Wall clock at the start of this kernel.
        time: Timestamp,
        at: Timestamp,
        /// The clock was not set.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        doubtful: bool,
        /// Whether the machine had said that it would shut down, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clean: Option<bool>,
    },
    /// The clock, which was doubtful when this boot was noted, can be believed: this is when its kernel started.
    BootTime { boot: BootId, time: Timestamp, at: Timestamp },
    /// The reboots until now do not count any more: the machine was well, or a person said so.
    GuardCleared { by_hand: bool, at: Timestamp },
    /// The daemon began in this boot.
    Began { boot: BootId, at: Timestamp },
    /// All that is known of boots, as compaction writes it.
    Boots { boots: Box<Boots> },
    /// A command was taken on. `started`: it may run as soon as this is on disk. `local`: not from the cloud, which is
    /// not told of it either. `up` is the boot clock; `doubtful`: `at` is that of a clock which was not set.
    Accepted {
        #[serde(flatten)]
        key: Key,
        method: Method,
        #[serde(default, skip_serializing_if = "Value::is_null")]
        payload: Value,
        digest: Digest,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        derived: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        local: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<ReplyTo>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        started: bool,
        boot: BootId,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up: Option<BootInstant>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        doubtful: bool,
    },
    /// A command that waited may run as soon as this is on disk. `until`: the end of a simulated reboot. `up`: the boot
    /// clock, of reboots and wherever `at` is `doubtful`, that is of a clock which was not set.
    Started {
        #[serde(flatten)]
        key: Key,
        boot: BootId,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up: Option<BootInstant>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        doubtful: bool,
    },
    /// A command ended. `doubt`, where `at` is that of a clock which was not set.
    Finished {
        #[serde(flatten)]
        key: Key,
        #[serde(flatten)]
        outcome: Outcome,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<Doubt>,
    },
    /// The cloud acknowledged an answer. `ran`: for how many seconds the agent had run by then, in all its lives.
    Told {
        #[serde(flatten)]
        key: Key,
        what: Told,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran: Option<u64>,
    },
    /// Time has passed: the agent has run for so many seconds in all its lives. `at`: the wall clock, if it was to be
    /// believed.
    Seen {
        ran: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
    /// A patch was merged into the reported document by a local program.
    Reported { patch: Map<String, Value> },
    /// Local programs serve these methods, or did before: whoever asks for one while its program is restarted is told so.
    Served { methods: BTreeSet<Method> },
    /// A desired document was taken note of.
    Desired {
        digest: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        status: u16,
    },
    /// The handler of a member of that document may run for this value as soon as this is on disk.
    Applying(Box<Application>),
    /// That run has ended, or the method does not take the value.
    Applied(Box<Application>),
    /// What was applied for a method is forgotten: it is not run for desired state any more.
    Unapplied { method: Method },
}

/// Which answer to a command the cloud has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    #[default]
    Nothing,
    /// The 202.
    Accepted,
    Outcome,
}

/// Payloads stay out of it, as they stay out of the log.
impl fmt::Debug for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot { id, .. } => write!(out, "Boot({id})"),
            Self::BootTime { boot, .. } => write!(out, "BootTime({boot})"),
            Self::GuardCleared { by_hand, .. } => write!(out, "GuardCleared(by hand {by_hand})"),
            Self::Boots { .. } => out.write_str("Boots"),
            Self::Accepted { key, method, started, .. } => write!(out, "Accepted({key} {method}, started {started})"),
            Self::Started { key, .. } => write!(out, "Started({key})"),
            Self::Finished { key, outcome, .. } => write!(out, "Finished({key} {})", outcome.status),
            Self::Began { boot, .. } => write!(out, "Began({boot})"),
            Self::Reported { patch } => write!(out, "Reported({} members)", patch.len()),
            Self::Served { methods } => write!(out, "Served({} methods)", methods.len()),
            Self::Told { key, what, .. } => write!(out, "Told({key} {what:?})"),
            Self::Seen { ran, .. } => write!(out, "Seen(after {ran} s)"),
            Self::Desired { digest, status, .. } => write!(out, "Desired({digest} {status})"),
            Self::Applying(application) => write!(out, "Applying({} for {})", application.method, application.member),
            Self::Applied(application) => write!(out, "Applied({} for {})", application.method, application.member),
            Self::Unapplied { method } => write!(out, "Unapplied({method})"),
        }
    }
}

impl Record {
    /// Whether effects that follow this record must wait until it is on disk.
    ///
    /// Losing one of the others costs an answer told twice, or that something is remembered longer than it must be; never
    /// a command run twice.
    pub fn must_be_synced(&self) -> bool {
        match self {
            Self::Boot { .. }
            | Self::Boots { .. }
            | Self::GuardCleared { .. }
            | Self::Accepted { .. }
            | Self::Started { .. }
            | Self::Finished { .. }
            | Self::Applying(_)
            | Self::Applied(_) => true,
            Self::Began { .. }
            | Self::BootTime { .. }
            | Self::Told { .. }
            | Self::Seen { .. }
            | Self::Reported { .. }
            | Self::Served { .. }
            | Self::Desired { .. }
            | Self::Unapplied { .. } => false,
        }
    }
}
