//! Any bytes where a note between the agent and root's helper should be: what is taken is small, and reads back as it was.

use std::fmt::Debug;

use serde::Serialize;
use twinagent::host::power::{Answer, Request};

pub const VERDICTS: &[&str] = &["request", "answer", "neither"];

/// As much as a reader of notes takes, in bytes.
const LARGEST: usize = 8 * 1_024;

pub fn read(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LARGEST);
    let request = text.and_then(|text| taken(text, |text| Request::parse(text).ok()));
    let answer = text.and_then(|text| taken(text, |text| Answer::parse(text).ok()));
    match (request, answer) {
        (Some(_), None) => "request",
        (None, Some(_)) => "answer",
        (None, None) => "neither",
        (Some(_), Some(_)) => panic!("a note is one of two"),
    }
    .to_owned()
}

fn taken<Note: Serialize + PartialEq + Debug>(text: &str, parse: fn(&str) -> Option<Note>) -> Option<Note> {
    let note = parse(text)?;
    let written = serde_json::to_string(&note).expect("JSON");
    assert!(written.len() <= LARGEST, "what is taken can be passed on");
    assert_eq!(parse(&written).as_ref(), Some(&note));
    Some(note)
}
