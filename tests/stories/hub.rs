//! Stories of what Azure IoT Hub alone has: identities of several kinds, messages that wait, ways to the hub, and the strings
//! in which all of that is handed out.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;
use twinagent::bridge::Access;
use twinagent::config::Folders;
use twinagent::daemon::{self, Parts};
use twinagent::handler::built_in;

use crate::cloud::Kind;
use crate::cloud::iothub::{Cloud, KEY, shared};
use crate::device::{Device, PATIENCE, Setup, write as write_new};
use crate::living::{DROP_IN, MAIN, NOTICED, write};
use crate::log::Log;
use crate::process::Process;
use crate::program::{problem, run, status};

const QUICK: &str = "[session]\nbackoff_max = \"1s\"\nbackoff_max_refused = \"1s\"\n";

pub(crate) fn setup() -> Setup {
    Setup { config: QUICK, ..Setup::on(Kind::IotHub) }
}

pub(crate) fn hub(device: &Device) -> &Cloud {
    device.cloud.iothub()
}

/// Writes the device's configuration anew: this section of the cloud, and its listener and authority.
pub(crate) fn configure(device: &Device, section: &str) {
    let port = device.bridge.addresses().mqtts.expect("a listener").port();
    configure_on(device, port, section);
}

fn configure_on(device: &Device, port: u16, section: &str) {
    let ca_file = device.bridge.ca_file().display();
    let text =
        format!("cloud.kind = \"iothub\"\n{QUICK}[cloud.iothub]\nport = {port}\nca_file = \"{ca_file}\"\n{section}");
    write(device, MAIN, text);
}

pub(crate) fn key_file(device: &Device) -> String {
    format!("key_file = \"{}\"\n", device.path("etc/keys/hub.key").display())
}

async fn works(device: &mut Device, id: &str) {
    device.send(&format!("count/{id}"), "").await;
    device.answer(id, 200).await;
}

// === Messages

#[tokio::test]
async fn messages_wait_for_a_device_that_is_away_and_each_is_run_once() {
    let mut device = Device::online(setup()).await;
    device.stop().await;
    device.cloud.wait_until_away().await;
    for n in 0..50 {
        device.send(&format!("count/away-{n}"), "").await;
    }
    device.start();
    device.wait_until_ready().await;
    for n in 0..50 {
        device.answer(&format!("away-{n}"), 200).await;
    }
    let counted = device.counted();
    assert!(counted.len() == 50 && counted.values().all(|times| *times == 1), "{counted:?}");
    device.stop().await;
}

// === Identities

#[tokio::test]
async fn a_module_leaves_the_device_to_another_client() {
    let mut device = Device::new(setup()).await;
    let (name, service) = (hub(&device).name.clone(), hub(&device).service.clone());
    let module = service.create_module(&name, "agent", shared()).await.expect("a module");
    configure(&device, &format!("host = \"localhost\"\nmodule_id = \"agent\"\n{}", key_file(&device)));
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    device.start();
    service.wait_until_ready(&module, PATIENCE).await.expect("the module subscribes");

    // The device itself is somebody else, with folders of its own.
    let (etc, state, runtime) = (device.path("other/etc"), device.path("other/state"), device.path("other/run"));
    for folder in [&etc.join("conf.d"), &state, &runtime] {
        fs::create_dir_all(folder).expect("a folder");
    }
    let main = fs::read_to_string(device.path(MAIN)).expect("text").replace("module_id = \"agent\"\n", "");
    write_new(&etc.join("twinagent.toml"), &main);
    write_new(&etc.join("conf.d/id.toml"), "device.id = \"gw-1\"\n");
    let folders = Folders { configuration: etc, state, runtime, ..device.folders() };
    let parts = Parts { folders, file: None, handlers: built_in(), machine: device.machine };
    let other = tokio::spawn(daemon::run(parts, std::future::pending()));
    service.wait_until_ready(&name, PATIENCE).await.expect("the device subscribes");

    for (name, method, known) in [(&module, "count", 200), (&name, "count", 404), (&name, "echo", 200)] {
        let answer = service.invoke(name, method, Some(json!({})), Duration::ZERO, PATIENCE).await;
        // Its caller is told 202 if the disk stands still for seconds.
        let late = (known, method) == (200, "count");
        let status = answer.expect("an answer").0;
        assert!(status == known || late && status == 202, "{method} of {name}: {status}");
    }
    assert_eq!(device.counted().len(), 1);
    let reported = async {
        while !service.twin(&module).await.expect("a twin")["reported"]["methods"].to_string().contains("count") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reported).await.expect("the module has a twin of its own");
    assert_eq!(
        (service.logins(&module).await, service.logins(&name).await),
        (Ok(1), Ok(1)),
        "neither drove the other out"
    );
    other.abort();
    assert!(other.await.is_err_and(|end| end.is_cancelled()), "it ran until then");
    device.stop().await;
}

/// A self-signed certificate for the device, with its key; the hub's way to know it.
pub(crate) fn certificate(device: &Device, name: &str) -> Access {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    for (file, text) in [("device.pem", certificate.pem()), ("device-key.pem", key.serialize_pem())] {
        let path = device.path("etc/keys").join(file);
        // There may be an older one.
        let _ = fs::remove_file(&path);
        write_new(&path, &text);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.der());
    let mut thumbprint = String::new();
    for byte in digest.as_ref() {
        write!(thumbprint, "{byte:02X}").expect("a String takes it");
    }
    Access::Thumbprint(thumbprint)
}

pub(crate) fn certificate_files(device: &Device) -> String {
    let file = |name: &str| device.path("etc/keys").join(name).display().to_string();
    format!("cert_file = \"{}\"\ncert_key_file = \"{}\"\n", file("device.pem"), file("device-key.pem"))
}

#[tokio::test]
async fn a_certificate_is_a_login_without_a_token_that_could_expire() {
    let log = Log::listen();
    let mut device = Device::new(setup()).await;
    let service = hub(&device).service.clone();
    let access = certificate(&device, "gw-1");
    service.delete(&hub(&device).name).await.expect("the device");
    service.create_device("gw-1", access).await.expect("a device");
    configure(&device, &format!("host = \"localhost\"\n{}", certificate_files(&device)));
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    device.listen().await;
    device.start();
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    let told = status(&device, |status| status["state"] == "connected").await;
    assert!(told["session"].get("renewAt").is_none_or(serde_json::Value::is_null), "{told}");

    // Another certificate, of which the hub knows nothing: refused, until it does.
    certificate(&device, "gw-1");
    device.cloud.disconnect().await;
    log.wait_for("login refused by the broker").await;
    device.stop().await;
}

// === Ways

#[tokio::test]
async fn the_way_may_be_a_websocket() {
    let mut device = Device::new(Setup { https: true, ..setup() }).await;
    let port = device.bridge.addresses().https.expect("a listener").port();
    configure_on(&device, port, &format!("websocket = true\nhost = \"localhost\"\n{}", key_file(&device)));
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    device.start();
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    let text = json!("x".repeat(100_000));
    assert_eq!(hub(&device).invoke("echo", text.clone()).await, Ok((200, text)));
    device.cloud.disconnect().await;
    device.wait_until_ready().await;
    works(&mut device, "c-2").await;
    assert_eq!((device.counted().len(), device.logins().await), (2, 2));
    device.stop().await;
}

#[tokio::test]
async fn a_gateway_is_where_to_connect_and_the_hub_is_who_to_log_in_to() {
    let mut device = Device::new(setup()).await;
    // The name of the gateway is none of the hub's: who logs in by it is refused.
    let section = format!("host = \"localhost\"\ngateway_host = \"127.0.0.1\"\n{}", key_file(&device));
    configure(&device, &section);
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    device.start();
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    device.stop().await;
}

// === Connection strings

fn connection_string(device: &Device, text: &str) {
    write(device, "etc/keys/connection-string", text);
    fs::set_permissions(device.path("etc/keys/connection-string"), fs::Permissions::from_mode(0o600)).expect("a mode");
}

#[tokio::test]
async fn a_connection_string_that_is_wrong_is_told_for_what_it_is_and_mended() {
    let log = Log::listen();
    let mut device = Device::new(setup()).await;
    let file = device.path("etc/keys/connection-string");
    let good = format!("HostName=localhost;DeviceId=gw-1;SharedAccessKey={KEY}");
    connection_string(&device, &format!("{good};"));
    configure(&device, &format!("connection_string_file = \"{}\"\n", file.display()));
    device.start_as_it_is();
    let is_told = async |device: &Device, words: &str| {
        let about = |text: &str| text.contains(words);
        let told = status(device, |status| {
            problem(&status["problems"], "config").is_some_and(about)
                || problem(&status["problems"], "key").is_some_and(about)
        });
        let told = told.await.to_string();
        assert!(!told.contains(KEY), "no secret is told: {told}");
    };
    is_told(&device, "it ends in `;`").await;
    for (text, words) in [
        (format!("{good};DeviceId=gw-1"), "`DeviceId` stands twice"),
        (format!("{good};Colour=red"), "the name of part 4 is not known"),
        (good.replace("DeviceId", "deviceid"), "did you mean `DeviceId`"),
        (good.replace("DeviceId=gw-1", "DeviceId="), "`DeviceId` is empty"),
        (good.replace("HostName=localhost;", ""), "`HostName` is missing"),
        (format!("{good};x509=true"), "exclude each other"),
        (
            format!("HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"),
            "stands in strings of services",
        ),
        (good.replace(KEY, "no base64!"), "is not base64"),
        ("nonsense".to_owned(), "part 1 has no `=`"),
        (String::new(), "there is nothing in it"),
    ] {
        connection_string(&device, &text);
        is_told(&device, words).await;
    }
    assert_eq!(device.logins().await, 0);
    connection_string(&device, &good);
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    status(&device, |status| status["problems"] == json!([])).await;
    assert!(!log.text().contains(KEY), "no secret is logged");

    // One that says something new is noticed, and another login is made with it when it is needed.
    let other = good.replace(KEY, "YW5vdGhlciBrZXkgYWx0b2dldGhlciBvZiAzMiBieXQ=");
    connection_string(&device, &other);
    tokio::time::sleep(NOTICED).await;
    device.cloud.disconnect().await;
    log.wait_for("login refused by the broker").await;
    connection_string(&device, &good);
    device.wait_until_ready().await;
    device.stop().await;
}

#[tokio::test]
async fn a_file_that_is_still_to_come_is_waited_for_and_is_no_trouble() {
    let log = Log::listen();
    let mut device = Device::new(setup()).await;
    let file = device.path("etc/keys/hub.key");
    fs::remove_file(&file).expect("the key");
    device.start();
    let told = status(&device, |status| status["state"] == "not configured").await;
    let sentence = told["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.starts_with("not configured: there is nothing to log in with yet: ")
            && sentence.contains(&file.display().to_string())
            && !sentence.contains("keygen"),
        "{sentence}"
    );
    assert_eq!(told["problems"], json!([]));
    let told = run(&device, &["check"]).await;
    assert!(told.code == 0 && told.out.contains("nothing to log in with yet: "), "{told:?}");
    assert_eq!(device.logins().await, 0);
    write_new(&file, &format!("{KEY}\n"));
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    assert!(!log.text().contains("not connected: "), "{}", log.text());

    // One that was there and is gone is a loss, and that is one.
    fs::remove_file(&file).expect("the key");
    status(&device, |status| problem(&status["problems"], "key").is_some()).await;
    device.stop().await;
}

#[tokio::test]
async fn a_connection_string_that_only_the_service_can_read_is_judged_by_the_service() {
    let mut device = Device::new(setup()).await;
    let credentials = device.path("credentials");
    fs::create_dir(&credentials).expect("a folder");
    let string = format!("HostName=localhost;DeviceId=gw-1;SharedAccessKey={KEY}");
    fs::write(credentials.join("twinagent.connection-string"), string).expect("a file");
    let absent = device.path("etc/connection-string");
    configure(&device, &format!("host = \"localhost\"\nconnection_string_file = \"{}\"\n", absent.display()));
    write(&device, DROP_IN, "device.id = \"gw-1\"\n");
    let before = run(&device, &["check"]).await;
    assert!(before.out.contains("; nothing to log in with yet: "), "{before:?}");
    let environment = [("CREDENTIALS_DIRECTORY", &*credentials.display().to_string())];
    let process = Process::start_with(&device, &environment);
    device.wait_until_ready().await;
    let told = run(&device, &["check"]).await;
    let words = "; shared key (the key of the running daemon, its credential /";
    assert!(told.code == 0 && told.out.contains(words), "{told:?}");
    assert!(!told.out.contains(KEY) && !told.err.contains(KEY));
    process.stop().await;
}

// === Keys

#[tokio::test]
async fn a_key_that_the_hub_does_not_know_is_refused_without_a_storm_and_the_right_one_is_taken_at_once() {
    let log = Log::listen();
    let mut device = Device::new(Setup::on(Kind::IotHub)).await;
    let file = device.path("etc/keys/hub.key");
    let mend = |text: &str| {
        fs::remove_file(&file).expect("the key");
        write_new(&file, text);
    };
    mend("YW5vdGhlciBrZXkgYWx0b2dldGhlciBvZiAzMiBieXQ=\n");
    device.start();
    log.wait_for("login refused by the broker").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Full jitter from 8 s on.
    let tries = log.count("login refused by the broker");
    assert!(tries <= 6, "{tries} tries\n{}", log.text());
    assert_eq!(device.logins().await, 0);
    mend(&format!("{KEY}\n"));
    device.wait_until_ready().await;
    works(&mut device, "c-1").await;
    assert!(!log.text().contains(KEY), "no secret is logged");
    device.stop().await;
}
