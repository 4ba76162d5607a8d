//! A twin: tags for the service alone, desired properties from it, reported ones from the device. How each side writes it.
//!
//! Source: "Understand and use device twins in IoT Hub" (learn.microsoft.com/azure/iot-hub).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::{self, Part};
use super::properties::{Properties, merge_plain};
use super::{HubError, IfMatch};
use crate::model::json;
use crate::model::now::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Twin {
    tags: Map<String, Value>,
    desired: Properties,
    reported: Properties,
    /// 1 at first, one more with every write of the service. Its `ETag` is made of this.
    version: u64,
}

/// How the service writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// By merge: RFC 7396.
    Patch,
    /// What is named is put in the place of what there is.
    Replace,
}

/// What the service writes. A part that is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TwinBody {
    tags: Option<Map<String, Value>>,
    desired: Option<Map<String, Value>>,
}

/// What the device is told of a write to its desired properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) version: u64,
    /// A patch with its `$version`.
    pub(crate) body: Vec<u8>,
}

impl TwinBody {
    /// Desired properties alone: an object.
    pub(crate) fn desired(value: Value) -> Result<Self, HubError> {
        Ok(Self { tags: None, desired: part("properties.desired", Some(value))? })
    }

    /// The body of a call: a twin as it was read, or a part of it. What only the hub writes is left alone.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HubError> {
        let body = json::strict(bytes).map_err(|error| HubError::invalid(format!("The body is not JSON: {error}")))?;
        let Value::Object(mut body) = body else { return Err(HubError::invalid("The body is no object.")) };
        Self::from_members(body.remove("tags"), body.remove("properties"))
    }

    /// `tags` and `properties` of a body.
    pub(super) fn from_members(tags: Option<Value>, properties: Option<Value>) -> Result<Self, HubError> {
        let desired = match properties {
            None | Some(Value::Null) => None,
            Some(Value::Object(mut properties)) => properties.remove("desired"),
            Some(_) => return Err(HubError::invalid("properties is no object.")),
        };
        Ok(Self { tags: part("tags", tags)?, desired: part("properties.desired", desired)? })
    }
}

/// A part of a body, without what the hub writes into it.
fn part(what: &str, value: Option<Value>) -> Result<Option<Map<String, Value>>, HubError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(mut members)) => {
            members.remove("$metadata");
            members.remove("$version");
            Ok(Some(members))
        }
        Some(_) => Err(HubError::invalid(format!("{what} is no object."))),
    }
}

impl Twin {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { tags: Map::new(), desired: Properties::new(now), reported: Properties::new(now), version: 1 }
    }

    pub(super) fn etag(&self) -> String {
        STANDARD.encode(self.version.to_be_bytes())
    }

    /// A write of the service. Nothing is written where a part of it is refused.
    pub(super) fn write(
        &mut self,
        body: TwinBody,
        if_match: &IfMatch,
        how: Write,
        now: Timestamp,
    ) -> Result<Option<Notice>, HubError> {
        if_match.check(&self.etag())?;
        let refused = |what: &'static str| move |why: String| HubError::invalid(format!("{what}: {why}."));
        let mut next = self.clone();
        if let Some(tags) = &body.tags {
            document::check(tags).map_err(refused("tags"))?;
            if how == Write::Replace {
                next.tags.clear();
            }
            merge_plain(&mut next.tags, tags);
            document::check_size(Part::Tags, &next.tags).map_err(refused("tags"))?;
        }
        let told = match (body.desired, how) {
            (None, _) => None,
            (Some(patch), Write::Patch) => {
                next.desired.patch(&patch, now).map_err(refused("properties.desired"))?;
                Some(patch)
            }
            (Some(desired), Write::Replace) => {
                Some(next.desired.replace(&desired, now).map_err(refused("properties.desired"))?)
            }
        };
        next.version += 1;
        *self = next;
        Ok(told.map(|mut patch| {
            let version = self.desired.version();
            patch.insert("$version".to_owned(), json!(version));
            Notice { version, body: Value::Object(patch).to_string().into_bytes() }
        }))
    }

    /// A patch of the device onto its reported properties. Returns their new version.
    pub(super) fn report(&mut self, patch: &[u8], now: Timestamp) -> Result<u64, HubError> {
        let patch =
            json::strict(patch).map_err(|error| HubError::invalid(format!("The patch is not JSON: {error}")))?;
        let Value::Object(patch) = patch else { return Err(HubError::invalid("The patch is no object.")) };
        self.reported.patch(&patch, now).map_err(|why| HubError::invalid(format!("properties.reported: {why}.")))
    }

    /// As the device reads it.
    pub(super) fn for_device(&self) -> Value {
        json!({ "desired": self.desired.for_device(), "reported": self.reported.for_device() })
    }

    /// What the service reads of it besides the identity.
    pub(super) fn members_for_service(&self) -> Map<String, Value> {
        let properties = json!({ "desired": self.desired.for_service(), "reported": self.reported.for_service() });
        Map::from_iter([
            ("etag".to_owned(), json!(self.etag())),
            ("version".to_owned(), json!(self.version)),
            ("tags".to_owned(), Value::Object(self.tags.clone())),
            ("properties".to_owned(), properties),
        ])
    }
}
