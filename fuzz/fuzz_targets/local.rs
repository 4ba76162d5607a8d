//! Any bytes, as a local caller could send them: read without a panic, and each complaint can be sent as one frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twinagent::local::interface;
use twinagent::local::protocol::{Answer, Call, Frames};

/// Longer frames hold nothing that shorter ones do not.
const LIMIT: usize = 8 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let mut frames = Frames::default();
    frames.push(bytes);
    while let Ok(Some(frame)) = frames.take(LIMIT) {
        assert!(!frame.contains(&0) && frame.len() <= LIMIT);
        if let Ok(Err(complaint)) = Call::parse(&frame).map(interface::read) {
            let answer = complaint.answer();
            let sent = answer.frame();
            let (end, text) = sent.split_last().expect("a frame has an end");
            assert!(*end == 0 && !text.contains(&0));
            assert_eq!(serde_json::from_slice::<Answer>(text).ok(), Some(answer));
        }
    }
});
