//! Varlink on the wire (varlink.org/Method-Call): JSON objects, each ended by a NUL byte. Pure: bytes in, values out.
//!
//! JSON has no NUL byte of its own, so a frame ends where the first one stands. How long a frame may be is for whoever
//! reads it to say; depth is bounded at 128 by `serde_json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::json;

/// What was received and is not a frame yet, or not read yet.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// So many of them were searched for the end already.
    searched: usize,
}

/// No end of a frame within the bytes that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame is longer than {limit} bytes")]
pub struct TooLong {
    pub limit: usize,
}

/// A method call.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// With its interface: `org.varlink.service.GetInfo`.
    pub method: String,
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// The caller takes more than one reply.
    #[serde(default)]
    pub more: bool,
    /// The caller takes no reply.
    #[serde(default)]
    pub oneway: bool,
    /// The caller wants to speak another protocol from here on.
    #[serde(default)]
    pub upgrade: bool,
}

/// The bytes are no method call. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a method call: {0}")]
pub struct NotACall(String);

/// A reply, as a server writes it and a client reads it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Another reply follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

impl Frames {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first whole frame, without its NUL; `None` until it is there.
    ///
    /// # Errors
    ///
    /// If it has, or will have, more than `limit` bytes. What was received stays: under a larger limit it may pass.
    pub fn take(&mut self, limit: usize) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == 0).map(|end| self.searched + end);
        self.searched = end.unwrap_or(self.bytes.len());
        if self.searched > limit {
            return Err(TooLong { limit });
        }
        let Some(end) = end else { return Ok(None) };
        // What is left is moved into memory of its own size, so that a long frame is given back when it was read.
        let rest = self.bytes.split_off(end + 1);
        let mut frame = std::mem::replace(&mut self.bytes, rest);
        frame.pop();
        self.searched = 0;
        Ok(Some(frame))
    }
}

impl Call {
    /// Reads a frame. Strict: a member that stands twice, anywhere, or that Varlink does not know makes it no call.
    pub fn parse(frame: &[u8]) -> Result<Self, NotACall> {
        let refused = |error: serde_json::Error| NotACall(error.to_string());
        let call = json::strict(frame).map_err(refused)?;
        // Serde would take a list of the members' values, too.
        if !call.is_object() {
            return Err(NotACall("an object is expected".to_owned()));
        }
        match serde_json::from_value(call).map_err(refused)? {
            Self { more: true, oneway: true, .. } => {
                Err(NotACall("`oneway` takes no reply and `more` takes many".to_owned()))
            }
            call => Ok(call),
        }
    }
}

impl Answer {
    pub fn new(parameters: Map<String, Value>, continues: bool) -> Self {
        Self { error: None, parameters, continues }
    }

    /// The frame with its NUL.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = serde_json::to_vec(self).expect("text, and members whose names are text");
        frame.push(0);
        frame
    }
}

/// Payloads stay out of logs.
impl std::fmt::Debug for Call {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Call").field("method", &self.method).field("more", &self.more).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Answer")
            .field("error", &self.error)
            .field("continues", &self.continues)
            .finish_non_exhaustive()
    }
}
