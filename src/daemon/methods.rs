//! The handlers of this device, put together: those that are built in, those that `methods.enable` adds, and those of
//! manifests, which are read at the start and whenever a file changes.
//!
//! A manifest that has become wrong keeps what it said while its file is there, and the problem is told until somebody mends
//! it. One that is wrong at the start is not offered; the others are.
//!
//! The handlers' service reads the same file by its name, and runs nothing if its digest is another than the one that was
//! read here. What runs goes on with what it began with.

use std::sync::Arc;

use crate::config::manifest::{Action, Manifest, Manifests};
use crate::config::{Config, Fault, Folders};
use crate::handler::Handler;
use crate::handler::logs::GetLogs;
use crate::handler::program::Program;
use crate::handler::restart_service::RestartService;
use crate::handler::shutdown::Shutdown;
use crate::handler::unit::Unit;

use super::configuration::off_the_loop;

/// The most methods that the text of a problem names.
const NAMED: usize = 5;

pub(super) struct Methods {
    folders: Folders,
    built_in: Vec<Arc<dyn Handler>>,
    manifests: Vec<Manifest>,
    /// What is wrong with manifests, all of it.
    faults: Vec<Fault>,
    /// The same in short, and what holds meanwhile.
    problem: Option<String>,
}

impl Methods {
    /// Beside those of manifests the device has `built_in`.
    pub(super) async fn read(folders: Folders, built_in: Vec<Arc<dyn Handler>>) -> anyhow::Result<Self> {
        let mut methods = Self { folders, built_in, manifests: Vec::new(), faults: Vec::new(), problem: None };
        methods.reload().await?;
        Ok(methods)
    }

    /// Reads all manifests again. True if there is one that was not before, or one of before is not any more.
    pub(super) async fn reload(&mut self) -> anyhow::Result<bool> {
        let folders = self.folders.clone();
        let loaded = off_the_loop(move || Manifests::load(&folders)).await?.keeping(&self.manifests);
        self.problem = problem(&loaded);
        self.tell_of(&loaded);
        self.faults = loaded.faults;
        let before = std::mem::replace(&mut self.manifests, loaded.list);
        Ok(before != self.manifests)
    }

    /// What is wrong with manifests, with file and line, and what holds meanwhile.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// All handlers that this device has under this configuration. What is built in cannot be taken over.
    pub(super) fn handlers(&self, config: &Config) -> Vec<Arc<dyn Handler>> {
        let manifests = self.manifests.iter().map(|manifest| of_manifest(&self.folders, manifest));
        manifests.chain(enabled(&self.folders, config)).chain(self.built_in.iter().cloned()).collect()
    }

    /// One line in the log for each change, and none for what was told before.
    fn tell_of(&self, loaded: &Manifests) {
        for fault in loaded.faults.iter().filter(|fault| !self.faults.contains(fault)) {
            tracing::error!("{fault}");
        }
        if loaded.faults.is_empty() && !self.faults.is_empty() {
            tracing::info!("all manifests are right again");
        }
        for manifest in loaded.list.iter().filter(|manifest| !self.manifests.contains(manifest)) {
            let Manifest { path, spec, .. } = manifest;
            let is_known = self.manifests.iter().any(|before| before.spec.name == spec.name);
            let news = if is_known { "has changed" } else { "is offered" };
            tracing::info!(method = %spec.name, file = %path.display(), "the method {news}");
        }
        for Manifest { path, spec, .. } in &self.manifests {
            if !loaded.list.iter().any(|manifest| manifest.spec.name == spec.name) {
                tracing::info!(method = %spec.name, file = %path.display(), "the method is not offered any more");
            }
        }
    }
}

/// Handlers that a device has only if its operator says so.
fn enabled(folders: &Folders, config: &Config) -> Vec<Arc<dyn Handler>> {
    let is_enabled = |handler: &Arc<dyn Handler>| config.methods.enable.contains(&handler.spec().name);
    let all: [Arc<dyn Handler>; 3] = [
        Arc::new(GetLogs::new(folders)),
        Arc::new(RestartService::new(folders)),
        Arc::new(Shutdown::new(folders, config.reboot.mode)),
    ];
    all.into_iter().filter(is_enabled).collect()
}

fn of_manifest(folders: &Folders, manifest: &Manifest) -> Arc<dyn Handler> {
    match &manifest.action {
        Action::Program { .. } => Arc::new(Program::new(folders, manifest)),
        Action::Unit { job } => Arc::new(Unit::new(folders, manifest.spec.clone(), job)),
    }
}

/// The first fault, how many more there are, and what becomes of the methods.
fn problem(loaded: &Manifests) -> Option<String> {
    let first = loaded.faults.first()?;
    let more = match loaded.faults.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more; see `twinagent check`)"),
    };
    let of_kind = |is_program: bool| {
        let kept = loaded.kept().filter(|manifest| matches!(manifest.action, Action::Program { .. }) == is_program);
        let names: Vec<&str> = kept.map(|manifest| manifest.spec.name.as_str()).collect();
        let left_out = if names.len() > NAMED { " and others" } else { "" };
        (!names.is_empty()).then(|| names[..names.len().min(NAMED)].join(", ") + left_out)
    };
    let standing = match (of_kind(true), of_kind(false)) {
        (None, None) => "not offered until it is mended".to_owned(),
        // The handlers' service reads the file by itself, and runs nothing but what it says now.
        (Some(programs), None) => format!("until it is mended, commands for {programs} fail"),
        (None, Some(units)) => format!("until it is mended, {units} stay as before"),
        (Some(programs), Some(units)) => {
            format!("until it is mended, commands for {programs} fail, and {units} stay as before")
        }
    };
    Some(format!("{first}{more}; {standing}"))
}

#[cfg(test)]
mod tests;
