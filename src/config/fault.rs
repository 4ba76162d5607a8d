//! What is wrong with a configuration, and where.
//!
//! A fault names the file and line, or the variable, that holds the value, so that nobody has to search.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

/// The most of a value that a fault repeats, in characters.
const SHOWN: usize = 60;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    File {
        path: String,
        /// From 1; missing where the file as a whole is meant.
        line: Option<usize>,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// In no place by itself: it came together from several.
    Merged,
}

impl Place {
    /// As `config::Value` carries it: `$NAME`, or the line, a space, and the path.
    pub(super) fn to_origin(&self) -> Option<String> {
        match self {
            Self::File { path, line } => Some(format!("{} {path}", line.unwrap_or(0))),
            Self::Variable(name) => Some(format!("${name}")),
            Self::Merged => None,
        }
    }

    pub(super) fn from_origin(origin: Option<&str>) -> Self {
        let Some(origin) = origin else { return Self::Merged };
        if let Some(name) = origin.strip_prefix('$') {
            return Self::Variable(name.to_owned());
        }
        match origin.split_once(' ') {
            Some((line, path)) => {
                Self::File { path: path.to_owned(), line: line.parse().ok().filter(|&line| line > 0) }
            }
            None => Self::Merged,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(out, "{}:{line}", one_line(path)),
            Self::File { path, line: None } => out.write_str(&one_line(path)),
            Self::Variable(name) => write!(out, "${}", one_line(name)),
            Self::Merged => out.write_str("configuration"),
        }
    }
}

/// One thing that is wrong, in words for the person who wrote it. `Display` is `file:line: text`, on one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub place: Place,
    pub text: String,
}

impl Fault {
    pub(super) fn new(place: Place, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, one_line(&self.text))
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// What makes it unusable; at least one.
    pub faults: Vec<Fault>,
    /// Keys that mean nothing. By themselves they would not make it unusable.
    pub unknown: Vec<Fault>,
    /// Files that the configuration names. A change of one of them may mend it.
    pub files: Vec<PathBuf>,
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().chain(&self.unknown).enumerate() {
            if at > 0 {
                out.write_char('\n')?;
            }
            fmt::Display::fmt(fault, out)?;
        }
        Ok(())
    }
}

/// A value as a fault repeats it: quoted, without control characters, and not without end.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Names of files and messages of parsers may hold anything; a fault is one line on a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
