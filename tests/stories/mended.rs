//! Stories of a machine that somebody mends while the daemon runs: it goes on by itself, and needs no restart for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixDatagram;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::log::Log;
use crate::process::{Process, log, logged};
use crate::program::{run, status};

on_both_clouds! {
    a_local_interface_that_could_not_be_opened_is_there_once_its_folder_is_mended,
    a_configuration_that_could_not_be_kept_is_kept_once_there_is_a_place_for_it,
}

fn set_mode(folder: &Path, mode: u32) {
    fs::set_permissions(folder, Permissions::from_mode(mode)).expect("a mode");
}

/// The next status that the service manager is told, and that is as `fits` wants it.
async fn told(socket: &UnixDatagram, fits: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            let mut buffer = [0; 4_096];
            let length = socket.recv(&mut buffer).await.expect("a message");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.starts_with("STATUS=") && fits(&text) {
                return text;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it is told")
}

async fn a_local_interface_that_could_not_be_opened_is_there_once_its_folder_is_mended(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let notify = UnixDatagram::bind(device.path("notify")).expect("a socket");
    let notify_path = device.path("notify");
    // Anybody could put a socket of his own into it.
    set_mode(&device.path("run"), 0o777);
    let process = Process::start_with(&device, &[("NOTIFY_SOCKET", notify_path.to_str().expect("UTF-8"))]);
    device.wait_until_ready().await;
    let sentence = told(&notify, |text| text.starts_with("STATUS=no local interface: ")).await;
    assert!(sentence.contains("must be our own and closed to others' writing"), "{sentence}");
    assert_eq!(run(&device, &["status"]).await.code, 69);
    // Long enough for a second try, which says nothing new.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(log(&device).matches("no local interface").count(), 1, "{}", log(&device));

    set_mode(&device.path("run"), 0o755);
    status(&device, |status| status["state"] == "connected").await;
    told(&notify, |text| text.contains("connected") && !text.contains("no local interface")).await;
    logged(&device, "the local interface is there again").await;
    assert_eq!(device.logins().await, 1, "the cloud has noticed nothing");
    process.stop().await;
}

async fn a_configuration_that_could_not_be_kept_is_kept_once_there_is_a_place_for_it(kind: Kind) {
    let mut device = Device::new(Setup::on(kind)).await;
    let place = device.path("state/config.last-good.json");
    fs::create_dir(&place).expect("something in its place");
    let log = Log::listen();
    device.start();
    device.wait_until_ready().await;
    log.wait_for("the configuration is not kept for bad times").await;
    fs::remove_dir(&place).expect("it is cleared");
    log.wait_for("the configuration is kept for bad times").await;
    assert!(fs::read_to_string(&place).expect("it is kept").contains("gw-1"));
    assert_eq!(log.count("the configuration is not kept"), 1, "{}", log.text());
    device.stop().await;
}
