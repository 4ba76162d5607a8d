//! Takes the keys out of a merged tree one by one, and remembers all that is wrong on the way.
//!
//! Each key is asked for once, by its whole name, with its default and its bounds; what nobody asked for is unknown.
//! A faulty value is replaced by its default, so that one fault does not hide the next. Which keys there are stands in
//! `raw.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Value, ValueKind};

use super::duration;
use super::fault::{Fault, Place, quoted};
use super::file::Tree;
use crate::model::nearest::nearest;

/// The most items of one list or table. It bounds what a kept configuration can weigh.
const MOST_ITEMS: usize = 256;
/// The most faults, and the most unknown keys, that are told. Nobody mends more before looking again.
const MOST_FAULTS: usize = 50;

pub(super) struct Reader {
    tree: Tree,
    /// Every key that was asked for, and where its value stood if it had one.
    pub(super) asked: BTreeMap<&'static str, Option<Place>>,
    /// Where each entry of a table that was asked for stood, by its whole name.
    entries: BTreeMap<String, Place>,
    /// Files that values name.
    pub(super) files: Vec<PathBuf>,
    /// Where systemd put the credentials of this service, if it did.
    pub(super) credentials: Option<PathBuf>,
    /// What is read was in force once, and files that it names say no more of it.
    pub(super) is_kept: bool,
    faults: Vec<Fault>,
    missing: Vec<Fault>,
    unknown: Vec<Fault>,
}

/// What a [`Reader`] found wrong.
pub(super) struct Findings {
    pub faults: Vec<Fault>,
    /// Keys that must be set and are not. Not to be trusted while a file could not be read.
    pub missing: Vec<Fault>,
    pub unknown: Vec<Fault>,
    /// Where each key that is set stood, by its whole name; entries of tables too.
    pub origins: BTreeMap<String, Place>,
    pub files: Vec<PathBuf>,
}

impl Reader {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            asked: BTreeMap::new(),
            entries: BTreeMap::new(),
            files: Vec::new(),
            credentials: None,
            is_kept: false,
            faults: Vec::new(),
            missing: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// For a tree that was in force once, written out in full.
    pub(super) fn of_kept(tree: Tree) -> Self {
        Self { is_kept: true, ..Self::new(tree) }
    }

    pub(super) fn with_credentials(self, credentials: Option<PathBuf>) -> Self {
        Self { credentials, ..self }
    }

    /// Where the value of a key that was asked for stood.
    pub(super) fn place(&self, key: &str) -> Option<&Place> {
        self.asked.get(key)?.as_ref()
    }

    /// This key is not set, and a file that another key names says it in its place.
    pub(super) fn is_said_by(&mut self, key: &'static str, file: &Path) {
        let place = Place::File { path: file.display().to_string(), line: Some(1) };
        self.asked.insert(key, Some(place));
    }

    /// Something is wrong with the value of this key.
    pub(super) fn fault(&mut self, key: &'static str, text: impl Display) {
        let place = self.place(key).cloned().unwrap_or(Place::Merged);
        self.fault_at(place, key, text);
    }

    /// Something is wrong with this entry of the table under a key.
    pub(super) fn fault_in(&mut self, key: &'static str, entry: &str, text: impl Display) {
        let name = format!("{key}.{entry}");
        let place = self.entries.get(&name).cloned().unwrap_or(Place::Merged);
        self.fault_at(place, &name, text);
    }

    fn fault_at(&mut self, place: Place, name: &str, text: impl Display) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault::new(place, format!("{name}: {text}")));
        }
    }

    /// The value of this key is one that this version does not know, which makes nothing unusable.
    pub(super) fn unknown(&mut self, key: &'static str, text: &str) {
        let place = self.place(key).cloned().unwrap_or(Place::Merged);
        if self.unknown.len() < MOST_FAULTS {
            self.unknown.push(Fault::new(place, format!("{key}: {text}")));
        }
    }

    /// This key is not set, and the value of that other one asks for it.
    pub(super) fn missing(&mut self, key: &'static str, asked_for_by: &'static str) {
        let place = self.place(asked_for_by).cloned().unwrap_or(Place::Merged);
        self.missing.push(Fault::new(place, format!("{key} is not set, and this {asked_for_by} needs it")));
    }

    /// None of these keys is set, and the value of that other one asks for one of them.
    pub(super) fn none_of(&mut self, keys: &[&'static str], asked_for_by: &'static str) {
        let place = self.place(asked_for_by).cloned().unwrap_or(Place::Merged);
        let keys = keys.join(", ");
        self.missing
            .push(Fault::new(place, format!("none of {keys} is set, and this {asked_for_by} needs one of them")));
    }

    /// Both keys are set, and only one of them may be. `why` ends the sentence.
    pub(super) fn exclusive(&mut self, key: &'static str, other: &'static str, why: &str) {
        if self.place(key).is_some() && self.place(other).is_some() {
            self.fault(key, format_args!("stands beside {other}: {why}"));
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            ValueKind::String(text) => Some(text),
            other => {
                self.wrong_type(key, "a text in quotes", &other);
                None
            }
        }
    }

    /// A text that is parsed into something that cannot be wrong.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|error| self.fault(key, format_args!("{} is {error}", quoted(&text)))).ok()
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names = choices.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
        self.fault(key, format_args!("{} is none of {names}", quoted(&text)));
        None
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(ValueKind::Boolean(value)) => value,
            Some(ValueKind::String(text)) if self.is_variable(key) && (text == "true" || text == "false") => {
                text == "true"
            }
            Some(other) => {
                self.wrong_type(key, "true or false", &other);
                default
            }
        }
    }

    /// A TCP port.
    pub(super) fn port(&mut self, key: &'static str, default: u16) -> u16 {
        let port = match self.take(key) {
            None => return default,
            Some(ValueKind::I64(number)) => u16::try_from(number).ok(),
            Some(ValueKind::String(text)) if self.is_variable(key) => text.parse().ok(),
            Some(other) => {
                self.wrong_type(key, "a number", &other);
                return default;
            }
        };
        port.filter(|&port| port > 0).unwrap_or_else(|| {
            self.fault(key, "is not a port: 1 to 65535 is expected");
            default
        })
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &'static str, default: u32, bounds: &RangeInclusive<u32>) -> u32 {
        let number = match self.take(key) {
            None => return default,
            Some(ValueKind::I64(number)) => Some(number),
            Some(ValueKind::String(text)) if self.is_variable(key) => text.parse().ok(),
            Some(other) => {
                self.wrong_type(key, "a number", &other);
                return default;
            }
        };
        let fits = |number| u32::try_from(number).ok().filter(|number| bounds.contains(number));
        number.and_then(fits).unwrap_or_else(|| {
            self.fault(key, format_args!("is out of bounds: {} to {} is expected", bounds.start(), bounds.end()));
            default
        })
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        bounds: &RangeInclusive<Duration>,
    ) -> Duration {
        let duration = match self.take(key) {
            None => return default,
            Some(ValueKind::String(text)) => {
                duration::parse(&text).map_err(|error| format!("{} is {error}", quoted(&text)))
            }
            Some(ValueKind::I64(number)) => {
                Err(format!("{number} has no unit: \"{number}s\" or \"{number}m\" is expected"))
            }
            Some(other) => {
                self.wrong_type(key, "a duration such as \"30s\"", &other);
                return default;
            }
        };
        let (least, most) = (duration::show(*bounds.start()), duration::show(*bounds.end()));
        match duration {
            Ok(duration) if bounds.contains(&duration) => duration,
            Ok(duration) => {
                let shown = duration::show(duration);
                self.fault(key, format_args!("{shown} is out of bounds: {least} to {most} is expected"));
                default
            }
            Err(text) => {
                self.fault(key, text);
                default
            }
        }
    }

    /// A list of texts, each of them parsed.
    pub(super) fn list<T, E: Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let items = match self.take(key) {
            None => return Vec::new(),
            Some(ValueKind::Array(items)) => items,
            Some(other) => {
                let expected =
                    if self.is_variable(key) { "no variable: a list is set in a file only" } else { "a list of texts" };
                self.wrong_type(key, expected, &other);
                return Vec::new();
            }
        };
        if items.len() > MOST_ITEMS {
            self.fault(key, format_args!("holds more than {MOST_ITEMS} items"));
        }
        let mut parsed = Vec::new();
        for item in items.into_iter().take(MOST_ITEMS) {
            match item.kind {
                ValueKind::String(text) => match parse(&text) {
                    Ok(item) => parsed.push(item),
                    Err(error) => self.fault(key, format_args!("{} is {error}", quoted(&text))),
                },
                other => self.wrong_type(key, "a list of texts", &other),
            }
        }
        parsed
    }

    /// A table of names and texts, each of both parsed.
    pub(super) fn table<K: Ord, V, E: Display>(
        &mut self,
        key: &'static str,
        name: impl Fn(&str) -> Result<K, E>,
        parse: impl Fn(&str) -> Result<V, E>,
    ) -> BTreeMap<K, V> {
        let table = match self.take(key) {
            None => return BTreeMap::new(),
            Some(ValueKind::Table(table)) => BTreeMap::from_iter(table),
            Some(other) => {
                self.wrong_type(key, "a table of texts", &other);
                return BTreeMap::new();
            }
        };
        if table.len() > MOST_ITEMS {
            self.fault(key, format_args!("holds more than {MOST_ITEMS} entries"));
        }
        let mut parsed = BTreeMap::new();
        for (entry, value) in table.into_iter().take(MOST_ITEMS) {
            self.entries.insert(format!("{key}.{entry}"), place_of(&value));
            let ValueKind::String(text) = value.kind else {
                let found = shown(&value.kind);
                self.fault_in(key, &entry, format_args!("a text in quotes is expected, not {found}"));
                continue;
            };
            match (name(&entry), parse(&text)) {
                (Ok(name), Ok(value)) => {
                    parsed.insert(name, value);
                }
                (Err(error), _) => self.fault_in(key, &entry, format_args!("{} is {error}", quoted(&entry))),
                (_, Err(error)) => self.fault_in(key, &entry, format_args!("{} is {error}", quoted(&text))),
            }
        }
        parsed
    }

    /// Ends the reading: what is left was asked for by nobody.
    pub(super) fn finish(self) -> Findings {
        let mut unknown = self.unknown;
        let asked: Vec<&str> = self.asked.keys().copied().collect();
        leaves("", &self.tree, &mut |key, place| {
            if unknown.len() == MOST_FAULTS {
                return;
            }
            let meant = near_miss(key, &asked).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            unknown.push(Fault::new(place, format!("{key} is not a key{meant}")));
        });
        unknown.sort();
        let set = self.asked.into_iter().filter_map(|(key, place)| Some((key.to_owned(), place?)));
        let origins = set.chain(self.entries).collect();
        Findings { faults: self.faults, missing: self.missing, unknown, origins, files: self.files }
    }

    /// Removes the value of a key from the tree, and remembers where it stood.
    fn take(&mut self, key: &'static str) -> Option<ValueKind> {
        let value = remove(&mut self.tree, key).unwrap_or_else(|(below, value)| {
            let section = key.strip_suffix(below).unwrap_or(key).trim_end_matches('.');
            let text = format!("{section} is a section: [{section}] with its keys below is expected");
            self.faults.push(Fault::new(place_of(&value), text));
            None
        });
        self.asked.insert(key, value.as_ref().map(place_of));
        value.map(|value| value.kind)
    }

    fn is_variable(&self, key: &str) -> bool {
        matches!(self.place(key), Some(Place::Variable(_)))
    }

    fn wrong_type(&mut self, key: &'static str, expected: &str, found: &ValueKind) {
        self.fault(key, format_args!("{expected} is expected, not {}", shown(found)));
    }
}

/// What a value is, in the words of a fault.
pub(super) fn shown(found: &ValueKind) -> String {
    match found {
        ValueKind::String(text) => format!("the text {}", quoted(text)),
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => number.to_string(),
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        _ => "something else".to_owned(),
    }
}

/// Takes the value at a path out of a tree. The error is what stands where a section should, and the path below it.
fn remove<'k>(table: &mut Tree, path: &'k str) -> Result<Option<Value>, (&'k str, Value)> {
    let Some((section, rest)) = path.split_once('.') else { return Ok(table.remove(path)) };
    match table.get_mut(section).map(|value| &mut value.kind) {
        Some(ValueKind::Table(inner)) => remove(inner, rest),
        Some(_) => table.remove(section).map_or(Ok(None), |value| Err((rest, value))),
        None => Ok(None),
    }
}

/// A merged section has no place of its own; the first key in it has.
fn place_of(value: &Value) -> Place {
    match (value.origin(), &value.kind) {
        (None, ValueKind::Table(table)) => table.values().next().map_or(Place::Merged, place_of),
        (origin, _) => Place::from_origin(origin),
    }
}

/// Every value below a table, by its whole name.
fn leaves(prefix: &str, table: &Tree, found: &mut dyn FnMut(&str, Place)) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &value.kind {
            ValueKind::Table(inner) => leaves(&name, inner, found),
            _ => found(&name, place_of(value)),
        }
    }
}

/// The key that was meant: one that is spelled nearly so, else the only one of that name in another section.
fn near_miss<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    // No key is that long, and what else is as long as it likes is not worth the search.
    if wrong.len() > 64 {
        return None;
    }
    if let Some(meant) = nearest(wrong, known.iter().copied()) {
        return Some(meant);
    }
    let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
    let mut same = known.iter().filter(|key| last(key) == last(wrong));
    match (same.next(), same.next()) {
        (Some(key), None) => Some(key),
        _ => None,
    }
}
