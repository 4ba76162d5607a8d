//! Where what devices send comes out: taps for tests in this process, and the event log of `serve`.
//!
//! Nothing waits here: a reader that is too far behind is cut off, an event log that cannot keep up refuses.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::azure::HubName;
use super::google::DeviceName;
use crate::model::now::Timestamp;

/// Messages a tap holds for a reader that is behind; more than a bench has in flight.
const TAP: usize = 65_536;
/// Events that wait to be written to the log.
const LOG: usize = 4_096;

/// A telemetry event that was taken from a device.
#[derive(Clone)]
pub struct Telemetry {
    pub device: DeviceName,
    /// What followed `events/` in the topic; empty if nothing did.
    pub subfolder: String,
    /// The Pub/Sub topic that the registry names for it.
    pub topic: String,
    pub payload: Bytes,
    pub time: Timestamp,
}

/// A state that was taken from a device.
#[derive(Clone)]
pub struct StateChange {
    pub device: DeviceName,
    pub payload: Bytes,
    pub time: Timestamp,
}

/// A telemetry message that was taken from a device or module of IoT Hub.
#[derive(Clone)]
pub struct HubMessage {
    pub device: HubName,
    /// The property bag, decoded, in the order of the topic; the cloud's own names begin with `$.`.
    pub properties: Vec<(String, String)>,
    pub payload: Bytes,
    pub time: Timestamp,
}

/// A patch of the reported properties that was taken.
#[derive(Clone)]
pub struct ReportedChange {
    pub device: HubName,
    pub patch: Value,
    /// The whole document afterwards, without `$version`.
    pub reported: Value,
    /// Of the whole document.
    pub version: u64,
    pub time: Timestamp,
}

/// Payloads may hold anything, so they are never printed.
impl fmt::Debug for Telemetry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, subfolder, topic: _, payload, time } = self;
        write!(out, "Telemetry({device} {subfolder:?} {} bytes {time})", payload.len())
    }
}

impl fmt::Debug for StateChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "StateChange({} {} bytes {})", self.device, self.payload.len(), self.time)
    }
}

impl fmt::Debug for HubMessage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, properties, payload, time } = self;
        write!(out, "HubMessage({device} {} properties {} bytes {time})", properties.len(), payload.len())
    }
}

impl fmt::Debug for ReportedChange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ReportedChange({} version {} {})", self.device, self.version, self.time)
    }
}

/// What the event log holds.
#[derive(Clone, Debug)]
pub(crate) enum Logged {
    /// With the number of the device.
    IotCore(u64, Telemetry),
    IotHub(HubMessage),
}

/// Gives a copy of each message to each of its readers.
#[derive(Debug)]
pub(crate) struct Tap<T>(Vec<mpsc::Sender<T>>);

impl<T: Clone> Tap<T> {
    /// A reader of all that comes from now on. It ends early if it falls 65 536 messages behind.
    pub(crate) fn open(&mut self) -> mpsc::Receiver<T> {
        let (sender, reader) = mpsc::channel(TAP);
        self.0.push(sender);
        reader
    }

    pub(crate) fn put(&mut self, message: &T) {
        self.0.retain(|reader| reader.try_send(message.clone()).is_ok());
    }
}

#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) telemetry: Tap<Telemetry>,
    pub(crate) states: Tap<StateChange>,
    pub(crate) messages: Tap<HubMessage>,
    pub(crate) reported: Tap<ReportedChange>,
    log: Option<mpsc::Sender<Logged>>,
}

impl Taps {
    /// With an event log, also the end that [`write_log`] reads.
    pub(crate) fn new(event_log: bool) -> (Self, Option<mpsc::Receiver<Logged>>) {
        let (log, lines) = if event_log {
            let (sender, receiver) = mpsc::channel(LOG);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let (telemetry, states) = (Tap(Vec::new()), Tap(Vec::new()));
        (Self { telemetry, states, messages: Tap(Vec::new()), reported: Tap(Vec::new()), log }, lines)
    }

    /// False if the event could not be taken and must not be acknowledged, as when Pub/Sub has not accepted it.
    pub(crate) fn take_event(&mut self, number: u64, event: &Telemetry) -> bool {
        let taken = self.log(|| Logged::IotCore(number, event.clone()));
        if taken {
            self.telemetry.put(event);
        }
        taken
    }

    /// The same for a message to IoT Hub.
    pub(crate) fn take_message(&mut self, message: &HubMessage) -> bool {
        let taken = self.log(|| Logged::IotHub(message.clone()));
        if taken {
            self.messages.put(message);
        }
        taken
    }

    /// False if there is a log that cannot keep up.
    fn log(&self, entry: impl FnOnce() -> Logged) -> bool {
        self.log.as_ref().is_none_or(|log| log.try_send(entry()).is_ok())
    }
}

/// Opens the event log.
pub(crate) fn open_log(path: &Path) -> anyhow::Result<File> {
    let open = File::options().create(true).append(true).open(path);
    open.with_context(|| format!("cannot open the event log {}", path.display()))
}

/// Appends events until their sender is gone: one JSON object a line, each in the form in which its cloud hands it on. Blocks.
pub(crate) fn write_log(file: File, mut events: mpsc::Receiver<Logged>) {
    let mut file = BufWriter::new(file);
    while let Some(event) = events.blocking_recv() {
        let mut next = Some(event);
        let mut written = Ok(());
        while let Some(event) = next {
            written = written.and_then(|()| writeln!(file, "{}", line(&event)));
            next = events.try_recv().ok();
        }
        if let Err(error) = written.and_then(|()| file.flush()) {
            // The channel ends here, so events are refused from now on.
            tracing::error!("the event log cannot be written, telemetry is not acknowledged any more: {error}");
            return;
        }
    }
}

fn line(event: &Logged) -> Value {
    match event {
        Logged::IotCore(number, event) => pub_sub(*number, event),
        Logged::IotHub(message) => event_hub(message),
    }
}

/// As Event Hubs' readers see it: the hub's own properties beside those of the device.
fn event_hub(message: &HubMessage) -> Value {
    let properties = message.properties.iter().map(|(name, value)| (name.clone(), json!(value)));
    json!({
        "enqueuedTime": message.time,
        "systemProperties": {
            "iothub-connection-device-id": message.device.device,
            "iothub-connection-module-id": message.device.module,
        },
        "properties": properties.collect::<serde_json::Map<_, _>>(),
        "data": STANDARD.encode(&message.payload),
    })
}

/// As a Pub/Sub message.
fn pub_sub(number: u64, event: &Telemetry) -> Value {
    json!({
        "publishTime": event.time,
        "topic": event.topic,
        "attributes": {
            "projectId": event.device.project,
            "deviceRegistryLocation": event.device.region,
            "deviceRegistryId": event.device.registry,
            "deviceId": event.device.device,
            "deviceNumId": number.to_string(),
            "subFolder": event.subfolder,
        },
        "data": STANDARD.encode(&event.payload),
    })
}
