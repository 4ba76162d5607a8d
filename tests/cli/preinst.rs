//! Which accounts the package takes over, at an installation and at an upgrade. The rest of what it refuses is tried in real
//! Debians.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::write_program;

/// A machine on which this name is that of somebody who logs in.
fn machine(account: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let script = format!(
        "#!/bin/sh\ncase $1:$2 in\npasswd:{account}) echo {account}:x:903:903::/:/bin/sh ;;\n\
         group:{account}) echo {account}:x:903: ;;\n?*:?*) exit 2 ;;\nesac\n"
    );
    write_program(&folder.path().join("getent"), &script);
    folder
}

/// What the script says, if it refuses.
fn refuses(machine: &Path, arguments: &[&str]) -> Option<String> {
    let ran = Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian/twinagent/preinst"))
        .args(arguments)
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", machine.display()))
        .env("DPKG_ROOT", machine)
        .output()
        .expect("sh runs");
    (!ran.status.success()).then(|| String::from_utf8(ran.stderr).expect("UTF-8"))
}

#[test]
fn an_account_is_judged_before_the_first_version_that_has_it_and_never_again() {
    let machine = machine("twinagent-handlers");
    let users = machine.path().join("usr/lib/sysusers.d/twinagent.conf");
    fs::create_dir_all(users.parent().expect("a folder")).expect("a folder");
    let refusal = "twinagent: the user twinagent-handlers has a login shell";
    let is_refused = |arguments: &[&str]| refuses(machine.path(), arguments).is_some_and(|why| why.contains(refusal));
    assert!(is_refused(&["install"]));
    assert!(is_refused(&["install", "0.0.9"]), "what was removed and not purged");
    fs::write(&users, "# of an older version\nu twinagent - \"Device agent\" /var/lib/twinagent\n").expect("a file");
    assert!(is_refused(&["upgrade", "0.0.9"]), "a version without this user");
    assert_eq!(refuses(machine.path(), &["abort-upgrade", "0.2.0"]), None, "the way back is open");
    fs::write(&users, include_str!("../../systemd/sysusers.d/twinagent.conf")).expect("a file");
    assert_eq!(refuses(machine.path(), &["upgrade", "0.1.0"]), None, "the administrator's own doing");
}
