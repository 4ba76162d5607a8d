//! How a command is written into a message: the body as its payload where the topic names the method, else an envelope,
//! `{"method":…,"id":…,"payload":…,"expiresAt":…}`. One grammar for all clouds.
//!
//! Where the names in the topic stand, and whom to answer, each dialect knows by itself.

use serde_json::{Map, Value};

use crate::model::cloud::Inbound;
use crate::model::command::{CommandId, DeviceId, Identity, Method, ReplyTo, Request, Status};
use crate::model::json;
use crate::model::nearest::nearest;
use crate::model::now::Timestamp;

/// The members that an envelope may have.
const MEMBERS: [&str; 4] = ["method", "id", "payload", "expiresAt"];

/// A command while it is read: what of it is known so far addresses a refusal.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) id: Option<CommandId>,
    pub(super) method: Option<Method>,
    pub(super) reply_to: Option<ReplyTo>,
    pub(super) expires: Option<Timestamp>,
}

/// For whom a message is, and how much of it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) target: &'a DeviceId,
    /// What a payload is for that comes without an envelope.
    pub(super) default_method: Option<&'a Method>,
    /// The largest body, in bytes.
    pub(super) largest: usize,
}

impl Draft {
    pub(super) fn refuse(self, status: Status, why: impl Into<String>) -> Inbound {
        Inbound::Malformed { id: self.id, method: self.method, reply_to: self.reply_to, status, why: why.into() }
    }

    /// The command, with the identity that it was given, or that of this cloud's messages that were given none.
    pub(super) fn finish(self, target: &DeviceId, unnamed: Identity, payload: Value) -> Inbound {
        let Self { id, method: Some(method), reply_to, expires } = self else {
            return self.refuse(Status::NOT_A_COMMAND, "a method is missing");
        };
        let identity = id.map_or(unnamed, Identity::Given);
        Inbound::Command(Request { identity, target: target.clone(), method, payload, reply_to, expires })
    }
}

impl Reading<'_> {
    /// The topic names the method, and the body is its payload: JSON, or nothing.
    pub(super) fn addressed(self, mut draft: Draft, method: &str, unnamed: Identity, body: &[u8]) -> Inbound {
        match Method::parse(method) {
            Ok(method) => draft.method = Some(method),
            Err(error) => return draft.refuse(Status::NOT_A_COMMAND, format!("the method in the topic: {error}")),
        }
        if body.len() > self.largest {
            return self.too_large(draft, body);
        }
        match json::payload(body) {
            Ok(payload) => draft.finish(self.target, unnamed, payload),
            Err(why) => draft.refuse(Status::NOT_A_COMMAND, format!("payload: {why}")),
        }
    }

    /// The body is an envelope, or a bare payload where there is a default method. What the draft knows already holds where
    /// the envelope says nothing.
    pub(super) fn envelope(self, mut draft: Draft, body: &[u8]) -> Inbound {
        if body.len() > self.largest {
            return self.too_large(draft, body);
        }
        let mut members = match (json::payload(body), self.default_method) {
            (Ok(Value::Object(members)), default) if members.contains_key("method") || default.is_none() => members,
            (Ok(payload), Some(method)) => {
                draft.method = Some(method.clone());
                return draft.finish(self.target, Identity::Derived, payload);
            }
            (Ok(_), None) => {
                return draft.refuse(Status::NOT_A_COMMAND, "a JSON object with a member `method` is expected");
            }
            (Err(why), _) => return draft.refuse(Status::NOT_A_COMMAND, why),
        };
        match text(&members, "id").and_then(|id| id.map(CommandId::parse).transpose().map_err(|why| why.to_string())) {
            Ok(id) => draft.id = id.or(draft.id),
            Err(why) => return draft.refuse(Status::NOT_A_COMMAND, format!("`id`: {why}")),
        }
        match text(&members, "method")
            .and_then(|method| Method::parse(method.ok_or("is missing")?).map_err(|why| why.to_string()))
        {
            Ok(method) => draft.method = Some(method),
            Err(why) => return draft.refuse(Status::NOT_A_COMMAND, format!("`method`: {why}")),
        }
        match text(&members, "expiresAt").and_then(|time| time.map(moment).transpose()) {
            Ok(expires) => draft.expires = expires.or(draft.expires),
            Err(why) => return draft.refuse(Status::NOT_A_COMMAND, format!("`expiresAt`: {why}")),
        }
        let unknown = members.keys().find_map(|name| {
            let known = MEMBERS.contains(&name.as_str());
            let meant = nearest(name, MEMBERS)?;
            (!known).then(|| format!("unknown member `{}`; did you mean `{meant}`?", name.escape_debug()))
        });
        if let Some(why) = unknown {
            return draft.refuse(Status::NOT_A_COMMAND, why);
        }
        let payload = json::unquote(members.remove("payload").unwrap_or(Value::Null));
        draft.finish(self.target, Identity::Derived, payload)
    }

    fn too_large(self, draft: Draft, body: &[u8]) -> Inbound {
        let why = format!("a payload of {} bytes; at most {} are taken", body.len(), self.largest);
        draft.refuse(Status::TOO_LARGE, why)
    }
}

/// A moment as people and clouds write it: RFC 3339.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|why: crate::model::now::NotATime| why.to_string())
}

/// A member that is a string, if it is there; `null` counts as missing.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a string is expected".to_owned()),
    }
}
