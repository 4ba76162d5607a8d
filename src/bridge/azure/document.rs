//! What a hub takes as a part of a twin: how large, how deep, which names and values.
//!
//! Source: "Understand and use device twins in IoT Hub", tags and properties format, and device twin size. That arrays hold no
//! `null`, nor objects with one, was confirmed by the service's makers: issue 1741 of github.com/Azure/azure-iot-sdk-csharp.

use serde_json::{Map, Value};

/// The most objects and arrays within each other, the part itself left aside.
const DEEPEST: usize = 10;
/// The longest name of a member and the longest string, in bytes.
const LONGEST_KEY: usize = 1_024;
const LONGEST_STRING: usize = 4_096;
/// Whole numbers lie between these.
const INTEGERS: (i64, i64) = (-4_503_599_627_370_496, 4_503_599_627_370_495);

/// A part of a twin, by the most that it may weigh: see [`weight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Tags,
    Properties,
}

impl Part {
    fn largest(self) -> usize {
        match self {
            Self::Tags => 8 * 1_024,
            Self::Properties => 32 * 1_024,
        }
    }
}

/// Checks the names and values of a patch, or of a whole part. `null` may be a member, which it deletes; it is no value.
pub(super) fn check(members: &Map<String, Value>) -> Result<(), String> {
    check_object(members, 0, false)
}

/// Checks what a part has become.
pub(super) fn check_size(part: Part, members: &Map<String, Value>) -> Result<(), String> {
    let (size, largest) = (weigh(members), part.largest());
    if size > largest {
        return Err(format!("the document would have {size} bytes, of which {largest} are allowed"));
    }
    Ok(())
}

fn check_object(members: &Map<String, Value>, depth: usize, in_array: bool) -> Result<(), String> {
    for (name, value) in members {
        let wrong = |byte: char| byte.is_control() || matches!(byte, '.' | '$' | ' ');
        if name.is_empty() || name.len() > LONGEST_KEY || name.contains(wrong) {
            return Err(format!(
                "a name of a member is empty, longer than {LONGEST_KEY} bytes, or holds a control character, '.', '$' or a \
                 space"
            ));
        }
        // It deletes a member, and what is in an array is written as a whole.
        if in_array || !value.is_null() {
            check_value(value, depth, in_array)?;
        }
    }
    Ok(())
}

fn check_value(value: &Value, depth: usize, in_array: bool) -> Result<(), String> {
    if depth == DEEPEST && (value.is_object() || value.is_array()) {
        return Err(format!("objects and arrays lie deeper than {DEEPEST} levels"));
    }
    match value {
        Value::Null => Err("null stands in an array".to_owned()),
        Value::Number(number) => {
            let (least, most) = INTEGERS;
            let whole = number.as_i64().map(|whole| (least..=most).contains(&whole));
            let good = whole.unwrap_or(!number.is_u64());
            if good { Ok(()) } else { Err(format!("a whole number is not between {least} and {most}")) }
        }
        Value::String(text) if text.len() > LONGEST_STRING => {
            Err(format!("a string is longer than {LONGEST_STRING} bytes"))
        }
        Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1, true)),
        Value::Object(members) => check_object(members, depth + 1, in_array),
    }
}

/// Names and strings count by their bytes without control characters, numbers 8, truth values 4.
fn weigh(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| name.len() + weight(value)).sum()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.chars().filter(|letter| !letter.is_control()).map(char::len_utf8).sum(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => weigh(members),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(document: &Value) -> Result<(), String> {
        check(document.as_object().expect("an object"))
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn names_and_values_are_those_of_the_page() {
        for good in [
            json!({}),
            json!({"a": null, "b": {"c": null}}),
            json!({"a_-ü/:": true, "b": 1.5e300, "c": ["x", [1]], "d": "", "e": {}}),
            json!({"least": INTEGERS.0, "most": INTEGERS.1, "long": "x".repeat(4_096)}),
            json!({ "k".repeat(1_024): 1 }),
            // The part and ten objects in it.
            nested(11),
        ] {
            assert_eq!(judge(&good), Ok(()), "{good}");
        }
        for wrong in [
            json!({"": 1}),
            json!({"a.b": 1}),
            json!({"$version": 1}),
            json!({"a": {"b c": 1}}),
            json!({"a\u{7}": null}),
            json!({ "k".repeat(1_025): 1 }),
            json!({"a": [null]}),
            json!({"a": [{"b": null}]}),
            json!({"a": [{"b": {"c": null}}]}),
            json!({"a": "x".repeat(4_097)}),
            json!({"a": INTEGERS.1 + 1}),
            json!({"a": INTEGERS.0 - 1}),
            json!({"a": u64::MAX}),
            json!({"a": [{"b": u64::MAX}]}),
            nested(12),
        ] {
            assert!(judge(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_weighs_its_names_and_values() {
        let document = json!({"ab": "cü\n", "n": 12_345, "t": true, "o": {"x": ["yz", 1]}});
        assert_eq!(weigh(document.as_object().expect("an object")), 2 + 3 + 1 + 8 + 1 + 4 + 1 + 1 + 2 + 8);
        let full = |bytes: usize| {
            let members = (0..bytes / 1_024).map(|at| (format!("{at:04}"), json!("x".repeat(1_020))));
            members.collect::<Map<_, _>>()
        };
        for (part, most) in [(Part::Tags, 8 * 1_024), (Part::Properties, 32 * 1_024)] {
            let mut document = full(most);
            assert_eq!(check_size(part, &document), Ok(()));
            document.insert("a".to_owned(), json!(""));
            assert!(check_size(part, &document).is_err());
        }
    }
}
