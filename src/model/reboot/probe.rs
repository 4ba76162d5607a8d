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

/// While nobody can reboot the machine, it is asked after this whether that has changed; it doubles, since at the start
/// of a machine the bus may only be late.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// And this often at least.
const LONGEST_LOOK: Duration = Duration::from_secs(5 * 60);

/// What the machine was asked and has said, in this run of the daemon.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    asked: Option<BootInstant>,
    answered: Option<(BootInstant, Facts)>,
    /// Answers in a row that held the reboot back.
    held: u32,
    /// Answers in a row by which nobody can reboot the machine.
    nobody: u32,
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
    /// Nobody holds it back, and nobody could do it, and why; likewise.
    Nobody(&'a str, BootInstant),
    /// Nobody holds it back.
    Free,
}

impl Probe {
    pub fn asked(&mut self, now: &Now) {
        self.asked = Some(now.boot);
    }

    pub fn answered(&mut self, facts: Facts, now: &Now) {
        let is_held = !facts.inhibitors.is_empty() || facts.vetoes(now).next().is_some();
        self.held = if is_held { self.held.saturating_add(1) } else { 0 };
        self.nobody = if facts.way.is_err() { self.nobody.saturating_add(1) } else { 0 };
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
                    Known::Held(facts, *at + doubled(FIRST_WAIT, self.held, LONGEST_WAIT))
                } else if let Err(why) = &facts.way {
                    Known::Nobody(why, *at + doubled(FIRST_LOOK, self.nobody, LONGEST_LOOK))
                } else if exactly && now.boot.since(*at) > FRESH {
                    Known::Nothing
                } else {
                    Known::Free
                }
            }
            _ => Known::Nothing,
        }
    }

    /// When the machine is to be asked by itself, so that it is known who can reboot it before anybody needs it.
    pub fn next_look(&self, now: &Now) -> Option<BootInstant> {
        match (&self.answered, self.asked) {
            (None, None) => Some(now.boot),
            (Some((at, Facts { way: Err(_), .. })), None) => Some(*at + doubled(FIRST_LOOK, self.nobody, LONGEST_LOOK)),
            (_, Some(asked)) => Some(asked + LONGEST_LOOK),
            (Some(_), None) => None,
        }
    }
}

/// A wait that doubles with each time, up to `longest`.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(8)).min(longest)
}
