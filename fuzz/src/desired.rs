//! Any payload as the desired document (Cloud IoT Core: config), up to what the agent does about it: noted once, shown to
//! local callers as one frame, and no trouble when it comes again.

use twinagent::model::agent::{Effect, Input};
use twinagent::model::ask::{CallerId, Question, Reply};
use twinagent::model::digest::Digest;
use twinagent::model::record::Record;
use twinagent::varlink::protocol::Answer;

use super::model::Online;

pub const VERDICTS: &[&str] = &["object", "other"];

const TOPIC: &str = "/devices/gw-1/config";

pub fn read(bytes: &[u8]) -> String {
    let mut online = Online::begin();
    let first = noted(&online.hear(TOPIC, bytes));
    let [(digest, status)] = first[..] else { panic!("a new document is noted once") };
    assert_eq!(digest, Digest::of(bytes));
    assert_eq!(noted(&online.hear(TOPIC, bytes)), [], "the same again is nothing new");
    online.is_on_disk();

    let caller = CallerId(1);
    let effects = online.take(Input::Asked(Question::Desired { follow: false }, caller));
    let told = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(to, Reply::Is { answer, last: true }) if to == caller => Some(answer),
        _ => None,
    });
    let sent = Answer::new(told.expect("a caller is answered"), false).frame();
    assert_eq!(sent.iter().position(|byte| *byte == 0), Some(sent.len() - 1), "one frame");

    let is_object = matches!(serde_json::from_slice(bytes), Ok(serde_json::Value::Object(_)));
    assert_eq!(status, if is_object { 200 } else { 204 });
    if is_object { "object" } else { "other" }.to_owned()
}

fn noted(effects: &[Effect]) -> Vec<(Digest, u16)> {
    let noted = effects.iter().filter_map(|effect| match effect {
        Effect::Record(Record::Desired { digest, status, .. }) => Some((*digest, *status)),
        _ => None,
    });
    noted.collect()
}
