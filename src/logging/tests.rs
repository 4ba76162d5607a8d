//! What comes out of the log: read back from a file, and from a socket in the place of the journal's.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use super::line::{LARGEST_FIELD, LONGEST, MOST_FIELDS};
use super::*;

/// Logs into a file and returns its text.
fn logged(form: Form, asked: &str, events: impl FnOnce()) -> String {
    logged_beside(form, None, asked, events)
}

/// The same, where a journal is asked first.
fn logged_beside(form: Form, journal: Option<Journal>, asked: &str, events: impl FnOnce()) -> String {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("log");
    let stderr = Arc::new(File::create(&path).expect("a file"));
    let log = tracing_subscriber::registry().with(filter(Some(asked)).0).with(Log { form, journal, stderr });
    tracing::subscriber::with_default(log, events);
    std::fs::read_to_string(path).expect("text")
}

/// A socket in the place of the journal's.
fn socket(folder: &Path) -> (UnixDatagram, Journal) {
    let path = folder.join("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("a mode");
    (socket, Journal::at(path).expect("a way to it"))
}

/// The next entry, read as the protocol has it: a name, a length, so many bytes.
fn entry(socket: &UnixDatagram) -> Option<BTreeMap<String, String>> {
    let mut buffer = vec![0; 1 << 20];
    let length = match socket.recv(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(error) => panic!("{error}"),
    };
    let mut rest = &buffer[..length];
    let mut fields = BTreeMap::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("an end of the name");
        let (size, behind) = rest[end + 1..].split_at(8);
        let size = usize::try_from(u64::from_le_bytes(size.try_into().expect("8 bytes"))).expect("a length");
        assert_eq!(behind[size], b'\n', "a value ends where its length says");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        fields.insert(text(&rest[..end]), text(&behind[..size]));
        rest = &behind[size + 1..];
    }
    Some(fields)
}

#[test]
fn the_journal_gets_the_line_and_each_field_by_its_name() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (socket, journal) = socket(folder.path());
    let text = logged_beside(Form::Journal, Some(journal), "", || {
        tracing::warn!(id = %"42", method = "count", simulated = true, "a.b" = ?Some(1), "command {}", "started");
    });
    assert_eq!(text, "", "nothing is told twice");
    let expected = [
        ("MESSAGE", "command started id=42 method=\"count\" simulated=true a.b=Some(1)"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "twinagent"),
        ("TARGET", "twinagent::logging::tests"),
        ("TWINAGENT_ID", "42"),
        ("TWINAGENT_METHOD", "count"),
        ("TWINAGENT_SIMULATED", "true"),
        ("TWINAGENT_A_B", "Some(1)"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(entry(&socket), Some(BTreeMap::from(expected)));
    assert_eq!(entry(&socket), None);
}

#[test]
fn no_value_forges_a_field_and_all_of_them_fit_in_a_datagram() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (socket, journal) = socket(folder.path());
    let hostile = "x\nPRIORITY=0\nMESSAGE=forged\n";
    let (wide, long) = ("\u{9f}".repeat(100_000), "é".repeat(100_000));
    let text = logged_beside(Form::Journal, Some(journal), "", || {
        tracing::info!(method = %hostile, "{hostile}");
        tracing::info!(
            f1 = long,
            f2 = long,
            f3 = long,
            f4 = long,
            f5 = long,
            f6 = long,
            f7 = long,
            f8 = long,
            f9 = long,
            f10 = long,
            f11 = long,
            f12 = long,
            f13 = long,
            f14 = long,
            f15 = long,
            f16 = long,
            f17 = long,
            "{wide}"
        );
    });
    assert_eq!(text, "", "both fit");
    let forged = entry(&socket).expect("an entry");
    assert_eq!((forged["PRIORITY"].as_str(), forged["TWINAGENT_METHOD"].as_str()), ("6", hostile));
    assert!(!forged["MESSAGE"].contains('\n') && forged["MESSAGE"].starts_with("x\\n"), "{forged:?}");
    let large = entry(&socket).expect("an entry");
    let fields: Vec<&String> =
        large.iter().filter(|(name, _)| name.starts_with("TWINAGENT_")).map(|(_, value)| value).collect();
    assert_eq!(fields.len(), MOST_FIELDS);
    assert!(fields.iter().all(|value| value.len() == LARGEST_FIELD), "cut between two characters");
}

#[test]
fn what_the_journal_does_not_take_goes_to_stderr() {
    const EVENTS: usize = 3_000;
    let folder = tempfile::TempDir::new().expect("a folder");
    let tell = || (0..EVENTS).for_each(|number| tracing::info!(number, "event"));

    let missing = Journal::at(folder.path().join("nowhere")).expect("a way to it");
    let text = logged_beside(Form::Journal, Some(missing), "", tell);
    assert_eq!(text.lines().count(), EVENTS);
    assert!(text.starts_with("<6>event number=0\n"), "as without a journal");

    // Nobody reads: it fills up, and the rest goes the other way at once.
    let (socket, journal) = socket(folder.path());
    let text = logged_beside(Form::Journal, Some(journal), "", tell);
    let taken = std::iter::from_fn(|| entry(&socket)).map(|entry| entry["MESSAGE"].clone());
    let mut told: Vec<String> = taken.collect();
    assert!(!told.is_empty() && told.len() < EVENTS, "{} were taken", told.len());
    told.extend(text.lines().map(|line| line.trim_start_matches("<6>").to_owned()));
    assert_eq!(told, (0..EVENTS).map(|number| format!("event number={number}")).collect::<Vec<_>>());
}

#[test]
fn a_journal_that_comes_late_or_anew_is_found() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let journal = Journal::at(path.clone()).expect("a way to it");
    let text = logged_beside(Form::Journal, Some(journal), "", || {
        tracing::info!("before");
        let first = UnixDatagram::bind(&path).expect("a socket");
        tracing::info!("one");
        assert_eq!(entry(&first).expect("an entry")["MESSAGE"], "one");
        std::fs::remove_file(&path).expect("removed");
        let second = UnixDatagram::bind(&path).expect("a socket");
        tracing::info!("two");
        assert_eq!(entry(&second).expect("an entry")["MESSAGE"], "two");
    });
    assert_eq!(text, "<6>before\n");
}

#[test]
fn a_value_that_cannot_be_shown_costs_no_event() {
    struct Torn;
    impl fmt::Debug for Torn {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("half")?;
            Err(fmt::Error)
        }
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let (socket, journal) = socket(folder.path());
    let text = logged_beside(Form::Journal, Some(journal), "", || tracing::info!(torn = ?Torn, whole = 1, "told"));
    let entry = entry(&socket).expect("an entry");
    assert_eq!((text.as_str(), entry["TWINAGENT_TORN"].as_str(), entry["TWINAGENT_WHOLE"].as_str()), ("", "half", "1"));
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
