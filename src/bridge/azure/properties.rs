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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::patch;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("an object is expected") };
        members
    }

    #[test]
    fn a_patch_leaves_its_time_on_what_it_names_and_around_it() {
        let mut properties = Properties::new(at(0));
        let first = object(json!({"a": {"b": 1, "c": {"d": [1]}}, "e": "x"}));
        assert_eq!(properties.patch(&first, at(1)), Ok(2));
        let second = object(json!({"a": {"b": 2, "c": {"d": null}}, "none": null}));
        assert_eq!(properties.patch(&second, at(2)), Ok(3));
        let expected = json!({
            "a": {"b": 2, "c": {}},
            "e": "x",
            "$version": 3,
            "$metadata": {
                "$lastUpdated": at(2),
                "a": {"$lastUpdated": at(2), "b": {"$lastUpdated": at(2)}, "c": {"$lastUpdated": at(2)}},
                "e": {"$lastUpdated": at(1)},
            },
        });
        assert_eq!(properties.for_service(), expected);
        assert_eq!(properties.for_device(), json!({"a": {"b": 2, "c": {}}, "e": "x", "$version": 3}));
    }

    #[test]
    fn what_is_not_allowed_changes_nothing() {
        let mut properties = Properties::new(at(0));
        properties.patch(&object(json!({"a": "x".repeat(4_000)})), at(1)).expect("it is allowed");
        let before = properties.clone();
        let large = (0..8).map(|at| (format!("k{at}"), json!("x".repeat(4_000)))).collect();
        for wrong in [large, object(json!({"a": 1, "b.c": 2}))] {
            properties.patch(&wrong, at(2)).expect_err("it is not allowed");
            assert_eq!(properties, before);
        }
        let whole = (0..9).map(|at| (format!("k{at}"), json!("x".repeat(4_000)))).collect();
        for wrong in [whole, object(json!({"a": [null]}))] {
            properties.replace(&wrong, at(2)).expect_err("it is not allowed");
            assert_eq!(properties, before);
        }
    }

    /// Documents and patches: some names meet.
    fn documents() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9..9_i64).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
            Just(json!([1, {"x": 2}])),
        ];
        let value = leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|members| json!(members))
        });
        prop::collection::btree_map("[a-c]", value, 0..4).prop_map(|members| members.into_iter().collect())
    }

    /// The names of all members in a document, or in the times of one.
    fn names(value: &Value, around: &str, into: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with('$')) {
            let name = format!("{around}/{name}");
            names(value, &name, into);
            into.push(name);
        }
    }

    proptest! {
        /// Another hand's merge is the judge, and every member has a time and nothing else has one.
        #[test]
        fn patches_and_replacements_follow_the_rfc(steps in prop::collection::vec((any::<bool>(), documents()), 1..6)) {
            let mut properties = Properties::new(at(0));
            let mut judge = Map::new();
            let mut told = Map::new();
            for (version, (replaces, document)) in (2_u64..).zip(steps) {
                if replaces {
                    let patch = properties.replace(&document, at(1)).expect("it is allowed");
                    judge = Map::new();
                    patch::merge(&mut judge, &document);
                    patch::merge(&mut told, &patch);
                } else {
                    properties.patch(&document, at(1)).expect("it is allowed");
                    patch::merge(&mut judge, &document);
                    patch::merge(&mut told, &document);
                }
                prop_assert_eq!(&properties.members, &judge);
                prop_assert_eq!(&told, &judge, "whoever reads the notices knows the document");
                prop_assert_eq!(properties.version(), version);
                let service = properties.for_service();
                let (mut members, mut times) = (Vec::new(), Vec::new());
                // Lists have one time as a whole.
                names(&Value::Object(judge.clone()), "", &mut members);
                names(&service["$metadata"], "", &mut times);
                prop_assert_eq!(members, times);
                let kept: Properties = serde_json::from_value(json!(properties)).expect("its own JSON");
                prop_assert_eq!(&kept, &properties);
            }
        }
    }
}
