//! Manifests: one file for each method that an operator adds, `handlers.d/*.toml`.
//!
//! Read and checked here, for the agent, which must know what a method is, and for the handlers' service, which runs its
//! program. What becomes of a command is not known.

use std::path::PathBuf;
use std::time::Duration;

use super::{Fault, Folders};
use crate::model::command::MethodSpec;
use crate::model::digest::Digest;

/// A manifest that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub path: PathBuf,
    /// Of the file's bytes.
    pub digest: Digest,
    pub spec: MethodSpec,
    pub action: Action,
    /// Between SIGTERM and SIGKILL, for a run that is to end.
    pub grace: Duration,
}

/// What a method does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs this program, an absolute path, with these arguments.
    Program { program: PathBuf, arguments: Vec<String> },
    /// Starts `twinagent-job-NAME@ID.service`: this is NAME.
    Unit { job: String },
}

/// All manifests that hold, in the order of their methods, and what is wrong with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    pub list: Vec<Manifest>,
    pub faults: Vec<Fault>,
}

impl Manifests {
    /// Reads all that hold: of two files with the same name that in the configuration folder; a link to `/dev/null`
    /// switches a method off.
    pub fn load(folders: &Folders) -> Self {
        let _ = folders;
        Self::default()
    }
}

impl Manifest {
    /// The manifest in the file of this name that holds. The name comes from the agent and may be anything.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that there is none.
    pub fn find(folders: &Folders, name: &str) -> Result<Self, Vec<Fault>> {
        let _ = (folders, name);
        Err(Vec::new())
    }
}
