//! IoT Hub as a test uses it, in the same process: what its service API offers, without HTTP, and what a test wants to see.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::bridge::azure::{HubError, HubName, IdentityBody, IfMatch, TwinBody, Write};
use crate::bridge::owner::{Owner, Stopped};
use crate::bridge::provisioning::Enrollment;
use crate::bridge::taps::{HubMessage, ReportedChange};
use crate::bridge::world::World;

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// With what an identity proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// Keys that it shares with the hub, in base64. Without a second one the hub draws it.
    Key { primary: String, secondary: Option<String> },
    /// The thumbprint of its certificate in hexadecimal: SHA-1 or SHA-256 of the DER.
    Thumbprint(String),
}

impl Access {
    pub(crate) fn body(&self) -> IdentityBody {
        match self {
            Self::Key { primary, secondary } => IdentityBody::with_keys(primary, secondary.as_deref()),
            Self::Thumbprint(thumbprint) => IdentityBody::with_thumbprints(thumbprint, None),
        }
    }
}

/// Keys are never printed.
impl std::fmt::Debug for Access {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key { .. } => out.write_str("Key(secret)"),
            Self::Thumbprint(thumbprint) => write!(out, "Thumbprint({thumbprint})"),
        }
    }
}

/// A cloud-to-device message that is on its way.
#[derive(Debug)]
pub struct Sent(oneshot::Receiver<()>);

impl Sent {
    /// Waits for the device's PUBACK, over any number of connections. False: not within `limit`, or the message was dropped.
    pub async fn acknowledged(self, limit: Duration) -> bool {
        matches!(timeout(limit, self.0).await, Ok(Ok(())))
    }
}

/// Reaches the hub. Every call fails with 503 once the bridge was stopped, and with 404 for an identity that does not exist.
#[derive(Clone, Debug)]
pub struct Hub {
    owner: Owner,
}

impl Hub {
    pub(in crate::bridge) fn new(owner: Owner) -> Self {
        Self { owner }
    }

    /// Makes a device.
    pub async fn create_device(&self, id: &str, access: Access) -> Result<HubName, HubError> {
        self.create(HubName::device(id)?, &access).await
    }

    /// Makes a module of a device.
    pub async fn create_module(&self, device: &HubName, id: &str, access: Access) -> Result<HubName, HubError> {
        self.create(device.module(id)?, &access).await
    }

    async fn create(&self, name: HubName, access: &Access) -> Result<HubName, HubError> {
        let (created, body) = (name.clone(), access.body());
        self.owner.ask(move |world: &mut World| world.put_identity(&name, body, None).map(drop)).await?;
        Ok(created)
    }

    /// Deletes an identity, its modules and their connections.
    pub async fn delete(&self, name: &HubName) -> Result<(), HubError> {
        let name = name.clone();
        self.owner.ask(move |world: &mut World| world.delete_identity(&name, &IfMatch::Any)).await
    }

    /// Lets an identity log in, or not any more; its connection ends then.
    pub async fn set_enabled(&self, name: &HubName, enabled: bool) -> Result<(), HubError> {
        self.owner.ask_hub(name, move |world, number| world.set_enabled(number, enabled)).await
    }

    /// What the cloud gives to a device that has a key: host `localhost`, the identity, its primary key.
    pub async fn connection_string(&self, name: &HubName) -> Result<String, HubError> {
        let (device, module) = (name.device.clone(), name.module.clone());
        let key = self.owner.ask_hub(name, |world, number| world.azure.primary_key(number)).await?;
        let module = module.map(|module| format!(";ModuleId={module}")).unwrap_or_default();
        Ok(format!("HostName=localhost;DeviceId={device}{module};SharedAccessKey={key}"))
    }

    /// Calls a direct method and waits for the device's answer: its status, and its payload, `Null` for none.
    ///
    /// `connect`: how long to wait for a device that is not there; then 404103. `response`: how long the device may take; then
    /// 504101. `payload`: `None` for no payload at all.
    pub async fn invoke(
        &self,
        name: &HubName,
        method: &str,
        payload: Option<Value>,
        connect: Duration,
        response: Duration,
    ) -> Result<(i64, Value), HubError> {
        let method = method.to_owned();
        let call = move |world: &mut World, number| world.invoke(number, method, payload.as_ref(), connect, response);
        let answer = self.owner.ask_hub(name, call).await?;
        answer.await.map_err(|_| Stopped)?
    }

    /// Queues a cloud-to-device message; it is sent as soon as the device is subscribed. At most 50 wait for one device.
    pub async fn send_message(
        &self,
        device: &HubName,
        properties: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Sent, HubError> {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = body.into();
        let send = move |world: &mut World, number| world.send_message(number, properties, body);
        self.owner.ask_hub(device, send).await.map(Sent)
    }

    /// Both documents as the device reads them: `{"desired": {…, "$version"}, "reported": {…, "$version"}}`.
    pub async fn twin(&self, name: &HubName) -> Result<Value, HubError> {
        let twin = self.owner.ask_hub(name, |world, number| world.azure.device_twin(number)).await?;
        serde_json::from_slice(&twin).map_err(|error| HubError::invalid(format!("the twin is no JSON: {error}")))
    }

    /// Merges a patch into the desired properties and tells the device; their version afterwards.
    pub async fn patch_desired(&self, name: &HubName, patch: Value) -> Result<u64, HubError> {
        self.write_desired(name, patch, Write::Patch).await
    }

    /// Replaces the desired properties and tells the device; their version afterwards.
    pub async fn replace_desired(&self, name: &HubName, desired: Value) -> Result<u64, HubError> {
        self.write_desired(name, desired, Write::Replace).await
    }

    async fn write_desired(&self, name: &HubName, desired: Value, write: Write) -> Result<u64, HubError> {
        let body = TwinBody::desired(desired)?;
        let update = move |world: &mut World, number| world.update_twin(number, body, &IfMatch::Any, write);
        let twin = self.owner.ask_hub(name, update).await?;
        let version = twin["properties"]["desired"]["$version"].as_u64();
        version.ok_or_else(|| HubError::invalid("The twin has no version."))
    }

    /// The telemetry that is taken from now on. A reader that falls 65 536 messages behind is cut off.
    pub async fn messages(&self) -> Result<mpsc::Receiver<HubMessage>, HubError> {
        self.owner.ask(|world| Ok(world.taps.messages.open())).await
    }

    /// The reported patches that are taken from now on. A reader that falls 65 536 behind is cut off.
    pub async fn reported_changes(&self) -> Result<mpsc::Receiver<ReportedChange>, HubError> {
        self.owner.ask(|world| Ok(world.taps.reported.open())).await
    }

    /// Whether this identity is connected.
    pub async fn connected(&self, name: &HubName) -> Result<bool, HubError> {
        self.owner.ask_hub(name, |world, number| Ok(world.broker.connection_of(number).is_some())).await
    }

    /// Clients of either cloud that are connected.
    pub async fn connections(&self) -> Result<usize, HubError> {
        self.owner.ask(|world| Ok(world.broker.connections())).await
    }

    /// How often this identity has logged in since the bridge was started.
    pub async fn logins(&self, name: &HubName) -> Result<u64, HubError> {
        self.owner.ask_hub(name, |world, number| Ok(world.logins(number))).await
    }

    /// Cloud-to-device messages that are not acknowledged, sent or not.
    pub async fn unsettled(&self, device: &HubName) -> Result<usize, HubError> {
        self.owner.ask_hub(device, |world, number| Ok(world.queued(number))).await
    }

    /// Closes the connection of the identity. False if there is none.
    pub async fn disconnect(&self, name: &HubName) -> Result<bool, HubError> {
        self.owner.ask_hub(name, |world, number| Ok(world.broker.close(number))).await
    }

    /// Why the bridge last closed a connection of this identity, if it ever did by a rule.
    pub async fn last_error(&self, name: &HubName) -> Result<Option<String>, HubError> {
        self.owner.ask_hub(name, |world, number| Ok(world.hub.complaint(number))).await
    }

    /// Why the bridge last refused a login to the hub or to its provisioning service, if it ever did.
    pub async fn last_refusal(&self) -> Result<Option<String>, HubError> {
        self.owner.ask(|world| Ok(world.hub.refusal())).await
    }

    /// Whether this identity is connected and subscribed to methods, to its twin, and to its messages if it is a device.
    pub async fn ready(&self, name: &HubName) -> Result<bool, HubError> {
        self.owner.ask_hub(name, |world, number| Ok(world.hub_ready(number))).await
    }

    /// Waits for that; 504 after `limit`.
    pub async fn wait_until_ready(&self, name: &HubName, limit: Duration) -> Result<(), HubError> {
        let ready = async {
            while !self.ready(name).await? {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        timeout(limit, ready).await.unwrap_or_else(|_| Err(HubError::no_answer()))
    }

    /// Answers the next requests of this identity about its twin with this status, such as 429, and does nothing else.
    pub async fn throttle_twins(&self, name: &HubName, times: u32, status: u16) -> Result<(), HubError> {
        let throttle = move |world: &mut World, number| {
            world.hub.throttle(number, times, status);
            Ok(())
        };
        self.owner.ask_hub(name, throttle).await
    }

    /// Lets a device register with the provisioning service. An older enrollment of that registration is replaced.
    pub async fn enroll(&self, enrollment: Enrollment) -> Result<(), HubError> {
        self.owner.ask(move |world: &mut World| world.provisioning.enroll(enrollment)).await
    }

    /// Requests to register that the provisioning service has taken since the bridge was started.
    pub async fn registrations(&self) -> Result<u64, HubError> {
        self.owner.ask(|world| Ok(world.provisioning.registrations())).await
    }

    /// The connection string of the service's policy with all rights, for clients of the service API at this host.
    pub async fn service_connection_string(&self, host: &str) -> Result<String, HubError> {
        let key = self.owner.ask(|world: &mut World| Ok::<_, HubError>(world.azure.service_key().to_owned())).await?;
        Ok(service_connection_string(host, &key))
    }
}

/// As the cloud writes it.
pub(in crate::bridge) fn service_connection_string(host: &str, key: &str) -> String {
    format!("HostName={host};SharedAccessKeyName=iothubowner;SharedAccessKey={key}")
}
