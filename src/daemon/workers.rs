//! The handlers and their runs: each a task with a time limit, whose end is an input of the loop.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use serde_json::json;
use tokio::task::{Id, JoinError, JoinSet};

use crate::handler::{Handler, interrupted};
use crate::model::agent::Input;
use crate::model::command::{Command, Method, MethodSpec, Outcome, Status};
use crate::model::runs::RunId;

pub(super) struct Workers {
    handlers: HashMap<Method, (MethodSpec, Arc<dyn Handler>)>,
    tasks: JoinSet<Outcome>,
    runs: HashMap<Id, RunId>,
}

#[derive(Clone, Copy)]
enum How {
    Run,
    Resume,
}

impl Workers {
    pub(super) fn new(handlers: &[Arc<dyn Handler>]) -> Self {
        let handlers = handlers
            .iter()
            .map(|handler| {
                let spec = handler.spec();
                (spec.name.clone(), (spec, handler.clone()))
            })
            .collect();
        Self { handlers, tasks: JoinSet::new(), runs: HashMap::new() }
    }

    pub(super) fn methods(&self) -> Vec<MethodSpec> {
        self.handlers.values().map(|(spec, _)| spec.clone()).collect()
    }

    pub(super) fn start(&mut self, run: RunId, command: Command) {
        self.spawn(run, command, How::Run);
    }

    pub(super) fn resume(&mut self, run: RunId, command: Command) {
        self.spawn(run, command, How::Resume);
    }

    fn spawn(&mut self, run: RunId, command: Command, how: How) {
        let found = self.handlers.get(&command.method).cloned();
        let task = self.tasks.spawn(async move {
            // The model starts only what is in its list, but the journal may name a method of an older configuration.
            let Some((spec, handler)) = found else { return interrupted() };
            let work = async {
                match how {
                    How::Run => handler.run(&command).await,
                    How::Resume => handler.resume(&command).await,
                }
            };
            let outcome = tokio::time::timeout(spec.time_limit, work).await.unwrap_or_else(|_| {
                let why = format!("stopped after its time limit of {} s", spec.time_limit.as_secs());
                Outcome::failed(Status::TIMED_OUT, why)
            });
            bounded(outcome, spec.output_limit)
        });
        self.runs.insert(task.id(), run);
    }

    /// The next run that ends; never, while none runs. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => pending().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Input> {
        let ended = self.tasks.try_join_next_with_id()?;
        Some(self.ended(ended))
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Input {
        let (task, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!("a handler panicked; the message stands above");
                (error.id(), Outcome::failed(Status::FAILED, "the handler panicked; see the log of the agent"))
            }
        };
        let run = self.runs.remove(&task).expect("every task was noted when it was spawned");
        Input::Finished(run, outcome)
    }
}

/// Puts a note in the place of a payload that is larger than `limit` bytes.
fn bounded(outcome: Outcome, limit: usize) -> Outcome {
    let bytes = outcome.payload.to_string().len();
    if bytes <= limit {
        return outcome;
    }
    let why = format!("an answer of {bytes} bytes; at most {limit} are taken");
    Outcome::new(outcome.status, json!({ "payloadDropped": true, "error": why }))
}
