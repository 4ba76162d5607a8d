//! The mark of an orderly end on real files: left, found, taken away, and what lies in its place.

use std::fs;
use std::os::unix::fs::symlink;

use super::{BOOT, boot_id};
use crate::store::farewell::{NAME, read, remove, write};
use crate::store::{StateDir, forget};

#[test]
fn a_mark_that_is_left_is_found_until_it_is_taken_away() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = StateDir::lock(&above.path().join("state")).expect("the lock");
    assert_eq!(read(&dir).expect("nothing yet"), None);
    remove(&dir).expect("there is nothing to do");
    for _ in 0..2 {
        write(&dir, boot_id()).expect("written");
        assert_eq!(read(&dir).expect("a mark"), Some(boot_id()));
    }
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1, "no draft is left");
    remove(&dir).expect("removed");
    assert_eq!(read(&dir).expect("nothing any more"), None);
    write(&dir, boot_id()).expect("written");
    assert_eq!(forget(&dir).expect("forgotten"), [dir.path().join(NAME)]);
    assert_eq!(read(&dir).expect("forgotten"), None);
}

#[test]
fn what_is_no_mark_says_nothing_and_is_not_followed() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = StateDir::lock(&above.path().join("state")).expect("the lock");
    let place = dir.path().join(NAME);
    let long = format!("{BOOT}{}", " x".repeat(1_000));
    for odd in [&b""[..], b"soon\n", &BOOT.as_bytes()[..35], long.as_bytes(), &[0xff, 0xfe]] {
        fs::write(&place, odd).expect("a file");
        assert_eq!(read(&dir).expect("it can be read"), None, "{odd:?}");
    }
    fs::remove_file(&place).expect("removed");
    let elsewhere = above.path().join("elsewhere");
    fs::write(&elsewhere, BOOT).expect("a file");
    symlink(&elsewhere, &place).expect("a link");
    assert!(read(&dir).is_err(), "it is not known how that boot ended");
    write(&dir, boot_id()).expect("in its place");
    assert_eq!(read(&dir).expect("a mark"), Some(boot_id()));
    assert_eq!(fs::read_to_string(&elsewhere).expect("a file"), BOOT, "nothing was written through the link");
}
