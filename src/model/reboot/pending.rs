//! The reboot under way: told, then what it waits for, then the act, then the proof. Says what is next and performs
//! nothing.

use std::time::Duration;

use serde_json::json;

use super::Mode;
use super::breaker::refusal;
use super::hold::{HeldBy, Outlook};
use super::policy::{STEPPED, Situation};
use super::probe::Known;
use super::request::{Request, Wish};
use crate::model::command::{Outcome, Status};
use crate::model::duration;
use crate::model::ledger::{Entry, Run};
use crate::model::now::{BootInstant, Clock, Now};

/// The cloud gets this long to acknowledge the 202; then the reboot goes on without.
pub const TELL_WITHIN: Duration = Duration::from_secs(10);

/// A machine that still runs this long after it was asked to reboot will not do it any more.
pub const REBOOT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// What is waited for on the wall clock is looked at this often at least, since that clock may step.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// While the clock is not set, it is looked at this often.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// A machine that has not answered in time is asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The reboot under way, as far as this run of the daemon knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When this run of the daemon took it on or found it.
    since: BootInstant,
    /// The cloud has acknowledged a reported document that shows it.
    shown: bool,
    /// When the cloud had acknowledged that document and the 202.
    told: Option<BootInstant>,
    /// `delay` is over; on the boot clock, which does not step.
    delayed_until: BootInstant,
    /// Since when nothing that can be foreseen is waited for any more.
    due: Option<BootInstant>,
    /// Since when only what still runs is waited for.
    draining: Option<BootInstant>,
    /// Since when it is due and held back all the same.
    held_since: Option<BootInstant>,
    /// How long it was so held before.
    held: Duration,
    /// Nothing else may begin.
    is_exclusive: bool,
    /// When the simulation ends, or when it is too late for the machine to still do it.
    end: Option<BootInstant>,
}

/// What is next for a reboot.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this moment, unless something happens.
    Wait(BootInstant),
    /// The machine is to be asked whether it may.
    Probe,
    /// Now.
    Act {
        /// What still runs is stopped.
        forced: bool,
    },
    /// It is over.
    End(Outcome),
}

impl Pending {
    pub fn new(entry: &Entry, now: &Now) -> Self {
        let delay = match Request::accepted(&entry.payload).wish {
            // Found after a restart, what has passed of it counts, as far as the wall clock can be believed.
            Some(Wish::After(delay)) => delay.saturating_sub(match entry.up {
                Some(up) if entry.boot == now.boot_id => now.boot.since(up),
                _ => now.wall.since(entry.accepted),
            }),
            Some(Wish::At(_)) | None => Duration::ZERO,
        };
        Self {
            since: now.boot,
            shown: false,
            told: None,
            delayed_until: now.boot + delay,
            due: None,
            draining: None,
            held_since: None,
            held: Duration::ZERO,
            is_exclusive: true,
            end: None,
        }
    }

    /// The cloud has acknowledged something. `answered`: it has the 202. `shown`: this was a document with the reboot.
    pub fn settled(&mut self, answered: bool, shown: bool, now: &Now) {
        self.shown |= shown;
        if answered && self.shown {
            self.told.get_or_insert(now.boot);
        }
    }

    /// Whether nothing but what is harmless may begin beside it. Not while it waits for a moment to come or for somebody
    /// to let go: that may take days.
    pub fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// What is next, and what can be said of it while it waits; `None`: nothing else than before.
    pub fn next(&mut self, entry: &Entry, situation: &Situation<'_>) -> (Step, Option<Outlook>) {
        let Situation { boots, now, .. } = situation;
        match entry.run {
            Run::Waiting if is_done_by_this_boot(entry, now) => (Step::End(boots.proved(entry)), None),
            Run::Waiting => self.before_the_act(entry, situation),
            Run::Started { boot, .. } if boot != now.boot_id => (Step::End(boots.proved(entry)), None),
            Run::Started { at, until, .. } => {
                self.is_exclusive = true;
                let end = *self.end.get_or_insert_with(|| {
                    let whole = until.map_or(REBOOT_WITHIN, |until| until.since(at));
                    // Found after a restart, what has passed of it counts, as far as the wall clock can be believed.
                    now.boot + whole.saturating_sub(now.wall.since(at))
                });
                let step = match until {
                    _ if now.boot < end => Step::Wait(end),
                    Some(_) => Step::End(simulated(entry, now)),
                    None => Step::End(Outcome::failed(
                        Status::FAILED,
                        format!("the machine was asked to reboot and still runs {} s later", REBOOT_WITHIN.as_secs()),
                    )),
                };
                (step, None)
            }
            Run::Finished { ref outcome, .. } => (Step::End(outcome.clone()), None),
        }
    }

    fn before_the_act(&mut self, entry: &Entry, situation: &Situation<'_>) -> (Step, Option<Outlook>) {
        let Situation { policy, now, .. } = situation;
        if entry.expires.is_some() && now.clock == Clock::Doubtful {
            let look_again = now.boot + CLOCK_LOOK;
            let why = "the clock of this device is not set";
            return self.hold(Outlook::held(HeldBy::Clock), look_again, why, situation);
        }
        if entry.expires.is_some_and(|expires| now.wall > expires) {
            let outcome = Outcome::failed(Status::EXPIRED, "expired before the reboot could start");
            return (Step::End(outcome), None);
        }
        let request = Request::accepted(&entry.payload);
        let waits = self.waits(entry, &request, situation);
        let (held_by, at) = match waits {
            Ok((due, outlook)) if now.boot < due => {
                self.is_exclusive = outlook.held_by.is_empty() && due <= self.since + TELL_WITHIN + policy.grace;
                self.let_go(now);
                (self.due, self.draining) = (None, None);
                let due = due.min(now.boot + LOOK_AGAIN);
                return (Step::Wait(due), Some(outlook));
            }
            Ok((_, outlook)) => (outlook.held_by, outlook.reboot_at),
            Err(outlook) => {
                let look_again = now.boot + CLOCK_LOOK;
                return self.hold(outlook, look_again, "the clock of this device is not set", situation);
            }
        };
        if let Some(why) = policy.tripped(situation.boots) {
            return (Step::End(refusal(&why, situation.healthy_in)), None);
        }
        let due = *self.due.get_or_insert(now.boot);
        let outlook = at.map(|at| Outlook::at(at, held_by));
        self.once_due(due, situation.is_forced(&request), outlook, situation)
    }

    /// Until when it waits for what can be foreseen. The error: that cannot be foreseen while the clock is not set.
    fn waits(
        &self,
        entry: &Entry,
        request: &Request,
        situation: &Situation<'_>,
    ) -> Result<(BootInstant, Outlook), Outlook> {
        let Situation { policy, now, .. } = situation;
        let told = self.told.map_or(self.since + TELL_WITHIN, |told| told.min(self.since + TELL_WITHIN));
        let mut due = told + policy.grace;
        let mut wished = now.wall;
        match request.wish {
            Some(Wish::After(_)) => {
                due = due.max(self.delayed_until);
                wished = now.wall.saturating_add(self.delayed_until.since(now.boot));
            }
            Some(Wish::At(_)) if now.clock == Clock::Doubtful => return Err(Outlook::held(HeldBy::Clock)),
            Some(Wish::At(at)) => wished = wished.max(at),
            None => {}
        }
        let (held_by, foreseen) = situation.foresee(request, entry.accepted, wished);
        let Some(foreseen) = foreseen else { return Err(Outlook::held(HeldBy::Clock)) };
        let due = due.max(now.boot + foreseen.since(now.wall));
        // What was promised first stays what is told, as long as nothing has come in between, nor the clock was stepped.
        let promised = request.earliest(entry.accepted).max(entry.accepted.saturating_add(policy.grace));
        let is_kept = entry.accepted <= now.wall.saturating_add(STEPPED);
        let reboot_at = match (is_kept, held_by.is_empty()) {
            (true, true) => promised,
            (true, false) => foreseen.max(promised),
            (false, _) => foreseen,
        };
        Ok((due, Outlook::at(reboot_at, held_by)))
    }

    /// It is due: who runs is waited for, who holds it back is asked.
    fn once_due(
        &mut self,
        due: BootInstant,
        forced: bool,
        outlook: Option<Outlook>,
        situation: &Situation<'_>,
    ) -> (Step, Option<Outlook>) {
        let Situation { policy, probe, running, now, .. } = *situation;
        let is_idle = running == 0 || forced;
        match probe.known(due, is_idle, now) {
            // Asked again because somebody held it back, it stays held until the answer is there.
            Known::Nothing if self.held_since.is_some() => (Step::Probe, None),
            Known::Asked(overdue) if self.held_since.is_some() && now.boot < overdue => (Step::Wait(overdue), None),
            Known::Nothing => {
                self.is_exclusive = true;
                (Step::Probe, outlook)
            }
            Known::Asked(overdue) if now.boot < overdue => {
                self.is_exclusive = true;
                (Step::Wait(overdue), outlook)
            }
            Known::Asked(overdue) => {
                let why = "the machine does not say whether it may reboot";
                self.hold_and_ask(Outlook::held(HeldBy::NoAnswer), overdue + ASK_AGAIN, why, situation)
            }
            Known::Nobody(why, ask_again) if policy.mode == Mode::Machine => {
                self.hold_and_ask(Outlook::held(HeldBy::NotPermitted), ask_again, why, situation)
            }
            Known::Held(facts, ask_again) => {
                let why = "somebody holds the reboot back";
                self.hold_and_ask(Outlook::held_by(facts, now), ask_again, why, situation)
            }
            Known::Free | Known::Nobody(..) if is_idle => (Step::Act { forced }, outlook),
            Known::Free | Known::Nobody(..) => {
                let drained = *self.draining.get_or_insert(now.boot) + policy.drain;
                let next = if now.boot < drained {
                    self.let_go(now);
                    (Step::Wait(drained), Some(Outlook::drains(outlook)))
                } else {
                    let drain = duration::show(policy.drain);
                    let why = format!("{running} commands still run after `reboot.drain` ({drain})");
                    self.hold(Outlook::held(HeldBy::Drain), now.boot + LOOK_AGAIN, &why, situation)
                };
                // Nobody else may begin, or it never ends.
                self.is_exclusive = true;
                next
            }
        }
    }

    /// It is held back by what only the machine can say to be over.
    fn hold_and_ask(
        &mut self,
        outlook: Outlook,
        ask_again: BootInstant,
        why: &str,
        situation: &Situation<'_>,
    ) -> (Step, Option<Outlook>) {
        self.draining = None;
        let (step, outlook) = self.hold(outlook, ask_again, why, situation);
        let is_due = matches!(step, Step::Wait(_)) && situation.now.boot >= ask_again;
        (if is_due { Step::Probe } else { step }, outlook)
    }

    /// It is due and held back; too long, and it is given up.
    fn hold(
        &mut self,
        outlook: Outlook,
        look_again: BootInstant,
        why: &str,
        situation: &Situation<'_>,
    ) -> (Step, Option<Outlook>) {
        let Situation { policy, now, .. } = situation;
        self.is_exclusive = false;
        let since = *self.held_since.get_or_insert(now.boot);
        let end = since + policy.inhibitor_wait.saturating_sub(self.held);
        if now.boot >= end {
            let waited = duration::show(policy.inhibitor_wait);
            let why = format!("{why}; given up after `reboot.inhibitor_wait` ({waited})");
            return (Step::End(outlook.given_up(&why, now)), None);
        }
        (Step::Wait(end.min(look_again)), Some(outlook))
    }

    /// Nothing holds it back at this moment.
    fn let_go(&mut self, now: &Now) {
        if let Some(since) = self.held_since.take() {
            self.held += now.boot.since(since);
        }
    }
}

/// Whether the reboot of the machine has done what this one waits to do.
pub fn is_done_by_this_boot(entry: &Entry, now: &Now) -> bool {
    entry.boot != now.boot_id && !Request::accepted(&entry.payload).outlives_a_boot()
}

/// The outcome of a simulated reboot that is over.
fn simulated(entry: &Entry, now: &Now) -> Outcome {
    let payload = json!({
        "commandId": entry.key.id,
        "state": "completed",
        "rebootTime": now.wall,
        "bootId": now.boot_id,
        "previousBootId": now.boot_id,
        "simulated": true,
    });
    Outcome::new(Status::DONE, payload)
}
