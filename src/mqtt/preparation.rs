//! A stream that is opened beside the connection that stands, for the one that will follow it.
//!
//! A task owns it until it is taken. Nothing is written to it, so the CONNECT of who takes it is the first that the broker reads.
//! One that nobody takes is closed, and so is one on which the broker says anything.

use std::fmt;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::select;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Endpoint;
use super::dial::{Approach, Opened};
use super::stage::Stage;
use crate::host::clock;
use crate::model::wire::Reason;

/// How long an open stream is good for. Brokers hang up on who does not log in, many after some 10 s.
const FRESH: Duration = Duration::from_secs(10);

/// A stream that is being opened, or is open. Dropping it closes the stream.
pub struct Preparation {
    endpoint: Endpoint,
    keep_alive: Duration,
    /// Until it was told.
    opened: Option<oneshot::Receiver<Result<(), Reason>>>,
    wanted: oneshot::Sender<()>,
    task: JoinHandle<Option<Opened>>,
}

/// Begins to open a stream, as a task of its own on the current tokio runtime.
pub fn prepare(approach: Approach) -> Preparation {
    let (tell, opened) = oneshot::channel();
    let (wanted, asked) = oneshot::channel();
    let (endpoint, keep_alive) = (approach.endpoint.clone(), approach.keep_alive);
    let task = tokio::spawn(keep(approach, tell, asked));
    Preparation { endpoint, keep_alive, opened: Some(opened), wanted, task }
}

impl Preparation {
    /// Waits until the stream is open, or tells why it is not. Then it waits for ever. Cancel-safe.
    pub async fn opened(&mut self) -> Result<(), Reason> {
        let Some(opened) = &mut self.opened else { return std::future::pending().await };
        // Without an answer the task must have panicked.
        let outcome = opened.await.unwrap_or_else(|_| Err(Reason::Lost("its task is gone".to_owned())));
        self.opened = None;
        outcome
    }

    /// Whether [`Preparation::opened`] has answered.
    pub fn is_told(&self) -> bool {
        self.opened.is_none()
    }

    /// The stream, if it is open, still good, and leads where it should.
    pub(super) async fn take(self, approach: &Approach) -> Option<Opened> {
        if self.endpoint != approach.endpoint || self.keep_alive != approach.keep_alive {
            return None;
        }
        // Refused or panicked, it comes to the same: there is none.
        self.wanted.send(()).ok()?;
        self.task.await.ok().flatten()
    }
}

impl fmt::Debug for Preparation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Preparation").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Opens the stream and holds it until it is `wanted`. A sender that is gone is nobody who wants it.
async fn keep(
    approach: Approach,
    tell: oneshot::Sender<Result<(), Reason>>,
    mut wanted: oneshot::Receiver<()>,
) -> Option<Opened> {
    let mut stage = Stage::Name;
    let limit = approach.limit();
    let opening = timeout(limit, approach.open(&mut stage));
    let outcome = select! {
        biased;
        // Even if it is wanted: who cannot wait dials anew.
        _ = &mut wanted => return None,
        outcome = opening => outcome,
    };
    let mut opened = match outcome.unwrap_or_else(|_| Err(stage.too_late(limit))) {
        Ok(opened) => opened,
        Err(reason) => {
            // Nobody listens any more if it was given up.
            let _ = tell.send(Err(reason));
            return None;
        }
    };
    let since = clock::boot();
    // As above.
    let _ = tell.send(Ok(()));
    let mut byte = [0];
    select! {
        biased;
        // A broker does not speak first. What this is, a new stream will tell. Tickets of TLS are read here too, and seen by nobody.
        _ = opened.stream.read(&mut byte) => None,
        asked = &mut wanted => {
            // By the clock that goes on in suspend, since the broker's does.
            let is_fresh = clock::boot().since(since) < FRESH;
            (asked.is_ok() && is_fresh).then_some(opened)
        }
        () = sleep(FRESH) => None,
    }
}
