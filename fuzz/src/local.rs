//! Any bytes, as a local caller could send them: read without a panic, and each complaint can be sent as one frame.

use twinagent::local::interface::{self, Wish};
use twinagent::varlink::protocol::{Answer, Call, Frames};

/// What is no good call is named as its error is. Judged is the first frame.
pub const VERDICTS: &[&str] = &[
    "incomplete",
    "toolong",
    "nocall",
    "ask",
    "introspection",
    "ExpectedMore",
    "InterfaceNotFound",
    "InvalidParameter",
    "MethodNotFound",
    "MethodNotImplemented",
];

/// Longer frames hold nothing that shorter ones do not.
const LIMIT: usize = 8 * 1024;

pub fn read(bytes: &[u8]) -> String {
    let mut frames = Frames::default();
    frames.push(bytes);
    let mut first = None;
    loop {
        let verdict = match frames.take(LIMIT) {
            Ok(Some(frame)) => judge(&frame),
            Ok(None) => return first.unwrap_or_else(|| "incomplete".to_owned()),
            Err(_) => return first.unwrap_or_else(|| "toolong".to_owned()),
        };
        first.get_or_insert(verdict);
    }
}

fn judge(frame: &[u8]) -> String {
    assert!(!frame.contains(&0) && frame.len() <= LIMIT);
    match Call::parse(frame).map(interface::read) {
        Err(_) => "nocall".to_owned(),
        Ok(Ok(Wish::Ask(_))) => "ask".to_owned(),
        Ok(Ok(Wish::Introspection(_))) => "introspection".to_owned(),
        Ok(Err(complaint)) => {
            let name = complaint.name().rsplit('.').next().unwrap_or_default().to_owned();
            let answer = complaint.answer();
            let sent = answer.frame();
            let (end, text) = sent.split_last().expect("a frame has an end");
            assert!(*end == 0 && !text.contains(&0));
            assert_eq!(serde_json::from_slice::<Answer>(text).ok(), Some(answer));
            name
        }
    }
}
