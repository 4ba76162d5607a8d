//! Stories of TLS: whom the daemon does not trust is not shown a login.

use std::path::Path;
use std::time::Duration;

use twinagent::bridge::{Bridge, Options};

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::log::Log;

on_both_clouds! {
    a_cloud_of_an_unknown_authority_gets_no_login_until_the_file_is_mended,
    a_cloud_changes_its_authority_while_both_are_trusted_and_no_longer,
    a_cloud_under_another_name_gets_no_login,
}

const QUICK: &str = "[session]\nbackoff_max = \"1s\"\n";

/// A line that wins over the device's own file.
fn override_by(device: &Device, line: &str) {
    let drop_ins = device.path("etc/conf.d");
    std::fs::create_dir(&drop_ins).expect("a folder");
    std::fs::write(drop_ins.join("override.toml"), line).expect("a file");
}

async fn a_cloud_of_an_unknown_authority_gets_no_login_until_the_file_is_mended(kind: Kind) {
    let log = Log::listen();
    let folder = tempfile::tempdir().expect("a folder");
    let other = Bridge::start(Options::new(folder.path())).await.expect("another cloud");
    let ca_file = folder.path().join("trusted.pem");
    std::fs::copy(other.ca_file(), &ca_file).expect("a copy");
    let mut device = Device::new(Setup { tls: true, config: QUICK, ..Setup::on(kind) }).await;
    override_by(&device, &format!("{} = \"{}\"", kind.key("ca_file"), ca_file.display()));
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

/// What a cloud shows of itself, with the authority that vouches for it.
const IDENTITY: [&str; 5] = ["ca.pem", "ca.key", "server.pem", "server.key", "server.names"];

fn copy_identity(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in IDENTITY {
        std::fs::copy(from.join(file), to.join(file)).expect("a copy");
    }
}

async fn a_cloud_changes_its_authority_while_both_are_trusted_and_no_longer(kind: Kind) {
    let log = Log::listen();
    let mut device = Device::new(Setup { tls: true, config: QUICK, ..Setup::on(kind) }).await;
    let (cloud, old, new) = (device.path("cloud"), device.path("old"), device.path("new"));
    copy_identity(&cloud, &old);
    Bridge::start(Options::new(&new)).await.expect("another cloud").stop().await;
    let anchor = |folder: &Path| std::fs::read_to_string(folder.join("ca.pem")).expect("certificates");
    let (both, one) = (anchor(&old) + &anchor(&new), anchor(&new));
    let ca_file = device.path("trusted.pem");
    let trust = |anchors: &str| {
        let draft = ca_file.with_extension("draft");
        std::fs::write(&draft, anchors).expect("a file");
        std::fs::rename(&draft, &ca_file).expect("in its place");
    };
    trust(&anchor(&old));
    override_by(&device, &format!("{} = \"{}\"", kind.key("ca_file"), ca_file.display()));
    device.start();
    device.wait_until_ready().await;

    // The new anchor comes first, beside the old one; the session needs neither.
    trust(&both);
    device.lose_cloud().await;
    copy_identity(&new, &cloud);
    device.restore_cloud().await;
    device.wait_until_ready().await;
    assert_eq!(log.count("TLS failed"), 0, "{}", log.text());

    // Then the old one goes. A cloud that shows it is trusted no more.
    trust(&one);
    device.send("echo/e-1", "").await;
    device.answer("e-1", 200).await;
    assert_eq!(device.logins().await, 1, "the session stayed");
    device.lose_cloud().await;
    copy_identity(&old, &cloud);
    device.restore_cloud().await;
    log.wait_for("TLS failed").await;
    assert_eq!(device.logins().await, 0);
    trust(&both);
    device.wait_until_ready().await;
    device.stop().await;
}

async fn a_cloud_under_another_name_gets_no_login(kind: Kind) {
    let log = Log::listen();
    // An address that is not in the certificate. The other one is the control: the same but for the name.
    for (listen, host) in [("127.0.0.2:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.1")] {
        let mut device = Device::new(Setup { tls: true, listen, config: QUICK, ..Setup::on(kind) }).await;
        override_by(&device, &format!("{} = \"{host}\"", kind.way()));
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
