//! Whose state this is, on real files: noted, read back, and a journal that is another machine's set aside.

use std::fs;
use std::os::unix::fs::symlink;

use super::{accepted, boot, open};
use crate::store::machine::{ASIDE, NAME, read, set_aside, write};
use crate::store::{StateDir, forget};

#[test]
fn whose_state_it_is_is_read_back_and_what_is_no_file_is_replaced() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = StateDir::lock(&above.path().join("state")).expect("the lock");
    assert_eq!(read(&dir).expect("nothing yet"), None);
    for text in ["board=1", "board=2 machine-id=3"] {
        write(&dir, text).expect("written");
        assert_eq!(read(&dir).expect("noted").as_deref(), Some(format!("{text}\n").as_str()));
    }
    let place = dir.path().join(NAME);
    fs::remove_file(&place).expect("removed");
    let elsewhere = above.path().join("elsewhere");
    fs::write(&elsewhere, "board=1").expect("a file");
    symlink(&elsewhere, &place).expect("a link");
    assert!(read(&dir).is_err(), "no link is followed");
    write(&dir, "board=4").expect("in its place");
    assert_eq!(fs::read_to_string(&elsewhere).expect("a file"), "board=1");
    fs::write(&place, vec![b'x'; 8 << 10]).expect("a file");
    assert!(read(&dir).is_err(), "too large");
}

#[test]
fn a_journal_that_is_set_aside_is_kept_once_and_not_read() {
    let above = tempfile::tempdir().expect("a folder");
    let state = above.path().join("state");
    fs::create_dir(&state).expect("a folder");
    let locked = || StateDir::lock(&state).expect("the lock");
    assert_eq!(set_aside(&locked()).expect("nothing to do"), None);
    for records in [vec![boot(), accepted(1)], vec![boot()]] {
        let (mut journal, found) = open(&state);
        assert_eq!(found, [], "an empty one begins");
        journal.append(&records).expect("room");
        drop(journal);
        let bytes = fs::read(state.join("journal")).expect("the journal");
        assert_eq!(set_aside(&locked()).expect("set aside"), Some(state.join(ASIDE)));
        assert_eq!(fs::read(state.join(ASIDE)).expect("the newest"), bytes);
        assert_eq!(set_aside(&locked()).expect("again"), None, "what was set aside stays");
    }
    fs::rename(state.join(ASIDE), state.join("journal")).expect("put back by hand");
    assert_eq!(open(&state).1, [boot()]);
    assert_eq!(set_aside(&locked()).expect("set aside"), Some(state.join(ASIDE)));
    write(&locked(), "board=1").expect("written");
    assert_eq!(forget(&locked()).expect("forgotten"), [state.join(NAME), state.join(ASIDE)]);
    // What lies in the way is no reason to read another machine's journal.
    fs::create_dir(state.join(ASIDE)).expect("a folder");
    fs::write(state.join("journal"), "x").expect("a file");
    let error = set_aside(&locked()).expect_err("in the way").to_string();
    assert!(error.contains("setting it aside failed"), "{error}");
}
