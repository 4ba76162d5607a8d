//! Writing for people and pipes.
//!
//! A reader that has seen enough and goes away (`| head -1`) is no failure. Colours reach terminals only, and none whose
//! owner set `NO_COLOR` (no-color.org). What came from elsewhere cannot steer a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::Value;

/// How a word is painted, as the parameters of SGR (ECMA-48, 8.3.117).
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Bold,
    Good,
    Middling,
    Bad,
}

/// The words in colour. For [`show`] only, which takes the colour away again where it does not belong.
pub(super) fn paint(paint: Paint, words: &str) -> String {
    let code = match paint {
        Paint::Bold => "1",
        Paint::Good => "1;32",
        Paint::Middling => "1;33",
        Paint::Bad => "1;31",
    };
    format!("\x1b[{code}m{words}\x1b[0m")
}

/// Begins a screen anew; nothing where there is no screen. For [`show`] only.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// Writes to stdout.
pub(super) fn print(text: &str) -> io::Result<()> {
    is_read(write(&mut io::stdout().lock(), text)).map(|_| ())
}

/// Writes to stdout, where it is a terminal in colour. False: nobody reads it any more.
pub(super) fn show(text: &str) -> io::Result<bool> {
    is_read(write(&mut anstream::AutoStream::auto(io::stdout()).lock(), text))
}

/// Writes a line to stderr: what a person should know, and a pipe must not get.
pub(super) fn note(line: &str) -> io::Result<()> {
    is_read(writeln!(io::stderr().lock(), "{line}")).map(|_| ())
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

/// A document for pipes: one line.
pub(super) fn line(document: &Value) -> String {
    escaped(&document.to_string()) + "\n"
}

/// A document for people.
pub(super) fn pretty(document: &Value) -> String {
    escaped(&format!("{document:#}")) + "\n"
}

/// JSON may hold control characters beyond those of ASCII, of which some terminals take orders.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() && c != '\n' {
            write!(text, "\\u{:04x}", u32::from(c)).expect("a String takes all text");
        } else {
            text.push(c);
        }
    }
    text
}

/// Foreign text on a line of ours.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Columns, as wide as their widest word and two spaces apart.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(word, width)| format!("{word:width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Columns with their names above them. For [`show`] only.
pub(super) fn headed(names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let text = table(&std::iter::once(names).chain(rows).collect::<Vec<_>>());
    let (names, rows) = text.split_once('\n').expect("each row has its line");
    format!("{}\n{rows}", paint(Paint::Bold, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        let evil = json!({ "a": "\u{1b}[2J \u{9b}31m \u{7f}", "b": "grüß\ndich" });
        assert_eq!(line(&evil), "{\"a\":\"\\u001b[2J \\u009b31m \\u007f\",\"b\":\"grüß\\ndich\"}\n");
        assert_eq!(serde_json::from_str::<Value>(&pretty(&evil)).expect("JSON still"), evil);
        assert_eq!(plain("a\u{1b}[2J\n"), "a\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "größer".to_owned(), "x".to_owned()], vec!["bb".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a   größer  x\nbb  c\n");
    }
}
