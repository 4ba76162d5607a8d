//! Whether the state folder is this machine's own. A copy of a card or an image is no second device of the same name: nothing
//! of what the other one was asked is answered or run here.

use std::sync::Arc;

use anyhow::Context as _;

use crate::model::fingerprint::Fingerprint;
use crate::store::{StateDir, StoreError, machine};

/// Whose state was found.
pub(super) enum Claim {
    /// Ours; or it was nobody's, and is ours from now on.
    Ours,
    /// Another machine's. Its journal was set aside; in words for people.
    SetAside(String),
    /// Another machine's, and its journal could not be set aside, so it must not be used.
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
    let is_another = here.is_another_than(&known);
    let claim = if is_another { set_aside(state) } else { Claim::Ours };
    let ours = if is_another { here } else { here.or(known) };
    // Last of all: until the journal is out of the way, the state is not ours.
    if ours != known && claim.refusal().is_none() {
        note(state, &ours);
    }
    claim
}

fn set_aside(state: &StateDir) -> Claim {
    let aside = match machine::set_aside(state) {
        Ok(None) => return Claim::Ours,
        Ok(Some(aside)) => aside,
        Err(error) => {
            return Claim::Refused(format!(
                "the state folder comes from another machine, and its journal is still in the way: {error}; then restart the \
                 agent"
            ));
        }
    };
    let (aside, state) = (aside.display(), state.path().display());
    Claim::SetAside(format!(
        "the state folder comes from another machine: its journal was set aside as {aside}, and nothing of it is answered or \
         run here; hint: on a copy of a card or an image, `sudo twinagent reset --identity`; on the same device with another \
         board or machine id, `sudo twinagent keygen --adopt`, and with the agent stopped move that file to {state}/journal"
    ))
}

fn note(state: &StateDir, ours: &Fingerprint) {
    let noted: Result<(), StoreError> = machine::write(state, &ours.to_string());
    if let Err(error) = noted {
        tracing::warn!("whose state this is could not be noted, so a copy of it would not be noticed: {error}");
    }
}
