//! The log: to the journal in its own form, to a terminal or a file as text with times.
//!
//! `TWINAGENT_LOG` says how much: a level, or levels by module (`info,twinagent::mqtt=debug`). Other crates are never
//! heard below `info`: they log what they send, and that is nobody's business. Every event is one line, whatever its
//! fields hold; the journal gets the fields besides. What the journal's socket does not take goes to stderr.

mod journal;
mod line;

use std::io::{self, Write as _};

use rustix::fs::fstat;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::host::clock;
use journal::Journal;
use line::Line;

/// The variable that says how much is logged.
const VARIABLE: &str = "TWINAGENT_LOG";
/// Our crate, and with it the binaries of this package.
const OURS: &str = "twinagent";

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
    let (form, (journal, missing)) = if stream.as_deref().is_some_and(is_stderr) {
        (Form::Journal, Journal::open().map_or_else(|error| (None, Some(error)), |journal| (Some(journal), None)))
    } else {
        (Form::Text, (None, None))
    };
    let log = tracing_subscriber::registry().with(filter).with(Log { form, journal, stderr: io::stderr });
    if tracing::subscriber::set_global_default(log).is_ok() {
        if let Some(fault) = fault {
            tracing::warn!("{fault}");
        }
        if let Some(error) = missing {
            tracing::warn!(%error, "the log has no fields: there is no socket to send them by");
        }
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

/// What begins a line of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The priority (sd-daemon(3)) and no time: the journal has its own.
    Journal,
    Text,
}

/// Brings each event to its place.
struct Log<W> {
    form: Form,
    /// Asked first; what it does not take goes to stderr.
    journal: Option<Journal>,
    stderr: W,
}

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for Log<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event);
        let level = *event.metadata().level();
        let text = line.text();
        if let Some(journal) = &self.journal
            && journal.take(priority(level), event.metadata().target(), &text, line.fields()).is_ok()
        {
            return;
        }
        let whole = match self.form {
            Form::Journal => format!("<{}>{text}\n", priority(level)),
            Form::Text => format!("{} {level:>5} {text}\n", clock::wall()),
        };
        // With stderr gone there is nobody left to tell.
        let _ = self.stderr.make_writer().write_all(whole.as_bytes());
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

#[cfg(test)]
mod tests;
