//! A command (direct method): its names, what it asks, what became of it, and what the model must know of a method.
//!
//! Everything here is a value that was checked when it was made. How far a command has come is the ledger's to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::now::Timestamp;
use super::payload::PayloadRules;

/// Makes a name type: cheap to copy, checked once, written as its text.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text; the only way to make one.
            pub fn parse(text: &str) -> Result<Self, $error> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.into())) } else { Err($error) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        #[doc = concat!("The text is no [`", stringify!($name), "`].")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, out)
            }
        }
    };
}

name! {
    /// The device that a command is for, as its cloud names it. Each dialect's own rule is stricter than this one.
    DeviceId, NotADeviceId,
    "not a device id: 1 to 255 visible ASCII characters without `/`, `#`, quotes and backslash are expected",
    |text| (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/#\"'\\`".contains(&byte))
}

name! {
    /// What identifies one command to the one who sent it: `[A-Za-z0-9_-]{1,64}`.
    CommandId, NotACommandId,
    "not a command id: 1 to 64 of the characters A-Z a-z 0-9 _ - are expected",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(is_word)
}

name! {
    /// The name of a method: `[A-Za-z][A-Za-z0-9_-]{0,63}`. Upper and lower case differ.
    Method, NotAMethod,
    "not a method name: a letter and then up to 63 of the characters A-Z a-z 0-9 _ - are expected",
    |text| text.len() <= 64 && text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_word)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// How a command that has just arrived is told from any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The sender named it. The same id again is the same command.
    Given(CommandId),
    /// This cloud cannot deliver it twice; the agent mints an id.
    Unique,
    /// Nobody named it. The same content again, soon, is taken for the same command.
    Derived,
}

/// Where this cloud wants the answer; only the dialect that wrote it can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplyTo(pub String);

/// A command as it was heard.
#[derive(Clone, PartialEq)]
pub struct Request {
    pub identity: Identity,
    pub target: DeviceId,
    pub method: Method,
    pub payload: Value,
    pub reply_to: Option<ReplyTo>,
    /// After this moment it must not start.
    pub expires: Option<Timestamp>,
}

/// A payload is the sender's business and stays out of logs.
impl fmt::Debug for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Request")
            .field("identity", &self.identity)
            .field("target", &self.target)
            .field("method", &self.method)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A command as a handler gets it.
#[derive(Clone, PartialEq)]
pub struct Command {
    pub key: Key,
    pub method: Method,
    pub payload: Value,
}

impl fmt::Debug for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Command").field("key", &self.key).field("method", &self.method).finish_non_exhaustive()
    }
}

/// What a command is filed under: two devices may use the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub target: DeviceId,
    pub id: CommandId,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.target, self.id)
    }
}

/// A status, used as in HTTP. README.md has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(pub u16);

impl Status {
    pub const DONE: Self = Self(200);
    pub const ACCEPTED: Self = Self(202);
    pub const NOT_A_COMMAND: Self = Self(400);
    pub const UNKNOWN_METHOD: Self = Self(404);
    pub const TIMED_OUT: Self = Self(408);
    pub const CONFLICT: Self = Self(409);
    pub const EXPIRED: Self = Self(410);
    pub const TOO_LARGE: Self = Self(413);
    pub const UNFIT_PAYLOAD: Self = Self(422);
    pub const HELD_BACK: Self = Self(423);
    pub const TOO_MANY: Self = Self(429);
    pub const CANCELLED: Self = Self(499);
    pub const FAILED: Self = Self(500);
    pub const CANNOT_NOW: Self = Self(503);
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// How a command ended.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// Whoever was to run it knows that nothing was begun. Without this nobody says so.
    #[serde(default, rename = "notRun", skip_serializing_if = "std::ops::Not::not")]
    pub not_run: bool,
}

impl Outcome {
    pub fn new(status: Status, payload: Value) -> Self {
        Self { status, payload, not_run: false }
    }

    /// An outcome that is no success: `{"error": why}`.
    pub fn failed(status: Status, why: impl Into<String>) -> Self {
        Self::new(status, serde_json::json!({ "error": why.into() }))
    }

    /// Why it is no success, in words; empty if nobody said.
    pub fn why(&self) -> &str {
        self.payload.get("error").and_then(Value::as_str).unwrap_or_default()
    }

    /// Of what was not even begun.
    #[must_use]
    pub fn not_run(self) -> Self {
        Self { not_run: true, ..self }
    }

    /// With a note in the place of a payload that is larger than `limit` bytes of JSON.
    #[must_use]
    pub fn within(self, limit: usize) -> Self {
        let bytes = self.payload.to_string().len();
        if bytes <= limit {
            return self;
        }
        let why = format!("an answer of {bytes} bytes; at most {limit} are taken");
        Self { payload: serde_json::json!({ "payloadDropped": true, "error": why }), ..self }
    }

    /// With the members of the command's payload that meant nothing, if it went well and there is a place for them.
    #[must_use]
    pub(super) fn noting(mut self, ignored: Vec<String>) -> Self {
        let has_place = self.payload.is_null() || self.payload.is_object();
        if !ignored.is_empty() && self.status.0 < 300 && has_place {
            self.payload["ignored"] = Value::from(ignored);
        }
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Outcome").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What the model must know of a method to schedule it. The handler says it; the model never sees the handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    pub name: Method,
    /// Doing it twice does no harm. Such a command is not recorded, always runs, and may lose its answer in a crash.
    pub harmless: bool,
    pub class: Class,
    /// A run longer than this is stopped with 408.
    pub time_limit: Duration,
    /// The largest payload of an outcome, in bytes of JSON; a larger one is replaced by a note.
    pub output_limit: usize,
    /// What it does, in a line for people; may be empty.
    pub description: String,
    pub origin: Origin,
    /// What a payload must be like. Nothing: the handler judges it by itself.
    pub payload: Option<PayloadRules>,
    /// Its run goes on while the agent is away, and is found again ([`crate::model::turn::Effect::Resume`]): an agent that
    /// stops does not wait for it.
    pub outlives: bool,
    /// The member of the desired document that it is run for, whenever that member has changed.
    pub desired: Option<String>,
}

/// Where a method comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The model does it by itself.
    Agent,
    /// A handler in this program.
    BuiltIn,
    /// A manifest: its path.
    File(String),
    /// A program of this machine that has registered it, for as long as it is connected.
    Program,
}

impl MethodSpec {
    /// A method that is built in: recorded, one at a time with eight that wait, half a minute, 16 KiB. Each of that is a field.
    pub fn new(name: Method) -> Self {
        Self {
            name,
            harmless: false,
            class: Class::Serial(8),
            time_limit: Duration::from_secs(30),
            output_limit: 16 * 1_024,
            description: String::new(),
            origin: Origin::BuiltIn,
            payload: None,
            outlives: false,
            desired: None,
        }
    }
}

/// What may run beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing else but harmless methods.
    Exclusive,
    /// One at a time of this method; this many more may wait.
    Serial(usize),
    /// So many at a time of this method.
    Parallel(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_what_the_contract_says_and_nothing_else() {
        for good in ["a", "rebootDevice", "x-1_Y", &"m".repeat(64)] {
            assert!(Method::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "1a", "-a", "../../bin/sh", "reboot\n", "réboot", "a b", &"m".repeat(65)] {
            assert!(Method::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "a\0", "a.b", &"i".repeat(65)] {
            assert!(CommandId::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "#", "a b", "ä", &"d".repeat(256)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_read_from_json_is_checked_too() {
        assert!(serde_json::from_str::<Method>("\"echo\"").is_ok());
        assert!(serde_json::from_str::<Method>("\"../sh\"").is_err());
    }
}
