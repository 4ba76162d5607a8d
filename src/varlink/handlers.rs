//! The interface `io.twinagent.Handlers`: how the agent asks the handlers' service to run a program, and what it is told.
//!
//! One connection is one run. The agent calls `Run` with `more`; each reply but the last is news of the run, the last is its
//! outcome. An agent that wants the run to end closes its sending half, and still hears how it ended; one that is gone
//! has closed both. Only names and data cross: which program runs, the service reads in the manifest by itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::command::{CommandId, DeviceId};
use crate::model::digest::Digest;

pub const INTERFACE: &str = "io.twinagent.Handlers";

/// The name of the socket in the folder of the handlers' service.
pub const SOCKET: &str = "io.twinagent.Handlers";

/// What `Run` is called with.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// The name of the manifest's file, without a folder.
    pub manifest: String,
    /// Of its text as the agent has read it. Another text is another method, and is not run.
    pub digest: Digest,
    pub id: CommandId,
    pub device: DeviceId,
    #[serde(default)]
    pub payload: Value,
}

/// Payloads stay out of logs.
impl std::fmt::Debug for Run {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Run").field("manifest", &self.manifest).field("id", &self.id).finish_non_exhaustive()
    }
}
