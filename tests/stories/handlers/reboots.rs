//! Stories of a reboot that is due while a program runs: it waits, gives up, or has it ended.

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::Setup;
use crate::workshop::{HELD, Workshop};

on_both_clouds! {
    a_reboot_waits_for_what_runs_and_is_done_after_it,
    a_reboot_that_has_waited_long_enough_is_given_up_and_the_run_goes_on,
    a_forced_reboot_ends_what_runs,
}

/// The program that stands in the way; its grace is short of nothing.
const WORK: &str = "time_limit = \"1m\"\ngrace = \"1s\"\n";

async fn a_reboot_waits_for_what_runs_and_is_done_after_it(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\ndrain = \"10m\"\nmin_interval = \"0s\"\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { config, ..Setup::on(kind) }, &[("work", WORK, HELD)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 202).await;
    // Nothing else begins meanwhile.
    device.send("work/w-2", "").await;
    assert_eq!(device.answer("w-2", 409).await["payload"]["commandId"], "r-1");
    workshop.let_go();
    device.answer("w-1", 200).await;
    device.answer("r-1", 200).await;
    let twin = device.twin(|twin| twin["reboot"]["state"] == "completed").await;
    assert!(twin["rebootTime"].is_string(), "{twin}");
    assert_eq!(workshop.runs("work"), ["w-1"]);
    device.stop().await;
    workshop.stop().await;
}

async fn a_reboot_that_has_waited_long_enough_is_given_up_and_the_run_goes_on(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\ndrain = \"1s\"\ninhibitor_wait = \"2s\"\nmin_interval = \"0s\"\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { answers: "events", config, ..Setup::on(kind) }, &[("work", WORK, HELD)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    device.send("rebootDevice/r-1", "").await;
    let told = device.answer("r-1", 423).await;
    assert!(told["payload"]["heldBy"].to_string().contains("drain"), "{told}");
    workshop.let_go();
    device.answer("w-1", 200).await;
    assert_eq!(device.logins().await, 1, "there was no reboot");
    device.stop().await;
    workshop.stop().await;
}

async fn a_forced_reboot_ends_what_runs(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"0s\"\ndrain = \"10m\"\nmin_interval = \"0s\"\nallow_force = true\n";
    let (mut device, mut workshop) =
        Workshop::online(Setup { config, ..Setup::on(kind) }, &[("work", WORK, HELD)]).await;
    device.send("work/w-1", "").await;
    workshop.wait_for_runs("work", 1).await;
    device.send("rebootDevice/r-1", r#"{"force":true}"#).await;
    device.answer("w-1", 499).await;
    device.answer("r-1", 200).await;
    workshop.let_go();
    device.send("work/w-1", "").await;
    device.send("work/w-2", "").await;
    device.answer("w-2", 200).await;
    assert_eq!(workshop.runs("work"), ["w-1", "w-2"]);
    device.stop().await;
    workshop.stop().await;
}
