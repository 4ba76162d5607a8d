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
const NOT_TAKEN: &str = "nobody took the request for it; hint: only if reboots by the agent are wanted, unmask \
                         twinagent-reboot.path and `sudo systemctl enable --now twinagent-reboot.path`";

pub(super) struct Helper {
    places: Places,
    boot_id: BootId,
    /// Missing, where nothing can be watched: then no answer is heard.
    watcher: Option<Watcher>,
    /// A request that lies there, or has been taken, and when it is too old for anybody.
    asked: Option<(CommandId, BootInstant)>,
    /// Whether the helper could be asked when that was last looked at because something had changed.
    could_ask: bool,
}

/// What there is to tell of the helper.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) inputs: Vec<Input>,
    /// The way to it has opened or closed.
    pub(super) is_way_changed: bool,
}

impl Helper {
    pub(super) fn new(places: Places, boot_id: BootId) -> Self {
        let watcher = Watcher::new(places.watched())
            .inspect_err(|error| tracing::warn!("the reboot helper is not heard: {error}"))
            .ok();
        let could_ask = places.reach().is_ok();
        Self { places, boot_id, watcher, asked: None, could_ask }
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

    pub(super) fn news(&mut self) -> News {
        let overdue = self.asked.take_if(|(_, until)| clock::boot() >= *until).map(|(id, _)| id);
        let withdrawn = overdue.and_then(|id| self.withdrawn(Some(id)));
        let inputs = withdrawn.into_iter().chain(self.answer()).collect();
        let can_ask = self.places.reach().is_ok();
        let could_ask = std::mem::replace(&mut self.could_ask, can_ask);
        News { inputs, is_way_changed: could_ask != can_ask }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::reboot::facts::Way;

    #[tokio::test]
    async fn a_request_that_nobody_takes_is_taken_back_when_its_time_is_over() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let runtime = folder.path().join("agent");
        let boot = "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID");
        let places = Places::beside(&runtime);
        let requests = places.requests.clone();
        let mut helper = Helper::new(places, boot);
        fs::create_dir(&requests).expect("a folder");
        helper.changed().await;
        let News { inputs, is_way_changed } = helper.news();
        assert_eq!((inputs, is_way_changed), (Vec::new(), true));

        let id = CommandId::parse("r-1").expect("an id");
        let until = clock::boot() + Duration::from_secs(1);
        assert_eq!(helper.ask(Plan { way: Way::Helper, id: id.clone(), reason: None, boot, until }), None);
        let request = requests.join("request");
        assert!(request.exists());
        let inputs = loop {
            assert!(request.exists(), "somebody may still take it");
            helper.changed().await;
            let News { inputs, is_way_changed } = helper.news();
            assert!(!is_way_changed);
            if !inputs.is_empty() {
                break inputs;
            }
        };
        assert!(clock::boot() >= until);
        assert_eq!(inputs, [Input::RebootAnswered { id: id.clone(), answer: Err(NOT_TAKEN.to_owned()) }]);
        assert!(!request.exists());
        // And a way that has closed is an answer at once.
        fs::remove_dir(&requests).expect("an empty folder");
        let answer =
            helper.ask(Plan { way: Way::Helper, id, reason: None, boot, until: until + Duration::from_secs(60) });
        assert!(
            matches!(answer, Some(Input::RebootAnswered { answer: Err(why), .. }) if why.contains("cannot be written"))
        );
    }
}
