//! Local callers as the loop sees them: the interface if it could be opened, else when to try again.
//!
//! Without it the cloud is served all the same. It comes back by itself, since whoever mends a folder cannot be expected
//! to know that the daemon must hear of it.

use std::future::pending;
use std::path::PathBuf;

use super::retry::Retry;
use crate::local::{Asked, Rights, Server};
use crate::model::agent::Input;
use crate::model::ask::{CallerId, Reply};
use crate::model::now::BootInstant;

pub(super) struct Callers {
    folder: PathBuf,
    rights: Rights,
    door: Door,
}

enum Door {
    Open(Server),
    Shut {
        /// In words for people; said in the log when it changes.
        why: String,
        retry: Retry,
    },
}

impl Callers {
    /// Opens the interface in this folder, or will.
    pub(super) fn new(folder: PathBuf, rights: Rights, now: BootInstant) -> Self {
        let mut callers = Self { folder, rights, door: Door::Shut { why: String::new(), retry: Retry::new() } };
        callers.open(now);
        callers
    }

    pub(super) fn set_rights(&mut self, rights: Rights) {
        self.rights = rights;
        if let Door::Open(server) = &mut self.door {
            server.set_rights(rights);
        }
    }

    /// Opens it if it is shut. True if that changed anything that is to be said.
    pub(super) fn open(&mut self, now: BootInstant) -> bool {
        let Door::Shut { why, retry } = &mut self.door else { return false };
        match Server::bind(&self.folder, self.rights) {
            Ok(server) => {
                if !why.is_empty() {
                    tracing::info!("the local interface is there again");
                }
                self.door = Door::Open(server);
                true
            }
            Err(error) => {
                retry.failed(now);
                let words = format!("{error:#}");
                let is_new = *why != words;
                if is_new {
                    tracing::error!("no local interface: {words}; it is tried again");
                    *why = words;
                }
                is_new
            }
        }
    }

    /// The same, once the next try is due.
    pub(super) fn open_if_due(&mut self, now: BootInstant) -> bool {
        self.deadline().is_some_and(|due| now >= due) && self.open(now)
    }

    /// When it is tried again, if it is shut.
    pub(super) fn deadline(&self) -> Option<BootInstant> {
        match &self.door {
            Door::Open(_) => None,
            Door::Shut { retry, .. } => Some(retry.due()),
        }
    }

    /// Why nobody can ask anything, if that is so.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.door {
            Door::Open(_) => None,
            Door::Shut { why, .. } => Some(why),
        }
    }

    /// What is asked on this machine next; nothing, while it is shut. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        let Door::Open(server) = &mut self.door else { return pending().await };
        match server.next().await {
            Asked::Question(caller, question) => Input::Asked(question, caller),
            Asked::Gone(caller) => Input::Gone(caller),
        }
    }

    pub(super) fn reply(&mut self, caller: CallerId, reply: Reply) {
        if let Door::Open(server) = &mut self.door {
            server.reply(caller, reply);
        }
    }
}
