//! Stories of a card or an image that was copied with the agent's state and key, and of what only looks like that.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use twinagent::config::key_mark;
use twinagent::host::names;
use twinagent::model::fingerprint::Fingerprint;
use twinagent::model::wire::Secret;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;
use crate::program::{done, problem, run, status};

on_both_clouds! {
    a_copy_answers_nothing_that_the_original_was_asked_and_tells_what_it_is,
    a_machine_that_was_installed_anew_or_says_nothing_of_itself_keeps_its_state,
    an_image_on_which_nothing_was_done_is_no_trouble_to_its_devices,
    a_state_that_cannot_be_made_this_machines_own_is_not_used,
}

const KEY: &str = "etc/keys/device.key";
const ASIDE: &str = "state/journal.of-another-machine";

fn machine(board: &str, id: &str) -> Fingerprint {
    Fingerprint::new(Some(board), Some(id))
}

/// The machine that the tests run on, as the command line finds it.
fn here() -> Fingerprint {
    let here = names::fingerprint(Path::new("/"));
    assert!(!here.is_unknown(), "these stories want a machine with an /etc/machine-id, as machine-id(5) says");
    here
}

/// The device's key as if it had been made on that machine.
fn made_on(device: &Device, machine: &Fingerprint) {
    let key = device.path(KEY);
    let text = Secret::new(fs::read_to_string(&key).expect("the key"));
    fs::write(&key, key_mark::write(&text, machine).reveal()).expect("written");
}

/// A device on the machine `b-1` that was ended in the middle of a command.
async fn cut_off(setup: Setup) -> Device {
    let mut device = Device::new(setup).await;
    device.machine = machine("b-1", "m-1");
    device.start();
    device.wait_until_ready().await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    device.send("count/slow", r#"{"sleepMillis":600000}"#).await;
    device.crash().await;
    device
}

fn setup(kind: Kind) -> Setup {
    Setup { answers: "events", ..Setup::on(kind) }
}

async fn a_copy_answers_nothing_that_the_original_was_asked_and_tells_what_it_is(kind: Kind) {
    let mut device = cut_off(setup(kind)).await;
    let log = Log::listen();
    device.machine = machine("b-2", "m-1");
    device.start();
    // A key that says nothing of a machine may have been brought here on purpose.
    device.wait_until_ready().await;
    let told = status(&device, |status| problem(&status["problems"], "another-machine").is_some()).await;
    let text = problem(&told["problems"], "another-machine").expect("a problem").to_owned();
    let aside = device.path(ASIDE).display().to_string();
    assert!(text.contains(&aside) && text.contains("`sudo twinagent reset --identity`"), "{text}");
    device.twin(|twin| problem(&twin["agent"]["problems"], "another-machine").is_some()).await;
    log.wait_for("the state folder comes from another machine").await;

    // What the original did has not been done here, and what it had begun is not ended here.
    assert_eq!(done(&device, &["history", "--json"]).await.matches("\"c-1\"").count(), 0);
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    assert_eq!(device.counted()["c-1"], 2, "another device ran it");
    assert!(device.answers_to("slow").iter().all(|answer| answer["status"] == 202), "nobody ended it");
    device.stop().await;

    // It is this machine's state from now on.
    device.start();
    device.wait_until_ready().await;
    device.send("count/c-1", "").await;
    device.twin(|twin| twin["agent"]["health"] == "ok").await;
    assert_eq!(device.counted()["c-1"], 2);
    device.stop().await;

    // The same device with another board, after all: its own past is put back.
    fs::rename(device.path(ASIDE), device.path("state/journal")).expect("put back");
    device.start();
    device.wait_until_ready().await;
    device.answer("slow", 500).await;
    device.stop().await;
}

/// The negative control of the story above, for all that is no other machine, as far as anybody can say.
async fn a_machine_that_was_installed_anew_or_says_nothing_of_itself_keeps_its_state(kind: Kind) {
    let log = Log::listen();
    for later in [machine("b-1", "m-1"), machine("b-1", "m-2"), Fingerprint::default()] {
        let mut device = cut_off(setup(kind)).await;
        let place = device.path("state/machine");
        let noted = || fs::metadata(&place).expect("whose state it is").ino();
        let before = noted();
        device.machine = later;
        device.start();
        device.wait_until_ready().await;
        device.answer("slow", 500).await;
        assert!(!device.path(ASIDE).exists(), "{later}");
        assert_eq!(
            noted() != before,
            later == machine("b-1", "m-2"),
            "written only when there is something new: {later}"
        );
        device.stop().await;
    }
    assert_eq!(log.count("another machine"), 0, "{}", log.text());
}

/// Many devices are made from an image on which the agent ran once and was asked nothing.
async fn an_image_on_which_nothing_was_done_is_no_trouble_to_its_devices(kind: Kind) {
    let mut device = Device::new(setup(kind)).await;
    let (main, aside) = (device.path("etc/twinagent.toml"), device.path("aside.toml"));
    fs::rename(&main, &aside).expect("not set up yet");
    device.machine = machine("b-1", "m-1");
    device.start_as_it_is();
    status(&device, |status| status["state"] == "not configured").await;
    device.stop().await;
    let image = fs::read(device.path("state/machine")).expect("whose state it is");

    fs::rename(&aside, &main).expect("set up");
    device.machine = machine("b-2", "m-2");
    device.start();
    device.wait_until_ready().await;
    let told = status(&device, |status| status["state"] == "connected").await;
    assert_eq!(told["problems"], json!([]));
    assert!(!device.path(ASIDE).exists());
    assert_ne!(fs::read(device.path("state/machine")).expect("whose state it is"), image);
    works(&mut device, "c-1").await;
    device.stop().await;
    // From here on it has a past.
    device.machine = machine("b-3", "m-3");
    device.start();
    device.wait_until_ready().await;
    status(&device, |status| problem(&status["problems"], "another-machine").is_some()).await;
    device.stop().await;
}

async fn works(device: &mut Device, id: &str) {
    device.send(&format!("count/{id}"), "").await;
    device.answer(id, 200).await;
}

#[tokio::test]
async fn a_copied_key_is_used_by_nobody_until_somebody_says_that_it_is_the_same_device() {
    let log = Log::listen();
    let quick = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\n";
    let mut device = Device::new(Setup { config: quick, ..setup(Kind::IotCore) }).await;
    let registered = done(&device, &["pubkey"]).await;
    device.machine = here();
    made_on(&device, &machine("another board", "another id"));
    device.start();
    let told = status(&device, |status| problem(&status["problems"], "key").is_some()).await;
    let text = problem(&told["problems"], "key").expect("a problem");
    for words in [&device.path(KEY).display().to_string(), "was made on another machine", "keygen --adopt"] {
        assert!(text.contains(words), "{text}");
    }
    for words in [&["pubkey"][..], &["token"], &["keygen", "--if-missing"]] {
        let told = run(&device, words).await;
        assert!(told.code == 1 && told.err.contains("made on another machine"), "{told:?}");
    }
    let told = run(&device, &["check"]).await;
    assert!(told.code == 78 && told.err.contains("made on another machine"), "{told:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((device.logins().await, device.cloud.accepted()), (0, 0));

    let told = run(&device, &["keygen", "--adopt"]).await;
    let path = device.path(KEY).display().to_string();
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{told:?}");
    assert_eq!(told.err, format!("{path} belongs to this machine from now on\n"));
    device.wait_until_ready().await;
    status(&device, |status| status["problems"] == json!([])).await;
    assert_eq!(done(&device, &["pubkey"]).await, registered, "the key is the same");
    let told = run(&device, &["keygen", "--adopt"]).await;
    assert!(told.code == 0 && told.err.contains("nothing was changed"), "{told:?}");
    device.stop().await;
    assert_eq!(log.count("closed by the broker"), 0, "{}", log.text());
}

#[tokio::test]
async fn a_copy_gets_a_key_of_its_own_and_that_one_is_not_refused() {
    let mut device = Device::new(setup(Kind::IotCore)).await;
    let registered = done(&device, &["pubkey"]).await;
    made_on(&device, &machine("another board", "another id"));
    let removed = done(&device, &["reset", "--identity"]).await;
    assert!(removed.contains("device.key"), "{removed}");
    let made = done(&device, &["keygen"]).await;
    assert_ne!(made, registered);
    let text = Secret::new(fs::read_to_string(device.path(KEY)).expect("the key"));
    assert_eq!(key_mark::read(&text), Some(here()), "it says where it was made");
    assert_eq!(done(&device, &["pubkey"]).await, made);
    let openssl = std::process::Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(device.path(KEY)).output();
    assert_eq!(String::from_utf8(openssl.expect("openssl").stdout).expect("text"), made, "others read it as before");

    // The cloud does not know it yet, and is asked.
    device.machine = here();
    let log = Log::listen();
    device.start();
    log.wait_for("login refused").await;
    device.stop().await;

    // One that goes elsewhere is for another machine.
    let elsewhere = device.path("elsewhere.key");
    done(&device, &["keygen", "--out", &elsewhere.display().to_string()]).await;
    assert!(fs::read_to_string(elsewhere).expect("a key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
}

/// A copy on a disk that does not take what must be written: another machine's journal is still not used, and none of ours
/// is begun that the next start would set aside.
async fn a_state_that_cannot_be_made_this_machines_own_is_not_used(kind: Kind) {
    // A draft that cannot be made stands for a disk that is full.
    for in_the_way in [ASIDE, "state/machine.draft"] {
        let mut device = cut_off(setup(kind)).await;
        let kept = fs::read(device.path("state/machine")).expect("whose state it is");
        fs::create_dir(device.path(in_the_way)).expect("in the way");
        device.machine = machine("b-2", "m-1");
        device.start();
        device.wait_until_ready().await;
        device.send("echo/e-1", "").await;
        device.answer("e-1", 200).await;
        device.send("count/c-2", "").await;
        let refused = device.answer("c-2", 503).await;
        assert!(refused["payload"]["error"].as_str().is_some_and(|text| text.contains("another machine")), "{refused}");
        assert!(device.answers_to("slow").iter().all(|answer| answer["status"] == 202), "nobody ended it");
        device.stop().await;
        assert_eq!(fs::read(device.path("state/machine")).expect("whose state it is"), kept, "{in_the_way}");
        assert_eq!(device.path("state/journal").exists(), in_the_way == ASIDE, "none is begun");

        fs::remove_dir(device.path(in_the_way)).expect("mended");
        device.start();
        device.wait_until_ready().await;
        device.send("count/c-2", "").await;
        device.answer("c-2", 200).await;
        assert!(device.path(ASIDE).exists() && device.answers_to("slow").iter().all(|answer| answer["status"] == 202));
        device.stop().await;
    }
}
