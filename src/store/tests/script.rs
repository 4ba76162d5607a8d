//! One script of appends and a rewrite, run by itself or as a process under strace that makes calls fail or kill it.

#![expect(clippy::disallowed_methods, reason = "a test that runs itself again tells itself so by a variable")]

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::{accepted, boot, finished, found, told};
use crate::model::record::Record;
use crate::store::{Journal, StateDir};

/// Names the state folder to a run of this test program under strace.
const STATE: &str = "TWINAGENT_TEST_STATE";

/// The system calls by which the store touches its disk.
pub(super) const CALLS: [&str; 6] = ["openat", "write", "pwrite64", "fdatasync", "fsync", "renameat"];

pub(super) enum Step {
    Append(Vec<Record>),
    Rewrite,
}

pub(super) fn script() -> Vec<Step> {
    vec![
        Step::Append(vec![boot()]),
        Step::Append(vec![accepted(1)]),
        Step::Append(vec![told(1)]),
        Step::Append(vec![finished(1), accepted(2)]),
        Step::Rewrite,
        Step::Append(vec![told(2)]),
        Step::Append(vec![finished(2)]),
    ]
}

pub(super) fn all_records() -> Vec<Record> {
    let records = |step| match step {
        Step::Append(batch) => batch,
        Step::Rewrite => Vec::new(),
    };
    script().into_iter().flat_map(records).collect()
}

/// Performs the script and survives one failing call. Says which failures it noticed, and how many records must survive
/// from then on.
struct Performer<'a> {
    path: &'a Path,
    words: &'a mut dyn Write,
    /// So many records are known to be on disk.
    synced: usize,
}

impl<'a> Performer<'a> {
    fn new(path: &'a Path, words: &'a mut dyn Write) -> Self {
        Self { path, words, synced: 0 }
    }

    fn survives(&mut self, records: usize) {
        self.synced = records;
        self.say(format_args!("survives {records}"));
    }

    fn say(&mut self, words: fmt::Arguments<'_>) {
        writeln!(self.words, "{words}").expect("somebody listens");
    }

    /// A daemon that is refused its folder or journal is started again.
    fn open(&mut self) -> (Journal, Vec<Record>) {
        let open = |path| Journal::open(&StateDir::lock(path).ok()?).ok();
        let (journal, records) = open(self.path).unwrap_or_else(|| {
            self.say(format_args!("noticed"));
            open(self.path).expect("at most one call fails")
        });
        if journal.fault().is_some() {
            self.say(format_args!("noticed"));
        }
        (journal, records)
    }

    fn append(&mut self, journal: &mut Journal, known: &[Record], batch: &[Record]) {
        if let Err(error) = journal.append(batch) {
            self.say(format_args!("noticed"));
            assert!(journal.append(batch).is_err() && journal.fault().is_some(), "broken until rewritten");
            let sound = if error.to_string().contains("syncing it") { self.synced } else { known.len() };
            assert_eq!(found(self.path), known[..sound], "what a restart would find after: {error}");
            self.rewrite(journal, known);
            journal.append(batch).expect("at most one call fails");
        }
    }

    fn rewrite(&mut self, journal: &mut Journal, known: &[Record]) {
        let mut done = journal.rewrite(known);
        if done.is_err() {
            self.say(format_args!("noticed"));
            if journal.fault().is_some() {
                done = journal.rewrite(known);
            }
        }
        assert!(journal.fault().is_none(), "at most one call fails");
        if done.is_ok() {
            self.survives(known.len());
        }
    }

    fn perform(&mut self) {
        let (mut journal, mut known) = self.open();
        if known == all_records() {
            return;
        }
        assert_eq!(known, []);
        if journal.fault().is_some() {
            self.rewrite(&mut journal, &known);
        }
        for step in script() {
            match step {
                Step::Append(batch) => {
                    self.append(&mut journal, &known, &batch);
                    let synced = batch.iter().any(Record::must_be_synced);
                    known.extend(batch);
                    if synced {
                        self.survives(known.len());
                    }
                }
                Step::Rewrite => self.rewrite(&mut journal, &known),
            }
        }
        drop(journal);
        assert_eq!(self.open().1, known);
    }
}

/// By itself this is the story of a sound disk; strace runs it with one that is not.
#[test]
fn the_script_ends_with_all_its_records() {
    if let Some(path) = env::var_os(STATE) {
        return Performer::new(Path::new(&path), &mut io::stdout()).perform();
    }
    let above = tempfile::tempdir().expect("a folder");
    let mut words = Vec::new();
    Performer::new(&above.path().join("state"), &mut words).perform();
    assert!(!String::from_utf8_lossy(&words).contains("noticed"));
}

pub(super) struct Traced {
    output: Output,
    pub(super) calls: String,
}

impl Traced {
    /// Runs the script in this folder, with these expressions of strace's, which sees only calls that concern the folder.
    pub(super) fn run(path: &Path, log: &Path, expressions: &[&str]) -> Self {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(log)
            .args(["-e", &format!("trace={},ftruncate,unlinkat", CALLS.join(","))])
            .args(expressions.iter().flat_map(|expression| ["-e", expression]))
            .args(
                ["", "journal", "journal.draft"]
                    .map(|name| format!("-P{}", path.join(name).display().to_string().trim_end_matches('/'))),
            )
            .arg(env::current_exe().expect("this program"))
            .args(["--exact", "store::tests::script::the_script_ends_with_all_its_records", "--nocapture"])
            .env(STATE, path)
            .output()
            .expect("strace is installed");
        Self { output, calls: fs::read_to_string(log).expect("the log of strace") }
    }

    pub(super) fn count(&self, call: &str) -> usize {
        self.calls.lines().filter(|line| line.contains(&format!(" {call}("))).count()
    }

    pub(super) fn is_injected(&self) -> bool {
        self.calls.contains("(INJECTED)")
    }

    pub(super) fn has_noticed(&self) -> bool {
        String::from_utf8_lossy(&self.output.stdout).contains("noticed")
    }

    /// The last number that the script said.
    pub(super) fn must_survive(&self) -> usize {
        let words = String::from_utf8_lossy(&self.output.stdout);
        let last = words.lines().rev().find_map(|line| line.split_once("survives ")?.1.parse().ok());
        last.unwrap_or(0)
    }

    /// Killed by the injected signal, which strace then dies of too. Any other end must be a good one.
    pub(super) fn was_killed(&self, case: &str) -> bool {
        let killed = self.output.status.signal() == Some(9);
        if !killed {
            self.assert_success(case);
        }
        killed
    }

    pub(super) fn assert_success(&self, case: &str) {
        let Output { status, stdout, stderr } = &self.output;
        let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        assert!(status.success(), "{case}: {status}\n{stdout}\n{stderr}\n{}", self.calls);
    }
}
