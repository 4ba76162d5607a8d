//! Stories of the methods that are built in, asked from the cloud.

use serde_json::json;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};

on_both_clouds! {
    the_state_of_the_device_and_its_methods_can_be_asked_from_the_cloud,
    methods_that_could_do_harm_are_there_only_where_they_are_enabled,
}

async fn the_state_of_the_device_and_its_methods_can_be_asked_from_the_cloud(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    device.send("getStatus/s-1", "").await;
    let status = device.answer("s-1", 200).await["payload"].clone();
    assert_eq!((&status["device"], &status["state"]), (&json!("gw-1"), &json!("connected")), "{status}");
    assert_eq!(status["problems"], json!([]), "{status}");
    device.send("listMethods/m-1", "").await;
    let listed = device.answer("m-1", 200).await["payload"].to_string();
    for method in
        ["cancelCommand", "cancelReboot", "count", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"]
    {
        assert!(listed.contains(&format!("\"{method}\"")), "{method}: {listed}");
    }
    // The document is sent again, though nothing in it is new but the answer.
    device.send("refreshState/r-1", "").await;
    device.answer("r-1", 200).await;
    // What a method does not know is told, and a slip is refused.
    device.send("getStatus/s-2", r#"{"colour":"red"}"#).await;
    assert_eq!(device.answer("s-2", 200).await["payload"]["ignored"], json!(["colour"]));
    device.send("cancelCommand/x-1", r#"{"commandid":"a"}"#).await;
    let told = device.answer("x-1", 422).await["payload"]["error"].clone();
    assert!(told.as_str().is_some_and(|text| text.contains("did you mean `commandId`")), "{told}");
    device.stop().await;
}

async fn methods_that_could_do_harm_are_there_only_where_they_are_enabled(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    for method in ["getLogs", "restartService", "shutdown", "reloadConfig"] {
        device.send(&format!("{method}/{method}-1"), "").await;
        let told = device.answer(&format!("{method}-1"), 404).await;
        assert!(told["payload"].to_string().contains("enable"), "it says how to have it: {told}");
    }
    std::fs::create_dir_all(device.path("etc/conf.d")).expect("a folder");
    let more = "[methods]\nenable = [\"reloadConfig\"]\ndisable = [\"getStatus\"]\n";
    std::fs::write(device.path("etc/conf.d/60.toml"), more).expect("a file");
    device.twin(|twin| twin["methods"].to_string().contains("\"reloadConfig\"")).await;
    device.send("reloadConfig/r-1", "").await;
    device.answer("r-1", 200).await;
    device.send("getStatus/s-1", "").await;
    device.answer("s-1", 404).await;
    assert_eq!(device.logins().await, 1);
    device.stop().await;
}
