//! Disks that fail: full ones and read-only ones on a real tmpfs, and failing or deadly system calls by strace.
//!
//! Mounting needs root, and strace must be installed; without them these stories fail and say so.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;

use super::{accepted, accepted_with, boot, finished, told};
use crate::model::record::Record;
use crate::store::{Journal, StateDir, scan};

pub(super) fn open(path: &Path) -> (Journal, Vec<Record>) {
    Journal::open(&StateDir::lock(path).expect("the lock")).expect("a journal")
}

/// What a restart would find now.
fn found(path: &Path) -> Vec<Record> {
    scan(&fs::read(path.join("journal")).expect("the journal")).expect("a sound journal").records
}

/// A small file system of its own; unmounted at the end.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount() -> Self {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        disk.run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs"]));
        disk
    }

    fn run(&self, command: &mut Command) {
        let output = command.arg(self.0.path()).output().expect("mount(8) is installed");
        assert!(
            output.status.success(),
            "these tests mount a tmpfs and need root for it: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).expect("an entry");
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("filler")).expect("the filler");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_and_heals_when_there_is_room_again() {
    let disk = Tmpfs::mount();
    let path = disk.state();
    let (mut journal, mut known) = open(&path);
    disk.fill();
    let mut number = 0;
    let error = loop {
        number += 1;
        match journal.append(&[accepted(number)]) {
            Ok(()) => known.push(accepted(number)),
            Err(error) => break error,
        }
        assert!(number < 1_000, "the disk is not full");
    };
    assert!(error.to_string().contains("journal"), "{error}");
    assert_eq!(found(&path), known, "what was refused must not be there after a restart");
    assert!(journal.rewrite(&known).is_err(), "there is no room for a new file either");

    disk.free();
    assert!(journal.append(&[told(1)]).is_err(), "the old file is not trusted again");
    assert!(journal.fault().is_some() && !journal.wants_rewrite());
    journal.rewrite(&known).expect("room");
    journal.append(&[accepted(number)]).expect("room");
    known.push(accepted(number));

    let large = accepted_with(number + 1, json!("x".repeat(100_000)));
    assert!(journal.append(&[told(1), large]).is_err(), "more than the disk holds");
    assert_eq!(found(&path), known, "half a batch was left");
    drop(journal);
    let (mut journal, records) = open(&path);
    assert_eq!(records, known);
    journal.append(&[told(1)]).expect("a restart heals as well");
}

#[test]
fn a_rewrite_without_room_leaves_the_journal_in_use() {
    let disk = Tmpfs::mount();
    let path = disk.state();
    let (mut journal, _) = open(&path);
    journal.append(&[accepted(1)]).expect("room");
    disk.fill();
    assert!(journal.rewrite(&[accepted(1)]).is_err());
    assert!(journal.fault().is_none());
    // The block that it ends in has room yet.
    journal.append(&[told(1)]).expect("room");
    assert_eq!(found(&path), [accepted(1), told(1)]);
}

#[test]
fn a_journal_that_cannot_be_made_yet_is_made_later() {
    let disk = Tmpfs::mount();
    disk.fill();
    let (mut journal, records) = open(&disk.state());
    assert!(records.is_empty() && journal.fault().is_some());
    assert!(journal.append(&[accepted(1)]).is_err());
    disk.free();
    journal.rewrite(&[]).expect("room");
    journal.append(&[accepted(1)]).expect("room");
    drop(journal);
    assert_eq!(open(&disk.state()).1, [accepted(1)]);
}

#[test]
fn a_read_only_disk_still_tells_what_was_done() {
    let disk = Tmpfs::mount();
    let path = disk.state();
    let (mut journal, _) = open(&path);
    journal.append(&[accepted(1)]).expect("room");
    drop(journal);
    disk.run(Command::new("mount").args(["-o", "remount,ro"]));
    let (mut journal, records) = open(&path);
    assert_eq!(records, [accepted(1)]);
    assert!(journal.fault().is_some());
    assert!(journal.append(&[finished(1)]).is_err());
    assert!(journal.rewrite(&records).is_err());
    disk.run(Command::new("mount").args(["-o", "remount,rw"]));
    journal.rewrite(&records).expect("it can be written to again");
    journal.append(&[finished(1)]).expect("room");
    drop(journal);
    assert_eq!(open(&path).1, [accepted(1), finished(1)]);
}

/// Names the state folder to a run of this test program under strace.
const STATE: &str = "TWINAGENT_TEST_STATE";

/// The system calls by which the store touches its disk.
pub(super) const CALLS: [&str; 6] = ["openat", "write", "pwrite64", "fdatasync", "fsync", "renameat"];

enum Step {
    Append(Vec<Record>),
    Rewrite,
}

fn script() -> Vec<Step> {
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
    calls: String,
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
            .args(["--exact", "store::tests::faults::the_script_ends_with_all_its_records", "--nocapture"])
            .env(STATE, path)
            .output()
            .expect("strace is installed");
        Self { output, calls: fs::read_to_string(log).expect("the log of strace") }
    }

    fn count(&self, call: &str) -> usize {
        self.calls.lines().filter(|line| line.contains(&format!(" {call}("))).count()
    }

    fn is_injected(&self) -> bool {
        self.calls.contains("(INJECTED)")
    }

    fn has_noticed(&self) -> bool {
        String::from_utf8_lossy(&self.output.stdout).contains("noticed")
    }

    /// The last number that the script said.
    pub(super) fn must_survive(&self) -> usize {
        let words = String::from_utf8_lossy(&self.output.stdout);
        let last = words.lines().rev().find_map(|line| line.split_once("survives ")?.1.parse().ok());
        last.unwrap_or(0)
    }

    pub(super) fn is_success(&self) -> bool {
        self.output.status.success()
    }

    fn assert_success(&self, case: &str) {
        let Output { status, stdout, stderr } = &self.output;
        let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        assert!(status.success(), "{case}: {status}\n{stdout}\n{stderr}\n{}", self.calls);
    }
}

#[test]
fn a_batch_costs_one_write_and_at_most_one_sync_and_opening_writes_nothing() {
    let above = tempfile::tempdir().expect("a folder");
    let path = above.path().join("state");
    let run = Traced::run(&path, &above.path().join("strace"), &[]);
    run.assert_success("a sound disk");
    let batches: Vec<_> = script()
        .into_iter()
        .filter_map(|step| if let Step::Append(batch) = step { Some(batch) } else { None })
        .collect();
    let synced = batches.iter().filter(|batch| batch.iter().any(Record::must_be_synced)).count();
    assert_eq!(run.count("pwrite64"), batches.len(), "{}", run.calls);
    assert_eq!(run.count("fdatasync"), synced + 1, "the one more is the second opening's:\n{}", run.calls);
    assert_eq!((run.count("fsync"), run.count("renameat")), (4, 2), "a new journal and a rewrite:\n{}", run.calls);

    let again = Traced::run(&path, &above.path().join("strace"), &[]);
    again.assert_success("a sound disk");
    for call in ["write", "pwrite64", "fsync", "ftruncate", "renameat"] {
        assert_eq!(again.count(call), 0, "{call}:\n{}", again.calls);
    }
    assert_eq!(again.count("fdatasync"), 1, "{}", again.calls);
}

/// As `SQLite` tests it: each call in turn fails once, until there is no further one.
#[test]
fn any_one_call_may_fail() {
    for call in CALLS {
        for number in 1.. {
            let above = tempfile::tempdir().expect("a folder");
            let case = format!("{call} number {number} fails");
            let failing = format!("inject={call}:error=EIO:when={number}");
            let run = Traced::run(&above.path().join("state"), &above.path().join("strace"), &[&failing]);
            run.assert_success(&case);
            assert_eq!(run.has_noticed(), run.is_injected(), "{case}: {}", run.calls);
            if !run.is_injected() {
                assert!(number > 1, "{call} was never called");
                break;
            }
        }
    }
}

#[test]
fn any_call_may_be_the_last_one() {
    for call in CALLS {
        for number in 1.. {
            let above = tempfile::tempdir().expect("a folder");
            let path = above.path().join("state");
            let deadly = format!("inject={call}:signal=KILL:when={number}");
            let run = Traced::run(&path, &above.path().join("strace"), &[&deadly]);
            if run.is_success() {
                assert!(number > 1, "{call} was never called");
                break;
            }
            let records = open(&path).1;
            let case = format!("killed at {call} number {number}");
            assert!(all_records().starts_with(&records), "{case}");
            assert!(records.len() >= run.must_survive(), "{case}: {} records left\n{}", records.len(), run.calls);
        }
    }
}
