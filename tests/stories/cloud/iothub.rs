//! How a story speaks to Azure IoT Hub: cloud-to-device messages, direct methods, twins, telemetry.
//!
//! A command of a story is a cloud-to-device message, which waits for a device that is away and comes again until it is
//! acknowledged. Without a payload it is an envelope; with one, its properties say what the envelope would.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use twinagent::bridge::{Access, Bridge, Faults, Hub, HubError, HubMessage, HubName, RawPublish, ReportedChange};

use super::{Heard, NotSent, Registered};
use crate::device::{PATIENCE, Setup, write};

/// What device and cloud share.
pub(crate) const KEY: &str = "c3RvcmllcyBhcmUgdG9sZCBvbiBldmVyeSBjbG91ZC4=";

/// Where it lies, below the configuration.
pub(crate) const KEY_FILE: &str = "keys/hub.key";

/// More messages than this wait for no device.
const QUEUE_IS_FULL: u32 = 403_004;

#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) service: Hub,
    pub(crate) name: HubName,
    pub(super) faults: Faults,
}

pub(crate) struct Ear {
    name: HubName,
    messages: mpsc::Receiver<HubMessage>,
    changes: mpsc::Receiver<ReportedChange>,
}

pub(super) async fn register(bridge: &Bridge, setup: &Setup, etc: &Path) -> Registered {
    let service = bridge.hub();
    let name = service.create_device("gw-1", shared()).await.expect("a device");
    let file = etc.join(KEY_FILE);
    write(&file, &format!("{KEY}\n"));
    // The login names the hub, wherever it is reached.
    let gateway = match setup.host {
        "localhost" => String::new(),
        host => format!("gateway_host = \"{host}\"\n"),
    };
    let config = format!(
        "[cloud]\nkind = \"iothub\"\n\
         [cloud.iothub]\nhost = \"localhost\"\n{gateway}port = {}\nca_file = \"{}\"\nkey_file = \"{}\"\n",
        bridge.addresses().mqtts.expect("a listener").port(),
        bridge.ca_file().display(),
        file.display(),
    );
    let cloud = Cloud { service, name, faults: bridge.faults() };
    Registered { cloud: super::Cloud::IotHub(cloud), config }
}

/// How the devices of stories prove who they are, unless a story is about that.
pub(crate) fn shared() -> Access {
    Access::Key { primary: KEY.to_owned(), secondary: None }
}

impl Cloud {
    pub(super) fn again(&self, bridge: &Bridge) -> Self {
        Self { service: bridge.hub(), faults: bridge.faults(), ..self.clone() }
    }

    pub(super) async fn another(&self, id: &str) -> Self {
        let name = self.service.create_device(id, shared()).await.expect("a device");
        Self { name, ..self.clone() }
    }

    pub(super) async fn ear(&self) -> Ear {
        Ear {
            name: self.name.clone(),
            messages: self.service.messages().await.expect("a tap"),
            changes: self.service.reported_changes().await.expect("a tap"),
        }
    }

    pub(super) async fn send_many(&self, commands: Vec<(String, Bytes)>) -> Result<(), NotSent> {
        let mut sent = Vec::new();
        for (subfolder, payload) in commands {
            let Message { properties, body } = Message::of(&subfolder, payload);
            let properties: Vec<(&str, &str)> =
                properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match self.service.send_message(&self.name, &properties, body).await {
                Ok(message) => sent.push(message),
                Err(error) if error.code == QUEUE_IS_FULL => return Err(NotSent::Away),
                Err(error) => panic!("no message can be sent: {error}"),
            }
        }
        if !self.service.connected(&self.name).await.expect("the device") {
            return Ok(());
        }
        for message in sent {
            if !message.acknowledged(PATIENCE).await {
                return Err(NotSent::NotAcknowledged);
            }
        }
        Ok(())
    }

    pub(super) fn command(&self, subfolder: &str, payload: Bytes, packet_id: u16) -> RawPublish {
        let device = &self.name.device;
        let Message { properties, body } = Message::of(subfolder, payload);
        let mut topic =
            format!("devices/{device}/messages/devicebound/%24.to=%2Fdevices%2F{device}%2Fmessages%2FdeviceBound");
        for (name, value) in properties {
            write!(topic, "&{}={value}", name.replace('$', "%24")).expect("a String takes it");
        }
        RawPublish::new(topic, body, packet_id)
    }

    pub(super) async fn set_desired(&self, document: &str) {
        let document = serde_json::from_str(document).expect("a JSON document");
        self.service.replace_desired(&self.name, document).await.expect("a desired document");
    }

    pub(super) async fn reported(&self) -> Option<Value> {
        let mut twin = self.service.twin(&self.name).await.expect("a twin");
        let mut reported = twin["reported"].take();
        let members = reported.as_object_mut().expect("an object");
        members.retain(|name, _| !name.starts_with('$'));
        (!members.is_empty()).then_some(reported)
    }

    pub(super) async fn complaint(&self) -> Option<String> {
        self.service.last_error(&self.name).await.expect("the device")
    }

    /// Calls a direct method, with all the time that a caller can have; status and payload of the answer.
    pub(crate) async fn invoke(&self, method: &str, payload: Value) -> Result<(i64, Value), HubError> {
        self.service.invoke(&self.name, method, Some(payload), Duration::ZERO, PATIENCE).await
    }
}

/// A command as a cloud-to-device message.
struct Message {
    properties: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Message {
    fn of(subfolder: &str, payload: Bytes) -> Self {
        let (method, id) = match subfolder.split_once('/') {
            Some((method, id)) => (method, Some(id)),
            None => (subfolder, None),
        };
        if method.is_empty() {
            return Self { properties: Vec::new(), body: payload };
        }
        if payload.is_empty() {
            let mut envelope = json!({ "method": method });
            if let Some(id) = id {
                envelope["id"] = json!(id);
            }
            return Self { properties: Vec::new(), body: envelope.to_string().into() };
        }
        let id = id.map(|id| ("$.mid", id.to_owned()));
        Self { properties: id.into_iter().chain([("method", method.to_owned())]).collect(), body: payload }
    }
}

impl Ear {
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                message = self.messages.recv() => {
                    let message = message.expect("no message is missed");
                    if message.device == self.name {
                        let subfolder = message.properties.iter().find(|(name, _)| name == "subfolder");
                        let subfolder = subfolder.map(|(_, value)| value.clone()).unwrap_or_default();
                        return Heard::Telemetry(subfolder, message.payload);
                    }
                }
                change = self.changes.recv() => {
                    let change = change.expect("no change is missed");
                    if change.device == self.name {
                        return Heard::Reported(change.reported);
                    }
                }
            }
        }
    }
}
