//! What comes out of the log, read back from a file.

use std::fs::File;
use std::sync::Arc;

use super::*;

/// Logs into a file and returns its text.
fn logged(form: Form, asked: &str, events: impl FnOnce()) -> String {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("log");
    let file = Arc::new(File::create(&path).expect("a file"));
    let layer = tracing_subscriber::fmt::layer().event_format(form).with_writer(file).with_ansi(false);
    let log = tracing_subscriber::registry().with(filter(Some(asked)).0).with(layer);
    tracing::subscriber::with_default(log, events);
    std::fs::read_to_string(path).expect("text")
}

#[test]
fn the_journal_gets_a_priority_and_no_time() {
    let text = logged(Form::Journal, "", || {
        tracing::error!("a");
        tracing::warn!("b");
        tracing::info!(target: "elsewhere", topic = "/devices/x", count = 3, "c {}", 1);
        tracing::debug!("d");
    });
    assert_eq!(text, "<3>a\n<4>b\n<6>c 1 topic=\"/devices/x\" count=3\n");
}

#[test]
fn a_person_gets_the_time() {
    let text = logged(Form::Text, "", || tracing::info!("hello"));
    let (time, rest) = text.split_once(' ').expect("a time");
    assert!(time.parse::<crate::model::now::Timestamp>().is_ok(), "{text}");
    assert_eq!(rest, " INFO hello\n");
}

#[test]
fn no_field_can_forge_a_line_or_fill_the_journal() {
    let hostile = "x\n<3>forged\r\x1b[31m\u{85}";
    let text = logged(Form::Journal, "", || tracing::info!(method = %hostile, "{hostile}"));
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.ends_with('\n') && text.matches(char::is_control).count() == 1, "{text:?}");
    let long = "y".repeat(100_000);
    let text = logged(Form::Journal, "", || tracing::info!("{long}"));
    assert_eq!(text.chars().count(), "<6>".len() + LONGEST + "…\n".chars().count());
}

#[test]
fn other_crates_are_not_heard_below_info() {
    let events = || {
        tracing::trace!("ours");
        tracing::debug!(target: "rumqttc", "packet");
        tracing::info!(target: "rumqttc", "connected");
    };
    for asked in ["trace", "trace,rumqttc=trace", "rumqttc=trace,twinagent=trace", "twinagent::logging=trace"] {
        assert_eq!(logged(Form::Journal, asked, events), "<7>ours\n<6>connected\n", "{asked}");
    }
    assert_eq!(logged(Form::Journal, "error", events), "");
    assert_eq!(logged(Form::Journal, "rumqttc=off", events), "");
    assert_eq!(logged(Form::Journal, "debug", events), "<6>connected\n");
}

#[test]
fn what_is_not_understood_is_said_and_the_default_holds() {
    for wrong in ["loud", "a=b=c"] {
        let (filter, fault) = filter(Some(wrong));
        assert_eq!(filter.default_level(), Some(LevelFilter::INFO));
        assert!(fault.is_some_and(|fault| fault.contains("TWINAGENT_LOG")), "{wrong}");
    }
}

#[test]
fn a_stream_of_another_process_is_not_ours() {
    for other in ["", "1", "0:0", "8:not"] {
        assert!(!is_stderr(other), "{other:?}");
    }
    let facts = fstat(io::stderr()).expect("stderr");
    assert!(is_stderr(&format!("{}:{}", facts.st_dev, facts.st_ino)));
}
