//! The configuration that is in force: read at the start and whenever a file changes, never given up for a bad one.
//!
//! What once reached a session is kept in the state folder. If the files are bad at the next start, that is what the
//! daemon runs on, and the problem is told until somebody mends them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::retry::Retry;
use crate::config::{Config, Faults, Folders, Loaded, Sources, last_good};
use crate::host::names;
use crate::host::watch::Watcher;
use crate::model::now::BootInstant;
use crate::store::{self, StateDir};

pub(super) struct Configuration {
    place: Place,
    state: Arc<StateDir>,
    current: Config,
    /// What is wrong with the files, if anything is.
    problem: Option<String>,
    watcher: Option<Watcher>,
    /// Files that the last right configuration named: one that cannot be parsed names none.
    named: Vec<PathBuf>,
    /// When it is to be kept next; nothing, once it is.
    keeping: Option<Retry>,
}

/// Where configurations are read from.
#[derive(Clone)]
struct Place {
    folders: Folders,
    file: Option<PathBuf>,
}

impl Place {
    /// Reads all files anew; also the files that the configuration names, which are watched with it.
    fn load(&self) -> (Result<Config, String>, Vec<PathBuf>) {
        let specifiers = names::specifiers();
        let sources =
            Sources { folders: &self.folders, file: self.file.as_deref(), drop_in: None, specifiers: &specifiers };
        match sources.load() {
            Ok(Loaded { config, unknown, files, .. }) => {
                for unknown in unknown {
                    tracing::warn!("{unknown}");
                }
                (Ok(config), files)
            }
            Err(Faults { faults, unknown, files }) => {
                for fault in faults.iter().chain(&unknown) {
                    tracing::error!("{fault}");
                }
                let more = faults.len().saturating_sub(1);
                let first = faults.first().map_or_else(|| "it cannot be read".to_owned(), ToString::to_string);
                let text = if more > 0 { format!("{first} (and {more} more; see `twinagent check`)") } else { first };
                (Err(text), files)
            }
        }
    }

    fn watched(&self, named: &[PathBuf]) -> Vec<PathBuf> {
        self.folders.watched(named.iter().map(PathBuf::as_path).chain(self.file.as_deref()))
    }
}

impl Configuration {
    /// The configuration of the files, else the last good one, else that of a device that was not configured.
    pub(super) async fn read(folders: Folders, file: Option<&Path>, state: Arc<StateDir>) -> anyhow::Result<Self> {
        let place = Place { folders, file: file.map(Path::to_owned) };
        let (place, state, (loaded, files), kept) = off_the_loop(move || {
            let loaded = place.load();
            let kept = if loaded.0.is_err() { last_good(&state) } else { None };
            (place, state, loaded, kept)
        })
        .await?;
        let (current, problem) = match loaded {
            Ok(config) => (config, None),
            Err(why) => {
                let instead = if kept.is_some() { "the last good configuration" } else { "no configuration" };
                tracing::error!("the configuration is wrong; running on {instead} until it is mended");
                (kept.unwrap_or_default(), Some(why))
            }
        };
        // Without it everything works but the noticing of changes; SIGHUP still does.
        let watcher = Watcher::new(place.watched(&files))
            .inspect_err(|error| {
                tracing::error!("changes of the configuration are not noticed: {error}; hint: SIGHUP reads it again");
            })
            .ok();
        Ok(Self { place, state, current, problem, watcher, named: files, keeping: Some(Retry::new()) })
    }

    pub(super) fn current(&self) -> &Config {
        &self.current
    }

    /// What is wrong with the files, with file and line.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Waits until a file has changed that may matter. May be dropped without loss.
    pub(super) async fn changed(&mut self) {
        match &mut self.watcher {
            Some(watcher) => watcher.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Reads the files again. The configuration that was in force before, if another one is now.
    pub(super) async fn reload(&mut self) -> anyhow::Result<Option<Config>> {
        let place = self.place.clone();
        let (loaded, files) = off_the_loop(move || place.load()).await?;
        if loaded.is_ok() {
            self.named = files;
        } else {
            self.named.extend(files);
            self.named.sort();
            self.named.dedup();
        }
        if let Some(watcher) = &mut self.watcher
            && let Err(error) = watcher.watch(self.place.watched(&self.named))
        {
            tracing::error!("changes of the configuration are not noticed any more: {error}");
        }
        let config = match loaded {
            Ok(config) if config.cloud.is_none() && self.current.cloud.is_some() => {
                // Files that vanish must not take a device off its cloud; whoever wants that starts it anew.
                Err("no cloud is configured any more; what was configured before stays in force until a restart"
                    .to_owned())
            }
            loaded => loaded,
        };
        match config {
            Err(why) => {
                tracing::error!("the new configuration is not taken: {why}");
                self.problem = Some(why);
                Ok(None)
            }
            Ok(config) => {
                if self.problem.take().is_some() {
                    tracing::info!("the configuration is right again");
                }
                if config == self.current {
                    return Ok(None);
                }
                tracing::info!("a new configuration is in force");
                self.keeping = Some(Retry::new());
                Ok(Some(std::mem::replace(&mut self.current, config)))
            }
        }
    }

    /// When this configuration may be kept, unless it is already.
    pub(super) fn keep_due(&self) -> Option<BootInstant> {
        self.keeping.as_ref().map(Retry::due)
    }

    /// A session stands: this configuration is good, and kept for a start with bad files. Writes only what differs; if
    /// that fails, it is due again later.
    pub(super) async fn keep(&mut self, now: BootInstant) -> anyhow::Result<()> {
        let (state, bytes) = (self.state.clone(), last_good::write(&self.current));
        let written = off_the_loop(move || store::last_good::write(&state, &bytes)).await?;
        let Some(retry) = &mut self.keeping else { return Ok(()) };
        match written {
            Ok(_) => {
                if retry.has_failed() {
                    tracing::info!("the configuration is kept for bad times");
                }
                self.keeping = None;
            }
            Err(error) => {
                if !retry.has_failed() {
                    tracing::warn!("the configuration is not kept for bad times: {error}; it is tried again");
                }
                retry.failed(now);
            }
        }
        Ok(())
    }
}

/// The configuration that last reached a session, if it can be read.
fn last_good(state: &StateDir) -> Option<Config> {
    let bytes = store::last_good::read(state).inspect_err(|error| tracing::error!("{error}")).ok().flatten()?;
    last_good::read(&bytes)
        .inspect_err(|error| tracing::error!("{}: {error}", store::last_good::path(state).display()))
        .ok()
}

/// Does what may wait for a disk on a thread of its own.
pub(super) async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the reading of the configuration ended in a panic")
}
