//! Stories of a device of an IoT hub on the command line: set up, checked, asked for its token, and what makes no sense there.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::{Device, Told};

/// Of the hub's documentation style: it opens nothing.
const STRING: &str = "HostName=my-hub.example;DeviceId=gw-1;SharedAccessKey=a2V5a2V5a2V5a2V5";
const KEY: &str = "a2V5a2V5a2V5a2V5";

/// Puts a file of this mode into the device's folder.
fn put(device: &Device, name: &str, text: &str, mode: u32) -> String {
    let path = device.path(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
    path.display().to_string()
}

fn set_up(device: &Device, arguments: &[&str]) -> Told {
    device.run(&[&["setup", "--kind", "iothub"][..], arguments].concat())
}

fn drop_in(device: &Device) -> String {
    fs::read_to_string(device.path("conf.d/50-setup.toml")).unwrap_or_default()
}

#[test]
fn a_connection_string_is_all_that_setup_wants_and_twice_is_once() {
    let device = Device::new();
    let file = put(&device, "connection-string", STRING, 0o600);
    let told = set_up(&device, &["--connection-string-file", &file]);
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{}", told.err);
    assert!(told.err.contains("wrote conf.d/50-setup.toml\nnext: nothing, if the hub"), "{}", told.err);
    let right = "configuration is right: device gw-1 of hub my-hub.example (port 8883); shared key";
    assert!(told.err.contains(right), "{}", told.err);
    assert!(!drop_in(&device).contains(KEY) && drop_in(&device).contains("connection_string_file = "));
    assert!(!device.path("keys").exists(), "no key was made");

    let again = set_up(&device, &["--connection-string-file", &file]);
    assert!(again.code == 0 && again.err.starts_with("left conf.d/50-setup.toml as it is\n"), "{again:?}");
    let checked = device.run(&["check"]);
    assert_eq!((checked.code, checked.out.trim_end()), (0, right), "{}", checked.err);
}

#[test]
fn a_device_can_be_assigned_its_hub_behind_a_proxy_in_a_websocket() {
    let device = Device::new();
    let key = put(&device, "hub.key", KEY, 0o600);
    let told = set_up(&device, &["--device", "gw-1", "--key-file", &key, "--id-scope", "0ne00000001", "--websocket"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("assigns to gw-1 (id scope 0ne00000001) (port 443 within a WebSocket)"), "{}", told.err);

    // Nobody was asked for the hub yet, so a login is one to the service that is.
    let token = device.run(&["token"]);
    assert_eq!((token.code, token.out.as_str()), (0, "0ne00000001/registrations/gw-1\n"), "{}", token.err);
}

#[test]
fn what_would_not_work_is_refused_and_nothing_is_written() {
    let device = Device::new();
    let open = put(&device, "open", STRING, 0o644);
    let service = put(&device, "service", "HostName=h.example;SharedAccessKeyName=owner;SharedAccessKey=a2V5", 0o600);
    let key = put(&device, "hub.key", KEY, 0o600);
    let no_key = put(&device, "no.key", "not base64!\n", 0o600);
    for (arguments, words) in [
        (&["--connection-string-file", open.as_str()][..], "open to others"),
        (&["--connection-string-file", &service], "SharedAccessKeyName"),
        (&["--connection-string-file", "absent"], "there is no such file"),
        (&["--device", "gw-1", "--host", "h.example"], "key_file"),
        (&["--device", "gw-1", "--key-file", &key], "host"),
        (&["--host", "h.example", "--key-file", &key], "--device sets device.id"),
        (&["--device", "gw-1", "--host", "h.example", "--key-file", &no_key], "base64"),
        (&["--device", "gw-1", "--host", "h.example", "--cert-file", &key], "--cert-key-file"),
        (&["--device", "gw-1", "--host", "h.example", "--key-file", &key, "--project", "p"], "--project means nothing"),
    ] {
        let told = set_up(&device, arguments);
        assert!(told.code == 2 && told.err.contains(words) && told.out.is_empty(), "{arguments:?}: {told:?}");
        assert!(!told.err.contains(KEY) && !told.err.contains("a2V5"), "{told:?}");
        assert_eq!(drop_in(&device), "", "{arguments:?}");
    }
    let told = device.run(&["setup", "--kind", "iotcore", "--device", "d", "--websocket"]);
    assert!(told.code == 2 && told.err.contains("--websocket means nothing to --kind iotcore"), "{told:?}");
}

#[test]
fn a_file_that_is_still_to_come_is_no_fault() {
    let device = Device::new();
    let key = device.path("hub.key").display().to_string();
    let told = set_up(&device, &["--device", "gw-1", "--host", "h.example", "--key-file", &key]);
    assert!(told.code == 0 && told.err.contains("next: put the file in its place"), "{told:?}");
    let checked = device.run(&["check"]);
    assert!(checked.code == 0 && checked.out.contains("nothing to log in with yet"), "{checked:?}");
    put(&device, "hub.key", KEY, 0o600);
    assert!(device.run(&["check"]).out.ends_with("; shared key\n"));
    put(&device, "hub.key", KEY, 0o644);
    let checked = device.run(&["check"]);
    assert!(checked.code == 78 && checked.err.contains("open to others"), "{checked:?}");
}

#[test]
fn a_token_is_shown_by_what_it_is_for_and_itself_only_when_asked_for() {
    let device = Device::new();
    let file = put(&device, "connection-string", &format!("{STRING};ModuleId=app"), 0o600);
    assert_eq!(set_up(&device, &["--connection-string-file", &file]).code, 0);
    let told = device.run(&["token"]);
    assert_eq!((told.code, told.out.as_str()), (0, "my-hub.example/devices/gw-1/modules/app\n"), "{}", told.err);
    assert!(told.err.contains("expires at ") && told.err.contains(", in 1h"), "{}", told.err);
    assert!(!told.err.contains("sig="), "{}", told.err);
    let raw = device.run(&["token", "--raw"]);
    let begins = "SharedAccessSignature sr=my-hub.example%2Fdevices%2Fgw-1%2Fmodules%2Fapp&sig=";
    assert!(raw.code == 0 && raw.out.starts_with(begins) && raw.err.is_empty(), "{raw:?}");
}

#[test]
fn a_shared_key_has_no_public_half_and_a_key_of_ones_own_is_of_no_use_alone() {
    let device = Device::new();
    let file = put(&device, "connection-string", STRING, 0o600);
    assert_eq!(set_up(&device, &["--connection-string-file", &file]).code, 0);
    let told = device.run(&["pubkey"]);
    assert!(told.code == 1 && told.err.contains("has no public half") && told.out.is_empty(), "{told:?}");
    let told = device.run(&["keygen"]);
    assert!(told.code == 0 && told.err.contains("an IoT hub is not told of a public key"), "{told:?}");
    let told = device.run(&["pubkey", "--csr"]);
    assert!(told.code == 0 && told.out.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{told:?}");
}

#[test]
fn a_reset_of_the_identity_takes_what_the_hub_knows_the_device_by() {
    let device = Device::new();
    let file = put(&device, "connection-string", STRING, 0o600);
    assert_eq!(set_up(&device, &["--connection-string-file", &file]).code, 0);
    let told = device.run(&["reset"]);
    assert!(told.code == 0 && device.path("connection-string").exists(), "{told:?}");
    let told = device.run(&["reset", "--identity"]);
    assert_eq!((told.code, told.out.as_str()), (0, "removed connection-string\n"), "{told:?}");
    assert!(!device.path("connection-string").exists());
    // It is gone, and what it said with it.
    let told = device.run(&["reset", "--identity"]);
    assert!(told.code == 0 && told.err.contains("the configuration is wrong, so a key or a certificate"), "{told:?}");

    // What lies elsewhere is not ours to remove, whatever leads there.
    let device = Device::new();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = elsewhere.path().join("device.pem");
    fs::write(&other, "x").expect("a file");
    let link = device.path("device.pem");
    std::os::unix::fs::symlink(&other, &link).expect("a link");
    let key = put(&device, "keys.d.pem", "x", 0o600);
    let text = format!(
        "cloud.kind = \"iothub\"\ndevice.id = \"gw-1\"\n[cloud.iothub]\nhost = \"h.example\"\ncert_file = \"{}\"\n\
         cert_key_file = \"{key}\"\n",
        link.display()
    );
    put(&device, "twinagent.toml", &text, 0o644);
    let told = device.run(&["reset", "--identity"]);
    assert_eq!((told.code, told.out.as_str()), (0, "removed keys.d.pem\n"), "{told:?}");
    assert_eq!(told.err, "left device.pem as it is, and it is who this device is\n");
    assert!(other.exists() && link.exists());
}

#[cfg(feature = "bridge")]
#[test]
fn a_certificate_is_checked_with_its_key_and_known_by_its_thumbprint() {
    let pair = |until: i32| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
    };
    let device = Device::new();
    let ((certificate, key), (_, other), (old, old_key)) = (pair(2300), pair(2300), pair(2021));
    let cert = put(&device, "device.pem", &certificate, 0o644);
    let key = put(&device, "device.key", &key, 0o600);
    let other = put(&device, "other.key", &other, 0o600);
    let hub = ["--device", "gw-1", "--host", "h.example"];
    let with =
        |cert: &str, key: &str| set_up(&device, &[&hub[..], &["--cert-file", cert, "--cert-key-file", key]].concat());

    let told = with(&cert, &other);
    assert!(told.code == 2 && told.err.contains("not that of the certificate"), "{told:?}");
    let told = with(&cert, &key);
    assert!(told.code == 0 && told.err.contains("whose thumbprint is "), "{told:?}");
    let thumbprint = device.run(&["pubkey"]);
    assert_eq!((thumbprint.code, thumbprint.out.trim_end().len()), (0, 64), "{thumbprint:?}");
    assert!(told.err.contains(thumbprint.out.trim_end()), "{told:?}");
    let token = device.run(&["token"]);
    assert!(token.code == 1 && token.err.contains("without a token"), "{token:?}");

    put(&device, "device.pem", &old, 0o644);
    put(&device, "device.key", &old_key, 0o600);
    let checked = device.run(&["check"]);
    assert!(checked.code == 78 && checked.err.contains("the certificate ended on 2021-01-01T00:00:00"), "{checked:?}");
}
