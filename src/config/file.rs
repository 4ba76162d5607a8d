//! One configuration file: from its path to a tree of values that know their line.
//!
//! Every bound on what a file may be is here: a regular file, not large, UTF-8, not writable by everybody, with plain
//! keys. What a key means is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use config::{Map, Value, ValueKind};
use rustix::fs::OFlags;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// The largest file that is read. The commented reference has a hundredth of it.
const LARGEST: u64 = 1 << 20;
/// What is made room for at once: nearly all files are smaller, and are then read in one piece.
const USUAL: usize = 4096;
/// The most syntax errors that are told of one file; what follows the first few is mostly their echo.
const MOST_SYNTAX_ERRORS: usize = 5;
/// The most faults that are told of one file. Nobody mends more before looking again.
const MOST_FAULTS: usize = 50;

pub(super) type Tree = Map<String, Value>;

/// The text of the file; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Fault> {
    let fault = |text: String| Fault::new(Place::File { path: path.display().to_string(), line: None }, text);
    // A pipe in the place of a file must not hold up the start, so it is opened without waiting and then refused.
    let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(fault(format!("cannot be opened: {error}"))),
    };
    let facts = file.metadata().map_err(|error| fault(format!("cannot be examined: {error}")))?;
    if !facts.is_file() {
        return Err(fault("is not a regular file".to_owned()));
    }
    if facts.permissions().mode() & 0o002 != 0 {
        return Err(fault("may be written by everybody, so it is not trusted; chmod o-w mends it".to_owned()));
    }
    text(path, file, LARGEST).map(Some)
}

/// The text of a file that was opened and may be read, at most so many bytes.
pub(super) fn text(path: &Path, file: File, largest: u64) -> Result<String, Fault> {
    let fault = |text: String| Fault::new(Place::File { path: path.display().to_string(), line: None }, text);
    let mut bytes = Vec::with_capacity(USUAL);
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|error| fault(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > largest {
        return Err(fault(format!("is larger than {} KiB", largest / 1024)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = right.split(|&byte| byte == b'\n').count();
        Fault::new(Place::File { path: path.display().to_string(), line: Some(line) }, "is not UTF-8")
    })
}

/// The values of the text. With faults, what is returned is not the whole of it.
pub(super) fn parse(path: &Path, text: &str) -> (Tree, Vec<Fault>) {
    let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let mut reading = Reading { path: path.display().to_string(), line_ends, faults: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let tree = reading.table(table.into_inner());
        return (tree, reading.faults);
    }
    for error in errors.into_iter().take(MOST_SYNTAX_ERRORS) {
        let at = error.span().map_or(0, |span| span.start);
        // A second one on the same line is the echo of the first.
        if reading.faults.last().is_none_or(|last| last.place != reading.place(at)) {
            reading.fault(at, error.message());
        }
    }
    (Tree::new(), reading.faults)
}

struct Reading {
    path: String,
    /// The index of every line's last byte. Looking a place up must not cost the length of the text.
    line_ends: Vec<usize>,
    faults: Vec<Fault>,
}

impl Reading {
    fn place(&self, at: usize) -> Place {
        let line = 1 + self.line_ends.partition_point(|&end| end < at);
        Place::File { path: self.path.clone(), line: Some(line) }
    }

    fn fault(&mut self, at: usize, text: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            let place = self.place(at);
            self.faults.push(Fault::new(place, text));
        }
    }

    /// A recursion, but not a deep one: the parser has refused what is nested deeper than 80.
    fn table(&mut self, table: DeTable<'_>) -> Tree {
        let mut tree = Tree::new();
        for (key, value) in table {
            let at = key.span().start;
            if !is_plain(key.get_ref()) {
                self.fault(at, "a key with other characters than A-Z a-z 0-9 _ -");
            } else if let Some(value) = self.value(at, value) {
                tree.insert(key.into_inner().into_owned(), value);
            }
        }
        tree
    }

    fn value(&mut self, at: usize, value: Spanned<DeValue<'_>>) -> Option<Value> {
        let kind: ValueKind = match value.into_inner() {
            DeValue::String(text) => text.into_owned().into(),
            DeValue::Boolean(value) => value.into(),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => number.into(),
                Err(_) => return self.unfit(at, "the number is too large"),
            },
            DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
                Ok(number) => number.into(),
                Err(_) => return self.unfit(at, "the number cannot be read"),
            },
            DeValue::Datetime(_) => return self.unfit(at, "no key takes a date or time"),
            DeValue::Table(table) => self.table(table).into(),
            DeValue::Array(items) => {
                items.into_iter().filter_map(|item| self.value(item.span().start, item)).collect::<Vec<_>>().into()
            }
        };
        Some(Value::new(self.place(at).to_origin().as_ref(), kind))
    }

    fn unfit(&mut self, at: usize, text: &str) -> Option<Value> {
        self.fault(at, text);
        None
    }
}

/// Keys become paths in the `config` crate, where `a.b` and `a[9999999]` have meanings that nobody here wants.
pub(super) fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
