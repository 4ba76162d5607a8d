//! The stand-in cloud at the host's end of a machine's cable, and what its customer does by REST.
//!
//! It runs on a thread of its own, so that a story is plain code that waits for whatever it waits for.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use twinagent::bridge::{Addresses, Bridge, DeviceName, Faults, Options, RawPublish, RegistryName, Telemetry};

use super::machine::Machine;
use super::patience::{PATIENCE, eventually, look_for};
use super::rest;

/// The name by which README calls the cloud's MQTT bridge; machines know it.
pub(crate) const HOST: &str = "mqtt.example.com";
/// What a REST call must carry.
pub(crate) const TOKEN: &str = "day-one";
/// The registry of README, with an event topic, and the device in it.
const PROJECT: &str = "my-project";
const REGION: &str = "us-central1";
const REGISTRY: &str = "my-registry";
pub(crate) const DEVICE: &str = "gateway-7";

pub(crate) struct Cloud {
    bridge: twinagent::bridge::Cloud,
    faults: Faults,
    addresses: Addresses,
    /// The certificate, in PEM, behind which the listeners are.
    ca: String,
    device: DeviceName,
    /// The telemetry that nobody has asked for yet.
    telemetry: mpsc::Receiver<Telemetry>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Cloud {
    /// Listens at the machine's cable, on any port.
    pub(crate) fn at(machine: &Machine) -> Self {
        Self::with(machine, |_| {})
    }

    pub(crate) fn with(machine: &Machine, change: impl FnOnce(&mut Options)) -> Self {
        let folder = TempDir::new_in(machine.folder()).expect("a folder");
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, TOKEN).expect("a file of ours");
        let address = machine.host_address();
        let mut options = Options {
            mqtts: Some(format!("{address}:0")),
            http: Some("127.0.0.1:0".to_owned()),
            https: Some(format!("{address}:0")),
            names: vec![address.to_string(), HOST.to_owned()],
            token_file: Some(token_file),
            ..Options::new(folder.path().join("data"))
        };
        change(&mut options);

        let (stop, stopped) = oneshot::channel();
        let (up, started) = std::sync::mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let bridge = Bridge::start(options).await.expect("the stand-in cloud starts");
                let cloud = bridge.cloud();
                let registry = RegistryName::new(PROJECT, REGION, REGISTRY).expect("a name");
                cloud.create_registry(PROJECT, REGION, REGISTRY, true).await.expect("a registry");
                let telemetry = cloud.telemetry().await.expect("a tap");
                let ca = std::fs::read_to_string(bridge.ca_file()).expect("the bridge has written it");
                let device = registry.device(DEVICE).expect("a name");
                let parts = (cloud, bridge.faults(), bridge.addresses(), ca, device, telemetry, Handle::current());
                up.send(parts).expect("it is waited for");
                // Dropped: the story is over.
                let _ = stopped.await;
                bridge.stop().await;
            });
        });
        let parts = started.recv().expect("the thread of the cloud says what went wrong");
        let (bridge, faults, addresses, ca, device, telemetry, handle) = parts;
        let (stop, thread) = (Some(stop), Some(thread));
        let cloud = Self { bridge, faults, addresses, ca, device, telemetry, handle, stop, thread, _folder: folder };
        cloud.introduce(machine);
        cloud
    }

    /// Lets a machine, before it boots, know name and authority of this cloud, as it would know those of a real one.
    fn introduce(&self, machine: &Machine) {
        let hosts = machine.read("/etc/hosts");
        machine.write("/etc/hosts", &format!("{hosts}{} {HOST}\n", machine.host_address()));
        let roots = machine.read("/etc/ssl/certs/ca-certificates.crt");
        machine.write("/etc/ssl/certs/ca-certificates.crt", &format!("{roots}{}", self.ca));
    }

    /// The port of MQTT over TLS.
    pub(crate) fn port(&self) -> u16 {
        self.mqtts().port()
    }

    fn mqtts(&self) -> SocketAddr {
        self.addresses.mqtts.expect("it is on")
    }

    /// The registry's address in the REST API, as machines see it.
    pub(crate) fn registry_url(&self) -> String {
        format!("https://{HOST}:{}{}", self.addresses.https.expect("it is on").port(), registry())
    }

    // === By REST

    /// One call; `path` is below that of the registry.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let address = self.addresses.http.expect("it is on");
        rest::call(address, TOKEN, method, &format!("{}{path}", registry()), &body.to_string())
    }

    /// Registers the device with this public key, in PEM.
    #[track_caller]
    pub(crate) fn register(&self, public_key: &str) {
        let credential = json!({ "publicKey": { "format": "ES256_PEM", "key": public_key } });
        let (status, answer) = self.call("POST", "/devices", &json!({ "id": DEVICE, "credentials": [credential] }));
        assert_eq!(status, 200, "{answer}");
    }

    /// Sends a command; when it returns, the device has acknowledged it.
    #[track_caller]
    pub(crate) fn send(&self, subfolder: &str, payload: &str) {
        let (status, answer) = self.try_to_send(subfolder, payload);
        assert_eq!(status, 200, "{subfolder}: {answer}");
    }

    pub(crate) fn try_to_send(&self, subfolder: &str, payload: &str) -> (u16, Value) {
        let body = json!({ "subfolder": subfolder, "binaryData": STANDARD.encode(payload) });
        self.call("POST", &format!("/devices/{DEVICE}:sendCommandToDevice"), &body)
    }

    /// Makes this the desired document.
    #[track_caller]
    pub(crate) fn desire(&self, document: &Value) {
        let body = json!({ "versionToUpdate": "0", "binaryData": STANDARD.encode(document.to_string()) });
        let (status, answer) = self.call("POST", &format!("/devices/{DEVICE}:modifyCloudToDeviceConfig"), &body);
        assert_eq!(status, 200, "{answer}");
    }

    /// The reported document; `Null` before there is one.
    #[track_caller]
    pub(crate) fn twin(&self) -> Value {
        let (status, answer) = self.call("GET", &format!("/devices/{DEVICE}/states"), &Value::Null);
        assert_eq!(status, 200, "{answer}");
        let Some(newest) = answer["deviceStates"][0]["binaryData"].as_str() else { return Value::Null };
        let bytes = STANDARD.decode(newest).expect("Base64");
        serde_json::from_slice(&bytes).expect("a JSON document")
    }

    /// The reported document, once it is as `fits` wants it.
    #[track_caller]
    pub(crate) fn wait_for_twin(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let mut newest = Value::Null;
        let found = look_for(PATIENCE, || {
            newest = self.twin();
            fits(&newest).then(|| newest.clone())
        });
        found.unwrap_or_else(|| panic!("the reported document is not as it should be: {newest:#}"))
    }

    /// The answer to a command, once it has this status. It stands in the reported document.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self, id: &str, status: u16) -> Value {
        let twin = self.wait_for_twin(|twin| twin["commands"][id]["status"] == status);
        twin["commands"][id].clone()
    }

    // === As its owner

    /// How often the device has logged in.
    pub(crate) fn logins(&self) -> u64 {
        self.handle.block_on(self.bridge.logins(&self.device)).unwrap_or_default()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.handle.block_on(self.bridge.connected(&self.device)).unwrap_or_default()
    }

    /// Waits for a login beyond so many, and until a command would arrive.
    #[track_caller]
    pub(crate) fn wait_for_login(&self, before: u64) {
        let takes = || self.handle.block_on(self.bridge.takes_commands(&self.device)).unwrap_or_default();
        eventually("the device logs in and subscribes", || (self.logins() > before && takes()).then_some(()));
    }

    /// Writes a command to the device as a broker may that retains messages or delivers them once more.
    #[track_caller]
    pub(crate) fn push(&self, subfolder: &str, change: impl FnOnce(RawPublish) -> RawPublish) {
        let topic = format!("/devices/{DEVICE}/commands/{subfolder}");
        let message = change(RawPublish::new(topic, "", 60_000));
        let pushed = self.handle.block_on(self.faults.publish(&self.device, &[message]));
        pushed.expect("the device is connected");
    }

    /// The answers that came as telemetry since this was last asked.
    pub(crate) fn answers(&mut self) -> Vec<Value> {
        let mut answers = Vec::new();
        while let Ok(message) = self.telemetry.try_recv() {
            if message.subfolder == "responses" {
                answers.push(serde_json::from_slice(&message.payload).expect("a JSON answer"));
            }
        }
        answers
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}

fn registry() -> String {
    format!("/v1/projects/{PROJECT}/locations/{REGION}/registries/{REGISTRY}")
}
