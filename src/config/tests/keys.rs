//! Which file the key is read from, and which is refused.

use super::*;
use crate::model::device_key::KeySlot;
use crate::model::fingerprint::Fingerprint;
use crate::model::wire::Secret;

fn read(machine: &Machine) -> Result<key_file::KeyFile, key_file::KeyFileError> {
    key_file::read(&machine.folders, KeySlot::Current, &Fingerprint::default())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_key_open_to_others_is_refused_with_the_command_that_mends_it() {
    let machine = Machine::new().with("etc/keys/device.key", "secret text");
    let path = machine.path("etc/keys/device.key");
    for good in [0o600, 0o400] {
        mode(&path, good);
        let key = read(&machine).expect("well kept");
        assert_eq!((key.text.reveal(), &key.path), ("secret text", &path));
        assert!(!format!("{key:?}").contains("text:\"") && format!("{key:?}").contains("(secret)"));
    }
    for bad in [0o644, 0o604, 0o660, 0o620, 0o777] {
        mode(&path, bad);
        let error = read(&machine).expect_err("open to others").to_string();
        assert!(error.contains(&format!("mode {bad:04o}")) && error.contains(&path.display().to_string()), "{error}");
        let mend = error.rsplit_once("mend it with: ").expect("a command").1;
        let mended = std::process::Command::new("sh").args(["-ec", mend]).status().expect("a shell");
        assert!(mended.success(), "{mend}");
        read(&machine).expect("mended");
    }
}

#[test]
fn a_credential_of_systemd_wins_and_an_absent_key_is_told_from_a_bad_one() {
    let mut machine = Machine::new();
    let absent = read(&machine).expect_err("no key");
    assert!(matches!(absent, key_file::KeyFileError::Absent(path) if path == machine.path("etc/keys/device.key")));

    fs::create_dir(machine.path("etc/keys/device.key")).expect("a folder");
    assert!(matches!(read(&machine), Err(key_file::KeyFileError::NotAFile(_))));

    machine.folders.credentials = Some(machine.path("state"));
    let machine = machine.with("state/twinagent.device.key", "from systemd");
    assert_eq!(read(&machine).expect("a key").text.reveal(), "from systemd");
    let machine = machine.with("state/twinagent.device.key", vec![b'x'; 65 * 1024]);
    assert!(matches!(read(&machine), Err(key_file::KeyFileError::TooLarge(_))));
    let machine = machine.with("state/twinagent.device.key", b"\xff\xfe");
    assert!(matches!(read(&machine), Err(key_file::KeyFileError::NotText(_))));
}

#[test]
fn each_slot_has_its_file_with_the_same_rules_and_a_credential_is_the_current_key_only() {
    let mut machine = Machine::new();
    machine.folders.credentials = Some(machine.path("state"));
    let machine = machine.with("state/twinagent.device.key", "from systemd").with("etc/keys/device.key", "current");
    let machine = machine.with("etc/keys/next.key", "next").with("etc/keys/previous.key", "previous");
    let read = |slot| key_file::read(&machine.folders, slot, &Fingerprint::default());
    for (slot, text) in [(KeySlot::Current, "from systemd"), (KeySlot::Next, "next"), (KeySlot::Previous, "previous")] {
        if slot != KeySlot::Current {
            mode(&machine.folders.key(slot), 0o644);
            assert!(matches!(read(slot), Err(key_file::KeyFileError::TooOpen { .. })), "{slot:?}");
            mode(&machine.folders.key(slot), 0o600);
        }
        assert_eq!(read(slot).expect("a key").text.reveal(), text);
    }
}

#[test]
fn a_key_that_was_made_on_another_machine_is_refused_and_one_that_says_nothing_is_not() {
    let (here, elsewhere) = (Fingerprint::new(Some("b1"), Some("m1")), Fingerprint::new(Some("b2"), Some("m1")));
    let bare = Secret::new("-----BEGIN PRIVATE KEY-----\n".to_owned());
    let mut machine = Machine::new();
    for (made_on, fits) in [(Some(here), true), (Some(elsewhere), false), (None, true)] {
        let text = made_on.map_or_else(|| bare.clone(), |made_on| key_mark::write(&bare, &made_on));
        machine = machine.with("etc/keys/device.key", text.reveal());
        mode(&machine.path("etc/keys/device.key"), 0o600);
        match key_file::read(&machine.folders, KeySlot::Current, &here) {
            Ok(_) => assert!(fits, "{made_on:?}"),
            Err(error) => {
                let words = error.in_words();
                assert!(!fits && words.contains("`sudo twinagent reset --identity`"), "{words}");
                assert!(words.ends_with("`sudo twinagent keygen --adopt`"), "{words}");
            }
        }
        // Of this machine nothing is known: nothing is certain.
        read(&machine).expect("a key");
    }
}
