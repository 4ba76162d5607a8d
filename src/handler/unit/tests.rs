//! Jobs on a bus of the test's own, with a systemd that does what the test wants. The log is read from nobody here.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command as Program;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::host::fake_logind::Bus;
use crate::host::fake_systemd::{Says, Systemd, failed, job, running, succeeded};
use crate::model::command::{CommandId, DeviceId, Key, Method};
use crate::model::runs::{Run as Begun, RunId, Runs, To};

const JOB: &str = "twinagent-job-upgrade@c-1.service";

/// A machine with a bus, and the method `upgrade`.
struct Machine {
    folder: tempfile::TempDir,
    bus: Option<Bus>,
    unit: Unit,
}

/// A run of it, as the daemon drives it.
struct Driven {
    run: RunId,
    stop: watch::Sender<Option<Stop>>,
    news: mpsc::Receiver<(RunId, String)>,
    task: tokio::task::JoinHandle<Outcome>,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let bus = Bus::at(folder.path().join("bus"));
        fs::create_dir(folder.path().join("jobs")).expect("a folder");
        let spec = MethodSpec { output_limit: 4_096, ..MethodSpec::new(Method::parse("upgrade").expect("a name")) };
        let unit = Unit {
            spec: MethodSpec { outlives: true, ..spec },
            job: "upgrade".to_owned(),
            bus: bus.address(),
            payloads: Payloads::new(folder.path().join("jobs")),
            logs: Logs::beside(folder.path()),
            linger: Duration::from_millis(50),
            slack: Duration::from_millis(100),
        };
        Self { folder, bus: Some(bus), unit }
    }

    async fn systemd(&self, says: Says) -> Systemd {
        Systemd::start(&self.unit.bus, &[(JOB, says)]).await
    }

    fn payload(&self) -> PathBuf {
        self.folder.path().join("jobs/twinagent-job-upgrade@c-1.json")
    }

    fn drive(&self, begin: fn(&Unit, &Command, Context) -> Running) -> Driven {
        let id = CommandId::parse("c-1").expect("an id");
        let key = Key { target: DeviceId::parse("d").expect("an id"), id };
        let command =
            Command { key: key.clone(), method: self.unit.spec.name.clone(), payload: json!({ "to": "1.2" }) };
        let for_it = Begun::Harmless {
            key,
            method: command.method.clone(),
            to: To::Cloud(None),
            received: crate::host::clock::wall(),
        };
        let run = Runs::default().begin(for_it);
        let ((tell, news), (stop, stopped)) = (mpsc::channel(8), watch::channel(None));
        let task = tokio::spawn(begin(&self.unit, &command, Context::new(run, tell, stopped)));
        Driven { run, stop, news, task }
    }

    fn run(&self) -> Driven {
        self.drive(|unit, command, context| unit.run(command, context))
    }

    fn resume(&self) -> Driven {
        self.drive(|unit, command, context| unit.resume(command, context))
    }
}

impl Driven {
    async fn outcome(self) -> (u16, Value) {
        let outcome = self.task.await.expect("it ends in good order");
        (outcome.status.0, outcome.payload)
    }
}

/// The next of its calls that has this verb.
async fn called(systemd: &mut Systemd, verb: &str) {
    while systemd.calls.recv().await.expect("it still runs").0 != verb {}
}

#[tokio::test]
async fn a_job_is_started_with_its_payload_and_its_result_is_the_answer() {
    let machine = Machine::new();
    let mut systemd = machine.systemd(job()).await;
    let mut run = machine.run();
    called(&mut systemd, "start").await;
    let payload = machine.payload();
    assert_eq!(fs::read_to_string(&payload).expect("it is there before the start"), r#"{"to":"1.2"}"#);
    assert_eq!(fs::metadata(&payload).expect("a file").permissions().mode() & 0o777, 0o600);
    systemd.says(JOB, |says| says.said = "unpacking".to_owned()).await;
    assert_eq!(run.news.recv().await, Some((run.run, "unpacking".to_owned())));
    systemd.ends(JOB, "done", |says| *says = Says { said: "unpacking".to_owned(), ..succeeded() }).await;
    let (status, payload) = run.outcome().await;
    assert_eq!((status, &payload["result"]), (200, &json!("success")));
    assert!(payload["logMissing"].is_string() && payload.get("error").is_none(), "{payload}");
    assert!(!machine.payload().exists(), "nobody needs it any more");
    called(&mut systemd, "stop").await;
    assert!(!systemd.now(JOB).is_loaded, "and systemd has forgotten it");
}

#[tokio::test]
async fn each_end_of_a_job_has_its_status() {
    let ends: [(Says, &str, u16, Value); 10] = [
        (failed("exit-code", (1, 1)), "failed", 500, json!({ "result": "exit-code", "exitCode": 1 })),
        (failed("exit-code", (1, 65)), "failed", 422, json!({ "exitCode": 65 })),
        (failed("exit-code", (1, 75)), "failed", 503, json!({ "exitCode": 75 })),
        (failed("signal", (2, 9)), "failed", 500, json!({ "result": "signal", "signal": 9 })),
        (failed("core-dump", (3, 11)), "failed", 500, json!({ "result": "core-dump", "signal": 11 })),
        (failed("timeout", (2, 15)), "failed", 408, json!({ "result": "timeout" })),
        (failed("oom-kill", (2, 9)), "failed", 500, json!({ "result": "oom-kill" })),
        (Says { exit: (1, 3), ..succeeded() }, "done", 200, json!({ "result": "success", "exitCode": 3 })),
        (job(), "dependency", 500, json!({ "error": "the job did not run: a unit that it needs failed" })),
        (job(), "canceled", 500, json!({ "error": "the job did not run to its end: systemd says `canceled`" })),
    ];
    for (end, how, expected, members) in ends {
        let machine = Machine::new();
        let mut systemd = machine.systemd(job()).await;
        let run = machine.run();
        called(&mut systemd, "start").await;
        systemd.ends(JOB, how, |says| *says = end.clone()).await;
        let Outcome { status, payload, not_run } = run.task.await.expect("it ends in good order");
        assert_eq!((status.0, not_run), (expected, false), "{end:?}: {payload}");
        for (name, value) in members.as_object().expect("members") {
            assert_eq!(&payload[name], value, "{end:?}: {payload}");
        }
        assert_eq!(payload.get("error").is_none(), status == Status::DONE, "{payload}");
        if end.active == "failed" {
            called(&mut systemd, "reset-failed").await;
        }
    }
}

#[tokio::test]
async fn a_unit_whose_result_could_be_lost_is_not_started() {
    let wrong: [(Says, &str); 7] = [
        (Says { kind: "simple", ..job() }, "has Type=simple; hint: "),
        (Says { remains: false, ..job() }, "has not RemainAfterExit=yes"),
        (Says { collect: "inactive-or-failed", ..job() }, "CollectMode"),
        (Says { load: "not-found", ..job() }, "there is no unit twinagent-job-upgrade@.service; hint: "),
        (Says { load: "masked", ..job() }, "is masked"),
        (Says { load: "bad-setting", ..job() }, "(bad-setting)"),
        (
            Says { refusal: Some("refused"), ..job() },
            "the agent may not start twinagent-job-upgrade@c-1.service: not you; hint: polkit",
        ),
    ];
    for (says, words) in wrong {
        let machine = Machine::new();
        let systemd = machine.systemd(says.clone()).await;
        let outcome = machine.run().task.await.expect("it ends in good order");
        let why = outcome.payload["error"].as_str().expect("words");
        assert!(outcome.status.0 == 500 && why.contains(words), "{} {why}", outcome.status);
        assert!(outcome.not_run && systemd.now(JOB).starts == 0);
        assert!(!machine.payload().exists(), "nothing is left of {says:?}");
    }
}

#[tokio::test]
async fn without_a_bus_or_a_folder_nothing_begins() {
    let mut machine = Machine::new();
    let (status, payload) = machine.run().outcome().await;
    assert_eq!(status, 503, "no systemd on the bus: {payload}");
    let _systemd = machine.systemd(job()).await;
    fs::remove_dir(machine.folder.path().join("jobs")).expect("it was empty");
    let (status, payload) = machine.run().outcome().await;
    let why = payload["error"].as_str().expect("words");
    assert!(status == 500 && why.contains("run-twinagent\\x2djobs.mount"), "{status} {why}");
    machine.bus = None;
    assert_eq!(machine.run().outcome().await.0, 503);
}

/// A small file system over a folder.
struct Full(PathBuf);

impl Full {
    fn over(folder: PathBuf) -> Self {
        let mounted = Program::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k", "twinagent-test"])
            .arg(&folder)
            .output()
            .expect("mount runs");
        assert!(mounted.status.success(), "no tmpfs can be mounted; hint: this test needs root: {mounted:?}");
        let full = fs::write(folder.join("other"), vec![0; 64 * 1_024]).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        Self(folder)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // Lazily, whoever may look at it. What is left if this fails is small.
        let _ = Program::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn while_the_folder_is_full_a_job_cannot_begin_and_afterwards_it_can() {
    let machine = Machine::new();
    let full = Full::over(machine.folder.path().join("jobs"));
    let mut systemd = machine.systemd(job()).await;
    let (status, payload) = machine.run().outcome().await;
    let why = payload["error"].as_str().expect("words");
    assert!(status == 503 && why.contains("is full") && !why.contains("mount"), "{status} {why}");
    assert!(systemd.now(JOB).starts == 0 && !machine.payload().exists());
    fs::remove_file(full.0.join("other")).expect("it was there");
    let run = machine.run();
    called(&mut systemd, "start").await;
    systemd.ends(JOB, "done", |says| *says = succeeded()).await;
    assert_eq!(run.outcome().await.0, 200);
}

#[tokio::test]
async fn an_earlier_job_of_the_same_name_is_cleared_or_in_the_way() {
    let machine = Machine::new();
    let systemd = machine.systemd(running()).await;
    let (status, payload) = machine.run().outcome().await;
    assert_eq!(status, 409, "{payload}");
    assert!(!machine.payload().exists(), "its own payload is not touched, and none is added");
    drop(systemd);
    for (left, verb) in [(succeeded(), "stop"), (failed("signal", (2, 9)), "reset-failed")] {
        let machine = Machine::new();
        fs::write(machine.payload(), "left behind").expect("written");
        let mut systemd = machine.systemd(left).await;
        let run = machine.run();
        called(&mut systemd, verb).await;
        called(&mut systemd, "start").await;
        assert_eq!(fs::read_to_string(machine.payload()).expect("the new one"), r#"{"to":"1.2"}"#);
        systemd.ends(JOB, "done", |says| (says.active, says.result) = ("active", "success")).await;
        assert_eq!(run.outcome().await.0, 200);
    }
}

#[tokio::test]
async fn a_job_that_is_told_to_stop_is_stopped_and_waited_for() {
    for (stop, expected) in [(Stop::Cancelled, 499), (Stop::TimedOut, 408)] {
        let machine = Machine::new();
        let mut systemd = machine.systemd(job()).await;
        let run = machine.run();
        called(&mut systemd, "start").await;
        run.stop.send_replace(Some(stop));
        called(&mut systemd, "stop").await;
        assert!(!run.task.is_finished(), "it has not ended yet");
        systemd.ends(JOB, "done", |says| *says = failed("signal", (2, 15))).await;
        let (status, payload) = run.outcome().await;
        assert_eq!((status, &payload["signal"]), (expected, &json!(15)), "{payload}");
        assert!(payload["error"].as_str().is_some_and(|why| why.starts_with("stopped")), "{payload}");
    }
    // What has ended by itself meanwhile is told so.
    let machine = Machine::new();
    let mut systemd = machine.systemd(job()).await;
    let run = machine.run();
    called(&mut systemd, "start").await;
    systemd.ends(JOB, "done", |says| *says = succeeded()).await;
    run.stop.send_replace(Some(Stop::Cancelled));
    assert_eq!(run.outcome().await.0, 200);
}

#[tokio::test]
async fn a_job_that_does_not_stop_is_given_up_after_its_own_time_and_let_go_when_it_ends_after_all() {
    let machine = Machine::new();
    assert_eq!(machine.unit.grace(), Duration::MAX, "nobody drops it before");
    let mut systemd = machine.systemd(Says { stops_within: 200_000, ..job() }).await;
    let run = machine.run();
    called(&mut systemd, "start").await;
    run.stop.send_replace(Some(Stop::Cancelled));
    let (status, payload) = run.outcome().await;
    let why = payload["error"].as_str().expect("words");
    assert!(status == 499 && why.starts_with("stopped, but ") && why.contains(JOB), "{status} {why}");
    called(&mut systemd, "stop").await;
    assert!(!machine.payload().exists());
    systemd.ends(JOB, "done", |says| *says = failed("timeout", (2, 9))).await;
    called(&mut systemd, "reset-failed").await;
    assert!(!systemd.now(JOB).is_loaded);
}

#[tokio::test]
async fn a_job_of_a_former_life_is_found_again() {
    let cases: [(Says, u16, &str); 4] = [
        (succeeded(), 200, "result"),
        (failed("exit-code", (1, 1)), 500, "exitCode"),
        (job(), 500, "interrupted"),
        (Says { is_loaded: true, ..job() }, 500, "interrupted"),
    ];
    for (says, expected, member) in cases {
        let machine = Machine::new();
        fs::write(machine.payload(), "{}").expect("written");
        let _systemd = machine.systemd(says.clone()).await;
        let (status, payload) = machine.resume().outcome().await;
        assert_eq!((status, payload.get(member).is_some()), (expected, true), "{says:?}: {payload}");
        assert!(!machine.payload().exists());
    }
    let machine = Machine::new();
    let systemd = machine.systemd(running()).await;
    let mut run = machine.resume();
    systemd.says(JOB, |says| says.said = "still at it".to_owned()).await;
    assert_eq!(run.news.recv().await.map(|(_, text)| text).as_deref(), Some("still at it"));
    systemd.ends(JOB, "done", |says| *says = succeeded()).await;
    assert_eq!(run.outcome().await.0, 200);
    assert_eq!(systemd.now(JOB).starts, 1, "it was not started again");
}

#[tokio::test]
async fn the_time_of_a_job_begins_with_its_start_and_not_with_that_of_the_agent() {
    let machine = Machine::new();
    let mut systemd = machine.systemd(Says { is_old: true, ..running() }).await;
    let run = machine.resume();
    called(&mut systemd, "stop").await;
    systemd.ends(JOB, "done", |says| *says = failed("signal", (2, 15))).await;
    let (status, payload) = run.outcome().await;
    assert!(status == 408 && payload["error"].as_str().is_some_and(|why| why.contains("time limit")), "{payload}");
}

#[tokio::test]
async fn jobs_of_two_methods_with_one_id_have_each_its_payload() {
    let machine = Machine::new();
    fs::write(machine.folder.path().join("jobs/twinagent-job-other@c-1.json"), "of another").expect("written");
    let mut systemd = machine.systemd(job()).await;
    let run = machine.run();
    called(&mut systemd, "start").await;
    systemd.ends(JOB, "done", |says| *says = succeeded()).await;
    assert_eq!(run.outcome().await.0, 200);
    let other = fs::read_to_string(machine.folder.path().join("jobs/twinagent-job-other@c-1.json"));
    assert_eq!(other.expect("it is still there"), "of another");
}

#[tokio::test]
async fn a_bus_that_is_lost_in_mid_job_is_looked_for_again() {
    let mut machine = Machine::new();
    let mut systemd = machine.systemd(job()).await;
    let run = machine.run();
    called(&mut systemd, "start").await;
    drop(systemd);
    machine.bus = None;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!run.task.is_finished(), "the job goes on, and so does the wait");
    machine.bus = Some(Bus::at(machine.folder.path().join("bus")));
    let _systemd = machine.systemd(failed("exit-code", (1, 7))).await;
    let (status, payload) = run.outcome().await;
    assert_eq!((status, &payload["exitCode"]), (500, &json!(7)), "{payload}");
}

#[tokio::test]
async fn what_was_left_behind_is_taken_away_after_the_next_job() {
    let machine = Machine::new();
    let left: BTreeMap<&str, Says> = BTreeMap::from([
        ("twinagent-job-upgrade@old.service", Says { is_old: true, ..succeeded() }),
        ("twinagent-job-upgrade@new.service", succeeded()),
        ("twinagent-job-upgrade@runs.service", Says { is_old: true, ..running() }),
        (JOB, job()),
    ]);
    let left: Vec<(&str, Says)> = left.into_iter().collect();
    let payload = |id: &str| machine.folder.path().join(format!("jobs/twinagent-job-upgrade@{id}.json"));
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (id, is_old) in [("old", true), ("runs", true), ("none", true), ("fresh", false)] {
        let file = fs::File::create(payload(id)).expect("made");
        if is_old {
            file.set_modified(long_ago).expect("a time");
        }
    }
    let mut systemd = Systemd::start(&machine.unit.bus, &left).await;
    let run = machine.run();
    called(&mut systemd, "start").await;
    systemd.ends(JOB, "done", |says| *says = succeeded()).await;
    assert_eq!(run.outcome().await.0, 200);
    called(&mut systemd, "stop").await;
    called(&mut systemd, "stop").await;
    let loaded = |id: &str| systemd.now(&format!("twinagent-job-upgrade@{id}.service")).is_loaded;
    assert_eq!((loaded("c-1"), loaded("old"), loaded("new"), loaded("runs")), (false, false, true, true));
    // Files are last.
    for _ in 0..500 {
        if !payload("none").exists() && !payload("old").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let there = ["old", "none", "runs", "fresh"].map(|id| payload(id).exists());
    assert_eq!(there, [false, false, true, true]);
}
