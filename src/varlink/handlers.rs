//! The interface `io.twinagent.Handlers`: how the agent asks the handlers' service to run a program, and what it is told.
//!
//! One connection is one run. The agent calls `Run` with `more`; each reply but the last is news of the run, the last is its
//! outcome. An agent that wants the run to end closes its sending half, and still hears how it ended; one that is gone
//! has closed both. Only names and data cross: which program runs, the service reads in the manifest by itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::protocol::{Answer, Call};
use crate::model::command::{CommandId, DeviceId, Outcome, Status};
use crate::model::digest::Digest;
use crate::model::json;

pub const INTERFACE: &str = "io.twinagent.Handlers";

/// The name of the socket in the folder of the handlers' service.
pub const SOCKET: &str = "io.twinagent.Handlers";

/// The longest call, in bytes. No cloud sends a payload of more than 256 KiB; a number may be written with more digits than
/// it came with.
pub const LONGEST_CALL: usize = 1024 * 1024;

/// The longest reply, in bytes: an outcome has at most 256 KiB of payload (`output_limit`).
pub const LONGEST_REPLY: usize = 512 * 1024;

/// How deep a payload may be nested, either way. A frame is bounded at 128, and has two levels of its own.
pub const DEEPEST: usize = 100;

/// The room, in bytes of JSON, that every outcome has, however small the output limit of its method is: for what went wrong
/// and for the end of stderr.
pub const ROOM: usize = 8 * 1024;

/// What `Run` is called with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// The name of the manifest's file, without a folder.
    pub manifest: String,
    /// Of its text as the agent has read it. Another text is another method, and is not run.
    pub digest: Digest,
    pub id: CommandId,
    pub device: DeviceId,
    #[serde(default)]
    pub payload: Value,
}

/// What the service says of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// From here on it may have taken effect. A run that ends without it has not, nor has one whose outcome says that the program
    /// was not run: that its interpreter is missing is known only thereafter.
    Begun,
    /// How it goes, in a line for people.
    Progress(String),
    /// The last reply.
    Ended(Outcome),
}

/// The frame is nothing that the other side may say. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotUnderstood(pub String);

impl Run {
    /// The call with its NUL.
    pub fn frame(&self) -> Vec<u8> {
        let call = json!({ "method": format!("{INTERFACE}.Run"), "parameters": self, "more": true });
        ended(call.to_string())
    }

    /// Reads a call. Strict: a member that is not known, or that stands twice, makes it none.
    pub fn parse(frame: &[u8]) -> Result<Self, NotUnderstood> {
        let call = Call::parse(frame).map_err(|error| NotUnderstood(error.to_string()))?;
        match call.method.strip_prefix(INTERFACE) {
            Some(".Run") if call.more && !call.upgrade => {}
            Some(".Run") => return Err(NotUnderstood("`Run` is called with `more`".to_owned())),
            _ => return Err(NotUnderstood(format!("{INTERFACE} has the method `Run` and no other"))),
        }
        let parameters = Value::Object(call.parameters.unwrap_or_default());
        serde_json::from_value(parameters).map_err(|error| NotUnderstood(format!("not a run: {error}")))
    }
}

impl Reply {
    /// The reply with its NUL.
    pub fn frame(&self) -> Vec<u8> {
        let (parameters, continues) = match self {
            Self::Begun => (json!({ "begun": true }), true),
            Self::Progress(text) => (json!({ "progress": text }), true),
            Self::Ended(outcome) => (json!(outcome), false),
        };
        ended(json!({ "parameters": parameters, "continues": continues }).to_string())
    }

    /// Reads a reply. An error of Varlink is none.
    pub fn parse(frame: &[u8]) -> Result<Self, NotUnderstood> {
        let unfit = |error: serde_json::Error| NotUnderstood(format!("not a reply: {error}"));
        let answer: Answer = serde_json::from_value(json::strict(frame).map_err(unfit)?).map_err(unfit)?;
        if let Some(error) = answer.error {
            let why = answer.parameters.get("why").and_then(Value::as_str).unwrap_or_default();
            return Err(NotUnderstood(format!("it answers {error} {why}")));
        }
        let mut members = answer.parameters;
        let reply = if answer.continues {
            match (members.remove("begun"), members.remove("progress")) {
                (Some(Value::Bool(true)), None) => Self::Begun,
                (None, Some(Value::String(text))) => Self::Progress(text),
                _ => return Err(NotUnderstood("not a reply: it goes on and tells nothing".to_owned())),
            }
        } else {
            let status = members.remove("status").and_then(|status| u16::try_from(status.as_u64()?).ok());
            // As far as the statuses of a command go; README.md has the table.
            let Some(status) = status.filter(|status| (200..600).contains(status)) else {
                return Err(NotUnderstood("not a reply: an outcome has a status".to_owned()));
            };
            let outcome = Outcome::new(Status(status), members.remove("payload").unwrap_or_default());
            match members.remove("notRun") {
                None => Self::Ended(outcome),
                Some(Value::Bool(true)) => Self::Ended(outcome.not_run()),
                Some(_) => return Err(NotUnderstood("not a reply: `notRun` is true, or not there".to_owned())),
            }
        };
        match members.keys().next() {
            None => Ok(reply),
            Some(name) => Err(NotUnderstood(format!("not a reply: `{}` is not known", name.escape_debug()))),
        }
    }
}

/// The frame that answers a call which is not understood.
pub fn refusal(why: &NotUnderstood) -> Vec<u8> {
    let parameters = Map::from_iter([("why".to_owned(), Value::from(why.0.as_str()))]);
    Answer { error: Some(format!("{INTERFACE}.NotUnderstood")), parameters, continues: false }.frame()
}

/// Whether a payload is nested deeper than both sides take.
pub fn is_too_deep(payload: &Value) -> bool {
    fn exceeds(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(items) => levels == 0 || items.iter().any(|item| exceeds(item, levels - 1)),
            Value::Object(members) => levels == 0 || members.values().any(|member| exceeds(member, levels - 1)),
            _ => false,
        }
    }
    exceeds(payload, DEEPEST)
}

fn ended(text: String) -> Vec<u8> {
    let mut frame = text.into_bytes();
    frame.push(0);
    frame
}

/// Payloads stay out of logs.
impl std::fmt::Debug for Run {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Run").field("manifest", &self.manifest).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(payload: Value) -> Run {
        Run {
            manifest: "restart.toml".to_owned(),
            digest: Digest::of(b"method"),
            id: CommandId::parse("1").expect("an id"),
            device: DeviceId::parse("d").expect("an id"),
            payload,
        }
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn what_one_side_says_the_other_hears() {
        for payload in [json!(null), json!({ "a": [1, "\0\n", { "b": 1.5 }] }), nested(DEEPEST)] {
            assert!(!is_too_deep(&payload));
            let call = run(payload.clone());
            let frame = call.frame();
            let (end, text) = frame.split_last().expect("a frame");
            assert_eq!((*end, Run::parse(text)), (0, Ok(call)));
            let said = [
                Reply::Begun,
                Reply::Progress("50 %".into()),
                Reply::Ended(Outcome::new(Status(200), payload.clone())),
                Reply::Ended(Outcome::new(Status(500), payload.clone()).not_run()),
            ];
            for reply in said {
                let frame = reply.frame();
                let (end, text) = frame.split_last().expect("a frame");
                assert_eq!((*end, Reply::parse(text)), (0, Ok(reply)));
            }
        }
        assert!(is_too_deep(&nested(DEEPEST + 1)));
    }

    #[test]
    fn nothing_else_is_understood() {
        let digest = Digest::of(b"x");
        let call = |parameters: Value, more: bool| {
            Run::parse(
                json!({ "method": "io.twinagent.Handlers.Run", "parameters": parameters, "more": more })
                    .to_string()
                    .as_bytes(),
            )
        };
        let good = json!({ "manifest": "a.toml", "digest": digest, "id": "1", "device": "d" });
        assert!(call(good.clone(), true).is_ok(), "a payload may be missing");
        assert!(call(good.clone(), false).is_err());
        for (member, value) in [("id", json!("a/b")), ("digest", json!("md5:1")), ("program", json!("/bin/sh"))] {
            let mut bad = good.clone();
            bad[member] = value;
            assert!(call(bad, true).is_err(), "{member}");
        }
        assert!(Run::parse(br#"{"method":"io.twinagent.Handlers.Stop","more":true}"#).is_err());
        for bad in [
            r#"{"continues":true}"#,
            r#"{"parameters":{"begun":false},"continues":true}"#,
            r#"{"parameters":{"progress":"x","more":1},"continues":true}"#,
            r#"{"parameters":{"payload":1}}"#,
            r#"{"parameters":{"status":99}}"#,
            r#"{"parameters":{"status":200,"status":500}}"#,
            r#"{"parameters":{"status":200,"other":1}}"#,
            r#"{"parameters":{"status":500,"notRun":false}}"#,
            r#"{"parameters":{"notRun":true},"continues":true}"#,
            "[]",
        ] {
            assert!(Reply::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let refused = refusal(&NotUnderstood("no".into()));
        let told = Reply::parse(&refused[..refused.len() - 1]).expect_err("an error");
        assert_eq!(told.0, "it answers io.twinagent.Handlers.NotUnderstood no");
    }
}
