//! Stories of the configuration that the cloud wants a device to have: told by its digest, taken once.

use twinagent::model::digest::Digest;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};

on_both_clouds! {
    a_configuration_is_told_by_its_digest_and_written_once_however_often_it_comes,
    a_configuration_is_known_after_a_restart,
}

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

async fn a_configuration_is_told_by_its_digest_and_written_once_however_often_it_comes(kind: Kind) {
    let mut device = Device::online(Setup { answers: "events", ..Setup::on(kind) }).await;
    // A new device has an empty one. On one cloud that may be anything, on the other it is an object.
    let (empty, configs): (_, &[_]) = match kind {
        Kind::IotCore => {
            (("", 204), &[(r#"{"color":"blue"}"#, 200), ("not JSON", 204), ("", 204), (r#"{"color":"red"}"#, 200)])
        }
        Kind::IotHub => (("{}", 200), &[(r#"{"color":"blue"}"#, 200), ("{}", 200), (r#"{"color":"red"}"#, 200)]),
    };
    has(&mut device, empty.0, empty.1).await;
    for (version, (config, status)) in configs.iter().copied().enumerate() {
        device.cloud.set_desired(config).await;
        has(&mut device, config, status).await;
        has_read_all(&mut device, &format!("told-{version}")).await;
        let before = written(&device);

        // The bridge sends it again after each login, and to a new daemon.
        device.cloud.disconnect().await;
        device.wait_until_ready().await;
        has_read_all(&mut device, &format!("again-{version}")).await;
        assert_eq!(written(&device), before, "{config}");
        has(&mut device, config, status).await;
    }
    // The same bytes as a new version are nothing new either, where versions are not told; other bytes are, or the check
    // above would find nothing.
    let before = written(&device);
    device.cloud.set_desired(r#"{"color":"red"}"#).await;
    has_read_all(&mut device, "same").await;
    if kind == Kind::IotCore {
        assert_eq!(written(&device), before);
    }
    device.cloud.set_desired(r#"{"color":"green"}"#).await;
    has(&mut device, r#"{"color":"green"}"#, 200).await;
    assert!(written(&device) > before);

    if kind == Kind::IotCore {
        let acknowledged = device.cloud.iotcore().resource().await;
        assert!(acknowledged["config"]["deviceAckTime"].is_string(), "{acknowledged}");
    }
    device.stop().await;
}

async fn a_configuration_is_known_after_a_restart(kind: Kind) {
    let mut device = Device::online(Setup::on(kind)).await;
    device.cloud.set_desired("{}").await;
    has(&mut device, "{}", 200).await;
    device.crash().await;
    device.cloud.set_desired(r#"{"while":"away"}"#).await;
    device.start();
    device.wait_until_ready().await;
    has(&mut device, r#"{"while":"away"}"#, 200).await;
    device.stop().await;
}
