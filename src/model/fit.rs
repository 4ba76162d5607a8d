//! Which documents a cloud takes: names, strings, numbers and depth, judged before anything is sent.
//!
//! How large one is by the cloud's own measure is said here; what gives way is left to whoever makes the document.

use serde_json::{Map, Value};

use super::cloud::DocumentRules;

/// The largest integer that a strict cloud takes, and the smallest (IoT Hub: devguide-device-twins, "format").
const LARGEST: i64 = (1 << 52) - 1;
const SMALLEST: i64 = -(1 << 52);

/// The longest path of a member that is shown to people, in bytes.
const SHOWN: usize = 128;

/// A member that this cloud does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{member}`: {rule}")]
pub struct Unfit {
    /// The names on the way to it, with a `/` between two.
    pub member: String,
    pub rule: String,
}

impl DocumentRules {
    /// How much of [`DocumentRules::bytes`] a value takes: its bytes of JSON or, where that is more, what a strict cloud
    /// counts. Objects that are merged are never larger than the sum of both.
    pub fn size(&self, value: &Value) -> usize {
        let counted = if self.strict { weight(value) } else { 0 };
        value.to_string().len().max(counted)
    }

    /// The same of an object.
    pub fn size_of(&self, members: &Map<String, Value>) -> usize {
        let counted = if self.strict { weight_of(members) } else { 0 };
        // Written as the value that is sent.
        serde_json::to_string(members).map_or(usize::MAX, |text| text.len()).max(counted)
    }

    /// By how much a member makes a document larger, at most.
    pub fn size_within(&self, name: &str, value: &Value) -> usize {
        let counted = if self.strict { name.len() + weight(value) } else { 0 };
        // `"name":value,`
        let written = Value::from(name).to_string().len() + value.to_string().len() + 2;
        written.max(counted)
    }

    /// Whether a document may hold this member.
    pub fn judge(&self, name: &str, value: &Value) -> Result<(), Unfit> {
        self.judge_member(0, "", name, value)
    }

    /// Whether this value may stand in so many objects within each other, the document itself left aside.
    pub fn takes_within(&self, depth: usize, value: &Value) -> bool {
        self.judge_value(depth, "", value).is_ok()
    }

    /// Leaves out every member whose name this cloud does not take.
    pub fn keep_named(&self, members: &mut Map<String, Value>) {
        members.retain(|name, _| self.judge_name(name).is_none());
        for value in members.values_mut() {
            if let Value::Object(members) = value {
                self.keep_named(members);
            }
        }
    }

    fn judge_member(&self, depth: usize, within: &str, name: &str, value: &Value) -> Result<(), Unfit> {
        let path = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
        match self.judge_name(name) {
            Some(rule) => Err(unfit(&path, rule)),
            None => self.judge_value(depth, &path, value),
        }
    }

    fn judge_name(&self, name: &str) -> Option<String> {
        if name.len() > self.key {
            return Some(format!("its name has more than {} bytes", self.key));
        }
        let is_wrong = |letter: char| letter.is_control() || matches!(letter, '.' | '$' | ' ');
        (self.strict && name.contains(is_wrong))
            .then(|| "its name holds a control character, `.`, `$` or a space".to_owned())
    }

    fn judge_value(&self, depth: usize, path: &str, value: &Value) -> Result<(), Unfit> {
        let is_deep = value.is_object() || value.is_array();
        if is_deep && depth >= self.depth {
            return Err(unfit(path, format!("it is nested deeper than {} levels", self.depth)));
        }
        match value {
            Value::Null if self.strict => Err(unfit(path, "it is `null`".to_owned())),
            Value::String(text) if text.len() > self.string => {
                Err(unfit(path, format!("its text has more than {} bytes", self.string)))
            }
            Value::Number(number) if self.strict && !number.is_f64() => {
                let is_within = number.as_i64().is_some_and(|number| (SMALLEST..=LARGEST).contains(&number));
                if is_within { Ok(()) } else { Err(unfit(path, "its number lies beyond 2^52".to_owned())) }
            }
            Value::Array(list) => list.iter().try_for_each(|item| self.judge_value(depth + 1, path, item)),
            Value::Object(members) => {
                members.iter().try_for_each(|(name, value)| self.judge_member(depth + 1, path, name, value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    /// Makes words of our own fit: long ones are cut, and what is not known is left out.
    pub fn trim(&self, members: &mut Map<String, Value>) {
        if self.strict {
            members.retain(|_, value| !value.is_null());
        }
        members.values_mut().for_each(|value| self.trim_value(value));
    }

    fn trim_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => text.truncate(boundary(text, self.string)),
            Value::Array(list) => list.iter_mut().for_each(|item| self.trim_value(item)),
            Value::Object(members) => self.trim(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What a strict cloud counts: names and strings by their length, each number as 8 and each truth value as 4 (IoT Hub:
/// devguide-device-twins, "device twin size"). It passes over control characters, which are so few that they count here.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(members) => weight_of(members),
    }
}

fn weight_of(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| name.len() + weight(value)).sum()
}

/// The last place at which a text can be cut to at most so many bytes.
pub fn boundary(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

fn unfit(path: &str, rule: String) -> Unfit {
    let member = path[..boundary(path, SHOWN)].escape_debug().to_string();
    Unfit { member, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HUB: DocumentRules =
        DocumentRules { bytes: 32 * 1_024, depth: 10, string: 4 * 1_024, key: 1_024, strict: true };

    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn what_a_hub_takes_is_told_from_what_it_does_not() {
        let good = [nested(10), json!([[1]]), json!(LARGEST), json!(SMALLEST), json!(1e300), json!("x".repeat(4_096))];
        for value in good {
            assert_eq!(HUB.judge("a", &value), Ok(()), "{value}");
        }
        let bad = [
            ("a.b", json!(1), "a.b", "`.`"),
            ("$a", json!(1), "$a", "`$`"),
            ("a", json!({ "b c": 1 }), "a/b c", "space"),
            ("a", json!({ "\u{0}x\u{85}": 1 }), "a/\\0x\\u{85}", "control"),
            ("a", nested(11), "a/a/a/a/a/a/a/a/a/a/a", "10 levels"),
            ("a", json!({ "b": [null] }), "a/b", "null"),
            ("a", json!({ "b": { "c": LARGEST + 1 } }), "a/b/c", "2^52"),
            ("a", json!(u64::MAX), "a", "2^52"),
            ("a", json!("x".repeat(4_097)), "a", "4096 bytes"),
            (&"k".repeat(1_025), json!(1), &"k".repeat(128), "1024 bytes"),
        ];
        for (name, value, member, rule) in bad {
            let unfit = HUB.judge(name, &value).expect_err("unfit");
            assert_eq!(unfit.member, member);
            assert!(unfit.rule.contains(rule), "{unfit}");
            assert_eq!(DocumentRules::of_size(1).judge(name, &value), Ok(()), "another cloud takes it");
        }
    }

    #[test]
    fn a_size_is_the_larger_of_what_is_written_and_what_a_hub_counts() {
        let numbers = json!({ "n": vec![1; 1_000], "b": [true, false] });
        let written = numbers.to_string().len();
        assert_eq!(HUB.size(&numbers), 1 + 8_000 + 1 + 8);
        assert_eq!(DocumentRules::of_size(1).size(&numbers), written, "another cloud counts what is written");
        let text = json!({ "t": "x" });
        assert_eq!(HUB.size(&text), text.to_string().len());
        for value in [numbers, text] {
            let members = value.as_object().expect("an object");
            assert_eq!(HUB.size_of(members), HUB.size(&value));
            let each = members.iter().map(|(name, value)| HUB.size_within(name, value)).sum::<usize>();
            assert!(each + 2 >= HUB.size(&value));
        }
    }

    #[test]
    fn our_own_words_are_made_to_fit() {
        let mut words = json!({ "a": "ä".repeat(4_096), "b": null, "c": [{ "d": null, "e": 1 }] });
        HUB.trim(words.as_object_mut().expect("an object"));
        assert_eq!(words, json!({ "a": "ä".repeat(2_048), "c": [{ "e": 1 }] }));
    }
}
