//! `twinagent keygen`: a new key for this device, never in the place of an old one.
//!
//! The file appears whole and synced or not at all: a device that loses power here has the key that was registered, or
//! none.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, anyhow};

use super::daemon_key::{self, PublicKey};
use super::slot::Slot;
use super::{Exit, Failure, adopt, configuration, key_file_failure, machine, output, parse};
use crate::config::account::service_group;
use crate::config::key_file::{self, KeyFileError};
use crate::config::key_mark;
use crate::config::{Cloud, Folders, HubProof};
use crate::dialect::token::generate;
use crate::host::clock;
use crate::model::device_key::KeySlot;
use crate::model::wire::Secret;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the private key to FILE instead of keys/device.key
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which of the device's keys to make
    #[arg(long, value_enum, default_value_t = Slot::Current, conflicts_with = "out")]
    slot: Slot,
    /// If there is a key already, leave it and print its public key
    #[arg(long)]
    if_missing: bool,
    /// Make no key: let keys that were made on another machine be used on this one. For the same device with another board
    /// or machine id; a copy needs a key of its own
    #[arg(long, conflicts_with_all = ["out", "slot", "if_missing"])]
    adopt: bool,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.adopt {
        return adopt::run(folders);
    }
    let beside = Some(arguments.slot).filter(|slot| *slot != Slot::Current).map(|slot| folders.key(slot.into()));
    let out = arguments.out.clone().or(beside);
    let out = out.as_deref();
    let existing = if arguments.if_missing { existing(folders, out)? } else { None };
    if let Some(Existing { words, key }) = existing {
        output::note(&words)?;
        return Ok(output::print(&key.pem)?);
    }
    let key = make(folders, out)?;
    if out.is_none()
        && let Some(theirs) = daemon_key::credential(folders)
    {
        output::note(&format!("it is not used as long as the daemon runs with {}", theirs.origin()))?;
    }
    if out.is_none()
        && let Ok(config) = configuration(folders, file)
        && let Some(Cloud::IotHub(hub)) = &config.cloud
        && !matches!(&hub.proof, HubProof::Certificate { key, .. } if *key == folders.key(KeySlot::Current))
    {
        output::note(
            "an IoT hub is not told of a public key: this one is of use once `twinagent pubkey --csr` has led to a \
             certificate, and cert_file and cert_key_file under [cloud.iothub] name both",
        )?;
    }
    Ok(output::print(&key.pem)?)
}

/// A key that there is already, so that none is made.
pub(super) struct Existing {
    pub(super) words: String,
    pub(super) key: PublicKey,
}

/// The device's key, which may be known to the running daemon alone, or that in `out`; `None` if there is none.
pub(super) fn existing(folders: &Folders, out: Option<&Path>) -> Result<Option<Existing>, Failure> {
    let found = match out {
        Some(path) => key_file::read_at(path.to_owned(), &machine()),
        None => match daemon_key::credential(folders) {
            Some(theirs) => {
                let words = format!("made no key: {} is there", theirs.origin());
                return Ok(Some(Existing { words, key: theirs.usable()? }));
            }
            None => key_file::read(folders, KeySlot::Current, &machine()),
        },
    };
    match found {
        Err(KeyFileError::Absent(_)) => Ok(None),
        found => {
            let (path, key) = parse(found.map_err(key_file_failure)?)?;
            Ok(Some(Existing { words: format!("left {} as it is", path.display()), key: PublicKey::from(&key) }))
        }
    }
}

/// Makes the device's key, or one in `out`.
pub(super) fn make(folders: &Folders, out: Option<&Path>) -> Result<PublicKey, Failure> {
    let path = out.map_or_else(|| folders.device_key(), Path::to_owned);
    // Only a key of the device itself is for the daemon, and for no other machine; whoever puts one elsewhere decides who
    // else may read it, and where it is used.
    let is_own = absolute(&path)?.parent() == Some(&*absolute(folders.keys())?);
    if is_own {
        make_folder(&folders.configuration, &path)?;
    }
    let (text, key) = generate().map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    let text = if is_own { key_mark::write(&text, &machine()) } else { text };
    let reader = reader().filter(|_| is_own);
    match write_new(&path, &text, reader) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(Exit::Failed, anyhow!("{} exists already, and is left as it is", path.display()))
                .hint("`twinagent pubkey` prints the public key of this device")
                .hint("for a new key, move the old one away first"));
        }
        Err(error) => {
            let kind = error.kind();
            let error = anyhow::Error::new(error).context(format!("{} cannot be written", path.display()));
            let folder = folder_of(&path).display();
            return Err(match kind {
                io::ErrorKind::NotFound => {
                    Failure::from(error).hint(format!("there is no folder {folder}; make it first"))
                }
                io::ErrorKind::PermissionDenied if !is_own => Failure::new(Exit::NotPermitted, error)
                    .hint(format!("you may not write into the folder {folder}; name a file in another one")),
                _ => Failure::from(error),
            });
        }
    }
    output::note(&format!("made {}", path.display()))?;
    Ok(PublicKey::from(&key))
}

/// The group that may read what we make: the daemon's, where we are root and can give it away.
fn reader() -> Option<u32> {
    service_group().filter(|_| rustix::process::geteuid().is_root())
}

/// Makes the folder of the device's key, closed to everybody but those who may read the key.
fn make_folder(configuration: &Path, key: &Path) -> anyhow::Result<()> {
    let folder = key.parent().context("a key is kept in a folder")?;
    let make = || {
        fs::create_dir_all(configuration)?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        match reader() {
            Some(group) => {
                chown(folder, None, Some(group))?;
                fs::set_permissions(folder, Permissions::from_mode(0o750))
            }
            None => Ok(()),
        }
    };
    make().with_context(|| format!("{} cannot be made", folder.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Writes the text beside its place, syncs it, and links it there, which fails if the place is taken. Beside its owner,
/// the group `reader` may read it.
fn write_new(path: &Path, text: &Secret, reader: Option<u32>) -> io::Result<()> {
    let folder = folder_of(path);
    // What a power cut left of an earlier try must not be in the way, and in a container each try has the same id.
    let beside = folder.join(format!(".twinagent-key.{}.{}", std::process::id(), clock::boot().0.as_nanos()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let placed = fill(&file, text, reader).and_then(|()| fs::hard_link(&beside, path));
    // What is left beside is of no use, whether the link was made or not.
    let cleared = fs::remove_file(&beside);
    placed.and(cleared)?;
    File::open(folder)?.sync_all()
}

fn fill(mut file: &File, text: &Secret, reader: Option<u32>) -> io::Result<()> {
    file.write_all(text.reveal().as_bytes())?;
    if let Some(group) = reader {
        fchown(file, None, Some(group))?;
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    file.sync_all()
}
