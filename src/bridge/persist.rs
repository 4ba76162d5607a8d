//! The files under the data folder that hold registries and devices: read at start, written in the background.
//!
//! A file is replaced as a whole, so a reader sees the old or the new one. Nothing is synced: this is a stand-in, and
//! a power cut may cost it its last second. Those of the hub hold keys, so all of them are for their owner alone.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::azure::{self, Azure};
use super::google::{DEVICES, FileChange, Google, REGISTRIES, Settings};

/// The largest file that is read back: a device with full history is below 2 MiB.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// One batch is written while the next is collected.
const BATCHES: usize = 1;

/// The claim of a bridge to its folder.
#[derive(Debug)]
pub(crate) struct Lock(File);

/// Closing alone would not do: a child of this process has a copy of the descriptor until its exec closes it.
impl Drop for Lock {
    fn drop(&mut self) {
        // Fails for what is no open file. If it ever did, closing frees the folder a moment later.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Claims the folder for this bridge, as long as the value lives.
pub(crate) fn lock(data: &Path) -> anyhow::Result<Lock> {
    let path = data.join("bridge.lock");
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let file = open.with_context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!("another bridge uses the folder {}", data.display()),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Reads what an earlier run kept; makes the folders.
pub(crate) fn load(data: &Path, settings: Settings) -> anyhow::Result<Google> {
    Google::new(settings, read_all(&data.join(REGISTRIES))?, read_all(&data.join(DEVICES))?)
}

/// The same for the hub.
pub(crate) fn load_hub(data: &Path, settings: azure::Settings) -> anyhow::Result<Azure> {
    let identities = read_all(&data.join(azure::IDENTITIES))?;
    let path = data.join(azure::HUB_FILE);
    let folder = path.parent().expect("it is in a folder of the hub's");
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close the folder {} to others", folder.display()))?;
    let hub = path.exists().then(|| read(&path)).transpose();
    Azure::new(settings, hub.with_context(|| format!("cannot read {}", path.display()))?, identities)
}

fn read_all<T: DeserializeOwned>(folder: &Path) -> anyhow::Result<Vec<T>> {
    let what = || format!("cannot read the folder {}", folder.display());
    fs::create_dir_all(folder).with_context(what)?;
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            all.push(read(&path).with_context(|| {
                format!("cannot read {}; remove the file if it is of no use any more", path.display())
            })?);
        }
    }
    Ok(all)
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    if fs::metadata(path)?.len() > MAX_FILE {
        bail!("larger than {MAX_FILE} bytes");
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes batches until their sender is gone. A file that cannot be written is reported and left as it was.
pub(crate) fn writer(data: PathBuf) -> (mpsc::Sender<Vec<FileChange>>, impl Future<Output = ()> + Send) {
    let (sender, mut batches) = mpsc::channel::<Vec<FileChange>>(BATCHES);
    let write = async move {
        while let Some(batch) = batches.recv().await {
            let data = data.clone();
            let written = tokio::task::spawn_blocking(move || {
                for change in batch {
                    if let Err(error) = apply(&data, &change) {
                        tracing::error!(file = change.path, "not kept: {error}");
                    }
                }
            });
            if let Err(error) = written.await {
                tracing::error!("files not kept: {error}");
            }
        }
    };
    (sender, write)
}

fn apply(data: &Path, change: &FileChange) -> std::io::Result<()> {
    let path = data.join(&change.path);
    match &change.content {
        Some(content) => replace(&path, content, 0o600),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// Replaces a file as a whole. This is its mode afterwards, whatever it was before.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let new = path.with_extension("new");
    // One that a crash has left would keep its mode. Mostly there is none; one that stays is told by the next line.
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    fs::rename(&new, path)
}
