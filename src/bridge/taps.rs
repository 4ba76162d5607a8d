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
    log: Option<mpsc::Sender<(u64, Telemetry)>>,
}

impl Taps {
    /// With an event log, also the end that [`write_log`] reads.
    pub(crate) fn new(event_log: bool) -> (Self, Option<mpsc::Receiver<(u64, Telemetry)>>) {
        let (log, lines) = if event_log {
            let (sender, receiver) = mpsc::channel(LOG);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        (Self { telemetry: Tap(Vec::new()), states: Tap(Vec::new()), log }, lines)
    }

    /// False if the event could not be taken and must not be acknowledged, as when Pub/Sub has not accepted it.
    pub(crate) fn take_event(&mut self, number: u64, event: &Telemetry) -> bool {
        if self.log.as_ref().is_some_and(|log| log.try_send((number, event.clone())).is_err()) {
            return false;
        }
        self.telemetry.put(event);
        true
    }
}

/// Opens the event log.
pub(crate) fn open_log(path: &Path) -> anyhow::Result<File> {
    let open = File::options().create(true).append(true).open(path);
    open.with_context(|| format!("cannot open the event log {}", path.display()))
}

/// Appends events until their sender is gone: one JSON object a line, in the form of a Pub/Sub message. Blocks.
pub(crate) fn write_log(file: File, mut events: mpsc::Receiver<(u64, Telemetry)>) {
    let mut file = BufWriter::new(file);
    while let Some(event) = events.blocking_recv() {
        let mut next = Some(event);
        let mut written = Ok(());
        while let Some((number, event)) = next {
            written = written.and_then(|()| writeln!(file, "{}", line(number, &event)));
            next = events.try_recv().ok();
        }
        if let Err(error) = written.and_then(|()| file.flush()) {
            // The channel ends here, so events are refused from now on.
            tracing::error!("the event log cannot be written, telemetry is not acknowledged any more: {error}");
            return;
        }
    }
}

fn line(number: u64, event: &Telemetry) -> Value {
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
