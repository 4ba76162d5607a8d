//! What a job leaves behind, taken away: the unit that keeps its result, and whatever an agent that was killed could not.

use std::time::Duration;

use super::JOBS;
use super::payload::Payloads;
use crate::host::services::{Active, CallError, Changes, Loaded, Services, State};
use crate::model::unit_name::UnitName;

/// A job that ended so long ago has had its result read, or nobody is left who would: an agent that starts looks for the jobs
/// of its former life at once.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// A job that has run to its end has nothing left to stop but what its unit says in `ExecStop=`.
const CLEAR_WITHIN: Duration = Duration::from_secs(30);

/// What is to be taken away.
pub(super) struct Tidy {
    pub(super) bus: String,
    pub(super) name: UnitName,
    /// Only this start of it: a later command may have had the same id.
    pub(super) invocation: String,
    pub(super) payloads: Payloads,
}

impl Tidy {
    pub(super) async fn run(self) {
        if let Err(error) = self.take_away().await {
            tracing::warn!(unit = %self.name, "what is left of jobs is not taken away yet: {error}");
        }
    }

    async fn take_away(&self) -> Result<(), CallError> {
        let services = Services::connect(&self.bus).await?;
        let mut loaded: Vec<UnitName> = Vec::new();
        for unit in services.services_named(JOBS).await? {
            let state = services.state(&unit).await?;
            let is_ours = *unit.name() == self.name && state.invocation == self.invocation;
            if state.is_settled() && (is_ours || is_forgotten(&state)) {
                release(&services, &unit, &state).await?;
            } else {
                loaded.push(unit.name().clone());
            }
        }
        for job in self.payloads.old().await {
            if !loaded.contains(&job) {
                self.payloads.remove(&job).await;
            }
        }
        Ok(())
    }
}

/// Lets systemd forget a unit that has ended.
pub(super) async fn release(services: &Services, unit: &Loaded, state: &State) -> Result<(), CallError> {
    match state.active {
        Active::Active => services.stop(unit).await,
        Active::Failed => services.reset_failed(unit).await,
        Active::Inactive | Active::Changing => Ok(()),
    }
}

/// Lets systemd forget an earlier job of this name, and waits for that: while it is stopped it cannot be started.
pub(super) async fn clear(
    services: &Services,
    unit: &Loaded,
    state: &State,
    changes: &mut Changes,
) -> Result<(), CallError> {
    release(services, unit, state).await?;
    let is_clear = async {
        while !services.state(unit).await?.is_settled() {
            changes.next().await?;
        }
        Ok(())
    };
    let late = || CallError::Failed("an earlier job of this name does not stop".to_owned());
    tokio::time::timeout(CLEAR_WITHIN, is_clear).await.unwrap_or_else(|_| Err(late()))
}

fn is_forgotten(state: &State) -> bool {
    state.active != Active::Inactive && state.unchanged_for > FORGOTTEN
}
