//! Stories of handlers that are run for what the cloud wants the device to be.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use twinagent::local::client::{Client, Wait};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::Process;
use crate::workshop::{HELD, Workshop};

on_both_clouds! {
    a_member_that_changes_is_applied_once_and_acknowledged,
    what_was_applied_is_not_applied_again_over_reconnects_restarts_and_other_changes,
    what_fails_is_told_and_tried_again_with_the_next_change_only,
    what_cannot_be_run_is_told_and_applied_once_it_is_mended,
    the_newest_value_wins_over_those_that_came_while_another_was_applied,
    an_application_that_was_cut_off_is_told_and_not_done_again_until_it_changes,
    what_the_end_of_the_service_has_cut_off_is_done_again_only_if_it_is_harmless,
}

/// Writes down what it is given.
const NAME: &str = "desired = \"hostname\"\n";
const WRITE: &str = "given=$(cat); echo \"$given\" >>\"$notes/given\"\n";

/// Waits until the device says so of a member of the desired document.
async fn applied(device: &mut Device, member: &str, status: u16) -> Value {
    let twin = device.twin(|twin| twin["desired"]["members"][member]["status"] == status).await;
    twin["desired"]["members"][member].clone()
}

/// Waits until the device has this document, by what it says of a member that is applied in it.
async fn wants(device: &mut Device, document: &Value, digest_before: Option<&Value>) -> Value {
    device.cloud.set_desired(&document.to_string()).await;
    let twin = device
        .twin(|twin| {
            let hostname = &twin["desired"]["members"]["hostname"];
            hostname["status"].is_u64() && hostname["status"] != 202 && Some(&hostname["digest"]) != digest_before
        })
        .await;
    twin["desired"]["members"]["hostname"].clone()
}

async fn a_member_that_changes_is_applied_once_and_acknowledged(kind: Kind) {
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &[("setHostname", NAME, WRITE)]).await;
    let first = wants(&mut device, &json!({ "hostname": "gw-a", "other": 1 }), None).await;
    assert_eq!(first["status"], 200, "{first}");
    assert!(first["digest"].is_string() && first["time"].is_string() && first.get("error").is_none(), "{first}");
    assert_eq!(first["version"].is_u64(), kind == Kind::IotHub, "{first}");
    let second = wants(&mut device, &json!({ "hostname": "gw-b", "other": 1 }), Some(&first["digest"])).await;
    assert_eq!(second["status"], 200, "{second}");
    // Removed: its handler is told so.
    device.cloud.set_desired(&json!({ "other": 1 }).to_string()).await;
    workshop.wait_for_runs("given", 3).await;
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    assert_eq!(workshop.notes("given"), "\"gw-a\"\n\"gw-b\"\nnull\n");
    device.stop().await;
    workshop.stop().await;
}

async fn what_was_applied_is_not_applied_again_over_reconnects_restarts_and_other_changes(kind: Kind) {
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &[("setHostname", NAME, WRITE)]).await;
    wants(&mut device, &json!({ "hostname": "gw-a" }), None).await;
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    device.cloud.set_desired(&json!({ "hostname": "gw-a", "other": [1] }).to_string()).await;
    device.stop().await;
    device.start();
    device.wait_until_ready().await;
    device.crash().await;
    device.start();
    device.wait_until_ready().await;
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    // Of a change beside it nothing can be waited for but the time in which it would have been applied.
    device.hear_until_quiet(Duration::from_secs(2)).await;
    assert_eq!(workshop.notes("given"), "\"gw-a\"\n");
    let told = applied(&mut device, "hostname", 200).await;
    assert!(told["digest"].is_string(), "{told}");
    device.stop().await;
    workshop.stop().await;
}

async fn what_fails_is_told_and_tried_again_with_the_next_change_only(kind: Kind) {
    let script = "name=$(cat); echo \"$name\" >>\"$notes/given\"\n[ \"$name\" = '\"bad\"' ] && { echo 'no such name' >&2; exit 65; }\nexit 0\n";
    let rules = "desired = \"port\"\n[payload.members.number]\ntype = \"integer\"\n";
    let methods = [("setHostname", NAME, script), ("setPort", rules, WRITE)];
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &methods).await;
    let first = wants(&mut device, &json!({ "hostname": "bad", "port": { "number": "eighty" } }), None).await;
    assert_eq!(first["status"], 422, "{first}");
    assert!(first["error"].is_string(), "{first}");
    // What breaks the rules is no run at all.
    let port = applied(&mut device, "port", 422).await;
    assert!(port["error"].as_str().is_some_and(|text| text.contains("number")), "{port}");
    assert_eq!(workshop.runs("setPort").len(), 0);
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    let second =
        wants(&mut device, &json!({ "hostname": "good", "port": { "number": 80 } }), Some(&first["digest"])).await;
    assert_eq!(second["status"], 200, "{second}");
    applied(&mut device, "port", 200).await;
    assert_eq!(workshop.runs("setHostname").len(), 2);
    assert_eq!(workshop.runs("setPort").len(), 1);
    device.stop().await;
    workshop.stop().await;
}

async fn what_cannot_be_run_is_told_and_applied_once_it_is_mended(kind: Kind) {
    let broken = "desired = \"broken\"\n";
    let methods =
        [("setHostname", NAME, WRITE), ("setLed", "desired = \"led\"\n", WRITE), ("setBroken", broken, "exit 1\n")];
    let mut device = Device::new(Setup::on(kind)).await;
    let mut workshop = Workshop::beside(&device, &methods);
    let program = workshop.path("setHostname");
    let set_mode = |mode| fs::set_permissions(&program, Permissions::from_mode(mode)).expect("a mode");
    set_mode(0o644);
    workshop.program("setLed", "#!/no/such/interpreter\n");
    workshop.start(&device);
    device.start();
    device.wait_until_ready().await;
    device.cloud.set_desired(r#"{"hostname":"gw-a","led":true,"broken":1}"#).await;
    let hostname = applied(&mut device, "hostname", 500).await;
    assert!(hostname["error"].as_str().is_some_and(|why| why.contains("not executable")), "{hostname}");
    let led = applied(&mut device, "led", 500).await;
    assert!(led["error"].as_str().is_some_and(|why| why.contains("interpreter /no/such/interpreter")), "{led}");
    applied(&mut device, "broken", 500).await;

    // Nobody says that it was mended.
    set_mode(0o755);
    applied(&mut device, "hostname", 200).await;
    assert_eq!((workshop.runs("setHostname").len(), workshop.runs("setLed").len()), (1, 0));

    // Whoever does need not wait.
    workshop.script("setLed", WRITE);
    let folder = device.path("run");
    let asked = tokio::task::spawn_blocking(move || {
        Client::connect(&folder).and_then(|mut client| client.call("Reload", &json!({}), Wait::Short))
    });
    asked.await.expect("no panic").expect("it is reloaded");
    applied(&mut device, "led", 200).await;
    assert_eq!((workshop.runs("setHostname").len(), workshop.runs("setLed").len()), (1, 1));
    assert_eq!(workshop.notes("given"), "\"gw-a\"\ntrue\n");
    // One that ran and failed was not tried again by all of this.
    assert_eq!(workshop.runs("setBroken").len(), 1);
    device.stop().await;
    workshop.stop().await;
}

async fn the_newest_value_wins_over_those_that_came_while_another_was_applied(kind: Kind) {
    let script = format!("{WRITE}{HELD}");
    let more = format!("{NAME}time_limit = \"1m\"\n");
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &[("setHostname", &more, &script)]).await;
    device.cloud.set_desired(r#"{"hostname":0}"#).await;
    workshop.wait_for_runs("setHostname", 1).await;
    for n in 1..=9 {
        device.cloud.set_desired(&json!({ "hostname": n }).to_string()).await;
    }
    // All of them have arrived, since what came after them was answered.
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    device.hear_until_quiet(Duration::from_secs(2)).await;
    assert_eq!(workshop.runs("setHostname").len(), 1);
    workshop.let_go();
    workshop.wait_for_runs("given", 2).await;
    applied(&mut device, "hostname", 200).await;
    device.hear_until_quiet(Duration::from_secs(2)).await;
    assert_eq!(workshop.notes("given"), "0\n9\n");
    device.stop().await;
    workshop.stop().await;
}

async fn an_application_that_was_cut_off_is_told_and_not_done_again_until_it_changes(kind: Kind) {
    let script = format!("{WRITE}{HELD}");
    let more = format!("{NAME}time_limit = \"1m\"\n");
    let harmless = "desired = \"led\"\nharmless = true\ntime_limit = \"1m\"\n";
    let mut device = Device::new(Setup::on(kind)).await;
    let methods = [("setHostname", more.as_str(), script.as_str()), ("setLed", harmless, HELD)];
    let mut workshop = Workshop::beside(&device, &methods);
    workshop.start(&device);
    let process = Process::online(&mut device).await;
    device.cloud.set_desired(r#"{"hostname":"gw-a","led":true}"#).await;
    workshop.wait_for_runs("setHostname", 1).await;
    workshop.wait_for_runs("setLed", 1).await;
    workshop.wait_for_runs("given", 1).await;
    process.kill().await;
    workshop.let_go();
    let process = Process::online(&mut device).await;
    let cut = applied(&mut device, "hostname", 500).await;
    assert!(cut["error"].is_string(), "{cut}");
    // What is harmless is done again.
    workshop.wait_for_runs("setLed", 2).await;
    applied(&mut device, "led", 200).await;
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    device.send("echo/after", "").await;
    device.answer("after", 200).await;
    assert_eq!(workshop.notes("given"), "\"gw-a\"\n");
    device.cloud.set_desired(r#"{"hostname":"gw-b","led":true}"#).await;
    applied(&mut device, "hostname", 200).await;
    assert_eq!(workshop.notes("given"), "\"gw-a\"\n\"gw-b\"\n");
    assert_eq!(workshop.runs("setLed").len(), 2);
    process.stop().await;
    workshop.stop().await;
}

/// In good order, as when an operator restarts it or it is upgraded.
async fn what_the_end_of_the_service_has_cut_off_is_done_again_only_if_it_is_harmless(kind: Kind) {
    let script = format!("{WRITE}{HELD}");
    let more = format!("{NAME}time_limit = \"1m\"\n");
    let harmless = "desired = \"led\"\nharmless = true\ntime_limit = \"1m\"\n";
    let methods = [("setHostname", more.as_str(), script.as_str()), ("setLed", harmless, HELD)];
    let (mut device, mut workshop) = Workshop::online(Setup::on(kind), &methods).await;
    device.cloud.set_desired(r#"{"hostname":"gw-a","led":true}"#).await;
    workshop.wait_for_runs("given", 1).await;
    workshop.wait_for_runs("setLed", 1).await;
    workshop.stop().await;
    workshop.let_go();
    workshop.start(&device);
    let cut = applied(&mut device, "hostname", 500).await;
    assert!(cut["error"].is_string(), "{cut}");
    workshop.wait_for_runs("setLed", 2).await;
    applied(&mut device, "led", 200).await;
    assert_eq!(workshop.notes("given"), "\"gw-a\"\n");
    device.stop().await;
    workshop.stop().await;
}
