//! Any bytes, as the agent or the handlers' service could be sent by the other: read without a panic, and what is understood
//! is understood again when it is written.

use twinagent::varlink::handlers::{Reply, Run};
use twinagent::varlink::protocol::Frames;

/// Judged is the first frame.
pub const VERDICTS: &[&str] = &["incomplete", "toolong", "neither", "run", "begun", "progress", "ended"];

/// Longer frames hold nothing that shorter ones do not.
const LIMIT: usize = 8 * 1024;

pub fn read(bytes: &[u8]) -> String {
    let mut frames = Frames::default();
    frames.push(bytes);
    let verdict = match frames.take(LIMIT) {
        Ok(Some(frame)) => judge(&frame),
        Ok(None) => "incomplete",
        Err(_) => "toolong",
    };
    verdict.to_owned()
}

fn judge(frame: &[u8]) -> &'static str {
    if let Ok(run) = Run::parse(frame) {
        assert_eq!(Run::parse(text(&run.frame())), Ok(run));
        return "run";
    }
    let Ok(reply) = Reply::parse(frame) else { return "neither" };
    assert_eq!(Reply::parse(text(&reply.frame())), Ok(reply.clone()));
    match reply {
        Reply::Begun => "begun",
        Reply::Progress(_) => "progress",
        Reply::Ended(_) => "ended",
    }
}

fn text(frame: &[u8]) -> &[u8] {
    let (end, text) = frame.split_last().expect("a frame has an end");
    assert!(*end == 0 && !text.contains(&0));
    text
}
