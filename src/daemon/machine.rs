//! Whether the state folder is this machine's own. A copy of a card or an image is no second device of the same name: nothing
//! of what the other one was asked is answered or run here.

use std::sync::Arc;

use anyhow::Context as _;

use crate::model::durable::Durable;
use crate::model::fingerprint::Fingerprint;
use crate::store::{Journal, StateDir, StoreError, forget_assignment, machine};

/// Whose state was found.
pub(super) enum Claim {
    /// Ours; or it was nobody's, or there was nothing in it, and it is ours from now on.
    Ours,
    /// Another machine's. Its journal was set aside; in words for people.
    SetAside(String),
    /// Another machine's, and it could not be made ours, so no journal may be used.
    Refused(String),
}

impl Claim {
    /// Looks whose state this is, and makes it ours.
    pub(super) async fn make(state: &Arc<StateDir>, here: Fingerprint) -> anyhow::Result<Self> {
        let state = state.clone();
        let claim = tokio::task::spawn_blocking(move || claim(&state, here));
        let claim = claim.await.context("the look at whose state this is ended in a panic")?;
        if let Self::SetAside(why) = &claim {
            tracing::warn!("{why}");
        }
        Ok(claim)
    }

    /// What is to be told of it for as long as this daemon runs.
    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            Self::Ours => None,
            Self::SetAside(why) | Self::Refused(why) => Some(why),
        }
    }

    /// Why the journal must not be opened.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Ours | Self::SetAside(_) => None,
            Self::Refused(why) => Some(why),
        }
    }
}

fn claim(state: &StateDir, here: Fingerprint) -> Claim {
    let known = machine::read(state).unwrap_or_else(|error| {
        tracing::warn!("whose state this is cannot be read, so it is taken for this machine's own: {error}");
        None
    });
    let known: Fingerprint = known.and_then(|text| text.parse().ok()).unwrap_or_default();
    if here.is_another_than(&known) {
        return take_over(state, here).unwrap_or_else(|error| {
            Claim::Refused(format!(
                "the state folder comes from another machine and cannot be made this one's: {error}; then restart the agent"
            ))
        });
    }
    let ours = here.or(known);
    if ours != known
        && let Err(error) = machine::write(state, &ours.to_string())
    {
        tracing::warn!("whose state this is could not be noted, so a copy of it would not be noticed: {error}");
    }
    Claim::Ours
}

/// Whether nothing was ever asked of the agent with this journal: so it is on an image that was made before the device was
/// set up, and every device that is made from it has another machine's.
fn is_blank(state: &StateDir) -> bool {
    let Ok((_, records)) = Journal::open(state) else { return false };
    let Durable { ledger, rest, .. } = Durable::replay(&records);
    let mut entries = ledger.untold().chain(ledger.told());
    entries.next().is_none() && rest.members.is_empty() && rest.desired.is_none()
}

/// Sets the journal aside, forgets which hub the other machine was assigned to, then notes that the state is ours. A crash
/// before the last leaves it to the next start; until it is done no journal may be written, for it would be set aside as well.
fn take_over(state: &StateDir, here: Fingerprint) -> Result<Claim, StoreError> {
    // The service is asked again, and knows whether this device is one of its own.
    forget_assignment(state)?;
    let aside = if is_blank(state) {
        tracing::info!("the state folder comes from another machine, where nothing was done; beginning anew");
        machine::discard(state)?;
        None
    } else {
        machine::set_aside(state)?
    };
    machine::write(state, &here.to_string())?;
    let Some(aside) = aside else { return Ok(Claim::Ours) };
    let (aside, state) = (aside.display(), state.path().display());
    Ok(Claim::SetAside(format!(
        "the state folder comes from another machine: its journal was set aside as {aside}, and nothing of it is answered or \
         run here; hint: on a copy of a card or an image, `sudo twinagent reset --identity`; on the same device with another \
         board or machine id, `sudo twinagent keygen --adopt`, and with the agent stopped move that file to {state}/journal"
    )))
}
