//! An event as one line for people, and its fields by name for programs. Bounded and in one line, whatever others put in.

use std::fmt::{self, Write};

use tracing::Event;
use tracing::field::{Field, Visit};

/// The longest line, in characters. The stream to the journal takes 48 KiB; what is longer than this was not written
/// by us.
pub(super) const LONGEST: usize = 4_096;
/// The most fields that are kept by name. Our events have a handful.
pub(super) const MOST_FIELDS: usize = 16;
/// The most bytes of a field that is kept by name: with [`MOST_FIELDS`] and [`LONGEST`], an event fits in one datagram.
pub(super) const LARGEST_FIELD: usize = 1_024;

/// The message of an event and its fields.
#[derive(Default)]
pub(super) struct Line {
    message: String,
    /// As they stand behind the message.
    shown: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut line = Self::default();
        event.record(&mut line);
        line
    }

    /// The message and, behind it, the fields; without an end of line.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(self.message.len() + self.shown.len());
        let mut all = self.message.chars().chain(self.shown.chars());
        for c in all.by_ref().take(LONGEST) {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        if all.next().is_some() {
            text.push('…');
        }
        text
    }

    /// Each field with its bare value, in their order, up to the bounds.
    pub(super) fn fields(&self) -> &[(&'static str, String)] {
        &self.fields
    }

    fn keep(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        if self.fields.len() < MOST_FIELDS {
            let mut kept = Cut(String::new());
            // What did not fit is cut off; a value whose own Debug fails is kept as far as it came.
            let _ = kept.write_fmt(value);
            self.fields.push((name, kept.0));
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => {
                let _ = write!(self.shown, " {name}={value:?}");
                self.keep(name, format_args!("{value}"));
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.message, "{value:?}");
            }
            name => {
                let _ = write!(self.shown, " {name}={value:?}");
                self.keep(name, format_args!("{value:?}"));
            }
        }
    }
}

/// Text that ends at [`LARGEST_FIELD`] bytes, between two characters.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LARGEST_FIELD - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}
