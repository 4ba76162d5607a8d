//! The few words of man(7) that our pages need, and how plain text becomes safe in them.
//!
//! Knows nothing of what the pages say.

use std::fmt::Write as _;

/// A page being written.
#[derive(Debug)]
pub(crate) struct Page(String);

impl Page {
    /// Begins a page of this section of the manual, with its NAME.
    pub(crate) fn new(title: &str, section: u8, date: &str, summary: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut page = Self(String::new());
        page.raw(&format!(
            ".TH \"{}\" \"{section}\" \"{date}\" \"twinagent {version}\" \"twinagent\"",
            title.to_uppercase()
        ));
        // No hyphenation and no stretched lines: names and commands are copied from here.
        page.raw(".nh\n.ad l");
        page.section("NAME");
        page.line(&format!("{} \\- {}", escape(title), escape(summary)));
        page
    }

    /// Lines that are man(7) already.
    pub(crate) fn raw(&mut self, text: &str) {
        self.line(text.trim_end_matches('\n'));
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.raw(&format!(".SH \"{title}\""));
    }

    pub(crate) fn subsection(&mut self, title: &str) {
        self.raw(&format!(".SS \"{}\"", escape(title)));
    }

    /// A paragraph of its own; what stands between backticks becomes bold.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.raw(".PP");
        self.raw(&prose(text));
    }

    /// A further paragraph below a term.
    pub(crate) fn continued(&mut self, text: &str) {
        self.raw(".IP");
        self.raw(&prose(text));
    }

    /// A term, already marked up, and what is said of it.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        self.raw(".TP");
        self.raw(term);
        self.raw(&prose(text));
    }

    /// Items from here to `outdent` stand below the last one.
    pub(crate) fn indent(&mut self) {
        self.raw(".RS");
    }

    pub(crate) fn outdent(&mut self) {
        self.raw(".RE");
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, text: &str) {
        // An empty line is a paragraph of its own to man(7).
        if text.is_empty() {
            return;
        }
        writeln!(self.0, "{text}").expect("a string takes all that fits in memory");
    }
}

pub(crate) fn bold(text: &str) -> String {
    format!("\\fB{}\\fP", escape(text))
}

pub(crate) fn italic(text: &str) -> String {
    format!("\\fI{}\\fP", escape(text))
}

/// Plain text as it is to be read: a hyphen may be copied into a shell, a quote stays a quote, a dot starts no macro.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, sign) in text.char_indices() {
        match sign {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '"' => escaped.push_str("\\(dq"),
            '\'' => escaped.push_str("\\(aq"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '`' => escaped.push_str("\\(ga"),
            '.' if at == 0 || text[..at].ends_with('\n') => escaped.push_str("\\&."),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A sentence or more, ended by a full stop.
fn prose(text: &str) -> String {
    let mut marked = String::new();
    for (count, part) in text.split('`').enumerate() {
        marked.push_str(&if count % 2 == 1 { bold(part) } else { escape(part) });
    }
    if !text.is_empty() && !text.ends_with(['.', ':', '?']) {
        marked.push('.');
    }
    // A macro begins a line; the first piece may be one that `escape` could not see as such.
    if marked.starts_with(['.', '\'']) { format!("\\&{marked}") } else { marked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_read_as_it_was_written() {
        assert_eq!(escape(r#"--a "b" 'c' \n"#), r"\-\-a \(dqb\(dq \(aqc\(aq \en");
        assert_eq!(escape(".toml\n.SH x"), "\\&.toml\n\\&.SH x");
    }

    #[test]
    fn prose_marks_names_and_ends_with_a_full_stop() {
        assert_eq!(prose("see `twinagent check`"), r"see \fBtwinagent check\fP.");
        assert_eq!(prose("Done."), "Done.");
        assert_eq!(prose("`.x` is hidden"), "\\fB\\&.x\\fP is hidden.");
    }
}
