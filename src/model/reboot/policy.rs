//! Whether a reboot may be taken on, and what of the operator's policy holds it back later.

use std::time::Duration;

use serde_json::{Value, json};

use super::Mode;
use super::boots::Boots;
use super::breaker::refusal;
use super::hold::{HeldBy, Outlook, whole_seconds};
use super::probe::Probe;
use super::request::{FARTHEST, Request, Wish, read, unfit};
use super::window::Windows;
use crate::model::command::{Outcome, Status};
use crate::model::duration;
use crate::model::ledger::Entry;
use crate::model::now::{Clock, Now, Timestamp};

/// A moment in the past that lies further ahead than this was noted on a clock that was stepped since. Less is slewing.
pub(super) const STEPPED: Duration = Duration::from_secs(60);

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// Least time between two reboots that were asked for.
    pub min_interval: Duration,
    /// A machine younger than this is not rebooted; needs no disk to be known. Not in a simulation.
    pub min_uptime: Duration,
    /// So many reboots within `per`, without a session of `healthy` between them, trip the breaker. At least 1.
    pub max_reboots: u32,
    pub per: Duration,
    pub healthy: Duration,
    pub too_soon: TooSoon,
    /// Time between the acknowledged 202 and the act, so that a reboot can be cancelled.
    pub grace: Duration,
    /// Running handlers are waited for this long once the reboot is due.
    pub drain: Duration,
    /// A reboot that is due may be held back this long by what cannot be foreseen; then it is given up.
    pub inhibitor_wait: Duration,
    pub windows: Windows,
    pub allow_force: bool,
}

/// What becomes of a command that comes too soon after a reboot or a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooSoon {
    /// It is taken on and done as soon as it may be.
    Defer,
    /// 429.
    Refuse,
}

/// All that a decision about a reboot is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub policy: &'a Policy,
    pub boots: &'a Boots,
    pub probe: &'a Probe,
    /// The state folder forgets all at a reboot.
    pub volatile: bool,
    /// Recorded commands that run.
    pub running: usize,
    /// How long the session must still stand until the machine counts as well.
    pub healthy_in: Duration,
    pub now: &'a Now,
}

impl TooSoon {
    /// As a file says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Defer => "defer",
            Self::Refuse => "refuse",
        }
    }
}

impl Situation<'_> {
    /// Whether a reboot may be taken on now; if not, the answer.
    pub fn judge(&self, payload: &Value) -> Result<(), Outcome> {
        let Self { policy, now, .. } = self;
        let request = read(payload)?;
        self.judge_wish(&request)?;
        if let Some(why) = self.cannot() {
            return Err(Outcome::failed(Status::CANNOT_NOW, why));
        }
        if let Some(why) = policy.tripped(self.boots) {
            return Err(refusal(&why, self.healthy_in));
        }
        let spacing = self.spacing(&request);
        // Where ids are forgotten, a command that comes right after a start may be the one that caused it, heard once
        // more: its own wish must not carry it over the spacing, nor may it wait for the end of that.
        let ahead = if self.volatile { Duration::ZERO } else { request.earliest(now.wall).since(now.wall) };
        let too_soon =
            spacing.into_iter().map(|(by, wait)| (wait.saturating_sub(ahead), by)).filter(|(wait, _)| !wait.is_zero());
        if let Some((wait, by)) = too_soon.max_by_key(|(wait, _)| *wait)
            && (self.volatile || policy.too_soon == TooSoon::Refuse)
        {
            let why = match by {
                HeldBy::MinUptime => "too soon: the machine has only just started",
                _ => "too soon: the last reboot was only just now",
            };
            let payload = json!({ "error": why, "heldBy": [by], "retryAfterSeconds": whole_seconds(wait) });
            return Err(Outcome::new(Status::TOO_MANY, payload));
        }
        if self.volatile && !self.is_forced(&request) {
            let opens = policy.windows.next(now.wall, now.wall);
            if opens > now.wall {
                let why = "outside the windows for reboots, and nothing can be put off where state is lost at a reboot";
                return Err(Outlook::at(opens, vec![HeldBy::Window]).given_up(why, now));
            }
        }
        Ok(())
    }

    /// Why it cannot be done at all, whatever the policy.
    fn cannot(&self) -> Option<String> {
        match (&self.policy.mode, self.probe.way()) {
            (Mode::Machine, Some(Err(why))) => Some(why.clone()),
            (Mode::Machine | Mode::Simulated(_), _) => None,
        }
    }

    fn judge_wish(&self, request: &Request) -> Result<(), Outcome> {
        let now = self.now;
        if request.force && !self.policy.allow_force {
            return Err(unfit("`force` is not allowed on this device; hint: `allow_force` under [reboot]".to_owned()));
        }
        let Some(Wish::At(at)) = request.wish else { return Ok(()) };
        if now.clock == Clock::Doubtful {
            let why = "the clock of this device is not set, so it does not know when `at` is; hint: `delay`";
            return Err(Outcome::failed(Status::CANNOT_NOW, why));
        }
        if at < now.wall {
            return Err(unfit(format!("`at` is over: it is {} now", now.wall)));
        }
        if at.since(now.wall) > FARTHEST {
            return Err(unfit(format!("`at` is at most {} ahead", duration::show(FARTHEST))));
        }
        Ok(())
    }

    pub(super) fn is_forced(&self, request: &Request) -> bool {
        request.force && self.policy.allow_force
    }

    /// What of the spacing holds a reboot back from now on, and for how long.
    pub(super) fn spacing(&self, request: &Request) -> Vec<(HeldBy, Duration)> {
        let min_uptime = match self.policy.mode {
            Mode::Machine => self.policy.min_uptime.saturating_sub(self.now.boot.0),
            Mode::Simulated(_) => Duration::ZERO,
        };
        // The age of the machine is for everybody: it stops a loop when all else was forgotten. So does the interval where
        // nothing is ever remembered.
        let is_skipped = self.is_forced(request) && !self.volatile;
        let min_interval = if is_skipped { Duration::ZERO } else { self.since_the_last() };
        let holds = [(HeldBy::MinUptime, min_uptime), (HeldBy::MinInterval, min_interval)];
        holds.into_iter().filter(|(_, wait)| !wait.is_zero()).collect()
    }

    /// What is left of `min_interval`.
    fn since_the_last(&self) -> Duration {
        let Self { policy: Policy { min_interval, mode, .. }, boots, now, .. } = self;
        // Whatever the clocks say: a reboot before this boot was asked for before this boot began.
        let by_uptime = min_interval.saturating_sub(now.boot.0);
        let remembered = match boots.last_asked {
            None => Duration::ZERO,
            Some(last) => match boots.asked {
                Some(asked) if asked.boot == now.boot_id => min_interval.saturating_sub(now.boot.since(asked.up)),
                Some(asked) if asked.doubtful || now.clock == Clock::Doubtful => by_uptime,
                None if now.clock == Clock::Doubtful => by_uptime,
                // It was noted under a clock that went ahead.
                _ if last > now.wall => by_uptime,
                _ => min_interval.saturating_sub(now.wall.since(last)),
            },
        };
        // What is not remembered may have been a moment ago.
        if self.volatile && *mode == Mode::Machine { remembered.max(by_uptime) } else { remembered }
    }

    /// When a reboot may be done as far as that can be foreseen, and what of the policy holds it back until then.
    ///
    /// `from`: what else it waits for. `None`: the clock is not set, and there are windows.
    pub(super) fn foresee(
        &self,
        request: &Request,
        accepted: Timestamp,
        from: Timestamp,
    ) -> (Vec<HeldBy>, Option<Timestamp>) {
        let now = self.now;
        let spacing = self.spacing(request);
        let spaced = spacing.iter().map(|(_, wait)| now.wall.saturating_add(*wait)).max();
        let from = spaced.map_or(from, |spaced| spaced.max(from));
        let mut held_by: Vec<HeldBy> = spacing.into_iter().map(|(by, _)| by).collect();
        let is_windowed = !self.is_forced(request) && !self.policy.windows.list.is_empty();
        if is_windowed && now.clock == Clock::Doubtful {
            held_by.push(HeldBy::Clock);
            return (held_by, None);
        }
        if !is_windowed {
            return (held_by, Some(from));
        }
        let earliest = Some(request.earliest(accepted)).filter(|earliest| *earliest <= from.saturating_add(STEPPED));
        // Without a moment to go by, each device takes its place in the window as a whole.
        let opens = self.policy.windows.next(earliest.unwrap_or(Timestamp::from_micros(i64::MIN)), from);
        if opens > from {
            held_by.push(HeldBy::Window);
        }
        (held_by, Some(opens))
    }
}

impl Policy {
    /// What the 202 says.
    pub fn scheduled(&self, entry: &Entry, outlook: Option<&Outlook>) -> Value {
        let request = Request::accepted(&entry.payload);
        let mut answer = json!({ "commandId": entry.key.id, "state": "scheduled" });
        if let Some(outlook) = outlook {
            outlook.write_into(&mut answer);
        } else {
            let at = request.earliest(entry.accepted).max(entry.accepted.saturating_add(self.grace));
            Outlook::at(at, Vec::new()).write_into(&mut answer);
        }
        if !request.ignored.is_empty() {
            answer["ignored"] = json!(request.ignored);
        }
        answer
    }
}
