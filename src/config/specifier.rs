//! What may stand in `device.id` in the place of an id, so that one image serves many devices.
//!
//! `%H`, `%m` and `%s` are filled in with facts of the machine, which come in as plain data; `@/path` is the first line
//! of a file. Whether the outcome is an id is for `rules.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file;

/// What each letter after a `%` stands for on this machine, or why the machine does not tell.
pub type Specifiers = BTreeMap<char, Result<String, String>>;

/// Those that people may write; `host` knows the same.
const KNOWN: &str = "%H (host name), %m (machine id), %s (serial number of the board) and %% (a percent sign)";

/// The file that the text refers to, if it is one of the form `@/path`.
pub(super) fn file(text: &str) -> Option<PathBuf> {
    text.strip_prefix('@').filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// The text with everything filled in. The error ends "… is".
pub(super) fn expand(text: &str, specifiers: &Specifiers) -> Result<String, String> {
    if file(text).is_some() {
        return first_line(text);
    }
    let mut id = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            id.push(letter);
            continue;
        }
        match rest.next() {
            Some('%') => id.push('%'),
            Some(letter) => match specifiers.get(&letter) {
                Some(Ok(value)) => id.push_str(value),
                Some(Err(why)) => return Err(format!("not to be had: {why}")),
                None if "Hms".contains(letter) => return Err(format!("not to be had: %{letter} is not known here")),
                None => return Err(format!("not taken: there is no such specifier; there are {KNOWN}")),
            },
            None => return Err(format!("not taken: it ends in a lone %; there are {KNOWN}")),
        }
    }
    Ok(id)
}

/// The id as it would have to be written for [`expand`] to give it back.
pub(super) fn escaped(id: &str) -> String {
    id.replace('%', "%%")
}

/// The first line of the file behind the `@`, without the white space around it.
fn first_line(reference: &str) -> Result<String, String> {
    let path = file(reference).unwrap_or_default();
    let text = match file::read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Err("not to be had: there is no such file".to_owned()),
        Err(fault) => return Err(format!("not to be had: the file {}", fault.text)),
    };
    match text.lines().next().map(str::trim) {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err("not to be had: the first line of the file is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Specifiers {
        let why = "this board tells no serial number".to_owned();
        [('H', Ok("pump".to_owned())), ('m', Ok("0123%m".to_owned())), ('s', Err(why))].into()
    }

    #[test]
    fn what_the_machine_tells_is_filled_in_once() {
        for (text, id) in [
            ("gw-1", "gw-1"),
            ("%H", "pump"),
            ("a-%H-b.%H", "a-pump-b.pump"),
            ("%m", "0123%m"),
            ("%%H", "%H"),
            ("@a", "@a"),
        ] {
            assert_eq!(expand(text, &machine()).as_deref(), Ok(id), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        for (text, expected) in [
            ("gw-%s", "not to be had: this board tells no serial number"),
            ("gw-%x", "not taken: there is no such specifier"),
            ("gw-%", "not taken: it ends in a lone %"),
            ("%ä", "not taken: there is no such specifier"),
            ("@/no/such/file", "not to be had: there is no such file"),
            ("@/proc", "not to be had: the file is not a regular file"),
            ("@/dev/null", "not to be had: the file is not a regular file"),
        ] {
            let why = expand(text, &machine()).expect_err(text);
            assert!(why.starts_with(expected), "{text}: {why}");
        }
        let nothing = expand("%H", &Specifiers::new()).expect_err("nothing is known");
        assert_eq!(nothing, "not to be had: %H is not known here");
    }

    #[test]
    fn of_a_file_the_first_line_counts() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("id");
        let reference = format!("@{}", path.display());
        for (text, id) in [
            ("gw-7\n", Some("gw-7")),
            (" gw-7 \r\nmore", Some("gw-7")),
            ("%H", Some("%H")),
            ("\ngw-7", None),
            ("", None),
        ] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(expand(&reference, &machine()).ok().as_deref(), id, "{text:?}");
        }
    }

    #[test]
    fn an_escaped_id_is_filled_in_to_itself() {
        for id in ["gw", "%H", "50%", "%%", "@a%b"] {
            assert_eq!(expand(&escaped(id), &machine()).as_deref(), Ok(id));
        }
    }
}
