//! What whoever reboots the machine is told of it.

use std::time::Duration;

use super::facts::Way;
use super::request::Request;
use crate::model::command::CommandId;
use crate::model::ledger::Entry;
use crate::model::now::{BootId, BootInstant, Now};

/// The machine is asked to reboot within this time or not at all. Asking takes moments; what is left of
/// [`REBOOT_WITHIN`](super::pending::REBOOT_WITHIN) is for going down, so that no reboot comes after its own failure.
pub const ASK_WITHIN: Duration = Duration::from_secs(60);

/// One reboot of the machine, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who is to do it.
    pub way: Way,
    /// The command that asks for it.
    pub id: CommandId,
    /// What its sender gave as the reason, at most 1 024 bytes of any text.
    pub reason: Option<String>,
    /// The boot that it is to end, and no other.
    pub boot: BootId,
    /// Not from this moment on.
    pub until: BootInstant,
}

impl Plan {
    pub fn new(entry: &Entry, way: Way, now: &Now) -> Self {
        Self {
            way,
            id: entry.key.id.clone(),
            reason: Request::accepted(&entry.payload).reason,
            boot: now.boot_id,
            until: now.boot + ASK_WITHIN,
        }
    }
}
