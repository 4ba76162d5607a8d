//! The helper's road to a reboot: asks it, hears its answer, and takes back what nobody took.
//!
//! It decides nothing. Whether the machine reboots is the model's to order, and the next boot id's to prove.

use std::time::Duration;

use crate::host::clock;
use crate::host::power::Places;
use crate::host::watch::Watcher;
use crate::model::agent::Input;
use crate::model::command::CommandId;
use crate::model::now::{BootId, BootInstant};
use crate::model::reboot::plan::Plan;

/// Root's side takes a request within moments.
const NOT_TAKEN: &str = "nobody took the request for it; hint: `sudo systemctl enable --now twinagent-reboot.path`";

pub(super) struct Helper {
    places: Places,
    boot_id: BootId,
    /// Missing, where nothing can be watched: then no answer is heard.
    watcher: Option<Watcher>,
    /// A request that lies there, or has been taken, and when it is too old for anybody.
    asked: Option<(CommandId, BootInstant)>,
}

impl Helper {
    pub(super) fn new(places: Places, boot_id: BootId) -> Self {
        let watcher = Watcher::new(places.watched())
            .inspect_err(|error| tracing::warn!("the reboot helper is not heard: {error}"))
            .ok();
        Self { places, boot_id, watcher, asked: None }
    }

    /// What is known at the start. A request of an earlier life is taken back: root's side takes one within moments, so
    /// nobody was there to take it, and this life may not know what it was for.
    pub(super) fn begin(&mut self) -> Vec<Input> {
        self.withdrawn(None).into_iter().chain(self.answer()).collect()
    }

    /// Asks for a reboot; the trouble with that, if there is any.
    pub(super) fn ask(&mut self, plan: Plan) -> Option<Input> {
        match self.places.ask(&plan) {
            Ok(()) => {
                tracing::info!(id = %plan.id, "the helper is asked for a reboot");
                self.asked = Some((plan.id, plan.until));
                None
            }
            Err(error) => {
                let why =
                    format!("the request for it cannot be written to {}: {error}", self.places.requests.display());
                tracing::error!(id = %plan.id, "no reboot: {why}");
                Some(Input::RebootAnswered { id: plan.id, answer: Err(why) })
            }
        }
    }

    /// Waits until there may be news of the helper. May be dropped without loss.
    pub(super) async fn changed(&mut self) {
        let wait = self.asked.as_ref().map_or(Duration::MAX, |(_, until)| until.since(clock::boot()));
        tokio::select! {
            () = super::changed(&mut self.watcher) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// The news.
    pub(super) fn news(&mut self) -> Vec<Input> {
        let overdue = self.asked.take_if(|(_, until)| clock::boot() >= *until).map(|(id, _)| id);
        let withdrawn = overdue.and_then(|id| self.withdrawn(Some(id)));
        withdrawn.into_iter().chain(self.answer()).collect()
    }

    /// Takes a request back, if one lies there, and tells whom that concerns.
    fn withdrawn(&self, asked: Option<CommandId>) -> Option<Input> {
        let found = self
            .places
            .withdraw()
            .inspect_err(|error| {
                tracing::warn!("a request in {} cannot be taken back: {error}", self.places.requests.display());
            })
            .ok()??;
        let id = asked.or(found)?;
        tracing::warn!(%id, "no reboot: {NOT_TAKEN}");
        Some(Input::RebootAnswered { id, answer: Err(NOT_TAKEN.to_owned()) })
    }

    fn answer(&self) -> Option<Input> {
        let (id, answer) = self.places.answer(self.boot_id)?;
        Some(Input::RebootAnswered { id, answer })
    }
}
