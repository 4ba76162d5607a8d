//! What is done to a device, and what was seen of it.

use std::fmt;

use crate::cloud::Kind;
use crate::point::Point;

/// When the daemon is ended.
#[derive(Clone, Debug)]
pub(crate) enum Moment {
    /// At a system call between the arrival of the command and the reboot.
    BeforeTheReboot(Point),
    /// At a system call from the next start on.
    AfterTheReboot(Point),
    /// At once when this is seen from outside; the machine goes with it.
    Acknowledged,
    Accepted,
    Asked,
    Told,
}

/// What happens to the machine when the daemon is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing; the daemon is started again.
    Restart,
    /// It goes down as well.
    Reset,
    /// And so does its power, as at every further reboot of this story.
    PowerCut,
}

/// A cloud, and where answers go there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Road {
    pub(crate) cloud: Kind,
    /// `events` or `state`.
    pub(crate) answers: &'static str,
}

impl fmt::Display for Road {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, answers as {}", self.cloud.name(), self.answers)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) road: Road,
    pub(crate) moment: Moment,
    pub(crate) after: After,
    /// Whether a sync is one.
    pub(crate) synced: bool,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The daemon was ended when it was to be.
    pub(crate) hit: bool,
    /// The cloud had the PUBACK of the command then.
    pub(crate) acknowledged: bool,
    /// And the outcome.
    pub(crate) told: bool,
    /// Reboots that were asked for.
    pub(crate) asked: usize,
    /// Promises that were broken, in words.
    pub(crate) broken: Vec<String>,
    /// For people, if there are any.
    pub(crate) said: String,
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeTheReboot(point) => write!(out, "before the reboot, {point}"),
            Self::AfterTheReboot(point) => write!(out, "after the reboot, {point}"),
            other => write!(out, "{other:?}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { road, moment, after, synced } = self;
        write!(out, "{moment}; {after:?}, {road}{}", if *synced { "" } else { ", nothing synced" })
    }
}
