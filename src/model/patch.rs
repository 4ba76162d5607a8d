//! JSON merge patch (RFC 7396): how a twin is changed.

use serde_json::{Map, Value};

/// Merges `patch` into `target`: objects are merged, `null` deletes, everything else replaces.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(patch) => {
                let member = target.entry(name).or_insert(Value::Null);
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(member) = member {
                    merge(member, patch);
                }
            }
            value => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The patch that makes `target` of `base`. Exact where `target` has no `null`, which no patch can set.
pub fn difference(base: &Map<String, Value>, target: &Map<String, Value>) -> Map<String, Value> {
    let gone = base.keys().filter(|name| !target.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let mut patch: Map<String, Value> = gone.collect();
    for (name, value) in target {
        match (base.get(name), value) {
            (Some(known), value) if is_same(known, value) => {}
            (Some(Value::Object(known)), Value::Object(value)) => {
                patch.insert(name.clone(), Value::Object(difference(known, value)));
            }
            (_, value) => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    patch
}

/// Whether two values say the same. A cloud may give a number back in another spelling: `31` for `31.0`.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        (one, other) => one == other,
    }
}

/// Removes the members that are `null`, which a patched document cannot have.
pub fn without_nulls(document: &mut Map<String, Value>) {
    document.retain(|_, value| !value.is_null());
    for value in document.values_mut() {
        if let Value::Object(members) = value {
            without_nulls(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("no object") };
        members
    }

    #[test]
    fn a_difference_says_what_has_changed_and_nothing_else() {
        let cases = [
            (json!({}), json!({}), json!({})),
            (json!({"a":1,"b":{"c":1,"d":2}}), json!({"a":1,"b":{"c":1,"d":3}}), json!({"b":{"d":3}})),
            (json!({"a":{"b":1}}), json!({"a":{}}), json!({"a":{"b":null}})),
            (json!({"a":1}), json!({"a":{"b":1}}), json!({"a":{"b":1}})),
            (json!({"a":{"b":1}}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"a":1,"b":2}), json!({"b":2}), json!({"a":null})),
            (json!({"a":31,"b":[1.0]}), json!({"a":31.0,"b":[1]}), json!({})),
        ];
        for (base, target, expected) in cases {
            assert_eq!(Value::Object(difference(&object(base), &object(target))), expected);
        }
    }

    #[test]
    fn nulls_go_and_those_in_lists_stay() {
        let mut document = object(json!({"a":null,"b":{"c":null,"d":{"e":null}},"f":[null]}));
        without_nulls(&mut document);
        assert_eq!(Value::Object(document), json!({"b":{"d":{}},"f":[null]}));
    }

    /// The table of RFC 7396, appendix A, as far as target and patch are objects.
    #[test]
    fn the_examples_of_the_rfc_come_out_as_they_should() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (target, patch, expected) in cases {
            let mut merged = object(target);
            merge(&mut merged, &object(patch));
            assert_eq!(Value::Object(merged), expected);
        }
    }
}
