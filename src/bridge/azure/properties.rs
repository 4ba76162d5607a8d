//! Desired or reported properties: a document with a version, and when which member was last written.
//!
//! A patch is merged by RFC 7396; a member that is written leaves its time on itself and on all objects around it.
//! What may stand in the document is `document`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::{self, Part};
use crate::model::now::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Properties {
    members: Map<String, Value>,
    /// 1 at first, one more with every write.
    version: u64,
    stamp: Stamp,
}

/// When a member was last written, and the members in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    members: BTreeMap<String, Stamp>,
}

impl Properties {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { members: Map::new(), version: 1, stamp: Stamp::new(now) }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Merges a patch. Nothing is changed where the outcome would not be allowed; the error says why.
    pub(super) fn patch(&mut self, patch: &Map<String, Value>, now: Timestamp) -> Result<u64, String> {
        document::check(patch)?;
        let mut members = self.members.clone();
        let mut stamp = self.stamp.clone();
        merge(&mut members, &mut stamp, patch, now);
        document::check_size(Part::Properties, &members)?;
        Ok(self.put(members, stamp))
    }

    /// Puts a document in the place of this one. Nothing is changed where it is not allowed; the error says why.
    ///
    /// Returns what tells a reader of patches the same: the document, and `null` for what is gone.
    pub(super) fn replace(
        &mut self,
        document: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Map<String, Value>, String> {
        document::check(document)?;
        let (mut members, mut stamp) = (Map::new(), Stamp::new(now));
        merge(&mut members, &mut stamp, document, now);
        document::check_size(Part::Properties, &members)?;
        let patch = replacing(&self.members, &members);
        self.put(members, stamp);
        Ok(patch)
    }

    fn put(&mut self, members: Map<String, Value>, stamp: Stamp) -> u64 {
        (self.members, self.stamp) = (members, stamp);
        self.version += 1;
        self.version
    }

    /// As the device reads it: the document and its `$version`.
    pub(super) fn for_device(&self) -> Value {
        let mut members = self.members.clone();
        members.insert("$version".to_owned(), json!(self.version));
        Value::Object(members)
    }

    /// As the service reads it: with `$metadata` too.
    pub(super) fn for_service(&self) -> Value {
        let mut members = self.members.clone();
        members.insert("$metadata".to_owned(), self.stamp.to_json());
        members.insert("$version".to_owned(), json!(self.version));
        Value::Object(members)
    }
}

impl Stamp {
    fn new(at: Timestamp) -> Self {
        Self { at, members: BTreeMap::new() }
    }

    fn to_json(&self) -> Value {
        let mut json = Map::from_iter([("$lastUpdated".to_owned(), json!(self.at))]);
        json.extend(self.members.iter().map(|(name, stamp)| (name.clone(), stamp.to_json())));
        Value::Object(json)
    }
}

/// Merges by RFC 7396; the times go along. An object that is new or takes the place of a value comes without its `null`s.
fn merge(members: &mut Map<String, Value>, stamp: &mut Stamp, patch: &Map<String, Value>, now: Timestamp) {
    stamp.at = now;
    for (name, value) in patch {
        match value {
            Value::Null => {
                members.remove(name);
                stamp.members.remove(name);
            }
            Value::Object(inner) => {
                let place = members.entry(name.clone()).or_insert_with(|| json!({}));
                if !place.is_object() {
                    *place = json!({});
                }
                let place = place.as_object_mut().expect("it was just made one");
                merge(place, stamp.members.entry(name.clone()).or_insert_with(|| Stamp::new(now)), inner, now);
            }
            value => {
                members.insert(name.clone(), value.clone());
                stamp.members.insert(name.clone(), Stamp::new(now));
            }
        }
    }
}

/// All of `new`, and `null` for what only `old` has.
fn replacing(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let kept = new.iter().map(|(name, value)| {
        let value = match (old.get(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(replacing(old, new)),
            _ => value.clone(),
        };
        (name.clone(), value)
    });
    gone.chain(kept).collect()
}

/// A patch merged into tags, which have no times.
pub(super) fn merge_plain(members: &mut Map<String, Value>, patch: &Map<String, Value>) {
    let mut forgotten = Stamp::new(Timestamp::from_micros(0));
    merge(members, &mut forgotten, patch, Timestamp::from_micros(0));
}
