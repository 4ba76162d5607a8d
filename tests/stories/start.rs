//! Stories of the start: without a configuration, without a key, with bad ones, and how the device goes on by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::living::{MAIN, NOTICED, appended, is_told, is_well, read, write};
use crate::log::Log;
use crate::process::Process;
use crate::program::{done, problem, status};

on_both_clouds! {
    a_variable_that_is_wrong_is_told_by_its_name_and_wins_where_it_is_right,
    bad_files_at_the_start_cost_nothing_where_a_good_configuration_is_known,
    bad_files_at_the_first_start_leave_a_device_that_waits_for_better_ones,
    files_that_change_nothing_do_not_hurry_a_device_that_is_refused,
    a_new_install_reaches_for_nobody_and_goes_on_when_it_is_set_up,
}

async fn a_variable_that_is_wrong_is_told_by_its_name_and_wins_where_it_is_right(kind: Kind) {
    const KEEP_ALIVE: &str = "TWINAGENT__SESSION__KEEP_ALIVE";
    let mut device = Device::new(Setup::on(kind)).await;
    let process = Process::start_with(&device, &[(KEEP_ALIVE, "never")]);
    let told = status(&device, |status| status["state"] == "not configured").await;
    let text = problem(&told["problems"], "config").expect("a problem");
    assert!(text.starts_with(&format!("${KEEP_ALIVE}: ")), "{text}");
    process.stop().await;

    let process = Process::start_with(&device, &[(KEEP_ALIVE, "70s")]);
    device.wait_until_ready().await;
    let before = device.twin(|twin| twin["agent"]["configHash"].is_string()).await;
    let (text, _) = appended(&device, MAIN, "[session]\nkeep_alive = \"80s\"\n");
    write(&device, MAIN, text);
    let (text, _) = appended(&device, MAIN, "[report]\nheartbeat = \"3h\"\n");
    write(&device, MAIN, text);
    device.twin(|twin| twin["agent"]["configHash"] != before["agent"]["configHash"]).await;
    assert_eq!(device.logins().await, 1, "the variable wins, so nothing that a login says has changed");
    process.stop().await;

    // With a last good configuration, the device stays in reach.
    let process = Process::start_with(&device, &[(KEEP_ALIVE, "never")]);
    device.wait_until_ready().await;
    is_told(&mut device, &format!("${KEEP_ALIVE}: "), "").await;
    process.stop().await;
}

async fn bad_files_at_the_start_cost_nothing_where_a_good_configuration_is_known(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    // A session that the device knows of is what shows that the configuration is good.
    is_well(&mut device).await;
    device.stop().await;
    let good = read(&device, MAIN);
    let (bad, lines) = appended(&device, MAIN, "[session]\nkeep_alive = true\n");
    write(&device, MAIN, &bad);
    device.start_as_it_is();
    device.wait_until_ready().await;
    let place = format!("{}:{}: ", device.path(MAIN).display(), lines + 2);
    is_told(&mut device, &place, "keep_alive").await;

    write(&device, MAIN, &good);
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 2, "the files say what was in force, so the session goes on");
    device.stop().await;
}

async fn bad_files_at_the_first_start_leave_a_device_that_waits_for_better_ones(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let good = read(&device, MAIN);
    let (bad, lines) = appended(&device, MAIN, "[session]\nkeep_alive = true\n");
    write(&device, MAIN, bad);
    device.start_as_it_is();
    let told = status(&device, |status| status["state"] == "not configured").await;
    let place = format!("{}:{}: ", device.path(MAIN).display(), lines + 2);
    assert!(problem(&told["problems"], "config").is_some_and(|text| text.starts_with(&place)), "{told}");
    assert_eq!(device.logins().await, 0);
    write(&device, MAIN, good);
    device.wait_until_ready().await;
    is_well(&mut device).await;
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_is_missing_is_waited_for() {
    let mut device = Device::new(Setup::on(Kind::IotCore)).await;
    let (key, aside) = (device.path("etc/keys/device.key"), device.path("aside"));
    fs::rename(&key, &aside).expect("moved away");
    let log = Log::listen();
    device.start();
    let told = status(&device, |status| status["state"] == "not configured").await;
    assert!(told["sentence"].as_str().is_some_and(|text| text.contains("`sudo twinagent keygen`")), "{told}");
    assert_eq!(told["problems"], json!([]), "that is a state, not a fault");
    tokio::time::sleep(NOTICED).await;
    let lines = log.text();
    let about_key: Vec<_> = lines.lines().filter(|line| line.contains(&key.display().to_string())).collect();
    assert!(about_key.len() == 1 && about_key[0].contains("INFO"), "once, and nothing is tried: {lines}");
    assert_eq!(device.logins().await, 0);
    // One that others could read is not taken either, and the way to mend it is told.
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644)).expect("a mode");
    fs::rename(&aside, &key).expect("moved back");
    let is_open = |text: &str| text.contains("open to others") && text.contains("chmod");
    status(&device, |status| problem(&status["problems"], "key").is_some_and(is_open)).await;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
    device.wait_until_ready().await;
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}

#[tokio::test]
async fn a_key_that_is_spoiled_is_told_before_the_next_login_needs_it() {
    let mut device = Device::online(Setup::on(Kind::IotCore)).await;
    let (key, aside) = (device.path("etc/keys/device.key"), device.path("aside"));
    fs::rename(&key, &aside).expect("moved away");
    status(&device, |status| problem(&status["problems"], "key").is_some()).await;
    device.twin(|twin| twin["agent"]["health"] == "degraded").await;
    fs::rename(&aside, &key).expect("moved back");
    is_well(&mut device).await;
    assert_eq!(device.logins().await, 1, "the session needs no key");
    device.stop().await;
}

/// A broker that refuses a device bans it if it asks too often.
async fn files_that_change_nothing_do_not_hurry_a_device_that_is_refused(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let refused = twinagent::bridge::Fault::RefuseLogin(5);
    device.cloud.add_fault(refused, twinagent::bridge::Times::Always).await;
    let log = Log::listen();
    device.start();
    log.wait_for("login refused").await;
    for round in 0..10 {
        write(&device, MAIN, format!("{}\n# {round}\n", read(&device, MAIN)));
        tokio::time::sleep(NOTICED).await;
    }
    // Full jitter from 8 s on, doubling: a few tries may fall into this time, and never one for each change.
    let tries = log.count("login refused");
    assert!(tries <= 6, "{tries} tries");
    device.stop().await;
}

async fn a_new_install_reaches_for_nobody_and_goes_on_when_it_is_set_up(kind: Kind) {
    let mut device = Device::new(Setup { tls: true, ..Setup::on(kind) }).await;
    let port = device.bridge.addresses().mqtts.expect("a listener").port().to_string();
    fs::remove_file(device.path(MAIN)).expect("nothing is configured");
    let (keys, aside) = (device.path("etc/keys"), device.path("aside"));
    fs::rename(&keys, &aside).expect("nor is there a key");

    let calls = device.path("calls");
    let output = format!("--output={}", calls.display());
    // As a grandchild (`--daemonize`), so that the daemon is the child that is ended.
    let below = ["strace", "--daemonize", "--follow-forks", "--quiet=all", &output, "--trace=%network"];
    let process = Process::start_below(&device, &below, &[]);
    let told = status(&device, |status| status["state"] == "not configured").await;
    let what_to_do = |text: &str| text.contains("`sudo twinagent setup`") && text.contains("[cloud]");
    assert!(told["sentence"].as_str().is_some_and(what_to_do), "{told}");
    assert_eq!(told["problems"], json!([]), "that is a state, not a fault");
    // What needs no cloud works, and waits for none.
    assert_eq!(done(&device, &["invoke", "echo", "7"]).await, "7\n");
    done(&device, &["invoke", "count"]).await;
    tokio::time::sleep(NOTICED).await;
    let seen = fs::read_to_string(&calls).expect("what strace saw");
    assert!(seen.contains("AF_UNIX"), "strace sees the local interface: {seen}");
    // Not AF_NETLINK, where the kernel tells of changes: nobody is reached there.
    let reaches_out = |line: &&str| ["AF_INET", "AF_INET6", "AF_PACKET"].iter().any(|family| line.contains(family));
    assert_eq!(seen.lines().filter(reaches_out).collect::<Vec<_>>(), Vec::<&str>::new());

    fs::rename(&aside, &keys).expect("the key that the cloud knows");
    let ca_file = device.bridge.ca_file().display().to_string();
    let key_file = keys.join("hub.key").display().to_string();
    let mut setup = vec!["setup", "--kind", kind.name(), "--device", "gw-1", "--host", "localhost", "--port", &port];
    setup.extend(["--ca-file", &ca_file]);
    setup.extend(match kind {
        Kind::IotCore => vec!["--project", "my-project", "--region", "us-central1", "--registry", "my-registry"],
        Kind::IotHub => vec!["--key-file", &key_file],
    });
    done(&device, &setup).await;
    device.wait_until_ready().await;
    is_well(&mut device).await;
    let seen = fs::read_to_string(&calls).expect("what strace saw");
    assert!(seen.lines().any(|line| reaches_out(&line)), "now it reaches out, and strace sees that");
    process.stop().await;
}
