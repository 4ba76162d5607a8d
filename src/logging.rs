//! The log: to the journal in its own form, to a terminal or a file as text with times.
//!
//! `TWINAGENT_LOG` says how much: a level, or levels by module (`info,twinagent::mqtt=debug`). Other crates are never
//! heard below `info`: they log what they send, and that is nobody's business. Every event is one line, whatever its
//! fields hold.

use std::fmt::{self, Write as _};
use std::io;

use rustix::fs::fstat;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::host::clock;

/// The variable that says how much is logged.
const VARIABLE: &str = "TWINAGENT_LOG";
/// Our crate, and with it the binaries of this package.
const OURS: &str = "twinagent";
/// The longest line, in characters. The journal takes 48 KiB; what is longer than this was not written by us.
const LONGEST: usize = 4_096;

/// Starts the log of this process. A second call changes nothing.
pub fn start() {
    start_at(Level::INFO);
}

/// The same, with this level where `TWINAGENT_LOG` asks for nothing.
pub fn start_at(default: Level) {
    #[allow(clippy::disallowed_methods, reason = "the log must run before there is a configuration")]
    let (asked, stream) = (std::env::var(VARIABLE).ok(), std::env::var("JOURNAL_STREAM").ok());
    let asked = asked.filter(|asked| !asked.is_empty()).unwrap_or_else(|| default.to_string());
    let (filter, fault) = filter(Some(&asked));
    let form = if stream.as_deref().is_some_and(is_stderr) { Form::Journal } else { Form::Text };
    let layer = tracing_subscriber::fmt::layer().event_format(form).with_writer(io::stderr).with_ansi(false);
    let log = tracing_subscriber::registry().with(filter).with(layer);
    if tracing::subscriber::set_global_default(log).is_ok()
        && let Some(fault) = fault
    {
        tracing::warn!("{fault}");
    }
}

/// What passes, and what is wrong with what was asked for.
fn filter(asked: Option<&str>) -> (Targets, Option<String>) {
    let default = Targets::new().with_default(LevelFilter::INFO);
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return (default, None) };
    // A bare word would pass as the name of a module, of which everything is asked for.
    let understood = |part: &str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let Some(parsed) = asked.parse::<Targets>().ok().filter(|_| asked.split(',').all(understood)) else {
        let expected =
            "a level (error, warn, info, debug, trace), or levels by module such as info,twinagent::mqtt=debug";
        return (default, Some(format!("${VARIABLE} is not understood: expected is {expected}")));
    };
    let overall = parsed.default_level().unwrap_or(LevelFilter::INFO);
    let ours = |target: &str| target == OURS || target.starts_with("twinagent::");
    let filter = parsed.iter().fold(
        Targets::new().with_default(overall.min(LevelFilter::INFO)).with_target(OURS, overall),
        |filter, (target, level)| {
            let level = if ours(target) { level } else { level.min(LevelFilter::INFO) };
            filter.with_target(target, level)
        },
    );
    (filter, None)
}

/// Whether stderr is the very stream that systemd tied to the journal: `$JOURNAL_STREAM` is its device and inode
/// (systemd.exec(5)).
fn is_stderr(stream: &str) -> bool {
    let facts = fstat(io::stderr());
    facts.is_ok_and(|facts| stream == format!("{}:{}", facts.st_dev, facts.st_ino))
}

/// How an event becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// With the priority in front (sd-daemon(3)) and without a time: the journal has its own.
    Journal,
    Text,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        match self {
            Self::Journal => write!(out, "<{}>", priority(level))?,
            Self::Text => write!(out, "{} {level:>5} ", clock::wall())?,
        }
        line.write_to(&mut out)
    }
}

/// The priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The message of an event and, behind it, its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn write_to(&self, out: &mut Writer<'_>) -> fmt::Result {
        let mut text = self.message.chars().chain(self.fields.chars());
        for c in text.by_ref().take(LONGEST) {
            if c.is_control() { write!(out, "{}", c.escape_default())? } else { out.write_char(c)? }
        }
        out.write_str(if text.next().is_some() { "…\n" } else { "\n" })
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message.push_str(value) } else { self.record_debug(field, &value) }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        // A value whose own Debug fails leaves a torn line, which is no reason to lose the event.
        let _ = written;
    }
}

#[cfg(test)]
mod tests;
