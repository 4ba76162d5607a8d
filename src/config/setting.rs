//! One value of a configuration by itself: how it is written in TOML, and how it is kept in JSON.
//!
//! Durations, choices and paths are texts here. What a value means is not known.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use config::{Value, ValueKind};
use serde_json::Value as Json;

/// A value as a file could say it. `Display` is TOML, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<String>),
    Table(BTreeMap<String, String>),
}

impl Setting {
    pub(super) fn list(items: impl IntoIterator<Item = impl ToString>) -> Self {
        Self::List(items.into_iter().map(|item| item.to_string()).collect())
    }

    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(items) => items.clone().into(),
            Self::Table(table) => table.iter().map(|(name, text)| (name.clone(), text.clone())).collect(),
        }
    }

    /// `None`: no setting is of this form.
    pub(super) fn from_json(json: Json) -> Option<Self> {
        let text = |json: Json| match json {
            Json::String(text) => Some(text),
            _ => None,
        };
        Some(match json {
            Json::String(text) => Self::Text(text),
            Json::Bool(flag) => Self::Flag(flag),
            Json::Number(number) => Self::Number(number.as_i64()?),
            Json::Array(items) => Self::List(items.into_iter().map(text).collect::<Option<_>>()?),
            Json::Object(table) => {
                Self::Table(table.into_iter().map(|(name, json)| Some((name, text(json)?))).collect::<Option<_>>()?)
            }
            Json::Null => return None,
        })
    }

    /// As it would have come from a file, but from no place.
    pub(super) fn into_value(self) -> Value {
        let text = |text: String| Value::new(None, text);
        let kind: ValueKind = match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
            Self::Flag(flag) => flag.into(),
            Self::List(items) => items.into_iter().map(text).collect::<Vec<_>>().into(),
            Self::Table(table) => {
                ValueKind::Table(table.into_iter().map(|(name, value)| (name, text(value))).collect())
            }
        };
        Value::new(None, kind)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Text(text) => out.write_str(&quoted(text)),
            Self::Number(number) => fmt::Display::fmt(number, out),
            Self::Flag(flag) => fmt::Display::fmt(flag, out),
            Self::List(items) => write!(out, "[{}]", list(items.iter().map(|item| quoted(item)).collect())),
            Self::Table(table) if table.is_empty() => out.write_str("{}"),
            Self::Table(table) => {
                let entry = |(name, text): (&String, &String)| format!("{} = {}", quoted(name), quoted(text));
                write!(out, "{{ {} }}", list(table.iter().map(entry).collect()))
            }
        }
    }
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => write!(quoted, "\\u{:04X}", u32::from(c)).expect("a String takes all text"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn setting() -> impl Strategy<Value = Setting> {
        let text = || "\\PC{0,12}|[\\x00-\\x7f\u{80}-\u{a0}\"\\\\]{0,12}";
        prop_oneof![
            text().prop_map(Setting::Text),
            any::<i64>().prop_map(Setting::Number),
            any::<bool>().prop_map(Setting::Flag),
            prop::collection::vec(text(), 0..4).prop_map(Setting::List),
            prop::collection::btree_map(text(), text(), 0..4).prop_map(Setting::Table),
        ]
    }

    proptest! {
        #[test]
        fn json_gives_it_back(setting in setting()) {
            prop_assert_eq!(Setting::from_json(setting.to_json()), Some(setting));
        }

        #[test]
        fn toml_gives_it_back_from_one_line(setting in setting()) {
            let line = format!("x = {setting}");
            prop_assert!(!line.contains(char::is_control), "{}", line);
            let read: toml::Table = line.parse().expect("TOML");
            let json = serde_json::to_value(&read["x"]).expect("plain values");
            prop_assert_eq!(Setting::from_json(json), Some(setting));
        }
    }
}
