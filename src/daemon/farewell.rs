//! The mark of an orderly end, kept off the loop's thread and never waited for long: a machine that goes down has five
//! seconds, and the cloud comes first.
//!
//! A fault is told in the log. It costs one wrong word on the next boot's cause, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::model::now::BootId;
use crate::store::{StateDir, StoreError, farewell};

/// The loop waits this long for the mark; a slower disk does it beside the loop.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Farewell {
    state: Arc<StateDir>,
    boot: BootId,
    last: Option<JoinHandle<()>>,
}

/// What was found of the mark at the start.
pub(super) struct Left(Result<Option<BootId>, StoreError>);

impl Left {
    pub(super) fn read(state: &StateDir) -> Self {
        let left = farewell::read(state);
        Self(left.inspect_err(|error| tracing::warn!("how the last boot ended is not known: {error}")))
    }

    /// Whether this boot has ended in good order, if that is known.
    pub(super) fn is_of(&self, boot: Option<BootId>) -> Option<bool> {
        let left = self.0.as_ref().ok()?;
        Some(left.is_some() && *left == boot)
    }
}

impl Farewell {
    pub(super) fn new(state: Arc<StateDir>, boot: BootId) -> Self {
        Self { state, boot, last: None }
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

    async fn mark(&mut self, work: impl FnOnce(&StateDir) -> Result<(), StoreError> + Send + 'static) {
        let (state, before) = (self.state.clone(), self.last.take());
        let mut task = tokio::spawn(async move {
            // In their order, however slow the disk is. A panic of the one before has been told when it happened.
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
