//! Which file the key is read from, and which is refused.

use super::*;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn a_key_open_to_others_is_refused_with_the_command_that_mends_it() {
    let machine = Machine::new().with("etc/keys/device.key", "secret text");
    let path = machine.path("etc/keys/device.key");
    for good in [0o600, 0o400] {
        mode(&path, good);
        let key = key_file::read(&machine.folders).expect("well kept");
        assert_eq!((key.text.reveal(), &key.path), ("secret text", &path));
        assert!(!format!("{key:?}").contains("text:\"") && format!("{key:?}").contains("(secret)"));
    }
    for bad in [0o644, 0o604, 0o660, 0o620, 0o777] {
        mode(&path, bad);
        let error = key_file::read(&machine.folders).expect_err("open to others").to_string();
        assert!(error.contains(&format!("mode {bad:04o}")) && error.contains(&path.display().to_string()), "{error}");
        let mend = error.rsplit_once("mend it with: ").expect("a command").1;
        let mended = std::process::Command::new("sh").args(["-ec", mend]).status().expect("a shell");
        assert!(mended.success(), "{mend}");
        key_file::read(&machine.folders).expect("mended");
    }
}

#[test]
fn a_credential_of_systemd_wins_and_an_absent_key_is_told_from_a_bad_one() {
    let mut machine = Machine::new();
    let absent = key_file::read(&machine.folders).expect_err("no key");
    assert!(matches!(absent, key_file::KeyFileError::Absent(path) if path == machine.path("etc/keys/device.key")));

    fs::create_dir(machine.path("etc/keys/device.key")).expect("a folder");
    assert!(matches!(key_file::read(&machine.folders), Err(key_file::KeyFileError::NotAFile(_))));

    machine.folders.credentials = Some(machine.path("state"));
    let machine = machine.with("state/twinagent.device.key", "from systemd");
    assert_eq!(key_file::read(&machine.folders).expect("a key").text.reveal(), "from systemd");
    let machine = machine.with("state/twinagent.device.key", vec![b'x'; 65 * 1024]);
    assert!(matches!(key_file::read(&machine.folders), Err(key_file::KeyFileError::TooLarge(_))));
    let machine = machine.with("state/twinagent.device.key", b"\xff\xfe");
    assert!(matches!(key_file::read(&machine.folders), Err(key_file::KeyFileError::NotText(_))));
}
