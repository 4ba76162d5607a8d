//! Which hub a device was assigned to, on real files: kept, read by others, forgotten with the identity, and what lies in its
//! place.

use std::fs;
use std::os::unix::fs::symlink;

use crate::model::command::DeviceId;
use crate::store::assignment::{Asked, Assignment, NAME, peek, read, write};
use crate::store::{StateDir, forget, forget_assignment};

fn assignment(hub: &str) -> Assignment {
    let asked = Asked {
        host: "dps.example".to_owned(),
        id_scope: "0ne00000001".to_owned(),
        registration_id: "gw-1".to_owned(),
    };
    Assignment { asked, hub: hub.to_owned(), device: DeviceId::parse("gw-1").expect("an id") }
}

#[test]
fn what_was_assigned_is_kept_until_the_identity_is_forgotten() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = StateDir::lock(&above.path().join("state")).expect("the lock");
    assert_eq!(read(&dir).expect("nothing yet"), None);
    for hub in ["one.example", "two.example"] {
        write(&dir, &assignment(hub)).expect("written");
        assert_eq!(read(&dir).expect("kept"), Some(assignment(hub)));
        assert_eq!(peek(dir.path()), Some(assignment(hub)));
    }
    assert!(forget(&dir).expect("forgotten").is_empty(), "commands are no identity");
    assert_eq!(read(&dir).expect("kept"), Some(assignment("two.example")));
    assert_eq!(forget_assignment(&dir).expect("forgotten"), [dir.path().join(NAME)]);
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
}

#[test]
fn what_is_no_assignment_is_none_and_is_not_followed() {
    let above = tempfile::tempdir().expect("a folder");
    let dir = StateDir::lock(&above.path().join("state")).expect("the lock");
    let place = dir.path().join(NAME);
    let whole = serde_json::to_string(&assignment("one.example")).expect("JSON");
    for odd in
        ["", "{}", &whole[..40], &whole.replace("one.example", "one/../example"), &whole.replace("one.example", "")]
    {
        fs::write(&place, odd).expect("a file");
        assert_eq!(read(&dir).expect("it can be read"), None, "{odd}");
        assert_eq!(peek(dir.path()), None, "{odd}");
    }
    fs::write(&place, format!("{whole}{}", " ".repeat(10_000))).expect("a file");
    assert!(read(&dir).is_err() && peek(dir.path()).is_none(), "too large");
    fs::remove_file(&place).expect("removed");
    let elsewhere = above.path().join("elsewhere");
    fs::write(&elsewhere, &whole).expect("a file");
    symlink(&elsewhere, &place).expect("a link");
    assert!(read(&dir).is_err() && peek(dir.path()).is_none(), "a link");
}
