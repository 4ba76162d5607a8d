//! The stand-in cloud as a test uses it, in the same process: what the REST side offers, without HTTP.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::google::{ApiError, Canonical, DeviceBody, DeviceName, Payload, RegistryBody, RegistryName, check_command};
use super::owner::Owner;
use super::taps::{StateChange, Telemetry};
use super::world::{World, wall};
use crate::model::now::Timestamp;

/// Reaches the stand-in. Every call fails with `UNAVAILABLE` once the bridge was stopped, and with `NOT_FOUND` for a
/// device or registry that does not exist.
#[derive(Clone, Debug)]
pub struct Cloud {
    owner: Owner,
    command_limit: Duration,
}

impl Cloud {
    pub(super) fn new(owner: Owner, command_limit: Duration) -> Self {
        Self { owner, command_limit }
    }

    /// Makes a registry. Without an event topic a device that sends telemetry is disconnected.
    pub async fn create_registry(
        &self,
        project: &str,
        region: &str,
        registry: &str,
        event_topic: bool,
    ) -> Result<RegistryName, ApiError> {
        let name = RegistryName::new(project, region, registry)?;
        let created = name.clone();
        self.owner
            .ask(move |world| {
                let body = RegistryBody::plain(&name, event_topic);
                world.google.create_registry(name, body, wall()).map(drop)
            })
            .await?;
        Ok(created)
    }

    /// Makes a device with one public key: PEM, ES256 or RSA.
    pub async fn create_device(
        &self,
        registry: &RegistryName,
        device: &str,
        public_key_pem: &str,
    ) -> Result<DeviceName, ApiError> {
        let name = registry.device(device)?;
        let created = name.clone();
        let key = public_key_pem.to_owned();
        self.owner
            .ask(move |world| {
                let body = DeviceBody::with_key(&name.device, &key);
                world.google.create_device(&name.of(), body, wall()).map(drop)
            })
            .await?;
        Ok(created)
    }

    /// Sends a command and waits for the device's PUBACK.
    ///
    /// `FAILED_PRECONDITION`: the device is not connected and subscribed. `DEADLINE_EXCEEDED`: no PUBACK in time, or
    /// the connection ended before it. With kept sessions a command for a device that is away is queued.
    pub async fn send_command(
        &self,
        device: &DeviceName,
        subfolder: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), ApiError> {
        self.send_commands(device, vec![(subfolder.to_owned(), payload.into())]).await
    }

    /// Sends commands (subfolder and payload) in one go, so that a device can read them in one batch, and waits for
    /// all PUBACKs. The first error is returned; commands before it were sent.
    pub async fn send_commands(&self, device: &DeviceName, commands: Vec<(String, Bytes)>) -> Result<(), ApiError> {
        for (subfolder, payload) in &commands {
            check_command(subfolder, payload)?;
        }
        let send = move |world: &mut World, number| {
            let send = |(subfolder, payload): (String, Bytes)| world.send_command(number, &subfolder, payload);
            commands.into_iter().map(send).collect()
        };
        let receipts: Vec<oneshot::Receiver<()>> = self.owner.ask_about(device, send).await?;
        self.settle(&device.device, receipts).await
    }

    /// Waits for PUBACKs.
    pub(super) async fn settle(&self, device: &str, receipts: Vec<oneshot::Receiver<()>>) -> Result<(), ApiError> {
        let all = async {
            for receipt in receipts {
                receipt.await?;
            }
            Ok::<(), oneshot::error::RecvError>(())
        };
        match timeout(self.command_limit, all).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ApiError::new(
                Canonical::DeadlineExceeded,
                format!("Device '{device}' did not acknowledge the command in time."),
            )),
        }
    }

    /// Makes a new version of the configuration, which is sent if the device is subscribed to it.
    pub async fn set_config(&self, device: &DeviceName, config: impl Into<Bytes>) -> Result<(), ApiError> {
        let config = Payload(config.into());
        self.owner.ask_about(device, |world, number| world.set_config(number, 0, config).map(drop)).await
    }

    /// The last ten states, the newest first.
    pub async fn states(&self, device: &DeviceName) -> Result<Vec<(Timestamp, Bytes)>, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.google.states(number))).await
    }

    /// The resource of a device, as REST shows it.
    pub async fn device(&self, device: &DeviceName) -> Result<serde_json::Value, ApiError> {
        self.owner.ask_about(device, |world, number| world.google.get_device(number, &[])).await
    }

    /// The telemetry that is taken from now on. A reader that falls 65 536 messages behind is cut off.
    pub async fn telemetry(&self) -> Result<mpsc::Receiver<Telemetry>, ApiError> {
        self.owner.ask(|world| Ok(world.taps.telemetry.open())).await
    }

    /// The states that are taken from now on. A reader that falls 65 536 messages behind is cut off.
    pub async fn state_changes(&self) -> Result<mpsc::Receiver<StateChange>, ApiError> {
        self.owner.ask(|world| Ok(world.taps.states.open())).await
    }

    /// Whether the device is connected.
    pub async fn connected(&self, device: &DeviceName) -> Result<bool, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.broker.connection_of(number).is_some())).await
    }

    /// Whether the device would get a command now: connected and subscribed, or its session is kept.
    pub async fn takes_commands(&self, device: &DeviceName) -> Result<bool, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.takes_commands(number))).await
    }

    /// Devices that are connected.
    pub async fn connections(&self) -> Result<usize, ApiError> {
        self.owner.ask(|world| Ok(world.broker.connections())).await
    }

    /// How often this device has logged in since the bridge was started.
    pub async fn logins(&self, device: &DeviceName) -> Result<u64, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.logins(number))).await
    }

    /// Messages to the device that are not acknowledged.
    pub async fn unsettled(&self, device: &DeviceName) -> Result<usize, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.broker.unsettled(number))).await
    }

    /// Closes the connection of the device. False if there is none.
    pub async fn disconnect(&self, device: &DeviceName) -> Result<bool, ApiError> {
        self.owner.ask_about(device, |world, number| Ok(world.broker.close(number))).await
    }

    /// Waits until the device would get a command; `DEADLINE_EXCEEDED` after `limit`.
    pub async fn wait_until_ready(&self, device: &DeviceName, limit: Duration) -> Result<(), ApiError> {
        let ready = async {
            while !self.takes_commands(device).await? {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        timeout(limit, ready).await.unwrap_or_else(|_| {
            let text = format!("Device '{}' did not subscribe in time.", device.device);
            Err(ApiError::new(Canonical::DeadlineExceeded, text))
        })
    }
}
