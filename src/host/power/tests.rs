//! The agent's side and root's side, over real folders; systemctl is a small program of these tests, logind a
//! part of them on a bus of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::host::fake_logind::{Bus, FREE, HELD, Says, on_a_thread};
use crate::model::now::BootInstant;
use crate::model::reboot::facts::Way;

/// Both sides in a folder of their own, and what systemctl was called with.
struct Scene {
    folder: TempDir,
    performer: Performer,
    _logind: Option<oneshot::Sender<()>>,
    _bus: Bus,
}

fn boot() -> BootId {
    "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID")
}

fn at(seconds: u64) -> BootInstant {
    BootInstant(Duration::from_secs(seconds))
}

fn plan() -> Plan {
    let id = CommandId::parse("r-1").expect("an id");
    Plan { way: Way::Helper, id, reason: Some("new kernel".to_owned()), boot: boot(), until: at(160) }
}

impl Scene {
    /// `checked` and `plain`: how systemctl ends with and without a check of inhibitors.
    fn new(checked: bool, plain: bool, logind: Option<Says>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let places = Places::beside(&path("agent"));
        for place in [&places.requests, &places.answers] {
            fs::create_dir(place).expect("a folder");
        }
        let calls = path("calls");
        let code = |good: bool| u8::from(!good);
        program(
            &path("systemctl"),
            &format!(
                "echo \"$*\" >>'{}'\n[ \"$*\" = reboot ] && exit {}\necho 'Call failed.' >&2\nexit {}",
                calls.display(),
                code(plain),
                code(checked),
            ),
        );
        let bus = Bus::start();
        let logind = logind.map(|says| on_a_thread(&bus.address(), says));
        let tools = Tools { systemctl: path("systemctl"), bus: bus.socket() };
        let owners = vec![rustix::process::geteuid().as_raw()];
        Self { performer: Performer { places, tools, owners }, folder, _logind: logind, _bus: bus }
    }

    fn places(&self) -> &Places {
        &self.performer.places
    }

    fn request(&self) -> PathBuf {
        self.places().requests.join(REQUEST)
    }

    fn perform(&self) -> anyhow::Result<()> {
        perform(&self.performer, boot(), at(100))
    }

    /// Why it is refused.
    #[track_caller]
    fn refusal(&self) -> String {
        let why = format!("{:#}", self.perform().expect_err("it must be refused"));
        assert!(!self.request().exists(), "a request that is refused is gone");
        why
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn answer(&self) -> Option<Result<(), String>> {
        let (id, answer) = self.places().answer(boot())?;
        assert_eq!(id.as_str(), "r-1");
        Some(answer)
    }
}

/// Written by another process: while it were open for writing in this one, a child of another test could inherit it, and
/// the kernel runs no program that somebody may write to (`ETXTBSY`).
fn program(path: &Path, text: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
    let written = Command::new("/bin/sh").args(["-c", write]).arg(path).arg(text).status().expect("a shell");
    assert!(written.success(), "{written}");
}

const CHECKED: &str = "--check-inhibitors=yes reboot";

#[test]
fn a_request_is_taken_once_done_and_answered() {
    let scene = Scene::new(true, true, Some(FREE));
    assert_eq!(scene.places().reach(), Ok(()));
    scene.places().ask(&plan()).expect("a request");
    assert_eq!(fs::metadata(scene.request()).expect("it is there").mode() & 0o777, 0o644);
    scene.perform().expect("it is done");
    assert!(!scene.request().exists());
    assert_eq!(scene.calls(), [CHECKED]);
    assert_eq!(scene.answer(), Some(Ok(())));
    scene.perform().expect("nothing is left to do");
    assert_eq!(scene.calls().len(), 1);
    assert_eq!(scene.places().withdraw().expect("a folder"), None, "it was taken");
}

#[test]
fn a_lock_that_blocks_is_never_overridden_and_its_holder_is_named() {
    let scene = Scene::new(false, true, Some(HELD));
    scene.places().ask(&plan()).expect("a request");
    scene.perform().expect("being held back is no error");
    assert_eq!(scene.calls(), [CHECKED]);
    let why = scene.answer().expect("an answer").expect_err("refused");
    assert!(why.contains("apt (package upgrade)") && !why.contains("and "), "{why}");
    assert!(!scene.request().exists());
}

#[test]
fn users_who_are_only_logged_in_do_not_hold_a_reboot_back() {
    let scene = Scene::new(false, true, Some(FREE));
    scene.places().ask(&plan()).expect("a request");
    scene.perform().expect("it is done");
    assert_eq!(scene.calls(), [CHECKED, "reboot"]);
    assert_eq!(scene.answer(), Some(Ok(())));
}

#[test]
fn without_a_bus_or_a_logind_nobody_can_hold_a_lock() {
    let without_logind = Scene::new(false, true, None);
    let mut without_bus = Scene::new(false, true, Some(HELD));
    without_bus.performer.tools.bus = without_bus.folder.path().join("no-bus");
    for scene in [without_logind, without_bus] {
        scene.places().ask(&plan()).expect("a request");
        scene.perform().expect("it is done");
        assert_eq!(scene.calls(), [CHECKED, "reboot"]);
    }
}

#[test]
fn where_it_is_not_known_who_holds_a_lock_nothing_is_done() {
    let scene = Scene::new(false, true, Some(Says { locks: None, ..FREE }));
    scene.places().ask(&plan()).expect("a request");
    assert!(scene.refusal().contains("not known"));
    assert_eq!(scene.calls(), [CHECKED]);
    assert!(scene.answer().expect("an answer").is_err());
}

#[test]
fn what_systemctl_complains_of_is_passed_on() {
    let scene = Scene::new(false, false, Some(FREE));
    let systemctl = &scene.performer.tools.systemctl;
    program(systemctl, "echo 'Failed to connect.' >&2\necho >&2\nexit 1");
    scene.places().ask(&plan()).expect("a request");
    assert!(scene.refusal().ends_with("systemctl reboot failed: Failed to connect."));
    let why = scene.answer().expect("an answer").expect_err("refused");
    assert_eq!(why, "systemctl reboot failed: Failed to connect.");
}

#[test]
fn a_request_of_another_boot_or_another_time_reboots_nothing() {
    let other = "11111111-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID");
    let stale = [
        (Plan { boot: other, ..plan() }, "another boot"),
        (Plan { until: at(100), ..plan() }, "too old, by 0 s"),
        (Plan { until: at(3), ..plan() }, "too old, by 97 s"),
        (Plan { until: at(161), ..plan() }, "too far ahead"),
    ];
    for (plan, words) in stale {
        let scene = Scene::new(true, true, Some(FREE));
        scene.places().ask(&plan).expect("a request");
        let why = scene.refusal();
        assert!(why.contains(words), "{why}");
        assert_eq!(scene.calls(), Vec::<String>::new());
        if plan.boot == boot() {
            assert!(scene.answer().expect("an answer").is_err_and(|why| why.contains(words)));
        } else {
            assert_eq!(scene.answer(), None, "it says nothing about this boot");
        }
    }
    let scene = Scene::new(true, true, Some(FREE));
    scene.places().ask(&Plan { until: at(101), ..plan() }).expect("a request");
    scene.perform().expect("in time, though only just");
}

/// What stands where a request should be, put there by somebody with fewer rights.
#[test]
fn nothing_but_a_file_of_the_right_user_is_read() {
    let refuse = |make: &dyn Fn(&Scene, &Path), words: &str| {
        let scene = Scene::new(true, true, Some(FREE));
        make(&scene, &scene.request());
        let why = scene.refusal();
        assert!(why.contains(words), "{why}");
        assert_eq!(scene.calls(), Vec::<String>::new(), "{words}");
        assert_eq!(scene.answer(), None);
    };
    let good = serde_json::to_string(&Request::from(&plan())).expect("JSON");
    let elsewhere = |scene: &Scene| {
        let path = scene.folder.path().join("elsewhere");
        fs::write(&path, &good).expect("a file");
        path
    };
    refuse(&|scene, path| symlink(elsewhere(scene), path).expect("a link"), "os error 40");
    refuse(&|_, path| fs::create_dir(path).expect("a folder"), "no file");
    refuse(
        &|_, path| {
            rustix::fs::mkfifoat(CWD, path, rustix::fs::Mode::RUSR).expect("a pipe");
        },
        "no file",
    );
    refuse(&|_, path| UnixListener::bind(path).map(std::mem::forget).expect("a socket"), "os error 6");
    refuse(&|_, path| fs::write(path, vec![b' '; 9_000]).expect("a file"), "larger than 8192 bytes");
    refuse(&|_, path| fs::write(path, [0xff, 0xfe]).expect("a file"), "no text");
    for text in ["", "reboot", "[]", "{}", r#"{"command":"r-1"}"#, &good.replace("r-1", "../r"), &format!("{good}x")] {
        refuse(&|_, path| fs::write(path, text).expect("a file"), "no request");
    }
    refuse(&|_, path| fs::write(path, good.replace('{', r#"{"force":true,"#)).expect("a file"), "no request");
    let wordy = good.replace("new kernel", &"x".repeat(1_025));
    refuse(&|_, path| fs::write(path, &wordy).expect("a file"), "too long");

    let mut scene = Scene::new(true, true, Some(FREE));
    fs::write(scene.request(), &good).expect("a file");
    let owner = std::mem::replace(&mut scene.performer.owners, vec![12_345]);
    assert!(scene.refusal().contains("has no say"));
    scene.performer.owners = owner;
    fs::write(scene.request(), &good).expect("a file");
    scene.perform().expect("the same file of the right user is obeyed");
    assert_eq!(scene.calls(), [CHECKED]);
}

#[test]
fn what_cannot_be_removed_is_not_obeyed() {
    let scene = Scene::new(true, true, Some(FREE));
    fs::create_dir_all(scene.request().join("full")).expect("a folder that is not empty");
    let why = format!("{:#}", scene.perform().expect_err("it stays"));
    assert!(why.contains("cannot be removed"), "{why}");
    assert_eq!(scene.calls(), Vec::<String>::new());
}

#[test]
fn a_hanging_program_is_ended() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("hangs");
    program(&path, "echo before\nexec sleep 600");
    let error = program::run(&path, &[], Duration::from_millis(300)).expect_err("it hangs");
    assert!(format!("{error}").contains("was ended after"), "{error}");
}

#[test]
fn an_answer_counts_only_from_root_or_ourselves_and_for_this_boot() {
    let scene = Scene::new(true, true, Some(FREE));
    scene.places().ask(&plan()).expect("a request");
    scene.perform().expect("it is done");
    let other = "11111111-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID");
    assert_eq!(scene.places().answer(other), None);
    let path = scene.places().answers.join(ANSWER);
    let text = fs::read_to_string(&path).expect("the answer");
    fs::rename(&path, scene.folder.path().join("moved")).expect("moved");
    symlink(scene.folder.path().join("moved"), &path).expect("a link");
    assert_eq!(scene.places().answer(boot()), None, "no link is followed");
    fs::remove_file(&path).expect("removed");
    fs::write(&path, text.replace("refused", "granted")).expect("a file");
    assert_eq!(scene.places().answer(boot()), None, "it is read strictly");
}

#[test]
fn a_request_that_nobody_took_is_taken_back_with_its_name() {
    let scene = Scene::new(true, true, Some(FREE));
    assert_eq!(scene.places().withdraw().expect("a folder"), None);
    scene.places().ask(&plan()).expect("a request");
    scene.places().ask(&plan()).expect("another one, in its place");
    assert_eq!(scene.places().withdraw().expect("a folder"), Some(Some(plan().id)));
    assert!(!scene.request().exists());
    fs::write(scene.request(), "of whomever").expect("a file");
    assert_eq!(scene.places().withdraw().expect("a folder"), Some(None));
    let nowhere = Places::beside(&scene.folder.path().join("nowhere"));
    assert_eq!(nowhere.withdraw().expect("no folder, no request"), None);
}

#[test]
fn the_way_to_the_helper_is_told_with_what_mends_it() {
    let folder = TempDir::new().expect("a folder");
    let places = Places::beside(&folder.path().join("agent"));
    let why = places.reach().expect_err("nothing is there");
    assert!(why.contains(&*places.requests.to_string_lossy()) && why.contains("hint: "), "{why}");
    fs::write(&places.requests, "").expect("a file");
    fs::set_permissions(&places.requests, fs::Permissions::from_mode(0o755)).expect("a mode");
    assert!(places.reach().expect_err("a file").contains("is no folder"));
    fs::remove_file(&places.requests).expect("removed");
    fs::create_dir(&places.requests).expect("a folder");
    assert_eq!(places.reach(), Ok(()));
}

#[test]
fn the_places_are_those_of_the_contract() {
    let places = Places::beside(Path::new("/run/twinagent"));
    assert_eq!(places.requests.join(REQUEST), Path::new("/run/twinagent-reboot/request"));
    assert_eq!(places.answers.join(ANSWER), Path::new("/run/twinagent-reboot-helper/outcome"));
}
