//! What must never leave the daemon's memory: the key and the tokens made with it.

use std::path::{Path, PathBuf};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::Process;
use crate::program::done;

on_both_clouds! {
    neither_key_nor_token_is_found_where_others_can_read,
}

/// What is secret: the lines of the device's key, and how its login tokens begin.
fn secrets(device: &Device, kind: Kind) -> Vec<String> {
    let (file, token) = match kind {
        Kind::IotCore => ("etc/keys/device.key", "eyJ"),
        Kind::IotHub => ("etc/keys/hub.key", "SharedAccessSignature"),
    };
    let text = std::fs::read_to_string(device.path(file)).expect("the key");
    let lines = text.lines().filter(|line| !line.starts_with("-----") && !line.is_empty());
    lines.chain([token]).map(ToOwned::to_owned).collect()
}

fn shows(bytes: &[u8], secrets: &[String]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    secrets.iter().any(|secret| text.contains(secret.as_str()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    // The socket of the local interface holds nothing.
    entries.filter(|path| path.is_file()).collect()
}

async fn neither_key_nor_token_is_found_where_others_can_read(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let process = Process::start_with(&device, &[("TWINAGENT_LOG", "trace")]);
    device.wait_until_ready().await;
    device.send("count/c-1", r#"{"n":1}"#).await;
    device.answer("c-1", 200).await;
    device.cloud.disconnect().await;
    device.wait_until_ready().await;

    let secrets = secrets(&device, kind);
    assert!(secrets.len() > 1 && shows(secrets[0].as_bytes(), &secrets), "the search finds what is there");

    let proc = PathBuf::from(format!("/proc/{}", process.id()));
    let mut places = vec![device.path("log"), proc.join("cmdline"), proc.join("environ")];
    places.extend(files(&device.path("state")));
    // The socket is no file; what is told there is looked at below.
    places.extend(files(&device.path("run")).into_iter().filter(|path| path.is_file()));
    let status = done(&device, &["status", "--json"]).await;
    let twin = done(&device, &["twin"]).await;
    assert!(!shows(status.as_bytes(), &secrets) && !shows(twin.as_bytes(), &secrets));
    assert!(places.len() > 3, "the journal is among them: {places:?}");
    for place in &places {
        let bytes = std::fs::read(place).expect("a file");
        assert!(!bytes.is_empty() && !shows(&bytes, &secrets), "{}", place.display());
    }
    process.stop().await;
    assert!(!shows(&std::fs::read(device.path("log")).expect("the log"), &secrets));
}
