//! What an end of a program means to whoever sent the command. Pure: how it ended and what it wrote go in, an outcome
//! comes out.
//!
//! What a program writes may be anything, so that it is JSON only where it is that strictly, and else text.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::command::{Outcome, Status};
use crate::model::json;
use crate::varlink::handlers::{ROOM, is_too_deep};

/// The payload is not what the program takes (`EX_DATAERR` of sysexits.h).
const UNFIT_PAYLOAD: i32 = 65;
/// It cannot be done now, and may be later (`EX_TEMPFAIL` of sysexits.h).
const CANNOT_NOW: i32 = 75;

/// How much of the end of stderr is told, in bytes of JSON.
pub(super) const LONGEST_TAIL: usize = 4 * 1024;

/// Of [`ROOM`], what is left for words and names of members beside the end of stderr.
const WORDS: usize = 1024;

/// `{"output":"","truncated":true}`
const ENVELOPE: usize = 31;

/// How the process of a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Why a program was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The agent wants it to end, or is gone.
    Cancelled,
    /// After this time.
    TimedOut(Duration),
    /// This service ends.
    Ending,
}

/// What is known of a run that is over.
pub(super) struct Facts<'a> {
    /// `None`: it could not be ended, and may still be there.
    pub(super) end: Option<End>,
    pub(super) cause: Option<Cause>,
    /// The beginning of stdout.
    pub(super) output: &'a [u8],
    /// There was more of it.
    pub(super) is_cut: bool,
    /// The end of stderr.
    pub(super) errors: &'a [u8],
    /// The largest payload, in bytes of JSON. There is always [`ROOM`].
    pub(super) output_limit: usize,
}

impl Facts<'_> {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.cause, self.end) {
            (Some(Cause::Cancelled), _) => self.failure(Status::CANCELLED, "stopped".to_owned()),
            (Some(Cause::TimedOut(limit)), _) => {
                let why = format!("stopped after its time limit of {} s", limit.as_secs());
                self.failure(Status::TIMED_OUT, why)
            }
            (Some(Cause::Ending), _) => {
                let why = "the handlers' service ended while this ran; it may have taken effect";
                self.failure(Status::FAILED, why.to_owned())
            }
            (None, Some(End::Exited(0))) => Outcome::new(Status::DONE, self.result()),
            (None, Some(End::Exited(UNFIT_PAYLOAD))) => {
                self.failure(Status::UNFIT_PAYLOAD, "the program does not take this payload".to_owned())
            }
            (None, Some(End::Exited(CANNOT_NOW))) => {
                self.failure(Status::CANNOT_NOW, "the program cannot do this now".to_owned())
            }
            (None, Some(End::Exited(code))) => {
                self.failure(Status::FAILED, format!("the program ended with exit code {code}"))
            }
            (None, Some(End::Killed(signal))) => {
                let why = format!("the program was ended by signal {signal}{}", name(signal));
                self.failure(Status::FAILED, why)
            }
            (None, None) => self.failure(Status::FAILED, "nobody saw how the program ended".to_owned()),
        }
    }

    /// The payload of a success.
    fn result(&self) -> Value {
        let (value, is_cut) = self.output(self.output_limit, ENVELOPE);
        if !is_cut {
            return value;
        }
        Value::Object(Map::from_iter([("output".to_owned(), value), ("truncated".to_owned(), Value::Bool(true))]))
    }

    fn failure(&self, status: Status, why: String) -> Outcome {
        let mut payload = Map::from_iter([("error".to_owned(), Value::String(why))]);
        if self.cause == Some(Cause::Ending) {
            // As the agent says it by itself of a service that is gone.
            payload.insert("interrupted".to_owned(), Value::Bool(true));
        }
        match self.end {
            Some(End::Exited(code)) => payload.insert("exitCode".to_owned(), code.into()),
            Some(End::Killed(signal)) => payload.insert("signal".to_owned(), signal.into()),
            None => None,
        };
        let errors = String::from_utf8_lossy(self.errors);
        let errors = last(errors.trim_end(), LONGEST_TAIL);
        if !errors.is_empty() {
            payload.insert("stderr".to_owned(), errors.into());
        }
        let room = self.output_limit.max(ROOM) - LONGEST_TAIL - WORDS;
        let (output, is_cut) = self.output(room.min(self.output_limit), 0);
        if !output.is_null() && output.as_str() != Some("") {
            payload.insert("output".to_owned(), output);
        }
        if is_cut {
            payload.insert("truncated".to_owned(), Value::Bool(true));
        }
        Outcome::new(status, Value::Object(payload))
    }

    /// What it wrote, as a value that takes at most `room` bytes of JSON; if it had to be cut, at most as many as are left
    /// beside `envelope`.
    fn output(&self, room: usize, envelope: usize) -> (Value, bool) {
        if !self.is_cut
            && let Ok(value) = json::strict(self.output)
            && !is_too_deep(&value)
            && value.to_string().len() <= room
        {
            return (value, false);
        }
        let text = String::from_utf8_lossy(self.output);
        let text = text.trim_end_matches('\n');
        if !self.is_cut {
            if text.is_empty() {
                return (Value::Null, false);
            }
            if text.chars().map(length).sum::<usize>() + 2 <= room {
                return (text.into(), false);
            }
        }
        (first(text, room.saturating_sub(envelope)).into(), true)
    }
}

/// The beginning of a text, as far as it takes at most `room` bytes of JSON with its quotes.
fn first(text: &str, room: usize) -> &str {
    let mut left = room.saturating_sub(2);
    let end = text.char_indices().find(|(_, c)| match left.checked_sub(length(*c)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// The end of a text, as far as it takes at most `room` bytes of JSON with its quotes.
fn last(text: &str, room: usize) -> &str {
    let mut left = room.saturating_sub(2);
    let begin = text.char_indices().rev().find(|(_, c)| match left.checked_sub(length(*c)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    begin.map_or(text, |(at, c)| &text[at + c.len_utf8()..])
}

/// How many bytes a character takes in a text of JSON, as `serde_json` writes it.
fn length(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

/// The names of signals that programs end by (signal(7)), where their numbers are those of every architecture.
fn name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        5 => " (SIGTRAP)",
        6 => " (SIGABRT)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        14 => " (SIGALRM)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn facts<'a>(end: End, output: &'a [u8], errors: &'a [u8]) -> Facts<'a> {
        Facts { end: Some(end), cause: None, output, is_cut: false, errors, output_limit: 100 }
    }

    #[test]
    fn each_end_has_its_status_and_words() {
        let cases = [
            (End::Exited(0), 200, None),
            (End::Exited(65), 422, Some("the program does not take this payload")),
            (End::Exited(75), 503, Some("the program cannot do this now")),
            (End::Exited(1), 500, Some("the program ended with exit code 1")),
            (End::Exited(127), 500, Some("the program ended with exit code 127")),
            (End::Killed(11), 500, Some("the program was ended by signal 11 (SIGSEGV)")),
            (End::Killed(35), 500, Some("the program was ended by signal 35")),
        ];
        for (end, status, error) in cases {
            let outcome = facts(end, b"", b"why\n").outcome();
            assert_eq!(outcome.status.0, status, "{end:?}");
            assert_eq!(outcome.payload.get("error").and_then(Value::as_str), error);
            assert_eq!(outcome.payload.get("stderr").and_then(Value::as_str), error.map(|_| "why"), "{end:?}");
        }
        let stopped = |cause| Facts { cause: Some(cause), ..facts(End::Exited(0), b"half\n", b"") }.outcome();
        assert_eq!(
            stopped(Cause::Cancelled).status,
            Status::CANCELLED,
            "whatever it says, nobody knows how far it came"
        );
        let late = stopped(Cause::TimedOut(Duration::from_secs(3)));
        let expected = json!({ "error": "stopped after its time limit of 3 s", "exitCode": 0, "output": "half" });
        assert_eq!((late.status, late.payload), (Status::TIMED_OUT, expected));
        let cut = stopped(Cause::Ending);
        assert_eq!((cut.status, &cut.payload["interrupted"]), (Status::FAILED, &json!(true)));
    }

    #[test]
    fn output_is_json_where_it_is_that_and_else_text() {
        let of = |output: &[u8]| facts(End::Exited(0), output, b"").outcome().payload;
        assert_eq!(of(b""), Value::Null);
        assert_eq!(of(b"\n"), Value::Null);
        assert_eq!(of(b"{\"a\": 1}\n"), json!({ "a": 1 }));
        assert_eq!(of(b"null"), Value::Null);
        assert_eq!(of(b"\"x\"\n"), json!("x"));
        assert_eq!(of(b"hello\nyou\n\n"), json!("hello\nyou"));
        assert_eq!(of(b"{\"a\":1,\"a\":2}"), json!("{\"a\":1,\"a\":2}"), "ambiguous");
        assert_eq!(of(b"1 2"), json!("1 2"));
        assert_eq!(of(b"\xff\x00"), json!("\u{fffd}\0"));
        let deep = "[".repeat(101) + &"]".repeat(101);
        assert_eq!(facts_of_limit(deep.as_bytes(), 1000), json!(deep), "deeper than the agent takes");
        let escaped = [7; 30];
        assert_eq!(of(&escaped)["truncated"], json!(true), "30 bytes, but 180 of JSON");
    }

    fn facts_of_limit(output: &[u8], output_limit: usize) -> Value {
        Facts { output_limit, ..facts(End::Exited(0), output, b"") }.outcome().payload
    }

    proptest! {
        /// The agent would drop what is longer.
        #[test]
        fn no_payload_is_larger_than_its_limit(
            output in prop::collection::vec(any::<u8>(), 0..20_000),
            errors in prop::collection::vec(any::<u8>(), 0..5_000),
            output_limit in 0_usize..30_000,
            (code, is_cut) in (0..2, any::<bool>()),
        ) {
            let output = &output[..output.len().min(output_limit)];
            let end = Some(End::Exited(code));
            let facts = Facts { end, cause: None, output, is_cut, errors: &errors, output_limit };
            let length = facts.outcome().payload.to_string().len();
            let limit = if code == 0 { output_limit.max(ENVELOPE) } else { output_limit.max(ROOM) };
            prop_assert!(length <= limit, "{length} > {limit}");
        }
    }
}
