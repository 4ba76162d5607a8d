//! Stories of a reboot of the machine that is asked of the helper. Root's side is the story itself, or the real code with
//! a systemctl that reboots nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use twinagent::host::power::{Performer, Places, Tools, perform};
use twinagent::host::{boot, clock};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup, make_helper};
use crate::fake_logind::{Bus, HELD, Logind};
use crate::living::NOTICED;
use crate::process::Process;
use crate::program::status;

on_both_clouds! {
    the_helper_is_asked_once_in_words_that_hold_in_this_boot_only,
    what_holds_the_machine_up_is_told_at_once_and_again_after_a_restart,
    a_request_that_nobody_took_is_taken_back_at_the_next_start,
    a_stop_while_a_reboot_is_under_way_is_quick_and_changes_nothing,
    a_way_to_the_helper_that_opens_or_closes_is_seen,
}

const HELPER: &str = "[reboot]\nmode = \"helper\"\nmin_uptime = \"0s\"\nmin_interval = \"0s\"\ngrace = \"0s\"\n";

fn places(device: &Device) -> Places {
    Places::beside(&device.folders().runtime)
}

/// A device that could ask the helper for a reboot.
async fn with_helper(kind: Kind) -> Device {
    let mut device = Device::new(Setup { config: HELPER, ..Setup::on(kind) }).await;
    device.start();
    device.wait_until_ready().await;
    device
}

/// The request that the agent leaves.
async fn request(device: &Device) -> Value {
    let path = places(device).requests.join("request");
    let wait = async {
        loop {
            if let Ok(text) = fs::read_to_string(&path) {
                return serde_json::from_str(&text).expect("JSON, for it comes in one step");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a request")
}

fn is_asked(device: &Device) -> bool {
    places(device).requests.join("request").exists()
}

async fn sentence(device: &Device, words: &str) {
    status(device, |status| status["sentence"].as_str().is_some_and(|text| text.contains(words))).await;
}

async fn the_helper_is_asked_once_in_words_that_hold_in_this_boot_only(kind: Kind) {
    let mut device = with_helper(kind).await;
    let before = clock::boot();
    device.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#).await;
    device.answer("r-1", 202).await;
    let request = request(&device).await;
    assert_eq!((&request["command"], &request["reason"]), (&json!("r-1"), &json!("new kernel")));
    assert_eq!(request["boot"], json!(boot::id().expect("this boot")));
    let until = Duration::from_millis(request["untilMillis"].as_u64().expect("a time"));
    let ahead = until.saturating_sub(before.0);
    assert!((Duration::from_secs(58)..Duration::from_secs(90)).contains(&ahead), "{ahead:?}");
    let twin = device.twin(|twin| twin["reboot"]["state"] == "rebooting").await;
    assert_eq!((&twin["agent"]["rebootMode"], &twin["reboot"]["simulated"]), (&json!("helper"), &json!(false)));

    // Taken, and the machine still runs: it is not asked again, whatever happens, and everything else waits.
    fs::remove_file(places(&device).requests.join("request")).expect("taken");
    device.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#).await;
    device.send("cancelReboot/x-1", "").await;
    device.answer("x-1", 409).await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 409).await;
    device.stop().await;
    device.start();
    device.wait_until_ready().await;
    device.send("count/c-2", "").await;
    assert_eq!(device.answer("c-2", 409).await["payload"]["commandId"], "r-1");
    tokio::time::sleep(NOTICED).await;
    assert!(!is_asked(&device));
    device.stop().await;
}

async fn what_holds_the_machine_up_is_told_at_once_and_again_after_a_restart(kind: Kind) {
    let mut device = with_helper(kind).await;
    device.send("rebootDevice/r-1", "").await;
    request(&device).await;
    // Root's side as it is, where somebody holds a lock.
    let tools = device.path("tools");
    fs::create_dir(&tools).expect("a folder");
    // Written by another process: a child of another story could inherit a file that is open for writing in this one, and
    // the kernel runs no program that somebody may write to (`ETXTBSY`).
    let tool = |name: &str, text: &str| {
        let path = tools.join(name);
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        let written = Command::new("/bin/sh").args(["-c", write]).arg(&path).arg(text).status().expect("a shell");
        assert!(written.success(), "{written}");
        path
    };
    let bus = Bus::start();
    let _logind = Logind::start(&bus.address(), HELD).await;
    let performer = Performer {
        places: places(&device),
        tools: Tools { systemctl: tool("systemctl", "exit 1"), bus: bus.socket() },
        owners: vec![rustix::process::geteuid().as_raw()],
    };
    let this_boot = boot::id().expect("this boot");
    let judged = tokio::task::spawn_blocking(move || perform(&performer, this_boot, clock::boot()));
    judged.await.expect("no panic").expect("being held back is no error");
    sentence(&device, "no reboot so far: a shutdown is blocked by apt (package upgrade)").await;
    device.crash().await;
    device.start();
    sentence(&device, "no reboot so far: a shutdown is blocked by apt (package upgrade)").await;
    assert!(!is_asked(&device));
    device.stop().await;
}

async fn a_request_that_nobody_took_is_taken_back_at_the_next_start(kind: Kind) {
    let mut device = with_helper(kind).await;
    device.send("rebootDevice/r-1", "").await;
    request(&device).await;
    device.crash().await;
    assert!(is_asked(&device), "the crash left it there");
    device.start();
    sentence(&device, "nobody took the request for it; hint: ").await;
    assert!(!is_asked(&device), "whoever comes later finds nothing");
    device.stop().await;
}

async fn a_stop_while_a_reboot_is_under_way_is_quick_and_changes_nothing(kind: Kind) {
    let mut device = Device::new(Setup { config: HELPER, ..Setup::on(kind) }).await;
    let process = Process::online(&mut device).await;
    device.send("rebootDevice/r-1", "").await;
    request(&device).await;
    device.answer("r-1", 202).await;
    fs::remove_file(places(&device).requests.join("request")).expect("taken");
    process.terminate();
    // For what runs it would wait ten seconds.
    let status = tokio::time::timeout(Duration::from_secs(8), process.end()).await.expect("it ends at once");
    assert!(status.success(), "{status}");
    let process = Process::online(&mut device).await;
    let twin = device.twin(|twin| twin["reboot"]["state"] == "rebooting").await;
    assert_eq!(twin["commands"]["r-1"]["status"], 202, "neither done nor failed: {twin}");
    assert!(!is_asked(&device));
    process.stop().await;
}

async fn a_way_to_the_helper_that_opens_or_closes_is_seen(kind: Kind) {
    let mut device = Device::online(Setup { config: HELPER, helper: false, ..Setup::on(kind) }).await;
    device.twin(|twin| twin["agent"]["rebootMode"] == "unavailable").await;
    device.send("rebootDevice/r-1", "").await;
    let error = device.answer("r-1", 503).await["payload"]["error"].as_str().expect("a text").to_owned();
    assert!(error.contains(&*places(&device).requests.to_string_lossy()) && error.contains("hint: "), "{error}");
    make_helper(&device.folders().runtime);
    device.twin(|twin| twin["agent"]["rebootMode"] == "helper").await;
    fs::remove_dir(places(&device).requests).expect("an empty folder");
    device.twin(|twin| twin["agent"]["rebootMode"] == "unavailable").await;
    fs::create_dir(places(&device).requests).expect("a folder");
    device.twin(|twin| twin["agent"]["rebootMode"] == "helper").await;
    device.send("rebootDevice/r-2", "").await;
    assert_eq!(request(&device).await["command"], "r-2");

    device.stop().await;
}
