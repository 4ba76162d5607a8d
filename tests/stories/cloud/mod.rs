//! The cloud of a story: one set of words for its callers and its operators, and a file for each kind of cloud that knows
//! how these are spelled there.
//!
//! Whatever a story asks of it must work while the story is right, so nothing here returns an error but [`Cloud::send`]:
//! a device that is away is what some stories are about.

pub(crate) mod iotcore;
pub(crate) mod iothub;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::Value;
use twinagent::bridge::{Bridge, Door, Fault, RawPublish, Times};

use crate::device::{PATIENCE, Setup};

/// Which cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    IotCore,
    IotHub,
}

impl Kind {
    /// The word of `cloud.kind`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::IotCore => "iotcore",
            Self::IotHub => "iothub",
        }
    }

    /// A key of the section that says where this cloud is.
    pub(crate) fn key(self, key: &str) -> String {
        format!("cloud.{}.{key}", self.name())
    }

    /// The key that says where to connect. What Azure IoT Hub calls its host is a part of what a login says.
    pub(crate) fn way(self) -> String {
        match self {
            Self::IotCore => self.key("host"),
            Self::IotHub => self.key("gateway_host"),
        }
    }

    /// What `answers` can be.
    pub(crate) const fn roads(self) -> &'static [&'static str] {
        match self {
            Self::IotCore => &["state", "events"],
            Self::IotHub => &["state"],
        }
    }
}

/// A device in its cloud, as somebody sees it who is not the device.
#[derive(Clone)]
pub(crate) enum Cloud {
    IotCore(iotcore::Cloud),
    IotHub(iothub::Cloud),
}

/// Why a command was not sent, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The device is not connected and subscribed, and nothing is kept for it.
    Away,
    /// It has not acknowledged the command in time, or its connection ended before that.
    NotAcknowledged,
}

/// What a cloud was told.
pub(crate) enum Heard {
    /// An answer that came by itself.
    Answer(Value),
    /// The reported document as it is now.
    Reported(Value),
    /// Other telemetry, with its subfolder.
    Telemetry(String, Bytes),
}

impl Heard {
    /// The answers in it, each with the id of its command.
    pub(crate) fn answers(&self) -> Vec<(String, Value)> {
        match self {
            Self::Answer(answer) => vec![(answer["id"].as_str().expect("an id").to_owned(), answer.clone())],
            Self::Reported(document) => document["commands"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(id, answer)| (id.clone(), answer.clone()))
                .collect(),
            Self::Telemetry(..) => Vec::new(),
        }
    }
}

/// Hears all that the cloud is told from a moment on.
pub(crate) enum Ear {
    IotCore(iotcore::Ear),
    IotHub(iothub::Ear),
}

/// The same to each kind of cloud.
macro_rules! each {
    ($one:expr, $cloud:ident => $does:expr) => {
        match $one {
            Self::IotCore($cloud) => $does,
            Self::IotHub($cloud) => $does,
        }
    };
}

impl Ear {
    /// The next of all that the cloud is told.
    pub(crate) async fn hear(&mut self) -> Heard {
        each!(self, ear => ear.hear().await)
    }

    /// All that was not listened to yet.
    pub(crate) fn backlog(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.hear().now_or_never()).collect()
    }

    /// How many reported documents there are among it.
    pub(crate) fn reports(&mut self) -> usize {
        self.backlog().iter().filter(|heard| matches!(heard, Heard::Reported(_))).count()
    }
}

/// What a new device needs to know of its cloud.
pub(crate) struct Registered {
    pub(crate) cloud: Cloud,
    /// The part of `twinagent.toml` that says which cloud it is, and who the device is there.
    pub(crate) config: String,
}

impl Cloud {
    /// Makes a device in the cloud. With what it proves who it is lies below `etc` afterwards.
    pub(crate) async fn register(bridge: &Bridge, setup: &Setup, etc: &Path) -> Registered {
        match setup.cloud {
            Kind::IotCore => iotcore::register(bridge, setup, etc).await,
            Kind::IotHub => iothub::register(bridge, setup, etc).await,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::IotCore(_) => Kind::IotCore,
            Self::IotHub(_) => Kind::IotHub,
        }
    }

    /// Where a story is told on this cloud alone.
    pub(crate) fn iotcore(&self) -> &iotcore::Cloud {
        match self {
            Self::IotCore(cloud) => cloud,
            Self::IotHub(_) => panic!("the story is on another cloud"),
        }
    }

    /// Where a story is told on this cloud alone.
    pub(crate) fn iothub(&self) -> &iothub::Cloud {
        match self {
            Self::IotHub(cloud) => cloud,
            Self::IotCore(_) => panic!("the story is on another cloud"),
        }
    }

    /// The same device, after the cloud was taken down and brought back.
    pub(crate) fn again(&self, bridge: &Bridge) -> Self {
        match self {
            Self::IotCore(cloud) => Self::IotCore(cloud.again(bridge)),
            Self::IotHub(cloud) => Self::IotHub(cloud.again(bridge)),
        }
    }

    /// Another device in the same cloud, which proves who it is with this one's key.
    pub(crate) async fn another(&self, id: &str) -> Self {
        match self {
            Self::IotCore(cloud) => Self::IotCore(cloud.another(id).await),
            Self::IotHub(cloud) => Self::IotHub(cloud.another(id).await),
        }
    }

    /// Hears from now on.
    pub(crate) async fn ear(&self) -> Ear {
        match self {
            Self::IotCore(cloud) => Ear::IotCore(cloud.ear().await),
            Self::IotHub(cloud) => Ear::IotHub(cloud.ear().await),
        }
    }

    // === Its callers

    /// Sends a command; returns when the device has acknowledged it, or the cloud keeps it for a device that is away.
    pub(crate) async fn send(&self, subfolder: &str, payload: &str) -> Result<(), NotSent> {
        self.send_many(vec![(subfolder.to_owned(), Bytes::copy_from_slice(payload.as_bytes()))]).await
    }

    /// Sends commands in one go, so that a device can read them in one batch.
    pub(crate) async fn send_many(&self, commands: Vec<(String, Bytes)>) -> Result<(), NotSent> {
        each!(self, cloud => cloud.send_many(commands).await)
    }

    /// The message by which this cloud delivers a command, for those who send it in a way of their own.
    pub(crate) fn command(&self, subfolder: &str, payload: impl Into<Bytes>, packet_id: u16) -> RawPublish {
        each!(self, cloud => cloud.command(subfolder, payload.into(), packet_id))
    }

    /// The message by which this cloud says what it wants the device to be, for those who send it in a way of their own:
    /// the `n`th of them, from 0.
    pub(crate) fn wish(&self, n: u16, body: impl Into<Bytes>) -> RawPublish {
        match self {
            Self::IotCore(cloud) => RawPublish::new(format!("/devices/{}/config", cloud.name.device), body, 50_000 + n),
            // The first version is that of a new device.
            Self::IotHub(_) => RawPublish {
                qos: 0,
                ..RawPublish::new(format!("$iothub/twin/PATCH/properties/desired/?$version={}", n + 2), body, 0)
            },
        }
    }

    /// Has the device want to be something else, as a whole.
    pub(crate) async fn set_desired(&self, document: &str) {
        each!(self, cloud => cloud.set_desired(document).await);
    }

    /// The reported document, if there is one by now.
    pub(crate) async fn reported(&self) -> Option<Value> {
        each!(self, cloud => cloud.reported().await)
    }

    // === Its operators

    /// How often the device has logged in since the cloud was started.
    pub(crate) async fn logins(&self) -> u64 {
        each!(self, cloud => cloud.service.logins(&cloud.name).await.expect("the device"))
    }

    pub(crate) async fn connected(&self) -> bool {
        each!(self, cloud => cloud.service.connected(&cloud.name).await.expect("the device"))
    }

    /// Closes the connection of the device. False if there is none.
    pub(crate) async fn disconnect(&self) -> bool {
        each!(self, cloud => cloud.service.disconnect(&cloud.name).await.expect("the device"))
    }

    /// Waits until a command would arrive.
    pub(crate) async fn wait_until_ready(&self) {
        each!(self, cloud => cloud.service.wait_until_ready(&cloud.name, PATIENCE).await.expect("the device subscribes"));
    }

    /// Waits until the cloud has noticed that the device is gone.
    pub(crate) async fn wait_until_away(&self) {
        let away = async {
            while self.connected().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, away).await.expect("the device goes");
    }

    /// What the cloud holds against the device, if anything.
    pub(crate) async fn complaint(&self) -> Option<String> {
        each!(self, cloud => cloud.complaint().await)
    }

    // === Those who wish it ill

    pub(crate) async fn add_fault(&self, fault: Fault, times: Times) {
        each!(self, cloud => cloud.faults.add(&cloud.name, fault, times).await.expect("the device"));
    }

    pub(crate) async fn clear_faults(&self) {
        each!(self, cloud => cloud.faults.clear(&cloud.name).await.expect("the device"));
    }

    pub(crate) async fn publish(&self, messages: &[RawPublish]) {
        each!(self, cloud => cloud.faults.publish(&cloud.name, messages).await.expect("a session"));
    }

    /// Writes these bytes to the device.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) {
        each!(self, cloud => cloud.faults.send(&cloud.name, bytes).await.expect("a session"));
    }

    /// Keeps these bytes for the device, as if they were a message.
    pub(crate) async fn poison(&self, bytes: impl Into<Bytes>) {
        each!(self, cloud => cloud.faults.poison(&cloud.name, bytes).await.expect("a session"));
    }

    pub(crate) async fn forget_session(&self) {
        each!(self, cloud => cloud.faults.forget_session(&cloud.name).await.expect("the device"));
    }

    /// Writes half of a message, and closes the connection.
    pub(crate) async fn cut(&self) {
        each!(self, cloud => cloud.faults.cut(&cloud.name).await.expect("a session"));
    }

    pub(crate) fn set_door(&self, door: Door) {
        each!(self, cloud => cloud.faults.set_door(door));
    }

    /// Connections that were accepted since the cloud was started, whoever made them.
    pub(crate) fn accepted(&self) -> u64 {
        each!(self, cloud => cloud.faults.accepted())
    }
}
