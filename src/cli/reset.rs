//! `twinagent reset`: forgets what this device has done, and with `--identity` who it is.
//!
//! Asks nothing: it is for scripts that prepare an image. It does not start while a daemon uses the state folder, and
//! says each file that it has removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Exit, Failure, output, read_configuration};
use crate::config::{Cloud, Folders, HubProof};
use crate::model::device_key::KeySlot;
use crate::store::{LockError, StateDir, StoreError, forget, forget_assignment};

const NOT_PERMITTED: &str = "this takes root, or the user that the daemon runs as";

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Remove the device's keys, what it proves itself to a hub with and the hub that it was assigned to, too, so that an image of
    /// this machine is nobody
    #[arg(long)]
    identity: bool,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let state = match fs::symlink_metadata(&folders.state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        _ => Some(StateDir::lock(&folders.state).map_err(not_locked)?),
    };
    let mut removed = Vec::new();
    if let Some(state) = &state {
        removed.extend(forget(state).map_err(not_removed)?);
    }
    say(&removed)?;
    if arguments.identity {
        if let Some(state) = &state {
            let assignment = forget_assignment(state).map_err(not_removed)?;
            say(&assignment)?;
            removed.extend(assignment);
        }
        // Read before any of it is gone: a connection string says what the configuration leaves out.
        let proof = hub_proof(folders, file)?;
        let keys = remove_keys(folders)?;
        say(&keys)?;
        removed.extend(keys);
        for path in proof {
            if remove_below(&folders.configuration, &path)? {
                output::print(&format!("removed {}\n", path.display()))?;
                removed.push(path);
            } else if path.exists() {
                output::note(&format!("left {} as it is, and it is who this device is", path.display()))?;
            }
        }
        if let Some(credentials) = &folders.credentials {
            output::note(&format!("left {} as it is: what is in it belongs to systemd", credentials.display()))?;
        }
        let setup = folders.set_up();
        if setup.exists() {
            output::note(&format!("left {} as it is, and it names the device", setup.display()))?;
        }
    }
    if removed.is_empty() {
        output::note("there was nothing to remove")?;
    }
    Ok(())
}

fn say(removed: &[PathBuf]) -> io::Result<()> {
    removed.iter().try_for_each(|path| output::print(&format!("removed {}\n", path.display())))
}

fn remove_keys(folders: &Folders) -> Result<Vec<PathBuf>, Failure> {
    let mut removed = Vec::new();
    for path in KeySlot::ALL.map(|slot| folders.key(slot)) {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            error => error.with_context(|| format!("{} cannot be removed", path.display()))?,
        }
    }
    if !removed.is_empty() {
        let synced = File::open(folders.keys()).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("{} cannot be synced", folders.keys().display()))?;
    }
    Ok(removed)
}

/// What the configuration has the device prove itself to a hub with. One that cannot be read names nothing, which is told.
fn hub_proof(folders: &Folders, file: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let cloud = match read_configuration(folders, file, None) {
        Ok(loaded) => loaded.config.cloud,
        Err(faults) => {
            let why = faults.to_string().replace('\n', "; ");
            output::note(&format!(
                "the configuration is wrong, so a key or a certificate of a hub is left where it is: {why}"
            ))?;
            None
        }
    };
    Ok(match cloud {
        Some(Cloud::IotHub(hub)) => match hub.proof {
            HubProof::ConnectionString(path) | HubProof::Key(path) => vec![path],
            HubProof::Certificate { chain, key } => vec![chain, key],
        },
        Some(Cloud::IotCore(_)) | None => Vec::new(),
    })
}

/// Removes the file if it lies below this folder, whatever links lead there. Whether it did, and was there.
fn remove_below(folder: &Path, path: &Path) -> Result<bool, Failure> {
    let context = || format!("{} cannot be removed", path.display());
    let really = |path: &Path| match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).with_context(context),
    };
    let (Some(found), Some(folder)) = (really(path)?, really(folder)?) else { return Ok(false) };
    let Some(parent) = found.parent().filter(|parent| parent.starts_with(&folder)) else { return Ok(false) };
    fs::remove_file(&found).with_context(context)?;
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("{} cannot be synced", parent.display()))?;
    Ok(true)
}

fn not_locked(error: LockError) -> Failure {
    match &error {
        LockError::Held { .. } => Failure::new(Exit::Held, error),
        LockError::Io { error: cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, error).hint(NOT_PERMITTED)
        }
        _ => Failure::new(Exit::Failed, error),
    }
}

fn not_removed(error: StoreError) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(Exit::NotPermitted, error).hint(NOT_PERMITTED),
        _ => Failure::new(Exit::Failed, error),
    }
}
