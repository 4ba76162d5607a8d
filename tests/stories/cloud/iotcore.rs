//! How a story speaks to Cloud IoT Core: commands by topic, configurations, states, telemetry.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use twinagent::bridge::{
    Bridge, Canonical, Cloud as Service, DeviceName, Faults, RawPublish, RegistryName, StateChange, Telemetry,
};
use twinagent::dialect::token;

use super::{Heard, NotSent, Registered};
use crate::device::{Setup, write};

#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) service: Service,
    pub(crate) name: DeviceName,
    pub(super) faults: Faults,
    /// Of the device, in PEM.
    public_key: String,
}

pub(crate) struct Ear {
    name: DeviceName,
    telemetry: mpsc::Receiver<Telemetry>,
    states: mpsc::Receiver<StateChange>,
}

pub(super) async fn register(bridge: &Bridge, setup: &Setup, etc: &Path) -> Registered {
    let service = bridge.cloud();
    let registry = registry();
    service
        .create_registry(&registry.project, &registry.region, &registry.registry, setup.event_topic)
        .await
        .expect("a registry");
    let (key, public) = token::generate().expect("a key");
    let public_key = public.public_pem();
    let name = service.create_device(&registry, "gw-1", &public_key).await.expect("a device");
    write(&etc.join("keys/device.key"), key.reveal());
    let addresses = bridge.addresses();
    let port = addresses.mqtt.or(addresses.mqtts).expect("a listener").port();
    let tls = if setup.tls { format!("ca_file = \"{}\"", bridge.ca_file().display()) } else { "tls = false".into() };
    let config = format!(
        "[cloud]\nkind = \"iotcore\"\n\
         [cloud.iotcore]\nhost = \"{}\"\nport = {port}\n{tls}\n\
         project_id = \"my-project\"\nregion = \"us-central1\"\nregistry_id = \"my-registry\"\n\
         answers = \"{}\"\nclean_session = {}\n",
        setup.host, setup.answers, !setup.sessions,
    );
    let cloud = Cloud { service, name, faults: bridge.faults(), public_key };
    Registered { cloud: super::Cloud::IotCore(cloud), config }
}

fn registry() -> RegistryName {
    RegistryName::new("my-project", "us-central1", "my-registry").expect("a name")
}

impl Cloud {
    pub(super) fn again(&self, bridge: &Bridge) -> Self {
        Self { service: bridge.cloud(), faults: bridge.faults(), ..self.clone() }
    }

    pub(super) async fn another(&self, id: &str) -> Self {
        let name = self.service.create_device(&registry(), id, &self.public_key).await.expect("a device");
        Self { name, ..self.clone() }
    }

    pub(super) async fn ear(&self) -> Ear {
        Ear {
            name: self.name.clone(),
            telemetry: self.service.telemetry().await.expect("a tap"),
            states: self.service.state_changes().await.expect("a tap"),
        }
    }

    pub(super) async fn send_many(&self, commands: Vec<(String, Bytes)>) -> Result<(), NotSent> {
        self.service.send_commands(&self.name, commands).await.map_err(|error| match error.status {
            Canonical::FailedPrecondition => NotSent::Away,
            Canonical::DeadlineExceeded => NotSent::NotAcknowledged,
            other => panic!("no command can be sent: {other:?}: {error}"),
        })
    }

    pub(super) fn command(&self, subfolder: &str, payload: Bytes, packet_id: u16) -> RawPublish {
        let slash = if subfolder.is_empty() { "" } else { "/" };
        RawPublish::new(format!("/devices/{}/commands{slash}{subfolder}", self.name.device), payload, packet_id)
    }

    pub(super) async fn set_desired(&self, document: &str) {
        self.service.set_config(&self.name, document.to_owned()).await.expect("a configuration");
    }

    pub(super) async fn reported(&self) -> Option<Value> {
        let states = self.service.states(&self.name).await.expect("states");
        states.first().map(|(_, newest)| serde_json::from_slice(newest).expect("a JSON document"))
    }

    pub(super) async fn complaint(&self) -> Option<String> {
        self.resource().await["lastErrorStatus"]["message"].as_str().map(str::to_owned)
    }

    /// The device as REST shows it.
    pub(crate) async fn resource(&self) -> Value {
        self.service.device(&self.name).await.expect("the device")
    }
}

impl Ear {
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                event = self.telemetry.recv() => {
                    let event = event.expect("no event is missed");
                    if event.device != self.name {
                        continue;
                    }
                    if event.subfolder == "responses" {
                        return Heard::Answer(serde_json::from_slice(&event.payload).expect("a JSON answer"));
                    }
                    return Heard::Telemetry(event.subfolder, event.payload);
                }
                state = self.states.recv() => {
                    let state = state.expect("no state is missed");
                    if state.device == self.name {
                        return Heard::Reported(serde_json::from_slice(&state.payload).expect("a JSON document"));
                    }
                }
            }
        }
    }
}
