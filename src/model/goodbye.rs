//! The goodbye: the machine shuts down, and waits a moment for us to tell the cloud.
//!
//! Commands are refused from here on. What is due is sent, the reported document among it; then the connection is closed in
//! good order, and the machine is let go. All of that fits into what logind grants by default (logind.conf(5):
//! `InhibitDelayMaxSec=5`).

use std::time::Duration;

use super::agent::{Agent, Effect};
use super::now::{BootInstant, Now};

/// What is due is sent and acknowledged within this time, or stays for the next start.
const SAY_WITHIN: Duration = Duration::from_secs(3);

/// And the connection is closed within this time after it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A machine that still runs this long after it was let go does not shut down, whether anybody says so or not. Services are
/// stopped within 90 s (systemd-system.conf(5), `DefaultTimeoutStopSec=`), this one among the first.
const OVER_AFTER: Duration = Duration::from_secs(5 * 60);

/// A shutdown that waits for us, or has waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    until: BootInstant,
    /// Nothing more is to be sent.
    said: bool,
    /// The shutdown does not wait for us any more.
    let_go: bool,
}

impl Goodbye {
    /// When something is to be done about it, if nothing happens before.
    pub fn deadline(&self) -> BootInstant {
        match self {
            Self { said: false, until, .. } => *until,
            Self { let_go: false, until, .. } => *until + CLOSE_WITHIN,
            Self { until, .. } => *until + OVER_AFTER,
        }
    }
}

impl Agent {
    /// The machine has begun to shut down, or has given it up.
    pub(super) fn shutting_down(&mut self, begins: bool, now: &Now) {
        if begins {
            self.goodbye = Some(Goodbye { until: now.boot + SAY_WITHIN, said: false, let_go: false });
        } else {
            self.goodbye = None;
        }
        self.outbox.changed();
    }

    pub(super) fn is_going_down(&self) -> bool {
        self.goodbye.is_some()
    }

    /// Whether the connection is to be closed for a shutdown.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.goodbye.is_some_and(|goodbye| goodbye.said)
    }

    /// Finds out whether all has been said that can be said. For good: what is heard while the connection is closed must
    /// not open it again.
    pub(super) fn say_goodbye(&mut self, now: &Now) {
        if self.goodbye.is_some_and(|goodbye| now.boot >= goodbye.until + OVER_AFTER) {
            self.shutting_down(false, now);
        }
        // What runs alone may be what switches the machine off: its outcome is at hand.
        let has_to_say = !self.outbox.is_through(&self.durable.ledger) || self.runs.one_is_alone();
        let can_say = self.connection.may_send() && has_to_say;
        if let Some(goodbye) = &mut self.goodbye {
            goodbye.said |= !can_say || now.boot >= goodbye.until;
        }
    }

    /// Lets the machine go, once the connection is closed.
    pub(super) fn let_go(&mut self, now: &Now, out: &mut Vec<Effect>) {
        let is_closed = self.connection.is_off();
        if let Some(goodbye) = &mut self.goodbye
            && goodbye.said
            && !goodbye.let_go
            && (is_closed || now.boot >= goodbye.until + CLOSE_WITHIN)
        {
            goodbye.let_go = true;
            out.push(Effect::LetGo);
        }
    }
}
