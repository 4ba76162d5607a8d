//! The one task that owns the stand-in's state, and the handle by which everything else reaches it.
//!
//! Whoever wants to know or change something sends a question: a function that runs on the state. There are no locks.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::azure::{HubError, HubName};
use super::broker::ClientNumber;
use super::broker::connection::{ConnectionId, Heard};
use super::google::{ApiError, DeviceName, FileChange};
use super::hub::CallNumber;
use super::world::World;

/// Requests that wait for the owner; connections and callers wait when it is full.
const REQUESTS: usize = 1_024;
/// Requests taken at once.
const BATCH: usize = 64;
/// Changes are collected for so long and then written together.
const SAVE_AFTER: Duration = Duration::from_secs(1);

type Question = Box<dyn FnOnce(&mut World) + Send>;

enum Request {
    Event(Event),
    Ask(Question),
}

/// The bridge was stopped: nobody answers any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// Something that a connection says.
pub(crate) struct Event {
    pub(crate) id: ConnectionId,
    pub(crate) heard: Heard,
}

/// Reaches the owner.
#[derive(Clone)]
pub(crate) struct Owner {
    requests: mpsc::Sender<Request>,
    connections: Arc<AtomicU64>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Owner")
    }
}

impl Owner {
    /// The handle, and the task to be spawned. After `stop` it writes what is not written yet, and ends.
    pub(crate) fn new(
        world: World,
        files: mpsc::Sender<Vec<FileChange>>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (requests, inbox) = mpsc::channel(REQUESTS);
        (Self { requests, connections: Arc::default() }, run(world, inbox, files, stop))
    }

    pub(crate) fn new_connection(&self) -> ConnectionId {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// How many there were since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) async fn tell(&self, event: Event) {
        // After a stop nobody is interested.
        let _ = self.requests.send(Request::Event(event)).await;
    }

    /// Runs a function on the state.
    pub(crate) async fn ask<T, E>(
        &self,
        question: impl FnOnce(&mut World) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Stopped> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |world| {
            // Whoever asked may be gone.
            let _ = answer.send(question(world));
        });
        self.requests.send(Request::Ask(question)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)?
    }

    /// Runs a function on the state, with the number of a device of Cloud IoT Core.
    pub(crate) async fn ask_about<T: Send + 'static>(
        &self,
        device: &DeviceName,
        question: impl FnOnce(&mut World, ClientNumber) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let device = device.clone();
        self.ask(move |world| {
            let number = world.google.number_of(&device)?;
            question(world, number)
        })
        .await
    }

    /// Runs a function on the state, with the number of a device or module of IoT Hub.
    pub(crate) async fn ask_hub<T: Send + 'static>(
        &self,
        name: &HubName,
        question: impl FnOnce(&mut World, ClientNumber) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        let name = name.clone();
        self.ask(move |world| {
            let number = world.azure.number_of(&name)?;
            question(world, number)
        })
        .await
    }
}

/// What is to be done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The token of this connection has expired.
    Expire(ConnectionId),
    /// Send this configuration again if it is not acknowledged.
    RetryConfig { id: ConnectionId, packet: u16, version: u64 },
    /// A fault wants this connection to end.
    Kick(ConnectionId),
    /// The device has not connected for this direct method, or not answered it.
    Method(CallNumber),
    /// Write what has changed.
    Save,
}

/// Timers in the order of their times. One that has become pointless is harmless.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<TimerKey, Timer>,
    next: u64,
}

/// Names a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Instant, u64);

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, timer: Timer) -> TimerKey {
        let key = TimerKey(at, self.next);
        self.next += 1;
        self.due.insert(key, timer);
        key
    }

    /// Takes a timer back. One that has fired already is gone anyway.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.due.remove(&key);
    }

    fn first(&self) -> Option<Instant> {
        self.due.keys().next().map(|key| key.0)
    }

    fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.due.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

async fn run(
    mut world: World,
    mut inbox: mpsc::Receiver<Request>,
    files: mpsc::Sender<Vec<FileChange>>,
    stop: CancellationToken,
) {
    let mut requests = Vec::with_capacity(BATCH);
    let mut save_is_due = false;
    loop {
        let due = world.timers.first();
        let timer = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            count = inbox.recv_many(&mut requests, BATCH) => if count == 0 { break },
            () = timer => {}
        }
        for request in requests.drain(..) {
            match request {
                Request::Event(Event { id, heard }) => world.hear(id, heard),
                Request::Ask(question) => question(&mut world),
            }
        }
        while let Some(timer) = world.timers.take_due(Instant::now()) {
            if timer != Timer::Save {
                world.fire(timer);
                continue;
            }
            save_is_due = false;
            // If the writer is still busy with the last batch, this one waits for the next turn.
            if let Ok(place) = files.try_reserve() {
                place.send(world.take_changes());
            }
        }
        if world.has_changes() && !save_is_due {
            save_is_due = true;
            world.timers.add(Instant::now() + SAVE_AFTER, Timer::Save);
        }
    }
    // The writer outlives the owner; if it is gone nothing can be kept.
    let _ = files.send(world.take_changes()).await;
}
