//! Stories of the units around the agent: which of them it may restart, and whose log it may read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::Device;

const RULES: &str = r#"// Units that the device agent may start, stop and restart. Written by `twinagent allow-units`, which does not touch a
// file that was changed by hand.
polkit.addRule(function (action, subject) {
    var units = [
        "backup.timer",
        "nginx.service"
    ];
    var verbs = ["start", "stop", "restart"];
    if (subject.user === "twinagent" &&
        action.id === "org.freedesktop.systemd1.manage-units" &&
        units.indexOf(action.lookup("unit")) >= 0 &&
        verbs.indexOf(action.lookup("verb")) >= 0) {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
"#;

#[test]
fn units_are_allowed_shown_and_taken_back() {
    let device = Device::new();
    let folder = tempfile::TempDir::new().expect("a folder");
    let rules = folder.path().to_str().expect("text");
    let allow = |arguments: &[&str]| device.run(&[&["allow-units", "--rules", rules], arguments].concat());
    let file = folder.path().join("60-twinagent-units.rules");

    assert_eq!((allow(&["--list"]).code, allow(&["--list"]).out.as_str()), (0, ""));
    let told = allow(&["nginx", "backup.timer"]);
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{}", told.err);
    assert!(told.err.ends_with("may start, stop and restart backup.timer, nginx.service\n"), "{}", told.err);
    assert_eq!(fs::read_to_string(&file).expect("written"), RULES);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o644);
    assert_eq!(allow(&["--list"]).out, "backup.timer\nnginx.service\n");
    assert_eq!(allow(&["nginx.service"]).err, "they were allowed already\n");
    assert_eq!(allow(&["--remove", "ssh"]).err, "they were not allowed before\n");
    assert_eq!(allow(&["--remove", "nginx.service"]).code, 0);
    assert_eq!(allow(&["--list"]).out, "backup.timer\n");
    assert_eq!(allow(&["--remove", "backup.timer"]).code, 0);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "no rule, no draft");
}

#[test]
fn what_cannot_be_allowed_is_refused_and_a_file_of_somebody_elses_is_left_alone() {
    let device = Device::new();
    let folder = tempfile::TempDir::new().expect("a folder");
    let rules = folder.path().to_str().expect("text");
    let allow = |arguments: &[&str]| device.run(&[&["allow-units", "--rules", rules], arguments].concat());
    for bad in [&["*"][..], &["a*.service"], &["getty@.service"], &["../x.service"], &["a b"], &[], &["--remove"]] {
        assert_eq!(allow(bad).code, 2, "{bad:?}");
    }
    for own in ["twinagent-reboot.service", "twinagent-handlers.socket", "twinagent-job-a@1.service"] {
        let told = allow(&["nginx.service", own]);
        assert!(told.code == 1 && told.err.contains(own), "{}", told.err);
    }
    assert_eq!(allow(&["--list"]).out, "");
    assert_eq!(allow(&["twinagent.service"]).code, 0, "its own may be restarted");

    let file = folder.path().join("60-twinagent-units.rules");
    let changed = RULES.replace("backup.timer", "*");
    fs::write(&file, &changed).expect("written");
    for arguments in [&["--list"][..], &["ssh.service"], &["--remove", "nginx.service"]] {
        let told = allow(arguments);
        assert!(told.code == 1 && told.err.contains("it was changed by hand\nhint: "), "{}", told.err);
    }
    assert_eq!(fs::read_to_string(&file).expect("still there"), changed);

    let nowhere = folder.path().join("nowhere");
    let told = device.run(&["allow-units", "--rules", nowhere.to_str().expect("text"), "nginx.service"]);
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
