//! What must never leave the daemon's memory: the private key and the tokens made with it.

use std::path::{Path, PathBuf};

use crate::device::{Device, Setup};
use crate::process::Process;
use crate::program::done;

/// Whether these bytes show a secret: a line of the key, or anything that begins as a JWT does.
fn shows(bytes: &[u8], key_lines: &[String]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains("eyJ") || key_lines.iter().any(|line| text.contains(line.as_str()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    // The socket of the local interface holds nothing.
    entries.filter(|path| path.is_file()).collect()
}

#[tokio::test]
async fn neither_key_nor_token_is_found_where_others_can_read() {
    let mut device = Device::new(Setup::default()).await;
    let process = Process::start_with(&device, &[("TWINAGENT_LOG", "trace")]);
    device.wait_until_ready().await;
    device.send("count/c-1", r#"{"n":1}"#).await;
    device.answer("c-1", 200).await;
    device.cloud.disconnect(&device.name).await.expect("a connection");
    device.wait_until_ready().await;

    let pem = std::fs::read_to_string(device.path("etc/keys/device.key")).expect("the key");
    let key_lines: Vec<String> =
        pem.lines().filter(|line| !line.starts_with("-----") && !line.is_empty()).map(ToOwned::to_owned).collect();
    assert!(!key_lines.is_empty() && shows(pem.as_bytes(), &key_lines), "the search finds what is there");

    let proc = PathBuf::from(format!("/proc/{}", process.id()));
    let mut places = vec![device.path("log"), proc.join("cmdline"), proc.join("environ")];
    places.extend(files(&device.path("state")));
    // The socket is no file; what is told there is looked at below.
    places.extend(files(&device.path("run")).into_iter().filter(|path| path.is_file()));
    let status = done(&device, &["status", "--json"]).await;
    let twin = done(&device, &["twin"]).await;
    assert!(!shows(status.as_bytes(), &key_lines) && !shows(twin.as_bytes(), &key_lines));
    assert!(places.len() > 3, "the journal is among them: {places:?}");
    for place in &places {
        let bytes = std::fs::read(place).expect("a file");
        assert!(!bytes.is_empty() && !shows(&bytes, &key_lines), "{}", place.display());
    }
    process.stop().await;
    assert!(!shows(&std::fs::read(device.path("log")).expect("the log"), &key_lines));
}
