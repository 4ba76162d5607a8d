//! What the device can do: one handler per method. Knows no MQTT and no cloud.
//!
//! To add a method that is built in:
//! 1. one file here with a type that implements [`Handler`], with tests that run it;
//! 2. its line in [`built_in`];
//! 3. its row in README.md: payload, answer, statuses.

pub mod echo;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use serde_json::json;

use crate::model::command::{Command, MethodSpec, Outcome, Status};

/// A run of a handler. Dropping it ends it: that is how a time limit is kept.
pub type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One method.
pub trait Handler: Send + Sync {
    fn spec(&self) -> MethodSpec;

    /// Begins a run. Called at most once for a command that is not harmless.
    fn run(&self, command: &Command) -> Running;

    /// The daemon stopped while this command ran, and nobody saw how it ended. Must not run it again.
    fn resume(&self, cut: &Command) -> Running {
        let _ = cut;
        Box::pin(ready(interrupted()))
    }
}

/// The outcome of a command whose end nobody saw.
pub fn interrupted() -> Outcome {
    let payload = json!({
        "error": "the agent stopped while this ran; it may have taken effect and was not run again",
        "interrupted": true,
    });
    Outcome::new(Status::FAILED, payload)
}

/// The methods that every device has.
pub fn built_in() -> Vec<Arc<dyn Handler>> {
    vec![Arc::new(echo::Echo)]
}
