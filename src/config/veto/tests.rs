//! What counts as a veto, for how long, and what counts for nothing.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use tempfile::TempDir;

use super::*;
use crate::model::now::Clock;

fn now() -> Now {
    Now {
        wall: "2026-11-22T12:00:00Z".parse().expect("a time"),
        boot: BootInstant(Duration::from_secs(1_000)),
        boot_id: "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID"),
        clock: Clock::Trusted,
    }
}

fn folder() -> TempDir {
    assert!(rustix::process::geteuid().is_root(), "vetoes are root's, so this test needs to be root");
    let folder = TempDir::new().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    folder
}

fn read(folder: &TempDir) -> Vetoes {
    Vetoes::read([folder.path()])
}

#[test]
fn what_is_written_is_read_and_ends_when_it_was_told_to() {
    let folder = folder();
    let hours = Duration::from_secs(7_200);
    for (name, after, until_boot) in [("kept", Some(hours), false), ("brief", Some(hours), true), ("open", None, true)]
    {
        fs::write(file(folder.path(), name), text("calibration", after, until_boot, &now())).expect("written");
    }
    let found = read(&folder);
    assert_eq!(found.troubles, [] as [&str; 0]);
    let names: Vec<&str> = found.vetoes.iter().map(|veto| veto.name.as_str()).collect();
    assert_eq!(names, ["brief", "kept", "open"]);
    assert!(found.vetoes.iter().all(|veto| veto.reason == "calibration" && !veto.is_over(&now())));

    let [brief, kept, open] = found.vetoes.as_slice() else { panic!("three") };
    let expected = Some(now().wall.saturating_add(hours));
    assert_eq!((brief.expires(&now()), kept.expires(&now()), open.expires(&now())), (expected, expected, None));
    let stepped = Now { wall: now().wall.saturating_add(hours * 9_999), ..now() };
    assert!(!brief.is_over(&stepped), "a step of the wall clock does not end what ends by uptime");
    assert!(kept.is_over(&stepped) && !open.is_over(&stepped));
    let later = Now { boot: now().boot + hours, ..now() };
    assert!(brief.is_over(&later));
}

#[test]
fn what_is_not_understood_holds_and_says_why() {
    let folder = folder();
    let cases = [
        ("broken", "reason = ", "expected"),
        ("unknown", "reason = \"a\"\nuntil = \"later\"", "unknown field `until`"),
        ("silent", "", "missing field `reason`"),
        ("untimely", "reason = \"a\"\nexpires = \"tomorrow\"", "not a time in RFC 3339"),
    ];
    for (name, text, _) in cases {
        fs::write(file(folder.path(), name), text).expect("written");
    }
    fs::write(file(folder.path(), "huge"), "# long\n".repeat(1_000)).expect("written");
    fs::create_dir(file(folder.path(), "folder")).expect("made");
    symlink("/etc/hostname", file(folder.path(), "link")).expect("linked");
    let found = read(&folder);
    for (name, _, why) in
        cases.into_iter().chain([("huge", "", "larger than"), ("folder", "", "not a regular"), ("link", "", "")])
    {
        let veto = found.vetoes.iter().find(|veto| veto.name == name).unwrap_or_else(|| panic!("{name} holds"));
        assert!(veto.reason.contains(why), "{name}: {}", veto.reason);
        assert_eq!(veto.end, None, "{name}");
    }
}

#[test]
fn what_others_than_root_may_write_counts_for_nothing_and_is_told() {
    let folder = folder();
    let good = text("a", None, true, &now());
    for name in ["foreign", "writable"] {
        fs::write(file(folder.path(), name), &good).expect("written");
    }
    chown(file(folder.path(), "foreign"), Some(65_534), None).expect("given away");
    fs::set_permissions(file(folder.path(), "writable"), fs::Permissions::from_mode(0o666)).expect("a mode");
    let found = read(&folder);
    assert_eq!((found.vetoes.len(), found.troubles.len()), (0, 2), "{found:?}");

    let open = TempDir::new().expect("a folder");
    fs::write(file(open.path(), "a"), &good).expect("written");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let found = Vetoes::read([open.path(), Path::new("/nonexistent")]);
    assert_eq!((found.vetoes.len(), found.troubles.len()), (0, 1), "{found:?}");
}

#[test]
fn names_are_plain_and_other_files_are_left_alone() {
    for bad in ["", ".hidden", "a/b", "a b", "ä", &"a".repeat(65)] {
        assert_eq!(name(bad), Err(NotAName), "{bad:?}");
    }
    assert_eq!(name("unit-7_b.2").as_deref(), Ok("unit-7_b.2"));
    let folder = folder();
    for other in [".a.toml.draft", "a.toml~", "README", ".hidden.toml"] {
        fs::write(folder.path().join(other), "reason = \"a\"").expect("written");
    }
    assert_eq!(read(&folder), Vetoes::default());
}
