//! Stories of the people and programs on the device's own machine, who come by the local interface.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use twinagent::local::SOCKET;
use twinagent::local::client::Client;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, METHODS, PATIENCE, Setup};
use crate::process::Process;
use crate::program::{Told, beside, done, finish, json, program, run, status};
use crate::workshop::{HELD, Workshop};

on_both_clouds! {
    a_person_sees_the_state_of_things_and_the_methods,
    a_local_command_goes_the_same_road_and_its_answer_stays_here,
    who_follows_a_command_hears_of_each_stage,
    a_local_reboot_is_reported_as_such_and_its_answer_stays_here,
    a_reboot_that_waits_can_be_taken_back_here_whoever_asked_for_it,
    the_history_is_known_after_a_restart,
    a_local_program_keeps_members_of_the_reported_document,
    who_follows_desired_gets_each_document_once,
    telemetry_of_a_local_program_arrives_as_it_was_sent,
    telemetry_waits_for_the_cloud_and_the_oldest_is_dropped_and_counted,
    a_short_program_in_python_is_a_part_of_the_twin,
    short_programs_serve_a_method_and_go_on_when_the_daemon_was_away,
    another_user_reads_only_where_a_group_is_named_and_never_acts,
    a_daemon_that_is_frozen_is_told_from_one_that_is_gone,
}

const PATIENT: &str = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"1h\"\nmin_interval = \"0s\"\n";
const PROMPT: &str = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\nmin_interval = \"1h\"\ntoo_soon = \"refuse\"\n";

/// Calls a method and hands on its replies as they come, from a thread of its own. It ends with the last reply, and at
/// the latest with the daemon.
pub(crate) fn follow(device: &Device, method: &'static str, parameters: Value) -> mpsc::Receiver<Value> {
    let folder = device.path("run");
    let (sender, replies) = mpsc::channel(1_000);
    std::thread::spawn(move || {
        let mut client = Client::connect(&folder).expect("the daemon listens");
        let each = |reply| sender.blocking_send(Value::Object(reply)).is_ok();
        // The daemon may end before the story does.
        let _ = client.follow(method, &parameters, each);
    });
    replies
}

/// The next reply that is as `fits` wants it.
pub(crate) async fn next(replies: &mut mpsc::Receiver<Value>, fits: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let reply = replies.recv().await.expect("there is more to come");
            if fits(&reply) {
                return reply;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a reply as it should be")
}

/// What the cloud has been told of this command, once it was told something that came later.
async fn told_to_the_cloud(device: &mut Device, id: &str) -> Vec<Value> {
    device.send("echo/later", "").await;
    device.answer("later", 200).await;
    device.answers_to(id)
}

fn fails(told: &Told, code: i32, words: &str) {
    assert!(told.code == code && told.err.contains(words), "{code} {words:?} expected: {told:?}");
}

// === Commands

async fn a_person_sees_the_state_of_things_and_the_methods(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    let now = status(&device, |status| status["state"] == "connected").await;
    assert_eq!(now["device"], "gw-1");
    assert_eq!(now["cloud"], json!({ "kind": kind.name(), "host": "localhost" }));
    assert_eq!(now["problems"], json!([]));
    assert!(now["session"]["since"].is_string() && now["session"]["renewAt"].is_string(), "{now}");
    let words = done(&device, &["status"]).await;
    let begin = format!("connected\n  device     gw-1, {} at localhost\n", kind.name());
    assert!(words.starts_with(&begin), "{words}");

    let methods = json(&device, &["methods", "--json"]).await;
    let named: Vec<&str> =
        methods["methods"].as_array().expect("a list").iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(named, METHODS);

    // Who follows the status hears of each change.
    let mut changes = follow(&device, "GetStatus", json!({}));
    next(&mut changes, |status| status["state"] == "connected").await;
    device.cloud.disconnect().await;
    // It may be back before the next answer is due.
    next(&mut changes, |status| status["state"] == "connected" && status["lastDisconnect"]["reason"].is_string()).await;
    device.stop().await;
    fails(&run(&device, &["status"]).await, 69, "hint: is it running?");
}

async fn a_local_command_goes_the_same_road_and_its_answer_stays_here(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, ..Setup::on(kind) }).await;
        let told = run(&device, &["invoke", "echo", r#"{"a":[1,null]}"#, "--id", "h-1"]).await;
        assert_eq!(serde_json::from_str::<Value>(&told.out).expect("JSON"), json!({ "a": [1, null] }));
        fails(&told, 0, "h-1 200");

        let told = run(&device, &["invoke", "count", "--id", "c-1"]).await;
        fails(&told, 0, "c-1 202");
        assert!(told.err.ends_with("c-1 200\n") && told.out.contains("counted"), "{told:?}");
        // The same one again is answered and does not run; another one of this id is refused.
        let again = run(&device, &["invoke", "count", "--id", "c-1"]).await;
        assert_eq!((again.code, &again.out), (0, &told.out));
        fails(&run(&device, &["invoke", "count", "7", "--id", "c-1"]).await, 1, "count c-1 ended with 409");
        fails(&run(&device, &["invoke", "nonsense", "--id", "n-1"]).await, 1, "nonsense n-1 ended with 404");
        fails(&run(&device, &["invoke", "count", "{", "--id", "n-2"]).await, 2, "is not JSON");

        // Without an id, each is one of its own.
        for _ in 0..2 {
            done(&device, &["invoke", "count"]).await;
        }
        let counted = device.counted();
        assert_eq!((counted.values().sum::<usize>(), counted["c-1"]), (3, 1), "{counted:?}");

        for id in ["h-1", "c-1", "n-1"] {
            assert_eq!(told_to_the_cloud(&mut device, id).await, Vec::<Value>::new(), "{id} is not the cloud's");
        }
        let history = json(&device, &["history", "--json"]).await;
        let known = history["commands"].as_array().expect("a list");
        assert_eq!(known.len(), 3, "{history}");
        assert!(known.iter().all(|command| command["told"] == true && command["local"] == true), "{history}");
        device.stop().await;
    }
}

async fn who_follows_a_command_hears_of_each_stage(kind: Kind) {
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", ..Setup::on(kind) }, &[("work", "", HELD)]).await;
    let parameters = json!({ "method": "work", "id": "slow" });
    let mut stages = follow(&device, "Invoke", parameters.clone());
    assert_eq!(next(&mut stages, |_| true).await["status"], 202);
    // Another one asks for the same command, and both get its one outcome.
    let mut others = follow(&device, "Invoke", parameters);
    assert_eq!(next(&mut others, |_| true).await["status"], 202);
    // Meanwhile the cloud is served.
    device.send("echo/meanwhile", "").await;
    device.answer("meanwhile", 200).await;
    workshop.let_go();
    for replies in [&mut stages, &mut others] {
        let outcome = next(replies, |_| true).await;
        assert_eq!((&outcome["status"], &outcome["final"]), (&json!(200), &json!(true)));
        assert!(replies.recv().await.is_none(), "that was the last");
    }
    assert_eq!(workshop.runs("work"), ["slow"]);
    device.stop().await;
    workshop.stop().await;
}

async fn a_local_reboot_is_reported_as_such_and_its_answer_stays_here(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, config: PROMPT, ..Setup::on(kind) }).await;
        let told = run(&device, &["invoke", "rebootDevice", r#"{"reason":"a person"}"#, "--id", "r-1"]).await;
        fails(&told, 0, "r-1 202 scheduled");
        assert!(told.err.ends_with("r-1 200\n"), "{told:?}");
        device.wait_until_ready().await;
        let twin = device.twin(|twin| twin["reboot"]["state"] == "completed").await;
        assert_eq!(twin["reboot"]["cause"], "local");
        assert_eq!(twin["reboot"]["commandId"], "r-1");
        assert_eq!(twin["reboot"]["reason"], "a person");
        assert_eq!(twin["rebootTime"], twin["reboot"]["completedAt"]);
        assert_eq!(told_to_the_cloud(&mut device, "r-1").await, Vec::<Value>::new());
        // Spacing is for everybody.
        fails(&run(&device, &["invoke", "rebootDevice"]).await, 1, "ended with 429");
        device.stop().await;
    }
}

async fn a_reboot_that_waits_can_be_taken_back_here_whoever_asked_for_it(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", config: PATIENT, ..Setup::on(kind) }).await;
    device.send("rebootDevice/cloud-1", "").await;
    device.answer("cloud-1", 202).await;
    fails(&run(&device, &["invoke", "rebootDevice"]).await, 1, "ended with 409");
    let client = |id: &str| follow(&device, "Cancel", json!({ "id": id }));
    assert_eq!(next(&mut client("other"), |_| true).await["status"], 409);
    let cancelled = next(&mut client("cloud-1"), |_| true).await;
    assert_eq!((&cancelled["status"], &cancelled["payload"]), (&json!(200), &json!({ "cancelled": "cloud-1" })));
    device.answer("cloud-1", 499).await;
    device.twin(|twin| twin["reboot"]["state"] == "cancelled").await;

    // One of this machine's own is taken back by the cloud, and who waits for it is told.
    let mut waiting = follow(&device, "Invoke", json!({ "method": "rebootDevice", "id": "local-1" }));
    assert_eq!(next(&mut waiting, |_| true).await["status"], 202);
    device.send("cancelReboot/x-1", "").await;
    assert_eq!(device.answer("x-1", 200).await["payload"]["cancelled"], "local-1");
    assert_eq!(next(&mut waiting, |_| true).await["status"], 499);
    assert_eq!(told_to_the_cloud(&mut device, "local-1").await, Vec::<Value>::new());
    device.stop().await;
}

async fn the_history_is_known_after_a_restart(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", config: PROMPT, ..Setup::on(kind) }).await;
    device.send("count/from-cloud", "").await;
    device.answer("from-cloud", 200).await;
    done(&device, &["invoke", "count", "--id", "from-here"]).await;
    done(&device, &["invoke", "rebootDevice", "--id", "reboot-1"]).await;
    device.wait_until_ready().await;
    device.twin(|twin| twin["reboot"]["state"] == "completed").await;
    let commands = async |device: &Device| {
        let history = json(device, &["history", "--json"]).await;
        assert_eq!(history["reboots"]["story"]["cause"], "local", "{history}");
        history["commands"].clone()
    };
    let before = commands(&device).await;
    let ids: Vec<&str> = before.as_array().expect("a list").iter().filter_map(|c| c["id"].as_str()).collect();
    assert_eq!(ids, ["reboot-1", "from-here", "from-cloud"], "the newest first");
    for restart in ["stop", "crash"] {
        match restart {
            "stop" => device.stop().await,
            _ => device.crash().await,
        }
        device.start();
        device.wait_until_ready().await;
        assert_eq!(commands(&device).await, before, "{restart}");
    }
    let one = done(&device, &["history", "from-here"]).await;
    assert!(one.starts_with("id        from-here\n") && one.contains("counted"), "{one}");
    fails(&run(&device, &["history", "nobody"]).await, 1, "no command with this id is known");
    device.stop().await;
}

// === The twin

async fn a_local_program_keeps_members_of_the_reported_document(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    done(&device, &["twin", "report", r#"{"door":{"state":"open","since":"noon"},"lamp":true}"#]).await;
    device.twin(|twin| twin["door"] == json!({ "state": "open", "since": "noon" }) && twin["lamp"] == true).await;
    done(&device, &["twin", "report", r#"{"door":{"since":null,"state":"shut"},"lamp":null}"#]).await;
    let is_merged = |twin: &Value| twin["door"] == json!({ "state": "shut" }) && twin.get("lamp").is_none();
    device.twin(is_merged).await;

    for own in ["rebootTime", "reboot", "boot", "agent", "methods", "commands", "commandsDropped", "desired"] {
        let patch = json!({ "door": "stolen", own: "forged" }).to_string();
        fails(&run(&device, &["twin", "report", &patch]).await, 1, &format!("`{own}` is the agent's own member"));
    }
    let large = json!({ "log": vec!["x".repeat(4_000); 10] }).to_string();
    fails(&run(&device, &["twin", "report", &large]).await, 1, "too large");
    assert!(is_merged(&json(&device, &["twin"]).await["reported"]), "nothing of a refused patch is taken");

    device.crash().await;
    device.start();
    device.wait_until_ready().await;
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    let twin = device.twin(|twin| twin["commands"]["after"].is_object()).await;
    assert!(is_merged(&twin), "{twin}");
    device.stop().await;
}

async fn who_follows_desired_gets_each_document_once(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut documents = follow(&device, "FollowDesired", json!({}));
    let nothing_yet = match kind {
        Kind::IotCore => json!(null),
        Kind::IotHub => json!({}),
    };
    next(&mut documents, |reply| reply["document"] == nothing_yet).await;
    for n in 0..3 {
        device.cloud.set_desired(&json!({ "interval": n }).to_string()).await;
        assert_eq!(next(&mut documents, |_| true).await["document"], json!({ "interval": n }));
    }
    // The cloud sends it again with each login; that is nothing new.
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    // One cloud takes anything for a document, the other nothing but an object.
    let (last, known) = match kind {
        Kind::IotCore => ("no JSON", json!({ "text": "no JSON" })),
        Kind::IotHub => (r#"{"last":true}"#, json!({ "last": true })),
    };
    device.cloud.set_desired(last).await;
    assert_eq!(next(&mut documents, |_| true).await["document"], known);
    assert_eq!(json(&device, &["twin"]).await["desired"], known);
    device.stop().await;
}

// === Telemetry

async fn send_telemetry(device: &Device, subfolder: &str, payload: &[u8]) -> Told {
    let words = if subfolder.is_empty() { vec!["telemetry"] } else { vec!["telemetry", subfolder] };
    finish(program(device, &words), payload).await
}

async fn telemetry_of_a_local_program_arrives_as_it_was_sent(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    let sent = [("", b"plain".to_vec()), ("alerts/hot", b"\x00\xff".to_vec()), ("big", vec![7; 200_000])];
    for (subfolder, payload) in &sent {
        assert_eq!(send_telemetry(&device, subfolder, payload).await.code, 0);
    }
    let expected = sent.map(|(subfolder, payload)| (subfolder.to_owned(), payload.into()));
    assert_eq!(device.telemetry(3).await, expected);
    fails(&send_telemetry(&device, "a/#", b"").await, 2, "not a subfolder: expected are words of A-Z a-z 0-9");
    device.stop().await;
}

async fn telemetry_waits_for_the_cloud_and_the_oldest_is_dropped_and_counted(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    device.lose_cloud().await;
    status(&device, |status| status["state"] != "connected").await;
    // More than the megabyte that is kept.
    let message = |n: u8| vec![n; 200_000];
    for n in 0..8 {
        assert_eq!(send_telemetry(&device, &format!("n-{n}"), &message(n)).await.code, 0);
    }
    let telemetry = status(&device, |_| true).await["telemetry"].clone();
    assert_eq!(telemetry, json!({ "waiting": 5, "dropped": 3 }));
    device.restore_cloud().await;
    device.wait_until_ready().await;
    let expected: Vec<_> = (3..8).map(|n| (format!("n-{n}"), message(n).into())).collect();
    assert_eq!(device.telemetry(5).await, expected);
    status(&device, |status| status["telemetry"]["waiting"] == 0).await;
    device.stop().await;
}

// === Programs and users

async fn a_short_program_in_python_is_a_part_of_the_twin(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/local.py");
    let mut command = Command::new("python3");
    command.arg(example).arg(device.path("run").join(SOCKET)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut program = command.spawn().expect("python3 runs");
    let printed = program.stdout.take().expect("piped");
    let (sender, mut lines) = mpsc::channel(100);
    std::thread::spawn(move || {
        for line in BufReader::new(printed).lines().map_while(Result::ok) {
            let _ = sender.blocking_send(Value::String(line));
        }
    });
    let nothing_yet = match kind {
        Kind::IotCore => "desired: null",
        Kind::IotHub => "desired: {}",
    };
    next(&mut lines, |line| line == nothing_yet).await;
    device.twin(|twin| twin["door"] == "open").await;
    assert_eq!(device.telemetry(1).await, [("alerts".to_owned(), "the door is open".into())]);
    device.cloud.set_desired(r#"{"interval": 5}"#).await;
    next(&mut lines, |line| line == r#"desired: {"interval": 5}"#).await;
    // It ends with the daemon.
    process.stop().await;
    let ended = tokio::task::spawn_blocking(move || program.wait().expect("our child"));
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").expect("no panic");
    assert!(ended.success(), "{ended}");
}

/// One of our examples. Ends with this.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        // Whether it has ended by itself makes no difference.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody serves the method of the examples, and has its answer.
async fn load(device: &Device) -> Value {
    let wait = async {
        loop {
            let told = run(device, &["invoke", "readLoad"]).await;
            if told.code == 0 {
                return serde_json::from_str(&told.out).expect("JSON");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it is served")
}

async fn short_programs_serve_a_method_and_go_on_when_the_daemon_was_away(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut process = Process::online(&mut device).await;
    for (with, name) in [("python3", "serve.py"), ("bash", "serve.sh")] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples").join(name);
        let mut command = Command::new(with);
        command.arg(example).arg(device.path("run").join(SOCKET)).stdin(Stdio::null()).stdout(Stdio::null());
        let program = Example(command.spawn().expect("python3, bash, socat and jq are there"));
        let is_load = |load: &Value| load.is_number() || load.as_array().is_some_and(|loads| loads.len() == 3);
        let first = load(&device).await;
        assert!(is_load(&first), "{name}: {first}");
        device.send(&format!("readLoad/{with}-1"), "").await;
        device.answer(&format!("{with}-1"), 200).await;

        process.stop().await;
        process = Process::start(&device);
        let again = load(&device).await;
        assert!(is_load(&again), "{name}: {again}");
        device.wait_until_ready_anew().await;
        device.send(&format!("readLoad/{with}-2"), "").await;
        device.answer(&format!("{with}-2"), 200).await;
        let methods = json(&device, &["methods", "--json"]).await;
        assert!(methods.to_string().contains("readLoad"), "{methods}");

        drop(program);
        let wait = async {
            while run(&device, &["invoke", "readLoad"]).await.code == 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("nobody serves it any more");
    }
    process.stop().await;
}

/// The program where every user may run it.
fn for_everybody(device: &Device) -> PathBuf {
    assert!(rustix::process::geteuid().is_root(), "becoming another user takes root; hint: run the tests as root");
    let program = device.path("twinagent");
    // By another process: a child of another story could inherit a file that is open for writing in this one, and the kernel
    // runs no program that somebody may write to (`ETXTBSY`).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_twinagent")).arg(&program).status().expect("cp runs");
    assert!(copied.success(), "{copied}");
    fs::set_permissions(device.path(""), Permissions::from_mode(0o755)).expect("a mode");
    program
}

async fn another_user_reads_only_where_a_group_is_named_and_never_acts(kind: Kind) {
    /// `adm` on every Debian (base-passwd), which `read_group` names by default.
    const ADM: &str = "4";
    let mut device = Device::online(Setup { answers: "events", config: PATIENT, ..Setup::on(kind) }).await;
    let program = for_everybody(&device);
    let as_nobody = async |device: &Device, groups: Option<&str>, words: &[&str]| {
        let groups = groups.map_or("--clear-groups".to_owned(), |groups| format!("--groups={groups}"));
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", &groups]).arg(&program).args(words);
        beside(device, &mut command);
        finish(command, b"telemetry").await
    };
    let reads = [&["status"][..], &["methods"], &["history"], &["twin"]];
    let acts = [
        &["invoke", "count", "--id", "c-1"][..],
        &["invoke", "rebootDevice", "--id", "r-1"],
        &["twin", "report", r#"{"door":"open"}"#],
        &["telemetry", "alerts"],
    ];
    for words in reads {
        assert_eq!(as_nobody(&device, Some(ADM), words).await.code, 0, "{words:?}");
        fails(&as_nobody(&device, None, words).await, 77, "not permitted");
    }
    for groups in [None, Some(ADM)] {
        for words in acts {
            fails(&as_nobody(&device, groups, words).await, 77, "not permitted");
        }
    }
    // None of it had an effect.
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    assert_eq!(json(&device, &["history", "--json"]).await["commands"], json!([]));
    assert_eq!(device.counted(), [].into());
    assert_eq!(device.telemetry(0).await, []);
    assert!(json(&device, &["twin"]).await["reported"].get("door").is_none());

    // Who may do what changes with the configuration, at once.
    fs::create_dir_all(device.path("etc/conf.d")).expect("a folder");
    fs::write(device.path("etc/conf.d/60.toml"), "[local]\nread_group = \"\"\nact_group = \"adm\"\n").expect("a file");
    let changed = async {
        while as_nobody(&device, Some(ADM), &["invoke", "count", "--id", "c-1"]).await.code != 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the group may act");
    fails(&as_nobody(&device, None, &["status"]).await, 77, "not permitted");
    device.stop().await;
}

async fn a_daemon_that_is_frozen_is_told_from_one_that_is_gone(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let process = Process::online(&mut device).await;
    process.freeze();
    let asked = Duration::from_secs(20);
    let told = tokio::time::timeout(asked, run(&device, &["status"])).await.expect("nobody waits for ever");
    assert_eq!((told.code, told.out.as_str()), (69, ""));
    assert!(told.err.starts_with("twinagent: the daemon gave no answer within 10 s\nhint: "), "{}", told.err);
    process.thaw();
    assert_eq!(run(&device, &["status"]).await.code, 0);
    process.stop().await;
}
