//! The desired document: taken as a whole, or followed change by change from what was read of the twin.
//!
//! What the cloud says when it is asked counts, even where its version went back: the device may have been made anew there.
//! What it says by itself only leads on from there, one version at a time.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::agent::{Agent, Effect};
use super::ask::Reply;
use super::digest::Digest;
use super::patch::{merge, without_nulls};
use super::record::Record;
use super::wire::Delivery;

/// The largest document that changes may lead to, in bytes of JSON. Beyond it the cloud is asked for its own: it bounds
/// them too (IoT Hub: 32 KiB), so ours cannot be right.
const LARGEST: usize = 64 * 1_024;

/// The document as it is followed on this connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// With its version, once it was read.
    document: Option<(Map<String, Value>, u64)>,
    /// The newest version that was heard of and could not be followed.
    ahead: Option<u64>,
}

impl Followed {
    /// The connection has ended, and nobody tells what changes meanwhile.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Agent {
    /// The cloud has said what the document is.
    pub(super) fn note_desired(
        &mut self,
        body: Bytes,
        version: Option<u64>,
        delivery: Option<Delivery>,
        out: &mut Vec<Effect>,
    ) {
        let digest = Digest::of(&body);
        let known = self.durable.rest.desired.as_ref();
        if known.is_none_or(|known| known.digest != digest || known.version != version) {
            let is_object = matches!(serde_json::from_slice(&body), Ok(Value::Object(_)));
            let status = if is_object { 200 } else { 204 };
            self.record(Record::Desired { digest, version, status }, out);
        }
        out.extend(delivery.map(Effect::Ack));
        self.desired_arrived(body, version, out);
    }

    /// The twin was read.
    pub(super) fn desired_read(&mut self, mut document: Map<String, Value>, version: u64, out: &mut Vec<Effect>) {
        without_nulls(&mut document);
        if self.followed.ahead.take().is_some_and(|ahead| ahead > version) {
            // The answer was on its way when that change was made. What the next one says counts, whatever its version.
            self.outbox.read_again();
        }
        self.follow(document, version, out);
    }

    /// The cloud tells of a change.
    pub(super) fn desired_changed(&mut self, patch: &Map<String, Value>, version: u64, out: &mut Vec<Effect>) {
        match &self.followed.document {
            Some((_, known)) if version <= *known => return,
            Some((document, known)) if version - known == 1 => {
                let mut document = document.clone();
                merge(&mut document, patch);
                without_nulls(&mut document);
                if is_within_bounds(&document) {
                    self.follow(document, version, out);
                    return;
                }
            }
            _ => {}
        }
        self.lose_track(Some(version));
    }

    /// The cloud tells of a change, and nobody knows which.
    pub(super) fn desired_unread(&mut self, version: Option<u64>) {
        let known = self.followed.document.as_ref().map(|(_, known)| *known);
        let is_repeat = version.is_some() && version <= known;
        if !is_repeat {
            self.lose_track(version);
        }
    }

    /// What was followed leads no further than to here.
    fn lose_track(&mut self, version: Option<u64>) {
        self.followed.ahead = self.followed.ahead.max(version);
        self.followed.document = None;
        self.outbox.read_again();
    }

    /// The cloud sent the desired document; who follows it hears of it if it is another one.
    fn desired_arrived(&mut self, body: Bytes, version: Option<u64>, out: &mut Vec<Effect>) {
        let document = Some((body, version));
        if document == self.callers.document {
            return;
        }
        self.callers.document = document;
        self.wishes_changed();
        let answer = desired_document(self.callers.document.as_ref());
        for caller in &self.callers.desired {
            if let Value::Object(answer) = &answer {
                out.push(Effect::Reply(*caller, Reply::Is { answer: answer.clone(), last: false }));
            }
        }
    }

    fn follow(&mut self, document: Map<String, Value>, version: u64, out: &mut Vec<Effect>) {
        // Members are in one order, so what is equal has an equal digest.
        let body = Value::Object(document.clone()).to_string();
        self.followed.document = Some((document, version));
        self.note_desired(body.into(), Some(version), None, out);
    }
}

fn is_within_bounds(document: &Map<String, Value>) -> bool {
    serde_json::to_string(document).is_ok_and(|text| text.len() <= LARGEST)
}

/// The desired document as a caller gets it: JSON, or text that is none.
pub(super) fn desired_document(document: Option<&(Bytes, Option<u64>)>) -> Value {
    let Some((body, version)) = document else { return json!({ "document": null }) };
    let content = match serde_json::from_slice::<Value>(body) {
        Ok(content) => content,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => json!({ "text": String::from_utf8_lossy(body) }),
    };
    let mut answer = json!({ "document": content });
    if let Some(version) = version {
        answer["version"] = json!(version);
    }
    answer
}
