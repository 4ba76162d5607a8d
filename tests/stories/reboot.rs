//! Stories of `rebootDevice`, simulated: told, away, back, proved, reported.

use std::time::Duration;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use serde_json::Value;

on_both_clouds! {
    a_reboot_is_told_before_it_happens_and_proved_after_it,
    a_reboot_that_waits_is_alone_and_can_be_taken_back,
    a_simulated_reboot_ends_though_the_daemon_ended_in_it,
}

/// With a grace in which a document is sent that says so, though there is one a second and the machine may stand still.
const SIMULATED: &str = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"2s\"\ngrace = \"5s\"\ndrain = \"2s\"\n\
                         min_interval = \"1h\"\ntoo_soon = \"refuse\"\n";

fn time(value: &Value) -> twinagent::model::now::Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no time"))
}

async fn a_reboot_is_told_before_it_happens_and_proved_after_it(kind: Kind) {
    for &answers in kind.roads() {
        let mut device = Device::online(Setup { answers, config: SIMULATED, ..Setup::on(kind) }).await;
        device.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#).await;
        let accepted = device.answer("r-1", 202).await;
        assert_eq!(accepted["payload"]["state"], "scheduled");
        let scheduled = device.twin(|twin| twin["reboot"]["state"] == "scheduled").await;
        assert!(scheduled["rebootTime"].is_null(), "{scheduled}");
        // It is away, and back by itself.
        device.wait_until_ready().await;
        let done = device.answer("r-1", 200).await;
        assert_eq!(done["payload"]["simulated"], true);
        let twin = device.twin(|twin| twin["reboot"]["state"] == "completed").await;
        assert_eq!(twin["reboot"]["commandId"], "r-1");
        assert_eq!(twin["reboot"]["reason"], "new kernel");
        assert_eq!(twin["rebootTime"], twin["reboot"]["completedAt"]);
        assert!(time(&twin["reboot"]["startedAt"]) < time(&twin["rebootTime"]));
        assert!(twin["reboot"]["downSeconds"].as_f64().is_some_and(|down| (2.0..20.0).contains(&down)), "{twin}");
        // Another one is too soon, and the first one, sent again, is not another one.
        device.send("rebootDevice/r-2", "").await;
        let refused = device.answer("r-2", 429).await;
        assert!(refused["payload"]["retryAfterSeconds"].as_u64().is_some_and(|wait| wait > 3_000), "{refused}");
        device.send("rebootDevice/r-1", r#"{"reason":"new kernel"}"#).await;
        device.send("echo/last", "").await;
        device.answer("last", 200).await;
        assert_eq!(device.logins().await, 2, "{answers}");
        device.stop().await;
    }
}

async fn a_reboot_that_waits_is_alone_and_can_be_taken_back(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"1s\"\ngrace = \"1h\"\n";
    let mut device = Device::online(Setup { answers: "events", config, ..Setup::on(kind) }).await;
    device.send("rebootDevice/r-1", "").await;
    device.answer("r-1", 202).await;
    device.send("rebootDevice/r-2", "").await;
    assert_eq!(device.answer("r-2", 409).await["payload"]["commandId"], "r-1");
    device.send("count/c-1", "").await;
    assert_eq!(device.answer("c-1", 409).await["payload"]["commandId"], "r-1");
    device.send("echo/e-1", "").await;
    device.answer("e-1", 200).await;
    device.send("cancelReboot/x-1", "").await;
    assert_eq!(device.answer("x-1", 200).await["payload"]["cancelled"], "r-1");
    device.answer("r-1", 499).await;
    device.twin(|twin| twin["reboot"]["state"] == "cancelled").await;
    device.send("cancelReboot/x-2", "").await;
    device.answer("x-2", 409).await;
    device.send("count/c-2", "").await;
    device.answer("c-2", 200).await;
    device.stop().await;
}

async fn a_simulated_reboot_ends_though_the_daemon_ended_in_it(kind: Kind) {
    let config = "[reboot]\nmode = \"simulate\"\nsimulate_for = \"3s\"\ngrace = \"0s\"\nmin_interval = \"0s\"\n";
    for is_crash in [false, true] {
        let mut device = Device::online(Setup { config, ..Setup::on(kind) }).await;
        device.send("rebootDevice/r-1", "").await;
        device.answer("r-1", 202).await;
        while device.cloud.connected().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if is_crash {
            device.crash().await;
        } else {
            device.stop().await;
        }
        device.start();
        device.wait_until_ready().await;
        assert_eq!(device.answer("r-1", 200).await["payload"]["simulated"], true);
        device.stop().await;
    }
}
