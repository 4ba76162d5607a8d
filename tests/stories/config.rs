//! Stories of the configuration that the cloud wants a device to have: told by its digest, taken once.

use twinagent::model::digest::Digest;

use crate::device::{Device, Setup};

/// Bytes of the state folder.
fn written(device: &Device) -> u64 {
    let files = std::fs::read_dir(device.path("state")).expect("a folder");
    files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum()
}

/// Waits until the device says that it has this configuration.
async fn has(device: &mut Device, config: &str, status: u16) {
    let digest = serde_json::to_value(Digest::of(config.as_bytes())).expect("a text");
    device.twin(|twin| twin["desired"]["digest"] == digest && twin["desired"]["status"] == status).await;
}

/// Has an answer to what was sent after everything else, so that all of it was taken.
async fn has_read_all(device: &mut Device, id: &str) {
    device.send(&format!("echo/{id}"), "").await;
    device.answer(id, 200).await;
}

#[tokio::test]
async fn a_configuration_is_told_by_its_digest_and_written_once_however_often_it_comes() {
    let mut device = Device::online(Setup { answers: "events", ..Setup::default() }).await;
    // A new device has an empty one.
    has(&mut device, "", 204).await;
    for (version, (config, status)) in
        [(r#"{"color":"blue"}"#, 200), ("not JSON", 204), ("", 204), (r#"{"color":"red"}"#, 200)]
            .into_iter()
            .enumerate()
    {
        device.cloud.set_config(&device.name, config).await.expect("a configuration");
        has(&mut device, config, status).await;
        has_read_all(&mut device, &format!("told-{version}")).await;
        let before = written(&device);

        // The bridge sends it again after each login, and to a new daemon.
        device.cloud.disconnect(&device.name).await.expect("a connection");
        device.wait_until_ready().await;
        has_read_all(&mut device, &format!("again-{version}")).await;
        assert_eq!(written(&device), before, "{config}");
        has(&mut device, config, status).await;
    }
    // The same bytes as a new version are nothing new either; other bytes are, or the check above would find nothing.
    let before = written(&device);
    device.cloud.set_config(&device.name, r#"{"color":"red"}"#).await.expect("a configuration");
    has_read_all(&mut device, "same").await;
    assert_eq!(written(&device), before);
    device.cloud.set_config(&device.name, r#"{"color":"green"}"#).await.expect("a configuration");
    has(&mut device, r#"{"color":"green"}"#, 200).await;
    assert!(written(&device) > before);

    let acknowledged = device.cloud.device(&device.name).await.expect("the device");
    assert!(acknowledged["config"]["deviceAckTime"].is_string(), "{acknowledged}");
    device.stop().await;
}

#[tokio::test]
async fn a_configuration_is_known_after_a_restart() {
    let mut device = Device::online(Setup::default()).await;
    device.cloud.set_config(&device.name, "{}").await.expect("a configuration");
    has(&mut device, "{}", 200).await;
    device.crash().await;
    device.cloud.set_config(&device.name, r#"{"while":"away"}"#).await.expect("a configuration");
    device.start();
    device.wait_until_ready().await;
    has(&mut device, r#"{"while":"away"}"#, 200).await;
    device.stop().await;
}
