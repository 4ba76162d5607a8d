//! What a hub sends: direct methods, answers about the twin, changes of desired, cloud-to-device messages.
//!
//! Nothing here trusts the hub: names, sizes and numbers are checked before they become a word of the model.

use serde_json::{Map, Value};

use super::topic::{Properties, digits, is_name, parted};
use super::{IotHub, METHOD};
use crate::dialect::envelope::{Draft, Reading, moment};
use crate::model::cloud::Inbound;
use crate::model::command::{CommandId, Identity, ReplyTo, Status};
use crate::model::json;
use crate::model::wire::{MessageId, Packet};

/// Largest cloud-to-device message, in bytes (quotas page: 64 KB).
const MESSAGE: usize = 64 * 1_024;

/// Largest twin that is read, in bytes: two documents of 32 KB (twins page), and room for names that the hub writes longer.
const TWIN: usize = 256 * 1_024;

/// The version of a document, among its members.
const VERSION: &str = "$version";

const NOT_OURS: Inbound = Inbound::Dropped { why: "its topic is not this device's" };

impl IotHub {
    pub(super) fn read(&self, packet: &Packet) -> Inbound {
        let Packet { topic, payload, retain, .. } = packet;
        if *retain {
            return Inbound::Dropped { why: "this cloud retains nothing, so a retained message is not its own" };
        }
        if let Some(messages) = topic.strip_prefix("devices/") {
            return self.message(messages, payload);
        }
        let (path, properties) = parted(topic);
        let Some(path) = path.strip_prefix("$iothub/") else { return NOT_OURS };
        if let Some(method) = path.strip_prefix("methods/POST/") {
            self.method(method, properties, payload)
        } else if let Some(status) = path.strip_prefix("twin/res/") {
            self.answer(status, properties, payload)
        } else if path == "twin/PATCH/properties/desired" {
            desired(properties, payload)
        } else {
            Inbound::Dropped { why: "its topic means nothing here" }
        }
    }

    /// A direct method. Whoever waits for it is told what is wrong with it.
    fn method(&self, method: &str, properties: Properties<'_>, body: &[u8]) -> Inbound {
        let Some(rid) = properties.rid() else {
            return Inbound::Dropped { why: "a direct method without a `$rid` that could be answered" };
        };
        let draft = Draft { reply_to: Some(ReplyTo(rid.to_owned())), ..Draft::default() };
        let heard = self.reading(METHOD).addressed(draft, method, Identity::Unique, body);
        match heard {
            // The service library for Python writes an empty string for a payload that it was not given.
            Inbound::Command(mut request) if request.payload == "" => {
                request.payload = Value::Null;
                Inbound::Command(request)
            }
            heard => heard,
        }
    }

    /// The hub's answer to what we asked of the twin.
    fn answer(&self, status: &str, properties: Properties<'_>, body: &[u8]) -> Inbound {
        let Some(status) = digits(status).and_then(|status| u16::try_from(status).ok()) else {
            return Inbound::Dropped { why: "an answer without a status" };
        };
        let Some(id) = properties.rid().and_then(|rid| self.asked(rid)) else {
            return Inbound::Dropped { why: "an answer to what this run of the agent did not ask" };
        };
        let twin = if status == 200 { twin(id, body) } else { None };
        twin.unwrap_or(Inbound::Answered { id, status })
    }

    /// Which message of ours has this `$rid`.
    fn asked(&self, rid: &str) -> Option<MessageId> {
        let (run, id) = rid.split_once('-')?;
        let id = MessageId(u64::from_str_radix(id, 16).ok()?);
        (u32::from_str_radix(run, 16) == Ok(self.run) && self.rid(id) == rid).then_some(id)
    }

    /// A cloud-to-device message: `{device}/messages/devicebound/{properties}`.
    fn message(&self, rest: &str, body: &[u8]) -> Inbound {
        let ours = rest.split_once('/').filter(|(device, _)| is_name(device, self.device.as_str()));
        let Some(properties) = ours.and_then(|(_, rest)| rest.strip_prefix("messages/devicebound")) else {
            return NOT_OURS;
        };
        let Some(properties) = properties.strip_prefix('/').or(Some(properties).filter(|rest| rest.is_empty())) else {
            return NOT_OURS;
        };
        let properties = Properties::new(properties);
        let id = properties.get("$.mid").and_then(|id| CommandId::parse(&id).ok());
        let mut draft = Draft { id, ..Draft::default() };
        // Some of the cloud's own libraries write 0 for none.
        match properties.get("$.exp").filter(|expires| expires != "0").map(|text| moment(&text)).transpose() {
            Ok(expires) => draft.expires = expires,
            // To run it for ever after would be worse than not at all.
            Err(why) => return draft.refuse(Status::NOT_A_COMMAND, format!("`$.exp`: {why}")),
        }
        match properties.get("method") {
            Some(method) => self.reading(MESSAGE).addressed(draft, &method, Identity::Derived, body),
            None => self.reading(MESSAGE).envelope(draft, body),
        }
    }

    fn reading(&self, largest: usize) -> Reading<'_> {
        Reading { target: &self.device, default_method: self.default_method.as_ref(), largest }
    }
}

/// A change of the desired properties. Of one that cannot be read at least the hub is heard: it may be the last for long.
fn desired(properties: Properties<'_>, body: &[u8]) -> Inbound {
    let version = properties.number(VERSION);
    let Some(mut patch) = object(body) else { return Inbound::DesiredUnread { version } };
    let told = patch.get(VERSION).and_then(Value::as_u64);
    match version.or(told) {
        Some(version) if !patch.contains_key(VERSION) || told == Some(version) => {
            drop_the_hubs_own(&mut patch);
            Inbound::DesiredPatch { patch, version }
        }
        // Without a version, or with two, so it is not known after which it comes.
        _ => Inbound::DesiredUnread { version: None },
    }
}

/// Both documents and the version of desired, where the body has them.
fn twin(id: MessageId, body: &[u8]) -> Option<Inbound> {
    let mut twin = object(body)?;
    let mut document = |name| match twin.remove(name) {
        Some(Value::Object(document)) => Some(document),
        _ => None,
    };
    let (mut desired, mut reported) = (document("desired")?, document("reported")?);
    let version = desired.get(VERSION)?.as_u64()?;
    drop_the_hubs_own(&mut desired);
    drop_the_hubs_own(&mut reported);
    Some(Inbound::Twin { id, desired, version, reported })
}

/// `$version` and `$metadata` are the hub's own; a name of the user's holds no `$` (twins page).
fn drop_the_hubs_own(document: &mut Map<String, Value>) {
    document.retain(|name, _| !name.starts_with('$'));
}

fn object(body: &[u8]) -> Option<Map<String, Value>> {
    if body.len() > TWIN {
        return None;
    }
    match json::strict(body) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}
