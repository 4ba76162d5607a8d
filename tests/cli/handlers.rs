//! Stories of manifests on the command line: all are checked at once, one is checked before it is put in place.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::{Device, GOOD};

/// A program that every machine has, and only root can write.
const PROGRAM: &str = "/usr/bin/env";

fn manifest(method: &str, more: &str) -> String {
    format!("method = \"{method}\"\nkind = \"program\"\nprogram = \"{PROGRAM}\"\n{more}")
}

/// A configured device with these manifests.
fn device(manifests: &[(&str, &str)]) -> Device {
    let device = Device::configured(GOOD);
    fs::create_dir(device.path("handlers.d")).expect("a folder");
    for (name, text) in manifests {
        write(&device.path("handlers.d").join(name), text);
    }
    device
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("a mode");
}

#[test]
fn check_counts_the_handlers_that_are_right_and_is_silent_without_any() {
    let device = device(&[]);
    assert!(device.run(&["check"]).out.ends_with("`twinagent keygen` makes one\n"));
    write(&device.path("handlers.d/a.toml"), &manifest("a", ""));
    assert!(device.run(&["check"]).out.ends_with("; 1 handler\n"));
    write(&device.path("handlers.d/b.toml"), "method = \"b\"\nkind = \"unit\"\nunit = \"some-job\"\n");
    symlink("/dev/null", device.path("handlers.d/c.toml")).expect("a link");
    let told = device.run(&["check"]);
    assert!(told.code == 0 && told.out.ends_with("; 2 handlers\n"), "{told:?}");
}

#[test]
fn check_tells_all_that_is_wrong_with_handlers_beside_all_that_is_wrong_elsewhere() {
    let device = device(&[
        ("a.toml", &manifest("a", "grace = \"5m\"\nargs = []\n")),
        ("b.toml", &manifest("echo", "")),
        ("c.toml", "method = \"c\"\nkind = \"program\"\nprogram = \"/nonexistent/program\"\n"),
        ("d.toml", &manifest("d", "")),
        ("e.toml", &manifest("d", "")),
        ("f.toml", &manifest("f", "")),
    ]);
    fs::set_permissions(device.path("handlers.d/f.toml"), Permissions::from_mode(0o666)).expect("a mode");
    let told = device.run(&["check"]);
    assert_eq!(told.code, 78, "{told:?}");
    for line in [
        "handlers.d/a.toml:4: grace: 5m is out of bounds: 0s to 1m is expected",
        "handlers.d/a.toml:5: args is not a key",
        "handlers.d/b.toml:1: method: \"echo\" is the program's own method; another name is needed",
        "handlers.d/e.toml: method: \"d\" is that of handlers.d/d.toml already",
    ] {
        assert!(told.err.lines().any(|found| found == line), "{line}\n{}", told.err);
    }
    let begins =
        ["handlers.d/c.toml: program: /nonexistent", "handlers.d/f.toml: may be written by everybody (mode 0666)"];
    for begin in begins {
        assert!(told.err.lines().any(|found| found.starts_with(begin)), "{begin}\n{}", told.err);
    }
    assert!(told.err.contains("the configuration is right, but handlers are wrong"), "{}", told.err);

    write(&device.path("twinagent.toml"), "nonsense = 1\n");
    let told = device.run(&["check"]);
    assert!(told.code == 78 && told.err.contains("nonsense is not a key"), "{told:?}");
    assert!(told.err.contains("the configuration is wrong, and handlers are wrong"), "{}", told.err);

    write(&device.path("twinagent.toml"), GOOD);
    write(&device.path("new.toml"), "session.keep_alive = \"2m\"\n");
    let new = device.path("new.toml");
    let told = device.run(&["check", "--drop-in", new.to_str().expect("UTF-8")]);
    assert_eq!((told.code, told.err.as_str()), (0, ""), "a drop-in is not to blame for handlers");
}

#[test]
fn a_program_that_the_service_would_not_run_is_told_with_the_command_that_mends_it() {
    // Below the project, since nobody's program lies in /tmp.
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    let program = folder.path().join("program");
    let text = format!("method = \"m\"\nkind = \"program\"\nprogram = \"{}\"\n", program.display());
    let device = device(&[("m.toml", &text)]);
    let told = || device.run(&["check"]);
    assert!(told().err.contains("handlers.d/m.toml: program: ") && told().err.contains("missing"), "{:?}", told());
    write(&program, "#!/bin/sh\n");
    assert!(told().err.contains("is not executable; mend it with: chmod a+x "), "{:?}", told());
    for (mode, words) in [(0o775, "by its group (mode 0775)"), (0o757, "by everybody (mode 0757)")] {
        fs::set_permissions(&program, Permissions::from_mode(mode)).expect("a mode");
        let told = told();
        assert!(told.err.contains(words), "{told:?}");
        assert!(told.err.contains(&format!("mend it with: chmod go-w {}", program.display())), "{told:?}");
    }
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!(told().code, 0, "{:?}", told());
    symlink(&program, folder.path().join("link")).expect("a link");
    write(&device.path("handlers.d/m.toml"), &text.replace("/program\"", "/link\""));
    assert!(told().err.contains("is a link"), "{:?}", told());
}

#[test]
fn one_manifest_is_checked_before_it_is_put_in_place() {
    let device = device(&[("a.toml", &manifest("a", "desired = \"x\""))]);
    let check = |name: &str| {
        let path = device.path(name);
        device.run(&["check", "--handler", path.to_str().expect("UTF-8")])
    };
    write(&device.path("b.toml"), &manifest("b", ""));
    let told = check("b.toml");
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (0, "the manifest is right: method b\n", ""));
    write(&device.path("a.toml"), &manifest("a", "time_limit = \"1m\""));
    assert_eq!(check("a.toml").code, 0, "it takes the place of its namesake");
    for (name, text, words) in [
        ("b.toml", manifest("a", ""), "b.toml: method: \"a\" is that of handlers.d/a.toml already"),
        (
            "b.toml",
            manifest("b", "desired = \"x\""),
            "b.toml: desired: handlers.d/a.toml is run for this member already",
        ),
        ("b.toml", manifest("b", "clas = \"serial\""), "b.toml:4: clas is not a key; did you mean class?"),
        ("b c.toml", manifest("b", ""), "b c.toml: has a name with other characters"),
        ("b.conf", manifest("b", ""), "b.conf: has a name with other characters"),
    ] {
        write(&device.path(name), &text);
        let told = check(name);
        assert!(told.code == 78 && told.err.contains(words), "{words}\n{}", told.err);
        assert!(told.err.contains("the manifest is wrong"), "{}", told.err);
    }
    assert!(check("none.toml").err.contains("none.toml: there is no such file"));
    let both = device.run(&["check", "--handler", "x.toml", "--drop-in", "y.toml"]);
    assert_eq!(both.code, 2);
}
