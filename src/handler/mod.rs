//! What the device can do: one handler per method. Knows no MQTT and no cloud.
//!
//! Who runs what, and as whom:
//!
//! | what | as | started by | what it can reach |
//! | --- | --- | --- | --- |
//! | a method that is built in | the agent | the loop, as a task | what the agent can |
//! | a program (`program`) | `twinagent-handlers` | the handlers' service (`launcher`) | its sandbox, which operators widen |
//! | a unit (`unit`) | whoever its template says | systemd; polkit knows the pattern of its name | what its template says |
//! | a local program that serves | itself | nobody: it comes by the local interface | not ours to say |
//! | the system's log, for `getLogs` | a user for one run | systemd, a process for each connection | the journal, read only |
//!
//! What a local program serves is no handler: the model hands it its commands (`model/serving.rs`). What outlives the agent
//! is a unit, whose name holds the command's id, so the next life of the agent finds it. All else that is cut off and was
//! recorded as started is answered as interrupted and never run again.
//!
//! To add a method that is built in:
//! 1. one file here with a type that implements [`Handler`], with tests that run it;
//! 2. its line in [`built_in`], or in `daemon/methods.rs` if only `methods.enable` makes it one of the device;
//! 3. its row in README.md: payload, answer, statuses.

pub mod echo;
pub mod logs;
pub mod program;
pub mod restart_service;
pub mod shutdown;
pub mod unit;

use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::model::command::{Command, MethodSpec, Outcome, Status};
use crate::model::runs::RunId;

/// A run of a handler. Dropping it ends it.
pub type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// News of runs that wait for the loop. Only the newest of a run counts, so what finds no room is dropped.
pub const NEWS: usize = 64;

/// One method.
pub trait Handler: Send + Sync {
    fn spec(&self) -> MethodSpec;

    /// Begins a run. Called at most once for a command that is not harmless.
    fn run(&self, command: &Command, context: Context) -> Running;

    /// The daemon stopped while this command ran, and nobody saw how it ended. Must not run it again.
    fn resume(&self, cut: &Command, context: Context) -> Running {
        let _ = (cut, context);
        Box::pin(ready(interrupted()))
    }

    /// How long a run may go on after it was told to stop ([`Context::stopped`]), to end in good order and say how. Then it
    /// is dropped, at once where this is zero, and never where it is `Duration::MAX`.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }
}

/// Why a run is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    /// Its time limit is over.
    TimedOut,
}

impl Stop {
    /// The outcome of a run that ended because of it and had nothing to say.
    pub fn outcome(self, limit: Duration) -> Outcome {
        match self {
            Self::Cancelled => Outcome::failed(Status::CANCELLED, "stopped"),
            Self::TimedOut => {
                let why = format!("stopped after its time limit of {} s", limit.as_secs());
                Outcome::failed(Status::TIMED_OUT, why)
            }
        }
    }
}

/// What a run has besides its command: a way to say how it goes, and word that it is to end.
#[derive(Debug)]
pub struct Context {
    run: Option<RunId>,
    news: mpsc::Sender<(RunId, String)>,
    stop: watch::Receiver<Option<Stop>>,
}

impl Context {
    pub fn new(run: RunId, news: mpsc::Sender<(RunId, String)>, stop: watch::Receiver<Option<Stop>>) -> Self {
        Self { run: Some(run), news, stop }
    }

    /// Of a run that nobody hears and nobody stops.
    pub fn alone() -> Self {
        Self { run: None, news: mpsc::channel(1).0, stop: watch::channel(None).1 }
    }

    /// Says how it goes, in a line for people.
    pub fn tell(&self, progress: &str) {
        if let Some(run) = self.run {
            // Without room it is not told; a newer one follows.
            let _ = self.news.try_send((run, progress.to_owned()));
        }
    }

    /// Returns when the run is to end; it then has [`Handler::grace`] for that. May be dropped without loss.
    pub async fn stopped(&mut self) -> Stop {
        let told = self.stop.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
        match told {
            Some(stop) => stop,
            // Nobody is left who could stop it.
            None => pending().await,
        }
    }
}

/// The outcome of a command whose end nobody saw.
pub fn interrupted() -> Outcome {
    let payload = json!({
        "error": "nobody saw how this ended, as where the agent stopped while it ran; it may have taken effect and was not run again",
        "interrupted": true,
    });
    Outcome::new(Status::FAILED, payload)
}

/// The methods that every device has.
pub fn built_in() -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(echo::Echo)]
}
