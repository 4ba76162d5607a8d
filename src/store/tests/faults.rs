//! Disks that fail: full ones and read-only ones on a real tmpfs, and failing or deadly system calls by strace.
//!
//! Mounting needs root, and strace must be installed; without them these stories fail and say so.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::script::{CALLS, Step, Traced, all_records, script};
use super::{accepted, accepted_with, finished, found, open, told};
use crate::model::record::Record;

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
        // Lazily: when a test fails, something may still be open there. What is left if this fails is small.
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
            let case = format!("killed at {call} number {number}");
            let deadly = format!("inject={call}:signal=KILL:when={number}");
            let run = Traced::run(&path, &above.path().join("strace"), &[&deadly]);
            if !run.was_killed(&case) {
                assert!(number > 1, "{call} was never called");
                break;
            }
            let records = open(&path).1;
            assert!(all_records().starts_with(&records), "{case}");
            assert!(records.len() >= run.must_survive(), "{case}: {} records left\n{}", records.len(), run.calls);
        }
    }
}
