//! A value of the desired document that a handler was run for: which one, and what became of it.
//!
//! Kept for each method, so that what the cloud says again at every login is known for what it is. When one is made is
//! `applying`'s to decide.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::command::{CommandId, Method, Outcome, Status};
use super::digest::Digest;
use super::now::{BootId, Doubt, Timestamp};

/// The longest error that is kept and reported, in characters.
const ERROR: usize = 200;

/// The last value of a member for which a method was run, or refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    pub method: Method,
    /// The member of the desired document.
    pub member: String,
    /// Of the value as JSON; that of `null` if the member was removed.
    pub digest: Digest,
    /// The document's version of then, where the cloud has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What the run is known by, as a command is by its id.
    pub id: CommandId,
    /// When it began or, once it has ended, when that was.
    pub at: Timestamp,
    /// Where `at` is that of a clock which was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// Nothing, as long as nobody knows how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub status: Status,
    /// For people; at most 200 characters, and none that controls a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the method is run for the same value once more. Nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// What a method waits for that is to be run for the same value once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Again {
    /// It was not run, and is as soon as its rules take the value.
    Fit,
    /// It could not be done or not even be begun, or was cut off and does no harm: after a while.
    Later,
}

impl Application {
    /// As the reported document shows it; 202 while it runs.
    pub fn document(&self) -> Map<String, Value> {
        let status = self.end.as_ref().map_or(Status::ACCEPTED, |end| end.status);
        let mut document = Map::new();
        document.insert("digest".to_owned(), json!(self.digest));
        document.insert("status".to_owned(), json!(status));
        document.insert("time".to_owned(), json!(self.at));
        if let Some(version) = self.version {
            document.insert("version".to_owned(), json!(version));
        }
        if let Some(error) = self.end.as_ref().and_then(|end| end.error.as_ref()) {
            document.insert("error".to_owned(), json!(error));
        }
        document
    }

    /// It is known when the kernel of this boot started: a time that was noted while its clock was doubtful, put right.
    pub(super) fn corrected(&self, boot: BootId, kernel_start: Timestamp) -> Option<Self> {
        let at = self.doubt?.resolved(boot, kernel_start)?;
        Some(Self { at, doubt: None, ..self.clone() })
    }
}

impl End {
    /// What is kept of the outcome of a run. What it holds besides is nobody's: a handler that has more to tell reports it.
    pub(super) fn of(outcome: &Outcome, harmless: bool) -> Self {
        let Outcome { status, payload, not_run } = outcome;
        let error = payload.get("error").and_then(Value::as_str).filter(|_| *status != Status::DONE);
        let again = match *status {
            Status::DONE => None,
            // Nothing has been done: so say those who run it, and it by itself (exit status 75).
            Status::CANNOT_NOW | Status::UNKNOWN_METHOD => Some(Again::Later),
            // Nothing was begun, for want of what a person can mend: a program, a unit. Not so where somebody had it stopped, or
            // the value itself is in the way: those are ends.
            Status::FAILED | Status::TIMED_OUT if *not_run => Some(Again::Later),
            _ => (harmless && payload["interrupted"] == true).then_some(Again::Later),
        };
        Self { status: *status, error: error.map(cut), again }
    }

    /// What is kept of a refusal by the rules of the method.
    pub(super) fn unfit(refusal: &Outcome) -> Self {
        Self { again: Some(Again::Fit), ..Self::of(refusal, false) }
    }
}

fn cut(error: &str) -> String {
    error.chars().filter(|char| !char.is_control()).take(ERROR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_and_cannot_control_a_terminal() {
        let error = format!("bad\u{1b}[2J\r\n\u{9b}{}", "ü".repeat(300));
        let end = End::of(&Outcome::failed(Status::FAILED, error), false);
        let error = end.error.expect("an error");
        assert_eq!(error.chars().count(), 200);
        assert!(error.starts_with("bad[2Jü") && !error.contains(char::is_control), "{error}");
        let odd = Outcome::new(Status::FAILED, json!({ "error": ["no", "text"] }));
        assert_eq!(End::of(&odd, true), End { status: Status::FAILED, error: None, again: None });
        let fine = Outcome::new(Status::DONE, json!({ "error": "none at all" }));
        assert_eq!(End::of(&fine, false).error, None);
    }

    #[test]
    fn what_was_not_done_is_done_later_and_what_was_cut_off_if_it_does_no_harm() {
        let again = |status: u16, interrupted: bool, harmless: bool| {
            End::of(&Outcome::new(Status(status), json!({ "interrupted": interrupted })), harmless).again
        };
        for status in [404, 503] {
            assert_eq!(again(status, false, false), Some(Again::Later));
        }
        for status in [408, 409, 413, 422, 499, 500] {
            assert_eq!((again(status, false, true), again(status, true, false)), (None, None));
            assert_eq!(again(status, true, true), Some(Again::Later));
        }
        assert_eq!(again(200, true, true), None, "a program may say what it likes");
    }

    #[test]
    fn what_was_not_even_begun_is_done_later_unless_somebody_or_the_value_is_why() {
        let again = |status: u16| End::of(&Outcome::failed(Status(status), "why").not_run(), false).again;
        for status in [404, 408, 500, 503] {
            assert_eq!(again(status), Some(Again::Later), "{status}");
        }
        for status in [200, 409, 413, 422, 499] {
            assert_eq!(again(status), None, "{status}");
        }
        let words = Outcome::failed(Status::FAILED, "/usr/local/bin/x cannot be run: it is missing");
        assert_eq!(End::of(&words, false).again, None, "words are not read");
    }
}
