//! Judges one source file against a table of rows and names. Knows the shape of the rules, not this project's table.

use std::collections::BTreeMap;
use std::fmt;

use crate::source::{self, Path, Place, Root, Token};

/// The rules of one crate.
#[derive(Debug)]
pub(crate) struct Table {
    /// From the top downwards. A module uses only modules of lower rows.
    pub(crate) rows: &'static [&'static [&'static str]],
    /// Modules that may use less than their row allows.
    pub(crate) narrow: &'static [(&'static str, &'static [&'static str])],
    /// Modules that only the named ones may use.
    pub(crate) reserved: &'static [(&'static str, &'static [&'static str])],
    pub(crate) names: &'static [Name],
    /// Names that no module may have.
    pub(crate) empty_words: &'static [&'static str],
}

/// A foreign path that only some modules may name.
#[derive(Debug)]
pub(crate) struct Name {
    /// `tokio::time`, or `*::now` for any path that ends so.
    pub(crate) path: &'static str,
    pub(crate) places: Places,
    pub(crate) why: &'static str,
}

#[derive(Debug)]
pub(crate) enum Places {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

impl Table {
    /// Judges the file at `path`, which is relative to `src/` and written with `/`.
    pub(crate) fn judge(&self, path: &str, text: &str) -> Vec<Violation> {
        let modules = modules_of(path);
        let here = top_of(path);
        let library = here != "main" && !here.starts_with("bin/");
        let tokens = source::tokens(text);
        let mut broken = BTreeMap::new();
        // The same rule broken twice in one file is told once, at its first line.
        let mut tell = |line: usize, rule: String| {
            broken.entry(rule).or_insert(line);
        };

        if !text.starts_with("//!") {
            tell(1, "a file opens with `//!`: what it owns, what it must not do".to_owned());
        }
        for (line, name) in modules.iter().map(|name| (1, name)).chain(declared_modules(&tokens)) {
            if self.empty_words.contains(&name.as_str()) {
                tell(line, format!("`{name}` says nothing about what is inside; find the noun"));
            }
        }
        if here == "lib" {
            for token in tokens.iter().filter(|token| CODE.contains(&token.text.as_str())) {
                tell(token.line, format!("`lib.rs` is the map and holds no code (`{}`)", token.text));
            }
        } else if self.row(&here).is_none() {
            tell(1, format!("module `{here}` stands in no row of the table"));
        }
        for path in source::paths(Place { modules: &modules, library }, &tokens) {
            match path.root {
                Root::Ours => {
                    if let Some(rule) = self.direction(&here, &path) {
                        tell(path.line, rule);
                    }
                }
                Root::Foreign => {
                    for rule in self.names.iter().filter_map(|name| name.judge(&here, &path)) {
                        tell(path.line, rule);
                    }
                }
            }
        }

        let mut broken: Vec<_> =
            broken.into_iter().map(|(rule, line)| Violation { file: format!("src/{path}"), line, rule }).collect();
        broken.sort();
        broken
    }

    fn row(&self, module: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.contains(&module))
    }

    fn direction(&self, here: &str, path: &Path) -> Option<String> {
        let there = path.segments.first().map_or("*", String::as_str);
        if there == here {
            return None;
        }
        if there == "*" {
            return Some("the root of the crate is named as a whole; name the module".to_owned());
        }
        let Some(low) = self.row(there) else {
            return Some(format!("`{there}` stands in no row of the table"));
        };
        // A file without a row has been told already.
        let high = self.row(here)?;
        let allowed = |list: &[(&str, &[&str])], who: &str, whom: &str| {
            list.iter().find(|(name, _)| *name == who).is_none_or(|(_, others)| others.contains(&whom))
        };
        if low < high {
            Some(format!("`{here}` uses `{there}`, which is above it"))
        } else if low == high {
            Some(format!("`{here}` uses `{there}`, which is in its own row"))
        } else if !allowed(self.reserved, there, here) {
            Some(format!("`{here}` uses `{there}`, which is not for it"))
        } else if !allowed(self.narrow, here, there) {
            Some(format!("`{here}` uses `{there}`, which is more than it may"))
        } else {
            None
        }
    }
}

impl Name {
    fn judge(&self, here: &str, path: &Path) -> Option<String> {
        let forbidden = match self.places {
            Places::Only(modules) => !modules.contains(&here),
            Places::Never(modules) => modules.contains(&here),
        };
        (forbidden && self.is_in(&path.segments)).then(|| format!("`{here}` names `{}`: {}", self.path, self.why))
    }

    fn is_in(&self, segments: &[String]) -> bool {
        if let Some(last) = self.path.strip_prefix("*::") {
            return segments.len() > 1 && segments.last().is_some_and(|segment| segment == last);
        }
        for (depth, part) in self.path.split("::").enumerate() {
            match segments.get(depth).map(String::as_str) {
                // A glob above the name brings the name in.
                Some("*") => return true,
                Some(segment) if segment == part => {}
                _ => return false,
            }
        }
        true
    }
}

const CODE: [&str; 10] = ["use", "fn", "struct", "enum", "trait", "impl", "const", "static", "type", "macro_rules"];

/// `model/command.rs` → model, command; `model/mod.rs` → model.
fn modules_of(path: &str) -> Vec<String> {
    let mut parts: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || parts.len() == 1 && matches!(&**last, "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The word of the table for this file.
fn top_of(path: &str) -> String {
    let whole = path.trim_end_matches(".rs");
    if whole.starts_with("bin/") {
        return whole.split('/').take(2).collect::<Vec<_>>().join("/");
    }
    whole.split('/').next().unwrap_or_default().to_owned()
}

fn declared_modules(tokens: &[Token]) -> impl Iterator<Item = (usize, &String)> {
    tokens
        .windows(2)
        .filter(|pair| pair[0].text == "mod" && pair[1].is_name())
        .map(|pair| (pair[1].line, &pair[1].text))
}
