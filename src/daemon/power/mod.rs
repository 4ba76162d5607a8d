//! The machine's power as the loop sees it: who can reboot it and who holds that back, the reboot itself, and word of a
//! shutdown that somebody else has begun.
//!
//! Two roads lead to a reboot: logind over the bus (`bus.rs`), where polkit lets us, and the helper that root runs
//! (`requests.rs`): the agent leaves a request in a folder, `twinagent run-reboot` takes it, asks systemd, and leaves its
//! answer in a folder of root's (`host/power.rs` is one side, `host/power/perform.rs` the other). An answer on either road
//! proves nothing; it only gives a later 500 its reason. `look.rs` says which road is open and who stands in it: before
//! each reboot, and whenever there may be something new of it.
//!
//! A shutdown waits for us by a lock of logind's. It is dropped when the model lets the machine go; before, the loop leaves
//! the mark of an orderly end (`store/farewell.rs`), so that a boot that follows without one came out of the blue.
//!
//! Nothing here decides whether the machine reboots: that is the model's, and the next boot's proof.

mod bus;
mod look;
mod requests;

use std::future::pending;
use std::path::PathBuf;

use tokio::task::JoinSet;

use self::bus::{Bus, News};
use self::look::Look;
use self::requests::Helper;
use crate::config::{Folders, Mode};
use crate::host::power::Places;
use crate::host::watch::Watcher;
use crate::model::agent::Input;
use crate::model::now::{BootId, Clock};
use crate::model::reboot::facts::{Facts, Way};
use crate::model::reboot::plan::Plan;

pub(super) struct Power {
    mode: Mode,
    boot_id: BootId,
    /// Whether the ends of vetoes can be told by the wall clock.
    clock: Clock,
    address: String,
    places: Places,
    vetoes: [PathBuf; 2],
    helper: Helper,
    /// Missing in a simulation: then nothing of the machine is touched.
    bus: Option<Bus>,
    /// Of the folders of vetoes. Missing, where nothing can be watched: they are read before each reboot all the same.
    watcher: Option<Watcher>,
    errands: Errands,
    /// What was last said of the way to a reboot.
    way: Option<Result<Way, String>>,
    /// And of veto files that count for nothing.
    troubles: Vec<String>,
}

/// What goes on beside the loop: at most one look, and one call for a reboot.
#[derive(Default)]
struct Errands {
    looks: JoinSet<(Facts, Vec<String>)>,
    /// Something has changed since the look that is under way began, or somebody wants to know.
    look_again: bool,
    calls: JoinSet<Input>,
}

impl Power {
    /// Must be called in a tokio runtime.
    pub(super) fn new(folders: &Folders, mode: Mode, boot_id: BootId) -> Self {
        let places = Places::beside(&folders.runtime);
        let vetoes = [folders.vetoes.clone(), folders.kept_vetoes()];
        let absolute = vetoes.clone().map(|path| std::path::absolute(&path).unwrap_or(path));
        let watcher = Watcher::new(absolute)
            .inspect_err(|error| tracing::warn!("new vetoes are seen before a reboot only: {error}"))
            .ok();
        Self {
            mode,
            boot_id,
            clock: Clock::Doubtful,
            address: folders.bus.clone(),
            helper: Helper::new(places.clone(), boot_id),
            places,
            vetoes,
            bus: (mode != Mode::Simulate).then(|| Bus::start(folders.bus.clone())),
            watcher,
            errands: Errands::default(),
            way: None,
            troubles: Vec::new(),
        }
    }

    /// What is known at the start.
    pub(super) fn begin(&mut self) -> Vec<Input> {
        self.helper.begin()
    }

    /// Another way is wanted from now on, perhaps.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        self.mode = mode;
        match (mode, &self.bus) {
            (Mode::Simulate, _) => self.bus = None,
            (_, None) => self.bus = Some(Bus::start(self.address.clone())),
            (_, Some(_)) => {}
        }
        self.look();
    }

    /// Whether the wall clock can be believed from now on.
    pub(super) fn set_clock(&mut self, clock: Clock) {
        let is_new = std::mem::replace(&mut self.clock, clock) != clock;
        // Before the first look nobody has been told anything that could be wrong.
        if is_new && self.way.is_some() {
            self.look();
        }
    }

    /// Finds out how things stand; the answer is news.
    pub(super) fn look(&mut self) {
        if !self.errands.looks.is_empty() {
            self.errands.look_again = true;
            return;
        }
        let look = Look {
            mode: self.mode,
            logind: self.bus.as_ref().map(Bus::logind),
            places: self.places.clone(),
            vetoes: self.vetoes.clone(),
            boot_id: self.boot_id,
            clock: self.clock,
        };
        self.errands.looks.spawn(look.facts());
    }

    /// Asks for a reboot; the trouble with that, if there is any at once.
    pub(super) fn ask(&mut self, plan: Plan) -> Option<Input> {
        match (plan.way, &self.bus) {
            (Way::Helper, _) => self.helper.ask(plan),
            (Way::Logind, Some(bus)) => {
                let logind = bus.logind();
                self.errands.calls.spawn(async move {
                    tracing::info!(id = %plan.id, "logind is asked for a reboot");
                    let answer = logind.reboot().await;
                    if let Err(why) = &answer {
                        tracing::error!(id = %plan.id, "no reboot: {why}");
                    }
                    Input::RebootAnswered { id: plan.id, answer }
                });
                None
            }
            (Way::Logind, None) => {
                let why = "the mode of reboots was changed in between".to_owned();
                Some(Input::RebootAnswered { id: plan.id, answer: Err(why) })
            }
        }
    }

    /// Lets the shutdown go on that has begun.
    pub(super) fn let_go(&self) {
        if let Some(bus) = &self.bus {
            bus.let_go();
        }
    }

    /// Waits for news. May be dropped without loss.
    pub(super) async fn news(&mut self) -> Vec<Input> {
        let Errands { looks, calls, .. } = &mut self.errands;
        tokio::select! {
            Some(ended) = looks.join_next() => {
                if std::mem::take(&mut self.errands.look_again) {
                    // What it has seen may be older than the question.
                    self.look();
                    return Vec::new();
                }
                let Ok((facts, troubles)) = ended else { return Vec::new() };
                self.tell(&facts, troubles);
                vec![Input::Probed(facts)]
            }
            Some(Ok(answer)) = calls.join_next() => vec![answer],
            () = self.helper.changed() => {
                let requests::News { inputs, is_way_changed } = self.helper.news();
                if is_way_changed {
                    self.look();
                }
                inputs
            }
            () = changed(&mut self.watcher) => {
                self.look();
                Vec::new()
            }
            news = news_of(&mut self.bus) => match news {
                News::Shutdown(begins) => vec![Input::ShuttingDown(begins)],
                News::Reached => {
                    self.look();
                    Vec::new()
                }
            }
        }
    }

    /// Tells the log who can reboot the machine, and what is wrong with veto files; each once.
    fn tell(&mut self, facts: &Facts, troubles: Vec<String>) {
        if self.mode != Mode::Simulate && self.way.as_ref() != Some(&facts.way) {
            match &facts.way {
                Ok(way) => tracing::info!("reboots are done by {}", way.name()),
                Err(why) => tracing::warn!("nobody can reboot this machine: {why}"),
            }
            self.way = Some(facts.way.clone());
        }
        for trouble in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            tracing::warn!("no veto: {trouble}");
        }
        self.troubles = troubles;
    }
}

async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => pending().await,
    }
}

async fn news_of(bus: &mut Option<Bus>) -> News {
    match bus {
        Some(bus) => bus.news().await,
        None => pending().await,
    }
}
