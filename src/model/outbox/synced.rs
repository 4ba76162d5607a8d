//! From what the cloud has to our document: one merge patch (RFC 7396), or several where one would be too large.
//!
//! Pure rules. When they are sent, and what becomes of them, `document` knows.

use serde_json::{Map, Value};

use crate::model::patch::{difference, merge};

/// The member whose members are sent one by one where all of them are too much.
const COMMANDS: &str = "commands";

/// The next patch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub patch: Map<String, Value>,
    /// What the cloud has once it has taken it.
    pub after: Map<String, Value>,
    /// Nothing follows.
    pub is_last: bool,
}

/// A part of the difference: a member, or one within [`COMMANDS`].
struct Piece {
    within: Option<&'static str>,
    name: String,
    value: Value,
    /// By how many bytes the cloud's document grows.
    growth: i64,
}

/// The patch to be sent next, of at most `limit` bytes; nothing if there is no difference.
///
/// What makes the cloud's document smaller goes first. So that document is never larger than the larger of the two, and a
/// cloud that looks at its size takes each part.
pub(super) fn next_part(base: &Map<String, Value>, document: &Map<String, Value>, limit: usize) -> Option<Part> {
    let whole = difference(base, document);
    if whole.is_empty() {
        return None;
    }
    let (patch, is_last) = if bytes(&whole) <= limit { (whole, true) } else { (first(base, whole, limit), false) };
    let mut after = base.clone();
    merge(&mut after, &patch);
    Some(Part { patch, after, is_last })
}

fn first(base: &Map<String, Value>, whole: Map<String, Value>, limit: usize) -> Map<String, Value> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (name, value) in whole {
        match (name.as_str(), value) {
            (COMMANDS, Value::Object(members)) => {
                let known = base.get(COMMANDS).and_then(Value::as_object);
                let piece = |(name, value): (String, _)| {
                    Piece::new(Some(COMMANDS), known.and_then(|k| k.get(&name)), name, value, limit)
                };
                pieces.extend(members.into_iter().map(piece));
            }
            (_, value) => pieces.push(Piece::new(None, base.get(&name), name, value, limit)),
        }
    }
    pieces.sort_by_key(|piece| piece.growth);
    let mut patch = Map::new();
    // The braces around all of them, and what surrounds those of `commands`.
    let mut length = "{}".len() + "\"commands\":{},".len();
    for piece in pieces {
        length += piece.length();
        if !patch.is_empty() && length > limit {
            break;
        }
        piece.put_into(&mut patch);
    }
    patch
}

impl Piece {
    fn new(within: Option<&'static str>, known: Option<&Value>, name: String, value: Value, limit: usize) -> Self {
        let [before, patched] = [known.map_or(0, size), size(&value)];
        let mut piece = Self { within, name, value, growth: patched };
        if let Some(known) = known {
            let mut alone = Map::new();
            piece.put_into(&mut alone);
            if piece.value.is_null() || bytes(&alone) > limit {
                // Too much at once: it is removed, and set anew by a later patch.
                (piece.value, piece.growth) = (Value::Null, -before);
            } else if let Value::Object(patch) = &piece.value {
                let mut after = known.as_object().cloned().unwrap_or_default();
                merge(&mut after, patch);
                piece.growth = size(&Value::Object(after)) - before;
            } else {
                piece.growth = patched - before;
            }
        }
        piece
    }

    /// In bytes of JSON, with the comma behind it.
    fn length(&self) -> usize {
        let mut alone = Map::new();
        alone.insert(self.name.clone(), self.value.clone());
        bytes(&alone) - "{}".len() + 1
    }

    fn put_into(&self, patch: &mut Map<String, Value>) {
        let place = match self.within {
            None => Some(patch),
            Some(member) => patch.entry(member).or_insert_with(|| Value::Object(Map::new())).as_object_mut(),
        };
        if let Some(place) = place {
            place.insert(self.name.clone(), self.value.clone());
        }
    }
}

/// In bytes of JSON.
pub(super) fn bytes(members: &Map<String, Value>) -> usize {
    // Written as the value that is sent.
    serde_json::to_string(members).map_or(usize::MAX, |text| text.len())
}

fn size(value: &Value) -> i64 {
    i64::try_from(value.to_string().len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("no object") };
        members
    }

    /// Sends part after part until nothing is left; how many that were.
    fn brings(base: &Map<String, Value>, document: &Map<String, Value>, limit: usize) -> usize {
        let most = bytes(base).max(bytes(document)) + 64;
        let mut cloud = base.clone();
        for parts in 0..100 {
            let Some(part) = next_part(&cloud, document, limit) else {
                assert_eq!(cloud, *document);
                return parts;
            };
            assert!(bytes(&part.patch) <= limit, "a patch of {} bytes", bytes(&part.patch));
            merge(&mut cloud, &part.patch);
            assert_eq!(cloud, part.after);
            assert!(bytes(&cloud) <= most, "{} bytes on the way", bytes(&cloud));
            assert_eq!(part.is_last, cloud == *document);
        }
        panic!("it never ends");
    }

    #[test]
    fn what_is_too_large_for_one_patch_goes_in_several_the_removals_first() {
        let commands = |prefix: &str| -> Value {
            (0..20).map(|n| (format!("{prefix}{n}"), json!("x".repeat(1_000)))).collect::<Map<_, _>>().into()
        };
        let base = object(json!({ "commands": commands("old"), "a": "y".repeat(9_000) }));
        let document = object(json!({ "commands": commands("new"), "b": "z".repeat(9_000) }));
        let first = next_part(&base, &document, 10_000).expect("a difference");
        assert_eq!((&first.patch["a"], &first.patch["commands"]["old0"]), (&json!(null), &json!(null)));
        assert!(brings(&base, &document, 10_000) > 2);
        assert_eq!(brings(&document, &document, 10_000), 0);
    }

    #[test]
    fn a_member_that_changes_altogether_is_removed_and_set_anew() {
        let keys = |prefix: &str| -> Value {
            (0..300).map(|n| (format!("{prefix}{n}"), json!(n))).collect::<Map<_, _>>().into()
        };
        let (base, document) = (object(json!({ "a": keys("old") })), object(json!({ "a": keys("new") })));
        assert_eq!(brings(&base, &document, bytes(&document)), 2);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..4_i32).prop_map(Value::from),
            "[a-c\"]{0,40}".prop_map(Value::from),
            prop::collection::vec(0..3_u8, 0..3).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|map| json!(map))
        })
    }

    fn document() -> impl Strategy<Value = Map<String, Value>> {
        let name = prop_oneof!["[a-d]", Just(COMMANDS.to_owned())];
        prop::collection::btree_map(name, value(), 0..6).prop_map(|map| object(json!(map)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_patches_bring_any_base_to_our_document_each_within_the_limit(base in document(), ours in document(), spare in 0..64_usize) {
            let limit = bytes(&ours).max(32) + spare;
            brings(&base, &ours, limit);
        }
    }
}
