//! The journal and its folder as real files: what is made, found again, cut, replaced, refused.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{accepted, boot, finished, open, told};
use crate::model::record::Record;
use crate::store::journal::{GROWTH, MAX_LENGTH};
use crate::store::{Journal, LockError, OpenError, StateDir};

/// The path of a state folder that does not exist yet.
fn state() -> (TempDir, PathBuf) {
    let above = tempfile::tempdir().expect("a folder");
    let path = above.path().join("state");
    (above, path)
}

fn open_error(path: &Path) -> OpenError {
    Journal::open(&StateDir::lock(path).expect("the lock")).expect_err("it must be refused")
}

fn journal_in(path: &Path) -> PathBuf {
    path.join("journal")
}

/// What changes when a file is written to or replaced.
fn stamp(path: &Path) -> (u64, i64, i64, u64) {
    let found = fs::metadata(path).expect("the journal");
    (found.ino(), found.mtime(), found.mtime_nsec(), found.len())
}

#[test]
fn a_new_folder_and_a_new_journal_are_for_owner_and_group_only() {
    let (_above, path) = state();
    let (journal, records) = open(&path);
    assert!(records.is_empty() && journal.fault().is_none());
    let mode = |path: &Path| fs::metadata(path).expect("made").permissions().mode();
    assert_eq!(mode(&path) & 0o027, 0);
    assert_eq!(mode(&journal_in(&path)) & 0o137, 0);
}

#[test]
fn what_was_appended_is_found_again_and_opening_changes_nothing() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    journal.append(&[boot()]).expect("room");
    journal.append(&[accepted(1), accepted(2)]).expect("room");
    journal.append(&[told(1)]).expect("room");
    drop(journal);

    let before = stamp(&journal_in(&path));
    for _ in 0..2 {
        let (mut journal, records) = open(&path);
        assert_eq!(records, [boot(), accepted(1), accepted(2), told(1)]);
        journal.append(&[]).expect("nothing to do");
    }
    assert_eq!(stamp(&journal_in(&path)), before);

    let (mut journal, _) = open(&path);
    journal.append(&[finished(1)]).expect("room");
    drop(journal);
    assert_eq!(open(&path).1, [boot(), accepted(1), accepted(2), told(1), finished(1)]);
}

#[test]
fn a_torn_tail_is_cut_off_and_the_journal_goes_on() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    journal.append(&[accepted(1)]).expect("room");
    journal.append(&[accepted(2)]).expect("room");
    drop(journal);
    let file = File::options().write(true).open(journal_in(&path)).expect("the journal");
    let length = file.metadata().expect("its length").len();
    file.set_len(length - 1).expect("cut");
    file.set_len(length + 4096).expect("zeros");

    let (mut journal, records) = open(&path);
    assert_eq!(records, [accepted(1)]);
    journal.append(&[accepted(3)]).expect("room");
    drop(journal);
    assert_eq!(open(&path).1, [accepted(1), accepted(3)]);
}

#[test]
fn what_cannot_be_used_is_left_as_it_is() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    journal.append(&[accepted(1)]).expect("room");
    journal.append(&[accepted(2)]).expect("room");
    drop(journal);
    let file = journal_in(&path);
    let sound = fs::read(&file).expect("the journal");

    let mut damaged = sound.clone();
    damaged[60] ^= 1;
    fs::write(&file, &damaged).expect("write");
    let error = open_error(&path);
    let head = sound.iter().position(|byte| *byte == b'\n').expect("a head") as u64 + 1;
    assert!(matches!(error, OpenError::Corrupt { offset, .. } if offset == head), "{error}");
    assert!(error.to_string().contains(file.to_str().expect("text")), "{error}");
    assert_eq!(fs::read(&file).expect("the journal"), damaged);

    fs::write(&file, "twinagent journal 2\n").expect("write");
    assert!(matches!(open_error(&path), OpenError::Newer { format: 2, .. }));
    fs::write(&file, "").expect("write");
    assert!(matches!(open_error(&path), OpenError::Corrupt { offset: 0, .. }));
    File::options().write(true).open(&file).and_then(|file| file.set_len(MAX_LENGTH + 1)).expect("a hole");
    assert!(matches!(open_error(&path), OpenError::TooLarge { .. }));

    fs::write(&file, &sound).expect("write");
    assert_eq!(open(&path).1, [accepted(1), accepted(2)]);
}

#[test]
fn a_link_a_folder_and_a_pipe_are_refused_without_waiting() {
    let (above, path) = state();
    fs::create_dir(&path).expect("a folder");
    let elsewhere = above.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").expect("a file");
    let file = journal_in(&path);

    symlink(&elsewhere, &file).expect("a link");
    assert!(matches!(open_error(&path), OpenError::NotAFile { .. }));
    assert_eq!(fs::read(&elsewhere).expect("it"), b"untouched");
    fs::remove_file(&file).expect("the link");

    fs::create_dir(&file).expect("a folder");
    assert!(matches!(open_error(&path), OpenError::NotAFile { .. }));
    fs::remove_dir(&file).expect("the folder");

    assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
    assert!(matches!(open_error(&path), OpenError::NotAFile { .. }));
}

#[test]
fn a_rewrite_replaces_everything_and_leaves_no_draft() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    journal.append(&[accepted(1), finished(1), accepted(2)]).expect("room");
    let before = stamp(&journal_in(&path));
    journal.rewrite(&[accepted(2)]).expect("room");
    assert_ne!(stamp(&journal_in(&path)).0, before.0);
    journal.append(&[told(2)]).expect("room");
    drop(journal);

    // A crash in the middle of the next rewrite.
    fs::write(path.join("journal.draft"), "half a").expect("a draft");
    assert_eq!(open(&path).1, [accepted(2), told(2)]);
    let names: Vec<_> = fs::read_dir(&path).expect("the folder").map(|entry| entry.expect("it").file_name()).collect();
    assert_eq!(names, ["journal"]);
}

#[test]
fn a_damaged_snapshot_is_noticed_even_if_nothing_was_appended_to_it() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    journal.rewrite(&[accepted(1), accepted(2)]).expect("room");
    drop(journal);
    let file = File::options().write(true).open(journal_in(&path)).expect("the journal");
    let length = file.metadata().expect("its length").len();
    file.write_all_at(b"\0", length - 1).expect("damage");
    assert!(matches!(open_error(&path), OpenError::Corrupt { .. }));
    file.set_len(length - 1).expect("cut");
    assert!(matches!(open_error(&path), OpenError::Corrupt { .. }));
}

#[test]
fn a_rewrite_is_wanted_after_growth_and_not_after_a_rewrite() {
    let (_above, path) = state();
    let (mut journal, _) = open(&path);
    let batch: Vec<Record> = (0..100).map(told).collect();
    let mut appends = 0_u64;
    while !journal.wants_rewrite() {
        journal.append(&batch).expect("room");
        appends += 1;
        assert!(stamp(&journal_in(&path)).3 < 2 * GROWTH, "never wanted");
    }
    assert!(stamp(&journal_in(&path)).3 >= GROWTH && appends > 1);
    drop(journal);
    let (mut journal, _) = open(&path);
    assert!(journal.wants_rewrite(), "known after a restart too");
    journal.rewrite(&batch).expect("room");
    assert!(!journal.wants_rewrite());
    journal.append(&batch).expect("room");
    assert!(!journal.wants_rewrite());
}

#[test]
fn a_second_opener_is_told_who_holds_the_folder() {
    let (_above, path) = state();
    let dir = StateDir::lock(&path).expect("the lock");
    let held = |path: &Path| match StateDir::lock(path) {
        Err(LockError::Held { pid, .. }) => pid,
        other => panic!("{other:?}"),
    };
    assert_eq!(held(&path), Some(std::process::id()));
    let (journal, _) = Journal::open(&dir).expect("a journal");
    drop(dir);
    assert!(held(&path).is_some(), "an open journal still needs the lock");

    drop(journal);
    StateDir::lock(&path).expect("nobody holds it any more");
}

#[test]
fn what_a_child_inherited_does_not_keep_the_folder_locked() {
    let (_above, path) = state();
    let dir = StateDir::lock(&path).expect("the lock");
    // Like the copy that a child has until its exec closes it; and a real child, which has none.
    let copy = rustix::io::dup(&**dir.folder()).expect("a descriptor");
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    drop(dir);
    let again = StateDir::lock(&path);
    child.kill().expect("our child");
    child.wait().expect("our child");
    again.expect("nobody holds it any more");
    drop(copy);
}

#[test]
fn another_process_is_kept_out_and_keeps_us_out() {
    let (_above, path) = state();
    let dir = StateDir::lock(&path).expect("the lock");
    let try_lock = || Command::new("flock").arg("-n").arg(&path).arg("true").status().expect("flock").success();
    assert!(!try_lock());
    drop(dir);
    assert!(try_lock());

    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(&path)
        .args(["sh", "-c", "echo locked; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock");
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut line).expect("its word");
    let error = StateDir::lock(&path).expect_err("held");
    drop(holder.stdin.take());
    let pid = holder.id();
    assert!(holder.wait().expect("our child").success());
    assert!(matches!(error, LockError::Held { pid: Some(found), .. } if found == pid), "{error}");
    assert!(error.to_string().contains(&format!("(pid {pid})")), "{error}");
    StateDir::lock(&path).expect("free again");
}

#[test]
fn a_folder_that_is_none_of_ours_is_refused() {
    let (above, path) = state();
    let real = above.path().join("real");
    fs::create_dir(&real).expect("a folder");
    symlink(&real, &path).expect("a link");
    for path in [path.clone(), path.join("")] {
        assert!(matches!(StateDir::lock(&path), Err(LockError::Unfit { .. })), "{}", path.display());
    }
    let file = above.path().join("file");
    File::create(&file).and_then(|mut file| file.write_all(b"x")).expect("a file");
    assert!(matches!(StateDir::lock(&file), Err(LockError::Unfit { .. })));
    fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).expect("ours");
    assert!(matches!(StateDir::lock(&real), Err(LockError::Unfit { .. })));
    assert!(matches!(StateDir::lock(&above.path().join("missing/state")), Err(LockError::Io { .. })));
}

#[test]
fn everything_can_be_sent_to_the_thread_that_may_wait() {
    fn can_be_sent<T: Send>() {}
    can_be_sent::<(StateDir, Journal, OpenError, LockError, crate::store::StoreError)>();
}
