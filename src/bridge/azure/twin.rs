//! A twin: tags for the service alone, desired properties from it, reported ones from the device. How each side writes it.
//!
//! Source: "Understand and use device twins in IoT Hub" (learn.microsoft.com/azure/iot-hub).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::{self, Part};
use super::properties::Properties;
use super::{HubError, IfMatch};
use crate::model::now::Timestamp;
use crate::model::{json, patch};

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
    pub(crate) fn from_members(tags: Option<Value>, properties: Option<Value>) -> Result<Self, HubError> {
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
            patch::merge(&mut next.tags, tags);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn write(twin: &mut Twin, body: &Value, how: Write) -> Result<Option<Notice>, HubError> {
        twin.write(TwinBody::parse(body.to_string().as_bytes())?, &IfMatch::Any, how, at(1))
    }

    fn told(notice: Result<Option<Notice>, HubError>) -> (u64, Value) {
        let Notice { version, body } = notice.expect("it is allowed").expect("desired was written");
        (version, serde_json::from_slice(&body).expect("JSON"))
    }

    #[test]
    fn a_device_is_told_of_desired_properties_alone() {
        let mut twin = Twin::new(at(0));
        let patch = json!({"properties": {"desired": {"a": {"b": 1}, "c": null}, "reported": {"x": 1}}, "etag": "any"});
        let notice = told(write(&mut twin, &patch, Write::Patch));
        assert_eq!(notice, (2, json!({"a": {"b": 1}, "c": null, "$version": 2})));
        assert_eq!(write(&mut twin, &json!({"tags": {"t": 1}}), Write::Patch), Ok(None));
        assert_eq!(write(&mut twin, &json!({"tags": null, "properties": {"desired": null}}), Write::Patch), Ok(None));
        let whole = json!({"properties": {"desired": {"d": 1, "a": {"e": 2}}}});
        let notice = told(write(&mut twin, &whole, Write::Replace));
        assert_eq!(notice, (3, json!({"a": {"b": null, "e": 2}, "d": 1, "$version": 3})));
        let device = json!({
            "desired": {"a": {"e": 2}, "d": 1, "$version": 3},
            "reported": {"$version": 1},
        });
        assert_eq!(twin.for_device(), device);
    }

    #[test]
    fn a_twin_that_was_read_can_be_written_back() {
        let mut twin = Twin::new(at(0));
        write(&mut twin, &json!({"tags": {"t": {"u": 1}}, "properties": {"desired": {"a": 1}}}), Write::Patch)
            .expect("it is allowed");
        let read = Value::Object(twin.members_for_service());
        told(write(&mut twin, &read, Write::Replace));
        let again = Value::Object(twin.members_for_service());
        assert_eq!(again["tags"], read["tags"]);
        assert_eq!((&again["version"], &again["properties"]["desired"]["$version"]), (&json!(3), &json!(3)));
    }

    #[test]
    fn tags_are_merged_or_replaced_and_may_be_small_only() {
        let mut twin = Twin::new(at(0));
        for (body, how, tags) in [
            (json!({"tags": {"a": {"b": 1, "c": 2}}}), Write::Patch, json!({"a": {"b": 1, "c": 2}})),
            (json!({"tags": {"a": {"b": null}, "d": 3}}), Write::Patch, json!({"a": {"c": 2}, "d": 3})),
            (json!({"tags": {"e": 4, "f": null}}), Write::Replace, json!({"e": 4})),
        ] {
            assert_eq!(write(&mut twin, &body, how), Ok(None));
            assert_eq!(twin.members_for_service()["tags"], tags);
        }
        let before = twin.clone();
        let large: Map<_, _> = (0..3).map(|at| (format!("k{at}"), json!("x".repeat(4_000)))).collect();
        // Good properties beside bad tags are not written either.
        let body = json!({"tags": large, "properties": {"desired": {"a": 1}}});
        assert_eq!(write(&mut twin, &body, Write::Patch).expect_err("too large").status, 400);
        assert_eq!(twin, before);
    }

    #[test]
    fn a_write_for_another_version_is_refused() {
        let mut twin = Twin::new(at(0));
        let first = IfMatch::parse(&format!("\"{}\"", twin.etag()));
        let body = || TwinBody::desired(json!({"a": 1})).expect("an object");
        assert!(twin.write(body(), &first, Write::Patch, at(1)).is_ok());
        let error = twin.write(body(), &first, Write::Patch, at(1)).expect_err("the second of two");
        assert_eq!((error.status, error.code), (412, 412_001));
        for star in ["*", "\"*\""] {
            assert!(twin.write(body(), &IfMatch::parse(star), Write::Patch, at(1)).is_ok());
        }
        for spelled in [twin.etag(), format!("W/\"{}\"", twin.etag())] {
            assert_eq!(IfMatch::parse(&spelled), IfMatch::Tag(twin.etag()));
        }
    }

    #[test]
    fn a_report_that_is_no_patch_is_refused() {
        let mut twin = Twin::new(at(0));
        assert_eq!(twin.report(br#"{"agent":{"id":"gw-1"},"none":null}"#, at(1)), Ok(2));
        for wrong in [&b""[..], b" ", b"[]", b"1", b"{", b"\xff", br#"{"a":1,"a":2}"#, br#"{"$version":3}"#] {
            assert_eq!(twin.report(wrong, at(2)).expect_err("no patch").status, 400);
        }
        assert_eq!(twin.for_device()["reported"], json!({"agent": {"id": "gw-1"}, "$version": 2}));
        assert_eq!(twin.etag(), Twin::new(at(0)).etag(), "what the device reports is no write of the service");
    }

    #[test]
    fn bodies_that_are_no_twin_are_refused() {
        for wrong in ["", "[]", r#"{"tags":1}"#, r#"{"properties":[]}"#, r#"{"properties":{"desired":"x"}}"#] {
            assert_eq!(TwinBody::parse(wrong.as_bytes()).expect_err(wrong).status, 400);
        }
    }
}
