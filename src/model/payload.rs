//! What a payload must be like before a handler gets it: members with a type and bounds, as a manifest names them.
//!
//! Judged before a command is taken on, so that what is refused is refused at once and with every reason. What is said
//! of a payload names its members, bounded, and never their values.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fit::boundary;
use super::nearest::nearest;

/// Faults that are named; the rest is counted.
const FAULTS: usize = 8;

/// The longest name of a member that is repeated to its sender, in bytes.
const NAME: usize = 64;

/// Words of a list that are repeated to a sender who used another.
const WORDS: usize = 8;

/// Members that mean nothing to a method of ours are ignored, so many of them. All are listed in the answer, which must
/// stay small.
const IGNORED: usize = 16;

/// The rules of one method. A payload without members is an object that is empty, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadRules {
    pub members: BTreeMap<String, Member>,
    /// Members that are not named here are taken, too; else they are refused.
    pub others: bool,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub required: bool,
    pub shape: Shape,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Any,
    Boolean,
    /// Within these bounds, both included.
    Integer {
        min: i64,
        max: i64,
    },
    Number,
    /// Of at most so many characters; one of these, unless there are none.
    Text {
        longest: usize,
        one_of: Vec<String>,
    },
    /// Of at most so many items.
    List {
        longest: usize,
    },
    Object,
}

/// What becomes of members that the rules do not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Refused,
    Taken,
    /// Refused where they look like a slip, else ignored.
    Ignored,
}

impl PayloadRules {
    /// What is wrong with the payload, one line for each fault; empty if nothing is.
    pub fn judge(&self, payload: &Value) -> Vec<String> {
        self.faults(payload, if self.others { Others::Taken } else { Others::Refused })
    }

    /// The same for a method that is part of this program: members that it does not know are ignored, unless one looks
    /// like a slip of the finger. [`PayloadRules::ignored`] names those.
    pub fn judge_kindly(&self, payload: &Value) -> Vec<String> {
        self.faults(payload, Others::Ignored)
    }

    /// The members that no rule names.
    pub fn ignored(&self, payload: &Value) -> Vec<String> {
        self.unknown(payload).map(|name| shown(name)).collect()
    }

    fn faults(&self, payload: &Value, others: Others) -> Vec<String> {
        let nothing = Map::new();
        let members = match payload {
            Value::Null => &nothing,
            Value::Object(members) => members,
            _ => return vec!["the payload is a JSON object, or nothing".to_owned()],
        };
        let mut faults = Faults::default();
        for (name, member) in &self.members {
            match members.get(name) {
                Some(value) => {
                    let fault = member.shape.fault(value);
                    faults.extend(fault.map(|fault| format!("`{}` {fault}", shown(name))));
                }
                None if member.required => faults.push(format!("`{}` is missing", shown(name))),
                None => {}
            }
        }
        if others == Others::Ignored && self.unknown(payload).nth(IGNORED).is_some() {
            faults.push("too many members that are not understood; leave them out".to_owned());
            return faults.listed();
        }
        for name in self.unknown(payload).filter(|_| others != Others::Taken) {
            // Looking for what was meant costs time, and is not done for what nobody is told.
            if faults.is_full() {
                faults.more += usize::from(others == Others::Refused);
                continue;
            }
            let known = self.members.keys().map(String::as_str);
            match nearest(name, known.filter(|known| !members.contains_key(*known))) {
                Some(known) => faults.push(format!("unknown member `{}`; did you mean `{known}`?", shown(name))),
                None if others == Others::Refused => faults.push(format!("unknown member `{}`", shown(name))),
                None => {}
            }
        }
        faults.listed()
    }

    fn unknown<'a>(&'a self, payload: &'a Value) -> impl Iterator<Item = &'a String> {
        let members = payload.as_object().into_iter().flat_map(Map::keys);
        members.filter(|name| !self.members.contains_key(*name))
    }

    /// The rules in short, for whoever asks what a method takes.
    pub fn document(&self) -> Value {
        let members = self.members.iter().map(|(name, member)| (name.clone(), member.document()));
        json!({ "others": self.others, "members": members.collect::<Map<_, _>>() })
    }
}

impl Member {
    /// One that may be left out.
    pub fn optional(shape: Shape) -> Self {
        Self { required: false, shape }
    }

    fn document(&self) -> Value {
        let mut document = self.shape.document();
        if self.required {
            document["required"] = json!(true);
        }
        document
    }
}

impl Shape {
    /// As a manifest says it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Boolean => "boolean",
            Self::Integer { .. } => "integer",
            Self::Number => "number",
            Self::Text { .. } => "text",
            Self::List { .. } => "list",
            Self::Object => "object",
        }
    }

    /// What the value is not.
    fn fault(&self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Any, _)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::Object, Value::Object(_)) => None,
            (Self::Integer { min, max }, value) => {
                let is_within = value.as_i64().is_some_and(|value| (*min..=*max).contains(&value));
                (!is_within).then(|| match (*min, *max) {
                    (i64::MIN, i64::MAX) => "is a whole number".to_owned(),
                    (min, i64::MAX) => format!("is a whole number of at least {min}"),
                    (i64::MIN, max) => format!("is a whole number of at most {max}"),
                    (min, max) => format!("is a whole number from {min} to {max}"),
                })
            }
            (Self::Text { longest, one_of }, value) => text_fault(value, *longest, one_of),
            (Self::List { longest }, value) => {
                let is_within = value.as_array().is_some_and(|items| items.len() <= *longest);
                (!is_within).then(|| match *longest {
                    usize::MAX => "is a list".to_owned(),
                    longest => format!("is a list of at most {longest} items"),
                })
            }
            (Self::Boolean, _) => Some("is true or false".to_owned()),
            (Self::Number, _) => Some("is a number".to_owned()),
            (Self::Object, _) => Some("is an object".to_owned()),
        }
    }

    fn document(&self) -> Value {
        let mut document = json!({ "type": self.name() });
        match self {
            Self::Integer { min, max } => {
                if *min > i64::MIN {
                    document["min"] = json!(min);
                }
                if *max < i64::MAX {
                    document["max"] = json!(max);
                }
            }
            Self::Text { longest, one_of } => {
                if *longest < usize::MAX {
                    document["maxLength"] = json!(longest);
                }
                if !one_of.is_empty() {
                    document["oneOf"] = json!(one_of);
                }
            }
            Self::List { longest } if *longest < usize::MAX => document["maxLength"] = json!(longest),
            Self::Any | Self::Boolean | Self::Number | Self::List { .. } | Self::Object => {}
        }
        document
    }
}

fn text_fault(value: &Value, longest: usize, one_of: &[String]) -> Option<String> {
    let text = value.as_str();
    if !one_of.is_empty() {
        if text.is_some_and(|text| one_of.iter().any(|word| word == text)) {
            return None;
        }
        let meant = text.and_then(|text| nearest(text, one_of.iter().map(String::as_str)));
        let words: Vec<String> = one_of.iter().take(WORDS).map(|word| format!("\"{}\"", shown(word))).collect();
        let more = if one_of.len() > WORDS { " and others" } else { "" };
        let meant = meant.map(|word| format!("; did you mean \"{}\"?", shown(word))).unwrap_or_default();
        return Some(format!("is one of {}{more}{meant}", words.join(", ")));
    }
    // No text has more characters than bytes, so a long one is counted only where it matters.
    let is_within = text.is_some_and(|text| text.len() <= longest || text.chars().count() <= longest);
    (!is_within).then(|| match longest {
        usize::MAX => "is a text".to_owned(),
        longest => format!("is a text of at most {longest} characters"),
    })
}

/// A name from elsewhere, fit for a sentence.
fn shown(name: &str) -> String {
    let cut = boundary(name, NAME);
    let more = if cut < name.len() { "…" } else { "" };
    format!("{}{more}", name[..cut].escape_debug())
}

/// Faults, of which only the first are kept.
#[derive(Default)]
struct Faults {
    list: Vec<String>,
    more: usize,
}

impl Faults {
    fn push(&mut self, fault: String) {
        if self.is_full() { self.more += 1 } else { self.list.push(fault) }
    }

    fn extend(&mut self, fault: Option<String>) {
        if let Some(fault) = fault {
            self.push(fault);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= FAULTS
    }

    fn listed(mut self) -> Vec<String> {
        if self.more > 0 {
            self.list.push(format!("and {} more", self.more));
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(others: bool) -> PayloadRules {
        let text = |longest, one_of: &[&str]| Shape::Text {
            longest,
            one_of: one_of.iter().map(|word| (*word).to_owned()).collect(),
        };
        let members = [
            ("port", true, Shape::Integer { min: 1, max: 65_535 }),
            ("mode", false, text(usize::MAX, &["fast", "safe"])),
            ("name", false, text(3, &[])),
            ("on", false, Shape::Boolean),
            ("rate", false, Shape::Number),
            ("list", false, Shape::List { longest: 2 }),
            ("more", false, Shape::Object),
            ("any", false, Shape::Any),
        ];
        let members =
            members.into_iter().map(|(name, required, shape)| (name.to_owned(), Member { required, shape })).collect();
        PayloadRules { members, others }
    }

    #[test]
    fn what_fits_is_taken() {
        let whole = json!({
            "port": 65_535, "mode": "safe", "name": "äöü", "on": false, "rate": 1.5, "list": [1, 2], "more": {}, "any": null
        });
        assert_eq!(rules(false).judge(&whole), Vec::<String>::new());
        assert_eq!(rules(false).judge(&json!({ "port": 1 })), Vec::<String>::new());
        assert_eq!(PayloadRules::default().judge(&Value::Null), Vec::<String>::new());
        assert_eq!(PayloadRules::default().judge(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_named_with_its_bound() {
        let cases = [
            (json!(7), "the payload is a JSON object, or nothing"),
            (Value::Null, "`port` is missing"),
            (json!({ "port": 0 }), "`port` is a whole number from 1 to 65535"),
            (json!({ "port": 1.5 }), "`port` is a whole number from 1 to 65535"),
            (json!({ "port": u64::MAX }), "`port` is a whole number from 1 to 65535"),
            (json!({ "port": "1" }), "`port` is a whole number from 1 to 65535"),
            (json!({ "port": 1, "mode": "faste" }), "`mode` is one of \"fast\", \"safe\"; did you mean \"fast\"?"),
            (json!({ "port": 1, "mode": null }), "`mode` is one of \"fast\", \"safe\""),
            (json!({ "port": 1, "name": "four" }), "`name` is a text of at most 3 characters"),
            (json!({ "port": 1, "on": 1 }), "`on` is true or false"),
            (json!({ "port": 1, "rate": "1" }), "`rate` is a number"),
            (json!({ "port": 1, "list": [1, 2, 3] }), "`list` is a list of at most 2 items"),
            (json!({ "port": 1, "more": [] }), "`more` is an object"),
            (json!({ "port": 1, "modde": "safe" }), "unknown member `modde`; did you mean `mode`?"),
            (json!({ "port": 1, "comment": "x" }), "unknown member `comment`"),
        ];
        for (payload, fault) in cases {
            assert_eq!(rules(false).judge(&payload), [fault], "{payload}");
        }
        let many = rules(false).judge(&json!({ "prot": 1, "on": 2, "more": 3 }));
        assert_eq!(
            many,
            [
                "`more` is an object",
                "`on` is true or false",
                "`port` is missing",
                "unknown member `prot`; did you mean `port`?"
            ]
        );
    }

    #[test]
    fn members_without_a_rule_are_refused_or_taken_or_ignored() {
        let payload = json!({ "port": 1, "comment": "x" });
        assert_eq!(rules(true).judge(&payload), Vec::<String>::new());
        assert_eq!(rules(false).judge_kindly(&payload), Vec::<String>::new());
        assert_eq!(rules(false).ignored(&payload), ["comment"]);
        let slip = json!({ "port": 1, "naem": "x" });
        assert_eq!(rules(true).judge_kindly(&slip), ["unknown member `naem`; did you mean `name`?"]);
        assert_eq!(rules(true).judge(&slip), Vec::<String>::new(), "the operator has said that others may come");
        let many: Map<String, Value> = (0..17).map(|n| (format!("comment{n}"), json!(n))).collect();
        assert_eq!(PayloadRules::default().judge_kindly(&Value::Object(many)).len(), 1);
    }

    #[test]
    fn what_is_said_is_bounded_and_clean() {
        let hostile: Map<String, Value> =
            (0..10_000).map(|n| (format!("{n}\u{1b}[31m\n{}", "x".repeat(1_000)), json!(null))).collect();
        let faults = rules(false).judge(&Value::Object(hostile));
        assert_eq!((faults.len(), faults.last().map(String::as_str)), (9, Some("and 9993 more")));
        assert!(faults.iter().all(|fault| fault.len() < 200 && !fault.chars().any(char::is_control)), "{faults:?}");
        let rules = PayloadRules { members: [("mode".to_owned(), words(1_000))].into(), others: false };
        assert!(rules.judge(&json!({ "mode": "none of them" }))[0].len() < 1_000);
    }

    fn words(count: usize) -> Member {
        let one_of = (0..count).map(|n| format!("{n:0>60}")).collect();
        Member::optional(Shape::Text { longest: usize::MAX, one_of })
    }

    #[test]
    fn the_rules_are_told_in_short() {
        let document = rules(false).document();
        assert_eq!(document["others"], false);
        assert_eq!(
            document["members"]["port"],
            json!({ "type": "integer", "min": 1, "max": 65_535, "required": true })
        );
        assert_eq!(document["members"]["mode"], json!({ "type": "text", "oneOf": ["fast", "safe"] }));
        assert_eq!(document["members"]["any"], json!({ "type": "any" }));
    }
}
