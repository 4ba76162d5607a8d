//! The mark of an orderly end, kept off the loop's thread and never waited for long: a machine that goes down has five
//! seconds, and the cloud comes first.
//!
//! A fault is told in the log. It costs one wrong word on the next boot's cause, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::model::now::BootId;
use crate::store::{StateDir, farewell};

/// The loop waits this long for the mark; a slower disk does it beside the loop.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Farewell {
    state: Arc<StateDir>,
    boot: BootId,
    last: Option<JoinHandle<()>>,
}

impl Farewell {
    pub(super) fn new(state: Arc<StateDir>, boot: BootId) -> Self {
        Self { state, boot, last: None }
    }

    /// Which boot ended in good order, by the mark that was left.
    pub(super) fn read(state: &StateDir) -> Option<BootId> {
        farewell::read(state)
            .inspect_err(|error| tracing::warn!("how the last boot ended is not known: {error}"))
            .ok()?
    }

    /// The daemon, or the machine, goes down.
    pub(super) async fn leave(&mut self) {
        let boot = self.boot;
        self.mark(move |state| farewell::write(state, boot)).await;
    }

    /// It goes on: what comes now comes out of the blue.
    pub(super) async fn stay(&mut self) {
        self.mark(farewell::remove).await;
    }

    async fn mark(&mut self, work: impl FnOnce(&StateDir) -> Result<(), crate::store::StoreError> + Send + 'static) {
        let (state, before) = (self.state.clone(), self.last.take());
        let mut task = tokio::spawn(async move {
            // In their order, however slow the disk is.
            if let Some(before) = before {
                let _ = before.await;
            }
            let done = tokio::task::spawn_blocking(move || work(&state)).await;
            if let Ok(Err(error)) = done {
                tracing::warn!("the cause of the next boot may be told wrong: {error}");
            }
        });
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            self.last = Some(task);
        }
    }
}
