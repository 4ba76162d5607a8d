//! Stories of a key that only the service can read, and of what the command line says of it.

use std::fs;

use crate::cloud::Kind;
use crate::device::{Device, Setup};
use crate::process::Process;
use crate::program::{done, run, status};

/// A device whose key is a credential of its service, and the daemon that has it.
async fn with_credential() -> (Device, Process) {
    let mut device = Device::new(Setup::on(Kind::IotCore)).await;
    let credentials = device.path("credentials");
    fs::create_dir(&credentials).expect("a folder");
    fs::rename(device.path("etc/keys/device.key"), credentials.join("twinagent.device.key")).expect("moved");
    let process = Process::start_with(&device, &[("CREDENTIALS_DIRECTORY", &credentials.display().to_string())]);
    device.wait_until_ready().await;
    (device, process)
}

#[tokio::test]
async fn a_credential_is_told_by_the_daemon_and_no_second_key_is_made() {
    let (device, process) = with_credential().await;
    let public = run(&device, &["pubkey"]).await;
    assert_eq!(public.code, 0, "{public:?}");
    assert!(public.err.starts_with("the key of the running daemon, its credential /"), "{}", public.err);
    let registered = device.cloud.iotcore().resource().await;
    let registered = registered["credentials"][0]["publicKey"]["key"].as_str().expect("a key");
    assert_eq!(public.out.trim(), registered.trim());
    assert!(done(&device, &["pubkey", "--json"]).await.contains("\"ES256_PEM\""));

    let kept = run(&device, &["keygen", "--if-missing"]).await;
    assert_eq!((kept.code, &kept.out), (0, &public.out), "{kept:?}");
    assert!(kept.err.starts_with("made no key: the key of the running daemon, its credential "), "{}", kept.err);
    let setup = "setup --kind iotcore --device gw-1 --host 127.0.0.1 --project p --region r --registry g";
    let told = run(&device, &setup.split(' ').collect::<Vec<_>>()).await;
    assert!(told.out == public.out && told.err.contains("made no key: "), "{told:?}");
    assert!(!device.path("etc/keys/device.key").exists(), "no second key");
    let told = run(&device, &["check"]).await;
    assert!(told.out.contains("; key ES256 (the key of the running daemon, its credential /"), "{told:?}");
    for words in [&["token"][..], &["pubkey", "--csr"]] {
        let told = run(&device, words).await;
        assert!(told.code == 1 && told.err.contains("for its service only"), "{told:?}");
    }

    // Who asks for a second key gets it, and hears that it is not used.
    let second = run(&device, &["keygen"]).await;
    assert!(second.code == 0 && second.err.contains("not used as long as the daemon runs with"), "{second:?}");
    assert_eq!(run(&device, &["pubkey"]).await.out, public.out);
    let told = run(&device, &["token"]).await;
    assert!(told.code == 0 && told.err.starts_with("not what the daemon logs in with: "), "{told:?}");

    process.stop().await;
    let told = run(&device, &["pubkey"]).await;
    assert_eq!(told.out, second.out);
    assert!(told.err.starts_with("no daemon answers; this is the key in /"), "{}", told.err);
}

#[tokio::test]
async fn a_key_in_a_file_is_told_as_it_lies_there() {
    let mut device = Device::new(Setup::on(Kind::IotCore)).await;
    let process = Process::online(&mut device).await;
    let before = run(&device, &["pubkey"]).await;
    assert!(before.err.starts_with("the key of the running daemon, /"), "{}", before.err);
    // Whether the daemon has noticed it by then or not.
    let (key, other) = (device.path("etc/keys/device.key"), device.path("other.key"));
    let made = done(&device, &["keygen", "--out", &other.display().to_string()]).await;
    fs::rename(&other, &key).expect("in its place");
    assert_eq!(done(&device, &["pubkey"]).await, made, "it is what the next login is made with");
    process.stop().await;
}

#[tokio::test]
async fn a_daemon_of_other_folders_is_not_asked_for_its_key() {
    let (device, process) = with_credential().await;
    let mut command = crate::program::program(&device, &["keygen", "--if-missing"]);
    command.env("CONFIGURATION_DIRECTORY", device.path("second"));
    let told = crate::program::finish(command, b"").await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(device.path("second/keys/device.key").exists(), "another device has another key");
    process.stop().await;
}

#[tokio::test]
async fn a_key_that_the_daemon_cannot_read_is_told_with_the_reason_and_a_remedy() {
    let mut device = Device::new(Setup::on(Kind::IotCore)).await;
    let key = device.path("etc/keys/device.key");
    fs::remove_file(&key).expect("removed");
    // Two links that lead to each other: even root cannot read them.
    std::os::unix::fs::symlink("device.key", &key).expect("a link");
    device.start();
    let told = status(&device, |status| status["problems"][0]["code"] == "key").await;
    let text = told["problems"][0]["text"].as_str().expect("a text");
    assert!(text.contains("os error 40") && text.ends_with("check the file and the disk that it is on"), "{text}");
    device.stop().await;
}
