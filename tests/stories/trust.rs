//! Stories of TLS: whom the daemon does not trust is not shown a login.

use std::time::Duration;

use twinagent::bridge::{Bridge, Options};

use crate::device::{Device, Setup};
use crate::log::Log;

const QUICK: &str = "[session]\nbackoff_max = \"1s\"\n";

/// A line that wins over the device's own file.
fn override_by(device: &Device, line: &str) {
    let drop_ins = device.path("etc/conf.d");
    std::fs::create_dir(&drop_ins).expect("a folder");
    std::fs::write(drop_ins.join("override.toml"), line).expect("a file");
}

#[tokio::test]
async fn a_cloud_of_an_unknown_authority_gets_no_login_until_the_file_is_mended() {
    let log = Log::listen();
    let folder = tempfile::tempdir().expect("a folder");
    let other = Bridge::start(Options::new(folder.path())).await.expect("another cloud");
    let ca_file = folder.path().join("trusted.pem");
    std::fs::copy(other.ca_file(), &ca_file).expect("a copy");
    let mut device = Device::new(Setup { tls: true, config: QUICK, ..Setup::default() }).await;
    override_by(&device, &format!("cloud.iotcore.ca_file = \"{}\"", ca_file.display()));
    device.start();
    log.wait_for("not connected: TLS failed: ").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(device.logins().await, 0);
    let text = log.text();
    assert!(text.contains("another key than its own has signed it") && text.contains("check `ca_file`"), "{text}");

    // It is read again at each try.
    std::fs::copy(device.bridge.ca_file(), &ca_file).expect("a copy");
    device.wait_until_ready().await;
    device.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_cloud_under_another_name_gets_no_login() {
    let log = Log::listen();
    // An address that is not in the certificate. The other one is the control: the same but for the name.
    for (listen, host) in [("127.0.0.2:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.1")] {
        let mut device = Device::new(Setup { tls: true, listen, config: QUICK, ..Setup::default() }).await;
        override_by(&device, &format!("cloud.iotcore.host = \"{host}\""));
        device.start();
        if host == "127.0.0.1" {
            device.wait_until_ready().await;
        } else {
            log.wait_for("not connected: TLS failed: ").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(device.logins().await, 0);
        }
        device.stop().await;
    }
}
