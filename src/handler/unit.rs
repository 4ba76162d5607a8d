//! Methods whose work is a unit of systemd: `twinagent-job-NAME@ID.service`, with the rights that its author gave it.
//!
//! systemd runs it, so it goes on while the agent is away, even while the agent's own package is upgraded. The id in its
//! name is the command's, so each life of the agent finds it without having noted anything. `RemainAfterExit=yes` keeps a
//! result that came while nobody watched. It is asked for before the start: without it, a job that has succeeded and one
//! that has never run look alike.
//!
//! The payload lies in a file that only the agent and root can read (`payload.rs`); how the job ended, systemd says, and
//! the end of its log comes with that (`end.rs`). One that is to stop is waited for as long as systemd lets it take
//! (`stopping.rs`): what goes on holds its place, and keeps a reboot waiting. The unit is let go a moment after its outcome
//! was given (`tidy.rs`): until that is recorded, a later life would have to find it.

mod end;
mod followed;
mod payload;
mod stopping;
mod tidy;

use std::time::Duration;

use self::end::{End, refused};
use self::followed::{Followed, News};
use self::payload::Payloads;
use self::tidy::Tidy;
use super::{Context, Handler, Running, Stop, interrupted};
use crate::config::Folders;
use crate::host::journal::Logs;
use crate::host::services::{Active, CallError, Services};
use crate::model::command::{Command, MethodSpec, Outcome, Status};
use crate::model::unit_name::UnitName;

/// What the names of all jobs begin with; the rule for polkit knows it too.
const JOBS: &str = "twinagent-job-";

/// So much longer than its unit says a job that is to stop is waited for.
const SLACK: Duration = Duration::from_secs(30);

/// So long a job that has ended stays where a later life of the agent would find it: until its outcome is recorded.
const LINGER: Duration = Duration::from_secs(10);

/// A method that starts a unit.
#[derive(Clone, Debug)]
pub struct Unit {
    spec: MethodSpec,
    job: String,
    bus: String,
    payloads: Payloads,
    logs: Logs,
    linger: Duration,
    slack: Duration,
}

impl Unit {
    /// `job` is NAME. An agent that stops does not wait for the runs of this method, whatever `spec` says of that.
    pub fn new(folders: &Folders, spec: MethodSpec, job: &str) -> Self {
        Self {
            spec: MethodSpec { outlives: true, ..spec },
            job: job.to_owned(),
            bus: folders.bus.clone(),
            payloads: Payloads::new(folders.jobs()),
            logs: Logs::beside(&folders.logs()),
            linger: LINGER,
            slack: SLACK,
        }
    }
}

impl Handler for Unit {
    fn spec(&self) -> MethodSpec {
        self.spec.clone()
    }

    fn run(&self, command: &Command, context: Context) -> Running {
        match Run::new(self, command) {
            Ok(run) => {
                let payload = serde_json::to_vec(&command.payload).expect("JSON is text, and so are its names");
                Box::pin(run.begin(payload, context))
            }
            Err(outcome) => Box::pin(std::future::ready(outcome)),
        }
    }

    fn resume(&self, cut: &Command, context: Context) -> Running {
        match Run::new(self, cut) {
            Ok(run) => Box::pin(run.find(context)),
            Err(outcome) => Box::pin(std::future::ready(outcome)),
        }
    }

    /// How long it may take its unit says, which has to be asked for that. So a run bounds its end by itself.
    fn grace(&self) -> Duration {
        Duration::MAX
    }
}

/// One job.
struct Run {
    unit: Unit,
    name: UnitName,
}

impl Run {
    fn new(unit: &Unit, command: &Command) -> Result<Self, Outcome> {
        let name = format!("{JOBS}{}@{}.service", unit.job, command.key.id);
        match UnitName::parse(&name) {
            Ok(name) => Ok(Self { unit: unit.clone(), name }),
            Err(error) => Err(Outcome::failed(Status::FAILED, format!("{name}: {error}"))),
        }
    }

    /// A new one.
    async fn begin(self, payload: Vec<u8>, context: Context) -> Outcome {
        match self.start(payload).await {
            // Its time begins with this, and is measured for every run.
            Ok(followed) => self.follow(followed, context, std::future::pending()).await,
            Err(outcome) => outcome.not_run(),
        }
    }

    /// The error is the outcome of a job that was not started.
    async fn start(&self, payload: Vec<u8>) -> Result<Followed, Outcome> {
        let refused = |error| refused(&error, "start", &self.name);
        let services = Services::connect(&self.unit.bus).await.map_err(refused)?;
        let unit = services.load(&self.name).await.map_err(refused)?;
        let state = services.state(&unit).await.map_err(refused)?;
        end::check_template(&state, &self.name)?;
        if !state.is_settled() {
            let why = format!("{} runs already, for an earlier command with this id", self.name);
            return Err(Outcome::failed(Status::CONFLICT, why));
        }
        let mut changes = services.changes(&unit).await.map_err(refused)?;
        if state.active != Active::Inactive {
            // One that has ended and remains would make the start do nothing.
            tidy::clear(&services, &unit, &state, &mut changes).await.map_err(refused)?;
        }
        self.unit.payloads.write(&self.name, payload).await?;
        match services.start(&unit).await {
            // Without an answer it may have been started, and is looked for.
            Ok(()) | Err(CallError::Lost(_)) => {}
            Err(error) => {
                self.unit.payloads.remove(&self.name).await;
                return Err(refused(error));
            }
        }
        Ok(Followed::started(&self.unit, services, unit, changes))
    }

    /// One that was started in an earlier life of the agent.
    async fn find(self, context: Context) -> Outcome {
        let followed = Followed::lost(&self.unit, self.name.clone());
        let late = followed::late(self.unit.bus.clone(), self.name.clone(), self.unit.spec.time_limit);
        self.follow(followed, context, late).await
    }

    /// `late`: its time is over, by what an earlier life of the agent has let it have.
    async fn follow(self, mut followed: Followed, mut context: Context, late: impl Future<Output = ()>) -> Outcome {
        let mut stopped: Option<Stop> = None;
        let mut late = std::pin::pin!(late);
        let end = loop {
            tokio::select! {
                news = followed.next() => match news {
                    News::Said(text) => context.tell(&text),
                    News::Ended(end) => break end,
                },
                stop = context.stopped(), if stopped.is_none() => {
                    stopped = Some(stop);
                    followed.stop();
                }
                () = &mut late, if stopped.is_none() => {
                    stopped = Some(Stop::TimedOut);
                    followed.stop();
                }
            }
        };
        self.unit.payloads.remove(&self.name).await;
        let stopped = stopped.map(|stop| stop.outcome(self.unit.spec.time_limit));
        let (state, job, is_known) = match (end, stopped.as_ref()) {
            (End::Settled { state, job, is_known }, _) => (state, job, is_known),
            (End::Overdue { invocation }, Some(stopped)) => {
                tracing::warn!(unit = %self.name, "the job was to stop, and has not ended");
                self.release_later(invocation, Some(followed));
                return end::overdue(stopped, &self.name);
            }
            (End::Gone | End::Overdue { .. }, _) => return interrupted(),
        };
        // It was found again as if it had never run: it has been stopped, or has not been started.
        if state.active == Active::Inactive && !is_known {
            return interrupted();
        }
        let log = end::tail(&self.unit.logs, &self.name, &state, self.unit.spec.output_limit).await;
        let outcome = end::outcome(&state, job.as_deref(), stopped, log);
        self.release_later(state.invocation, None);
        outcome
    }

    /// Lets the job go once its outcome has had time to be recorded, and not before its end where that is still to come.
    /// On purpose a task that nobody waits for: what an agent that stops leaves behind, the next run takes away.
    fn release_later(&self, invocation: String, unended: Option<Followed>) {
        let tidy = Tidy {
            bus: self.unit.bus.clone(),
            name: self.name.clone(),
            invocation,
            payloads: self.unit.payloads.clone(),
        };
        let linger = self.unit.linger;
        tokio::spawn(async move {
            if let Some(followed) = unended {
                followed.end().await;
            }
            tokio::time::sleep(linger).await;
            tidy.run().await;
        });
    }
}

#[cfg(test)]
mod tests;
