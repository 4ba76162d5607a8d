//! `twinagent run-reboot`: root's side of the reboot helper. Not for people: its unit starts it.
//!
//! It takes nothing from its surroundings, neither words nor variables: whoever could choose them could choose whose
//! request counts.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Failure;
use crate::host::power::{Performer, Places, Tools, perform, user_id};
use crate::host::{boot, clock};

/// The runtime folder of the agent, beside which requests lie.
const AGENT: &str = "/run/twinagent";
/// The user that the agent runs as.
const USER: &str = "twinagent";

/// The path unit starts this anew as soon as it has ended and a request lies there. Bad ones must not become a busy loop.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run() -> Result<(), Failure> {
    let owners = std::iter::once(0).chain(user_id(USER)).collect();
    let performer = Performer { places: Places::beside(Path::new(AGENT)), tools: Tools::default(), owners };
    let done = boot::id().and_then(|boot| perform(&performer, boot, clock::boot()));
    if done.is_err() {
        thread::sleep(PAUSE);
    }
    Ok(done?)
}
