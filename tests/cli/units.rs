//! Stories of the units around the agent: which of them it may restart, and whose log it may read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Device, Told};

/// A folder of rules and one of units: `ssh` has another name, `getty@` is a template, `off` is masked, and `app` lies in a
/// folder of its own as `app-1.2`.
struct Polkit {
    device: Device,
    folder: tempfile::TempDir,
}

impl Polkit {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        for name in ["rules", "units"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let units = folder.path().join("units");
        let own =
            ["twinagent.service", "twinagent-reboot.service", "twinagent-handlers.socket", "twinagent-job-a@.service"];
        for name in ["nginx.service", "backup.timer", "ssh.service", "getty@.service"].iter().chain(&own) {
            fs::write(units.join(name), "[Unit]\n").expect("written");
        }
        for (name, target) in [
            ("tty@.service", "getty@.service"),
            ("off.service", "/dev/null"),
            ("loop.service", "pool.service"),
            ("gone.service", "/nowhere/gone.service"),
            ("helper.service", "twinagent-reboot.service"),
        ] {
            symlink(target, units.join(name)).expect("made");
        }
        symlink(units.join("ssh.service"), units.join("sshd.service")).expect("made");
        let app = folder.path().join("app");
        fs::create_dir(&app).expect("a folder");
        fs::write(app.join("app-1.2.service"), "[Unit]\n").expect("written");
        symlink(app.join("app-1.2.service"), units.join("app.service")).expect("made");
        symlink("../app/app-1.2.service", units.join("tool.service")).expect("made");
        fs::create_dir(units.join("deep")).expect("a folder");
        fs::write(units.join("deep/hidden.service"), "[Unit]\n").expect("written");
        symlink("deep/hidden.service", units.join("shown.service")).expect("made");
        symlink("../units/app.service", units.join("alias.service")).expect("made");
        Self { device: Device::new(), folder }
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    fn file(&self) -> PathBuf {
        self.rules().join("60-twinagent-units.rules")
    }

    fn allow(&self, arguments: &[&str]) -> Told {
        let (rules, units) = (self.rules(), self.folder.path().join("units"));
        let [rules, units] = [&rules, &units].map(|folder| folder.to_str().expect("text"));
        self.device.run(&[&["allow-units", "--rules", rules, "--units-in", units], arguments].concat())
    }
}

#[test]
fn units_are_allowed_shown_and_taken_back() {
    let polkit = Polkit::new();
    let allow = |arguments: &[&str]| polkit.allow(arguments);
    assert_eq!((allow(&["--list"]).code, allow(&["--list"]).out.as_str()), (0, ""));
    let told = allow(&["nginx", "backup.timer"]);
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{}", told.err);
    assert!(told.err.ends_with("may start, stop and restart backup.timer, nginx.service\n"), "{}", told.err);
    let text = fs::read_to_string(polkit.file()).expect("written");
    let list = "    var units = [\n        \"backup.timer\",\n        \"nginx.service\"\n    ];\n";
    assert!(text.contains(list), "{text}");
    assert_eq!(fs::metadata(polkit.file()).expect("a file").permissions().mode() & 0o777, 0o644);
    assert_eq!(allow(&["--list"]).out, "backup.timer\nnginx.service\n");
    assert_eq!(allow(&["nginx.service"]).err, "they were allowed already\n");
    assert_eq!(allow(&["--remove", "ssh"]).err, "they were not allowed before\n");
    assert_eq!(allow(&["--remove", "nginx.service"]).code, 0);
    assert_eq!(allow(&["--list"]).out, "backup.timer\n");
    // One that was uninstalled meanwhile.
    fs::remove_file(polkit.folder.path().join("units/backup.timer")).expect("it was there");
    assert_eq!(allow(&["--remove", "backup.timer"]).code, 0);
    assert_eq!(fs::read_dir(polkit.rules()).expect("a folder").count(), 0, "no rule, no draft");
}

#[test]
fn units_are_allowed_by_the_name_that_polkit_sees_and_only_if_they_are_there() {
    let polkit = Polkit::new();
    assert_eq!(polkit.allow(&["sshd", "tty@tty1.service"]).code, 0);
    assert_eq!(polkit.allow(&["--list"]).out, "getty@tty1.service\nssh.service\n");
    assert_eq!(polkit.allow(&["--remove", "sshd", "tty@tty1"]).code, 0);
    // By links that lead out of systemd's folders, and a name beside them.
    let told = polkit.allow(&["alias", "tool"]);
    assert_eq!((told.code, polkit.allow(&["--list"]).out.as_str()), (0, "app.service\ntool.service\n"), "{}", told.err);
    assert_eq!(polkit.allow(&["--remove", "app", "tool"]).code, 0);
    for (unit, words) in [
        ("nowhere.service", "there is no unit nowhere.service\nhint: "),
        ("gone.service", "there is no unit gone.service\nhint: "),
        ("loop.service", "there is no unit loop.service\nhint: "),
        ("other@1.service", "there is no unit other@1.service\nhint: "),
        ("off.service", "off.service is masked"),
        ("shown.service", "there is no unit hidden.service, of which shown.service is another name\nhint: "),
        ("helper.service", "twinagent-reboot.service belongs to the agent"),
    ] {
        let told = polkit.allow(&[unit]);
        assert!(told.code == 1 && told.err.contains(words), "{unit}: {}", told.err);
    }
    assert_eq!(fs::read_dir(polkit.rules()).expect("a folder").count(), 0);
}

#[test]
fn what_cannot_be_allowed_is_refused_and_a_file_of_somebody_elses_is_left_alone() {
    let polkit = Polkit::new();
    let allow = |arguments: &[&str]| polkit.allow(arguments);
    for bad in [&["*"][..], &["a*.service"], &["getty@.service"], &["../x.service"], &["a b"], &[], &["--remove"]] {
        assert_eq!(allow(bad).code, 2, "{bad:?}");
    }
    for own in ["twinagent-reboot.service", "twinagent-handlers.socket", "twinagent-job-a@1.service"] {
        let told = allow(&["nginx.service", own]);
        assert!(told.code == 1 && told.err.contains(own), "{}", told.err);
    }
    assert_eq!(allow(&["--list"]).out, "");
    assert_eq!(allow(&["twinagent.service"]).code, 0, "its own may be restarted");

    let written = fs::read_to_string(polkit.file()).expect("written");
    let changed = written.replace("twinagent.service", "*");
    fs::write(polkit.file(), &changed).expect("written");
    for arguments in [&["--list"][..], &["ssh.service"], &["--remove", "nginx.service"]] {
        let told = allow(arguments);
        assert!(told.code == 1 && told.err.contains("it was changed by hand\nhint: "), "{}", told.err);
    }
    assert_eq!(fs::read_to_string(polkit.file()).expect("still there"), changed);

    let polkit = Polkit::new();
    fs::remove_dir(polkit.rules()).expect("it is empty");
    let told = polkit.allow(&["nginx.service"]);
    assert!(told.code == 1 && told.err.contains("hint: rules are read by polkit 0.106 or newer"), "{}", told.err);
}

/// What the log service answers to this line, with a journalctl that prints one entry, and the exit code.
fn asked(configuration: &Path, journalctl: &Path, question: &[u8]) -> (Option<Value>, Option<i32>) {
    let mut service = Command::new(env!("CARGO_BIN_EXE_twinagent"))
        .arg("run-logs")
        .arg("--journalctl")
        .arg(journalctl)
        .env("CONFIGURATION_DIRECTORY", configuration)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = service.stdin.take().expect("piped");
    stdin.write_all(question).expect("it reads");
    // Held open: the end of the line is the end of the question.
    let ended = service.wait_with_output().expect("it ends");
    drop(stdin);
    (serde_json::from_slice(&ended.stdout).ok(), ended.status.code())
}

#[test]
fn the_log_service_answers_one_line_with_one_line_and_judges_by_its_own_configuration() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (draft, journalctl) = (folder.path().join("draft"), folder.path().join("journalctl"));
    fs::write(&draft, "#!/bin/sh\necho '{\"__REALTIME_TIMESTAMP\":\"1763899200000000\",\"MESSAGE\":\"'$1'\"}'\n")
        .expect("written");
    let installed = Command::new("install").args(["-m", "755"]).args([&draft, &journalctl]).status();
    assert!(installed.expect("install runs").success());
    let ask = |question: &[u8]| asked(folder.path(), &journalctl, question);
    let nginx = b"{\"unit\":\"nginx.service\",\"lines\":5}\n";
    assert_eq!(ask(nginx), (Some(json!({ "notListed": "nginx.service" })), Some(0)));
    let configuration = folder.path().join("twinagent.toml");
    fs::write(&configuration, "methods.log_units = [\"nginx.service\"]\n").expect("written");
    let entry = json!({ "time": "2025-11-23T12:00:00.000000Z", "message": "--unit=nginx.service" });
    let lines = json!({ "lines": { "entries": [entry], "truncated": false } });
    assert_eq!(ask(nginx), (Some(lines.clone()), Some(0)));
    // What else is wrong is not its business: it may not read the files of the cloud, as the agent does.
    let other =
        "cloud.kind = \"iothub\"\ncloud.iothub.connection_string_file = \"/nowhere/at/all\"\nsession.proxy = 7\n";
    fs::write(&configuration, format!("methods.log_units = [\"nginx.service\"]\n{other}")).expect("written");
    assert_eq!(ask(nginx), (Some(lines), Some(0)));
    // Whatever is wrong with the configuration, the log of the agent shows it.
    for wrong in ["nonsense", "methods.log_units = [\"nginx.service\", \"*\"]\n"] {
        fs::write(&configuration, wrong).expect("written");
        let (answer, code) = ask(nginx);
        let answer = answer.expect("JSON");
        let why = answer["failed"].as_str().unwrap_or_default();
        assert!(why.starts_with("the configuration cannot be read: ") && code == Some(0), "{answer}");
    }
    let (answer, code) = ask(b"{\"unit\":\"twinagent.service\",\"lines\":5}\n");
    assert_eq!(
        (answer.expect("JSON")["lines"]["entries"][0]["message"].as_str(), code),
        (Some("--unit=twinagent.service"), Some(0))
    );
    for wrong in [&b"\n"[..], b"{\"unit\":\"a*\",\"lines\":5}\n", &[b'x'; 5_000]] {
        let (answer, code) = ask(wrong);
        let answer = answer.expect("JSON");
        assert!(answer["failed"].is_string() && code == Some(0), "{answer}");
    }
}
