//! Other users of the machine, for real: these tests become them, and so want root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use twinagent::local::{Asked, Rights};
use twinagent::model::ask::Question;

use crate::support::Daemon;

/// Nobody on this machine has these.
const USER: u32 = 54_321;
const READERS: u32 = 54_322;
const ACTORS: u32 = 54_323;
const OTHERS: u32 = 54_324;

/// The program where every user may run it.
struct Program {
    _folder: TempDir,
    path: PathBuf,
}

impl Program {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "becoming another user takes root; hint: run the tests as root");
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        let path = folder.path().join("twinagent");
        // By a process of its own: what a child of another test may still hold open for writing cannot be executed (ETXTBSY).
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_twinagent")).arg(&path).status();
        assert!(copied.expect("cp").success());
        Self { _folder: folder, path }
    }

    /// Runs as this user with its own group of the same number and these supplementary ones.
    fn run(&self, daemon: &Daemon, user: u32, groups: &[u32], arguments: &[&str]) -> Output {
        let groups = match groups {
            [] => "--clear-groups".to_owned(),
            groups => format!("--groups={}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        };
        Command::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={user}"), groups])
            .arg(&self.path)
            .args(arguments)
            .env("RUNTIME_DIRECTORY", daemon.folder())
            .output()
            .expect("setpriv runs")
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

#[test]
fn reading_is_for_readers_and_acting_for_actors() {
    let program = Program::new();
    let daemon = Daemon::with(Rights { read_group: Some(READERS), act_group: Some(ACTORS) });
    let may = |user, groups: &[u32]| {
        let codes = [&["status"][..], &["invoke", "echo"], &["twin", "report", "{}"]]
            .map(|arguments| code(&program.run(&daemon, user, groups, arguments)));
        (codes[0] == 0, codes[1] == 0, codes)
    };
    assert_eq!(may(0, &[]), (true, true, [0, 0, 0]));
    assert_eq!(may(USER, &[]), (false, false, [77, 77, 77]));
    assert_eq!(may(USER, &[OTHERS]), (false, false, [77, 77, 77]));
    assert_eq!(may(USER, &[OTHERS, READERS]), (true, false, [0, 77, 77]));
    assert_eq!(may(USER, &[ACTORS]), (true, true, [0, 0, 0]), "who may act may read");
    assert_eq!(may(READERS, &[]), (true, false, [0, 77, 77]), "the main group counts too");

    let guard = |arguments: &[&str]| code(&program.run(&daemon, USER, &[READERS], arguments));
    assert_eq!(
        (guard(&["reboot-guard"]), guard(&["reboot-guard", "reset"])),
        (0, 77),
        "who may not act resets nothing"
    );

    daemon.heard_already();
    let refused = program.run(&daemon, USER, &[READERS], &["invoke", "echo"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.starts_with("twinagent: not permitted\nhint: ask as root, or as a member of the group"), "{words}");
    assert_eq!(daemon.heard_already(), [], "the daemon's loop is not troubled");
}

#[test]
fn no_group_named_is_no_group_allowed() {
    let program = Program::new();
    let daemon = Daemon::start();
    assert_eq!(code(&program.run(&daemon, USER, &[0, READERS, ACTORS], &["status"])), 77);
    assert_eq!(code(&program.run(&daemon, 0, &[], &["status"])), 0);
    assert!(matches!(daemon.heard(), Asked::Question(_, Question::Status { follow: false })));
}

#[test]
fn one_who_may_only_read_sends_short_frames() {
    let program = Program::new();
    let daemon = Daemon::with(Rights { read_group: Some(READERS), act_group: Some(ACTORS) });
    let long = format!("\"{}\"", "x".repeat(9_000));
    let reader = program.run(&daemon, USER, &[READERS], &["invoke", "echo", &long]);
    assert_eq!(code(&reader), 1);
    assert!(String::from_utf8_lossy(&reader.stderr).contains("longer than 8192 bytes"));
    assert_eq!(code(&program.run(&daemon, USER, &[ACTORS], &["invoke", "echo", &long])), 0);
}

#[test]
fn who_may_not_act_any_more_serves_nothing_any_more() {
    let program = Program::new();
    let given = Rights { read_group: Some(READERS), act_group: Some(ACTORS) };
    let daemon = Daemon::with(given);
    let script = program.path.with_file_name("serve.py");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/examples/serve.py");
    fs::copy(example, &script).expect("a copy");
    let mut serving = Command::new("setpriv")
        .args([
            format!("--reuid={USER}"),
            format!("--regid={USER}"),
            format!("--groups={ACTORS}"),
            "/usr/bin/python3".into(),
        ])
        .arg(&script)
        .arg(daemon.socket())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("setpriv and the python3 of Debian, which every user may run, are there");
    let Asked::Question(caller, Question::Serve { .. }) = daemon.heard() else { panic!("it serves") };
    // Other rights that leave it its own are no reason to end it.
    daemon.set_rights(Rights { read_group: None, ..given });
    assert_eq!(code(&program.run(&daemon, USER, &[ACTORS], &["invoke", "readLoad"])), 0);
    while !matches!(daemon.heard(), Asked::Question(_, Question::Finish { .. })) {}
    assert!(!daemon.heard_already().contains(&Asked::Gone(caller)), "it still serves");
    daemon.set_rights(Rights { act_group: None, ..given });
    while daemon.heard() != Asked::Gone(caller) {}
    serving.kill().expect("it tries again for ever");
    serving.wait().expect("it has ended");
}

#[test]
fn a_user_who_takes_all_places_leaves_those_of_others() {
    let program = Program::new();
    let daemon = Daemon::with(Rights { read_group: Some(READERS), act_group: None });
    // A shell that starts followers until there is no place left, as a user with a mind to keep others out would.
    let crowd =
        format!("for i in $(seq 40); do {} status --watch >/dev/null 2>&1 & done; wait", program.path.display());
    let mut crowd = Command::new("setpriv")
        .args([format!("--reuid={USER}"), format!("--regid={USER}"), format!("--groups={READERS}")])
        .args(["setsid", "sh", "-c", &crowd])
        .env("RUNTIME_DIRECTORY", daemon.folder())
        .spawn()
        .expect("setpriv runs");
    for _ in 0..16 {
        assert!(matches!(daemon.heard(), Asked::Question(_, Question::Status { follow: true })));
    }
    assert_eq!(code(&program.run(&daemon, USER, &[READERS], &["status"])), 1, "no place for that user");
    assert_eq!(code(&program.run(&daemon, USER + 10, &[READERS], &["status"])), 0, "one for another");
    assert_eq!(code(&program.run(&daemon, 0, &[], &["status"])), 0, "and for root");
    // The followers end with the daemon, and the shell with them.
    drop(daemon);
    crowd.wait().expect("it ends");
}
