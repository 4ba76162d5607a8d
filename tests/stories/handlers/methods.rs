//! Stories of the methods that are built in, asked from the cloud.

use serde_json::{Value, json};

use crate::both::on_both_clouds;
use crate::cloud::{Cloud, Kind};
use crate::device::{Device, Setup};

on_both_clouds! {
    the_state_of_the_device_and_its_methods_can_be_asked_from_the_cloud,
    methods_that_could_do_harm_are_there_only_where_they_are_enabled,
}

/// The answer of a method on a road that has room for all of it.
async fn whole(device: &mut Device, method: &str) -> Value {
    if let Cloud::IotHub(cloud) = &device.cloud {
        let (status, payload) = cloud.invoke(method, Value::Null).await.expect("an answer");
        assert_eq!(status, 200, "{payload}");
        return payload;
    }
    device.send(&format!("{method}/{method}-1"), "").await;
    device.answer(&format!("{method}-1"), 200).await["payload"].clone()
}

async fn the_state_of_the_device_and_its_methods_can_be_asked_from_the_cloud(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    let status = whole(&mut device, "getStatus").await;
    assert_eq!((&status["device"], &status["state"]), (&json!("gw-1"), &json!("connected")), "{status}");
    assert_eq!(status["problems"], json!([]), "{status}");
    let listed = whole(&mut device, "listMethods").await.to_string();
    for method in
        ["cancelCommand", "cancelReboot", "count", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"]
    {
        assert!(listed.contains(&format!("\"{method}\"")), "{method}: {listed}");
    }
    // The document is sent again, though nothing in it is new but the answer.
    device.send("refreshState/r-1", "").await;
    device.answer("r-1", 200).await;
    // What a method does not know is told, and a slip is refused.
    device.send("refreshState/r-2", r#"{"colour":"red"}"#).await;
    assert_eq!(device.answer("r-2", 200).await["payload"]["ignored"], json!(["colour"]));
    device.send("cancelCommand/x-1", r#"{"commandid":"a"}"#).await;
    let told = device.answer("x-1", 422).await["payload"]["error"].clone();
    assert!(told.as_str().is_some_and(|text| text.contains("did you mean `commandId`")), "{told}");
    device.stop().await;
}

async fn methods_that_could_do_harm_are_there_only_where_they_are_enabled(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    for method in ["getLogs", "restartService", "shutdown", "reloadConfig"] {
        device.send(&format!("{method}/{method}-1"), "").await;
        device.answer(&format!("{method}-1"), 404).await;
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
