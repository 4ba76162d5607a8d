//! How often the machine is asked whether it may reboot, and how long its answer counts.

use std::time::Duration;

use super::facts::{Facts, Way};
use crate::model::now::{BootInstant, Now};

/// An answer this old says nothing any more of who holds a reboot back: inhibitors come and go.
const FRESH: Duration = Duration::from_secs(2);

/// No answer after this long: asked again, for the question may be lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The first wait before the machine is asked again who holds a reboot back; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// And the longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// While nobody can reboot the machine, it is asked this often whether that has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// What the machine was asked and has said, in this run of the daemon.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    asked: Option<BootInstant>,
    answered: Option<(BootInstant, Facts)>,
    /// Answers in a row that held the reboot back.
    held: u32,
}

/// What is known of who holds a reboot back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known<'a> {
    /// Nothing that still counts: to be asked.
    Nothing,
    /// It was asked, and has not answered yet; it is overdue from this moment on.
    Asked(BootInstant),
    /// Somebody; to be asked again from this moment on.
    Held(&'a Facts, BootInstant),
    /// Nobody.
    Free(&'a Facts),
}

impl Probe {
    pub fn asked(&mut self, now: &Now) {
        self.asked = Some(now.boot);
    }

    pub fn answered(&mut self, facts: Facts, now: &Now) {
        let is_held = !facts.inhibitors.is_empty() || facts.vetoes(now).next().is_some();
        self.held = if is_held { self.held.saturating_add(1) } else { 0 };
        self.answered = Some((now.boot, facts));
        self.asked = None;
    }

    pub fn facts(&self) -> Option<&Facts> {
        self.answered.as_ref().map(|(_, facts)| facts)
    }

    /// Who can reboot the machine, as far as it was asked.
    pub fn way(&self) -> Option<&Result<Way, String>> {
        self.facts().map(|facts| &facts.way)
    }

    /// What is known, if answers since `since` count. `exactly`: those of right now only.
    pub fn known(&self, since: BootInstant, exactly: bool, now: &Now) -> Known<'_> {
        if let Some(asked) = self.asked {
            return Known::Asked(asked + ANSWER_WITHIN);
        }
        match &self.answered {
            Some((at, facts)) if *at >= since => {
                if !facts.inhibitors.is_empty() || facts.vetoes(now).next().is_some() {
                    let doubled = FIRST_WAIT.saturating_mul(1 << self.held.saturating_sub(1).min(8));
                    Known::Held(facts, *at + doubled.min(LONGEST_WAIT))
                } else if exactly && now.boot.since(*at) > FRESH {
                    Known::Nothing
                } else {
                    Known::Free(facts)
                }
            }
            _ => Known::Nothing,
        }
    }

    /// When the machine is to be asked by itself, so that it is known who can reboot it before anybody needs it.
    pub fn next_look(&self, now: &Now) -> Option<BootInstant> {
        match (&self.answered, self.asked) {
            (None, None) => Some(now.boot),
            (Some((at, Facts { way: Err(_), .. })), None) => Some(*at + LOOK_AGAIN),
            (_, Some(asked)) => Some(asked + LOOK_AGAIN),
            (Some(_), None) => None,
        }
    }
}
