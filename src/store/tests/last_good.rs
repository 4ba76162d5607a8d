//! The last good configuration on real files, and the forgetting of everything.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use super::{boot, found, open};
use crate::store::last_good::{path, read, write};
use crate::store::{StateDir, forget};

fn locked(folder: &Path) -> StateDir {
    StateDir::lock(&folder.join("state")).expect("the lock")
}

#[test]
fn what_is_kept_is_read_back_and_the_same_bytes_are_not_written_again() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = locked(above.path());
    assert_eq!(read(&dir).expect("nothing yet"), None);
    assert!(write(&dir, b"one").expect("written"));
    let stamp = || fs::metadata(path(&dir)).map(|facts| (facts.ino(), facts.ctime(), facts.ctime_nsec())).expect("it");
    let before = stamp();
    assert!(!write(&dir, b"one").expect("the same"));
    assert_eq!(stamp(), before);
    assert_eq!(read(&dir).expect("kept").as_deref(), Some(&b"one"[..]));
    assert!(write(&dir, b"two").expect("written"));
    assert_ne!(stamp(), before);
    assert_eq!(fs::metadata(path(&dir)).expect("it").mode() & 0o137, 0, "for owner and group only");
    let left = fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(left, 1, "no draft is left");
}

#[test]
fn what_lies_in_its_place_is_not_followed_or_waited_for_but_replaced() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = locked(above.path());
    let place = path(&dir);
    let secret = above.path().join("secret");
    fs::write(&secret, "secret").expect("a file");

    let link = || symlink(&secret, &place).expect("a link");
    let pipe = || assert!(Command::new("mkfifo").arg(&place).status().expect("mkfifo").success());
    let large = || File::create(&place).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    let cases: [(&dyn Fn(), &str); 3] =
        [(&link, "a link"), (&pipe, "no regular file"), (&large, "larger than 1024 KiB")];
    for (make, expected) in cases {
        make();
        let error = read(&dir).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("config.last-good.json"), "{error}");
        assert!(write(&dir, b"good").expect("replaced"));
        assert_eq!(read(&dir).expect("kept").as_deref(), Some(&b"good"[..]));
        fs::remove_file(&place).expect("removed");
    }
    assert_eq!(fs::read(&secret).expect("it").as_slice(), b"secret");

    fs::create_dir(&place).expect("a folder");
    assert!(read(&dir).is_err() && write(&dir, b"good").is_err());
}

#[test]
fn forgetting_takes_what_is_ours_and_leaves_the_rest() {
    let above = tempfile::tempdir().expect("a folder");
    let state = above.path().join("state");
    let (mut journal, _) = open(&state);
    journal.append(&[boot()]).expect("room");
    drop(journal);
    let dir = locked(above.path());
    write(&dir, b"good").expect("written");
    for name in ["journal.draft", "config.last-good.json.draft", "other"] {
        fs::write(state.join(name), "x").expect("a file");
    }
    assert!(!found(&state).is_empty());

    let removed = forget(&dir).expect("forgotten");
    let names: Vec<_> =
        removed.iter().map(|path| path.file_name().and_then(|name| name.to_str()).expect("a name")).collect();
    assert_eq!(names, ["journal", "config.last-good.json", "journal.draft", "config.last-good.json.draft"]);
    let left: Vec<_> = fs::read_dir(&state).expect("the folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left, ["other"]);
    assert!(forget(&dir).expect("nothing is left").is_empty());

    fs::create_dir(state.join("journal")).expect("a folder in its place");
    let error = forget(&dir).expect_err("not ours").to_string();
    assert!(error.contains("state/journal: removing it failed"), "{error}");
}
