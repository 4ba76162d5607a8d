//! Takes the keys out of one section of a manifest, and remembers all that is wrong on the way.
//!
//! Each key is asked for once, whether it fits or not; what nobody asked for is unknown, and a fault. Which keys there are
//! stands in `text.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use config::ValueKind;

use crate::config::fault::{Fault, Place, quoted};
use crate::config::file::Tree;
use crate::config::reader::shown;
use crate::model::duration;
use crate::model::nearest::nearest;

/// Of a name that people choose, in characters.
pub(super) const LONGEST_NAME: usize = 64;

pub(super) struct Fields<'f> {
    /// The whole name of the section with a dot behind it, or nothing.
    prefix: String,
    tree: Tree,
    place: Place,
    /// Every key that was asked for, and where its value stood if it had one.
    asked: BTreeMap<&'static str, Option<Place>>,
    faults: &'f mut Vec<Fault>,
}

impl<'f> Fields<'f> {
    /// Of the whole file.
    pub(super) fn new(tree: Tree, file: Place, faults: &'f mut Vec<Fault>) -> Self {
        Self { prefix: String::new(), tree, place: file, asked: BTreeMap::new(), faults }
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        matches!(self.asked.get(key), Some(Some(_)))
    }

    /// Something is wrong with the value of this key, or with its not being there.
    pub(super) fn fault(&mut self, key: &str, text: impl Display) {
        let place = self.asked.get(key).cloned().flatten().unwrap_or_else(|| self.place.clone());
        self.faults.push(Fault::new(place, format!("{}{key}: {text}", self.prefix)));
    }

    /// These keys, which were asked for, have no meaning here. `why` ends the sentence.
    pub(super) fn unfit(&mut self, keys: &[&'static str], why: &str) {
        for key in keys {
            if self.is_set(key) {
                self.fault(key, why);
            }
        }
    }

    /// This key, which was asked for, has to be set.
    pub(super) fn require(&mut self, key: &'static str) {
        if !self.is_set(key) {
            self.fault(key, "is not set");
        }
    }

    /// A text that is parsed. The error ends the sentence "… is".
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match self.take(key)? {
            ValueKind::String(text) => {
                parse(&text).map_err(|error| self.fault(key, format_args!("{} is {error}", quoted(&text)))).ok()
            }
            other => self.wrong_type(key, "a text in quotes", &other),
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
                let names = choices.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
                format!("none of {names}")
            })
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        match self.take(key) {
            None => false,
            Some(ValueKind::Boolean(value)) => value,
            Some(other) => self.wrong_type(key, "true or false", &other).unwrap_or_default(),
        }
    }

    pub(super) fn number(&mut self, key: &'static str, bounds: &RangeInclusive<i64>) -> Option<i64> {
        match self.take(key)? {
            ValueKind::I64(number) if bounds.contains(&number) => Some(number),
            ValueKind::I64(number) => {
                let (least, most) = (bounds.start(), bounds.end());
                self.fault(key, format_args!("{number} is out of bounds: {least} to {most} is expected"));
                None
            }
            other => self.wrong_type(key, "a whole number", &other),
        }
    }

    /// A number of things, which is never negative.
    pub(super) fn count(&mut self, key: &'static str, bounds: &RangeInclusive<u32>) -> Option<usize> {
        let number = self.number(key, &((*bounds.start()).into()..=(*bounds.end()).into()))?;
        usize::try_from(number).ok()
    }

    pub(super) fn duration(&mut self, key: &'static str, bounds: &RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (duration::show(*bounds.start()), duration::show(*bounds.end()));
        match self.take(key)? {
            ValueKind::String(text) => match duration::parse(&text) {
                Ok(duration) if bounds.contains(&duration) => return Some(duration),
                Ok(duration) => {
                    let shown = duration::show(duration);
                    self.fault(key, format_args!("{shown} is out of bounds: {least} to {most} is expected"));
                }
                Err(error) => self.fault(key, format_args!("{} is {error}", quoted(&text))),
            },
            ValueKind::I64(number) => {
                self.fault(key, format_args!("{number} has no unit: \"{number}s\" or \"{number}m\" is expected"));
            }
            other => return self.wrong_type(key, "a duration such as \"30s\"", &other),
        }
        None
    }

    /// A list of texts, each of them parsed.
    pub(super) fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let items = match self.take(key)? {
            ValueKind::Array(items) => items,
            other => return self.wrong_type(key, "a list of texts", &other),
        };
        if items.len() > most {
            self.fault(key, format_args!("holds more than {most} items"));
        }
        let mut parsed = Vec::new();
        for item in items.into_iter().take(most) {
            match item.kind {
                ValueKind::String(text) => match parse(&text) {
                    Ok(item) => parsed.push(item),
                    Err(error) => self.fault(key, format_args!("{} is {error}", quoted(&text))),
                },
                other => return self.wrong_type(key, "a list of texts", &other),
            }
        }
        Some(parsed)
    }

    pub(super) fn section(&mut self, key: &'static str) -> Option<Fields<'_>> {
        let prefix = format!("{}{key}.", self.prefix);
        match self.take(key)? {
            ValueKind::Table(tree) => {
                let place = self.asked.get(key).cloned().flatten().unwrap_or_else(|| self.place.clone());
                Some(Fields { prefix, tree, place, asked: BTreeMap::new(), faults: self.faults })
            }
            other => self.wrong_type(key, "a section", &other),
        }
    }

    /// Takes all that the section holds as sections of their own, in the order of their names: nothing in it is unknown.
    pub(super) fn sections(self, most: usize, mut read: impl FnMut(&str, &mut Fields<'_>)) {
        let Self { prefix, tree, place, faults, .. } = self;
        if tree.len() > most {
            let text = format!("{}: holds more than {most} entries", prefix.trim_end_matches('.'));
            faults.push(Fault::new(place, text));
        }
        for (name, value) in tree.into_iter().collect::<BTreeMap<_, _>>().into_iter().take(most) {
            let place = Place::from_origin(value.origin());
            match value.kind {
                _ if name.len() > LONGEST_NAME => {
                    let text = format!("{prefix}{}…: a name has at most {LONGEST_NAME} characters", short(&name));
                    faults.push(Fault::new(place, text));
                }
                ValueKind::Table(tree) => {
                    let prefix = format!("{prefix}{name}.");
                    let mut fields = Fields { prefix, tree, place, asked: BTreeMap::new(), faults: &mut *faults };
                    read(&name, &mut fields);
                    fields.finish();
                }
                other => {
                    let text = format!("{prefix}{name}: a section is expected, not {}", shown(&other));
                    faults.push(Fault::new(place, text));
                }
            }
        }
    }

    /// What is left was asked for by nobody.
    pub(super) fn finish(self) {
        let known = || self.asked.keys().copied();
        for (key, value) in &self.tree {
            let meant = nearest(key, known()).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            let text = format!("{}{} is not a key{meant}", self.prefix, short(key));
            self.faults.push(Fault::new(Place::from_origin(value.origin()), text));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<ValueKind> {
        let value = self.tree.remove(key);
        self.asked.insert(key, value.as_ref().map(|value| Place::from_origin(value.origin())));
        value.map(|value| value.kind)
    }

    fn wrong_type<T>(&mut self, key: &'static str, expected: &str, found: &ValueKind) -> Option<T> {
        self.fault(key, format_args!("{expected} is expected, not {}", shown(found)));
        None
    }
}

/// Keys are plain letters already, but may be as long as the file.
fn short(key: &str) -> &str {
    key.get(..60).unwrap_or(key)
}
