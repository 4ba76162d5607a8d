//! The page of the configuration file, read from the commented reference, which a test of the configuration compares with
//! what the program knows: so no key is missing, and no default is wrong.
//!
//! Understands the form of that one file and refuses what it does not understand.

use anyhow::{Context as _, bail};

use crate::roff::{Page, bold, escape, italic};

/// Where the page goes on after the keys.
const KEYS: &str = ".\\\" keys\n";
const SURROUNDINGS: &str = include_str!("twinagent.toml.5.roff");

#[derive(Debug, PartialEq)]
struct Section {
    name: String,
    keys: Vec<Key>,
}

#[derive(Debug, PartialEq)]
struct Key {
    name: String,
    value: Value,
    words: Vec<Words>,
}

#[derive(Debug, PartialEq)]
enum Value {
    Default(String),
    Example(String),
}

#[derive(Debug, PartialEq)]
enum Words {
    Text(String),
    /// A line of a list: a term, and what it means.
    Item(String, String),
}

/// The page made from this text.
pub(crate) fn page(reference: &str, date: &str) -> anyhow::Result<String> {
    let (before, after) =
        SURROUNDINGS.split_once(KEYS).context("the page's surroundings have no place for the keys")?;
    let mut page = Page::new("twinagent.toml", 5, date, "configuration of the device agent");
    page.raw(before);
    for section in read(reference)? {
        page.subsection(&format!("[{}]", section.name));
        for key in &section.keys {
            key.write(&mut page);
        }
    }
    page.raw(after);
    Ok(page.finish())
}

impl Key {
    fn write(&self, page: &mut Page) {
        let term = match &self.value {
            Value::Default(value) => format!("{} = {}", bold(&self.name), escape(value)),
            Value::Example(value) => format!("{} = {}   (no default)", bold(&self.name), italic(value)),
        };
        let mut words = self.words.iter();
        match words.next() {
            Some(Words::Text(text)) => page.item(&term, text),
            _ => page.item(&term, ""),
        }
        for more in words {
            match more {
                Words::Text(text) => page.continued(text),
                Words::Item(term, text) => {
                    page.indent();
                    page.item(&bold(term), text);
                    page.outdent();
                }
            }
        }
    }
}

/// Reads sections, keys, and the comment above each key.
fn read(reference: &str) -> anyhow::Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut words = Vec::new();
    // What stands above the first section is for whoever opens the file; the page says it in its own way.
    for (number, line) in reference.lines().enumerate().skip_while(|(_, line)| !line.starts_with('[')) {
        let place = || format!("line {} of the reference: {line}", number + 1);
        if line.is_empty() {
            if !words.is_empty() {
                bail!("{}: the comment above belongs to no key", place());
            }
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), keys: Vec::new() });
        } else if let Some((name, value)) = key(line) {
            let section = sections.last_mut().with_context(place)?;
            if !matches!(words.first(), Some(Words::Text(_))) {
                bail!("{}: a key without a word", place());
            }
            section.keys.push(Key { name, value, words: std::mem::take(&mut words) });
        } else if let Some(text) = line.strip_prefix("#   ") {
            let (term, text) = text.trim().split_once("  ").with_context(place)?;
            words.push(Words::Item(term.to_owned(), text.trim().to_owned()));
        } else if let Some(text) = line.strip_prefix("# ") {
            match words.last_mut() {
                Some(Words::Text(before)) => *before = format!("{before} {text}"),
                _ => words.push(Words::Text(text.to_owned())),
            }
        } else {
            bail!("{}: neither a section, nor a key, nor words", place());
        }
    }
    for key in sections.iter_mut().flat_map(|section| &mut section.keys) {
        key.words.iter_mut().for_each(name_the_effect);
    }
    Ok(sections)
}

/// `#key = value` is a default, `#   key = value` an example.
fn key(line: &str) -> Option<(String, Value)> {
    let (name, value) = line.strip_prefix('#')?.split_once(" = ")?;
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let value = value.to_owned();
    match name.strip_prefix("   ") {
        Some(name) if is_name(name) => Some((name.to_owned(), Value::Example(value))),
        None if is_name(name) => Some((name.to_owned(), Value::Default(value))),
        _ => None,
    }
}

/// The short mark of the file becomes a sentence.
fn name_the_effect(words: &mut Words) {
    let (Words::Text(text) | Words::Item(_, text)) = words;
    *text =
        text.replace("[live]", "A change counts at once.").replace("[reconnect]", "A change makes a new connection.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_their_words() {
        let text = "# head\n\n[a.b]\n# One\n# word. [live]\n#x = 1\n# Two:\n#   %a   first\n# more\n#   y_z = \"e\"\n";
        let key = |name: &str, value, words| Key { name: name.to_owned(), value, words };
        let text_of = |text: &str| Words::Text(text.to_owned());
        let x = key("x", Value::Default("1".to_owned()), vec![text_of("One word. A change counts at once.")]);
        let list = vec![text_of("Two:"), Words::Item("%a".to_owned(), "first".to_owned()), text_of("more")];
        let y = key("y_z", Value::Example("\"e\"".to_owned()), list);
        assert_eq!(read(text).expect("it is well formed"), [Section { name: "a.b".to_owned(), keys: vec![x, y] }]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in ["[a]\nx = 1\n", "[a]\n#x = 1\n", "[a]\n# lost\n\n", "[a]\n#   no list\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_key_of_the_reference_stands_in_the_page() {
        let page = page(crate::REFERENCE, "2026-11-22").expect("the reference is understood");
        let keys: Vec<_> = crate::REFERENCE.lines().filter_map(key).collect();
        assert!(keys.len() > 20, "the reference was read: {keys:?}");
        for (name, _) in keys {
            assert!(page.contains(&format!("\\fB{name}\\fP = ")), "{name} is missing in {page}");
        }
        assert!(!page.contains("[live]") && !page.contains("[reconnect]"), "{page}");
    }
}
