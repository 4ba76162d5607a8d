//! The device's keys, and whom to trust: read anew for each connection, and looked at again whenever a file changes, so
//! that a key that was spoiled is told before the next login needs it.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::access::{self, Readers};
use crate::config::key_file::{self, KeyFileError};
use crate::config::{Folders, IotCore};
use crate::dialect::token::{Algorithm, Key};
use crate::model::device_key::{DeviceKey, Found, KeySlot};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::wire::{Reason, TlsFault};
use crate::mqtt::tls::Trust;

/// What a login needs from the disk.
pub(super) struct Credentials {
    pub(super) key: Key,
    pub(super) tls: Option<Trust>,
}

/// All that was read for a login.
pub(super) struct Read {
    pub(super) facts: DeviceKey,
    /// Tells what was read from what was read before: another key in any of the slots, another `ca_file`, another reason why
    /// one of them cannot be used.
    pub(super) mark: Digest,
    /// With the key of the slot that was asked for, or why there can be no login.
    pub(super) credentials: Result<Credentials, Reason>,
}

/// Looks for the keys, off the loop: the disk may be slow. `machine` is the one we are on.
pub(super) async fn look(folders: &Folders, machine: Fingerprint) -> anyhow::Result<DeviceKey> {
    let folders = folders.clone();
    off_the_loop(move || facts(&folders, &Keys::read(&folders, &machine))).await
}

/// Reads keys and `ca_file`, off the loop.
pub(super) async fn read(
    folders: &Folders,
    machine: Fingerprint,
    cloud: &IotCore,
    slot: KeySlot,
) -> anyhow::Result<Read> {
    let (folders, ca_file, tls) = (folders.clone(), cloud.ca_file.clone(), cloud.tls);
    off_the_loop(move || {
        let keys = Keys::read(&folders, &machine);
        let facts = facts(&folders, &keys);
        let trusted = ca_file.as_deref().and_then(|path| metadata(path).ok());
        let trusted = trusted.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        let roots = roots(ca_file.as_deref(), tls);
        let distrust = roots.as_ref().err();
        let mark = Digest::of(format!("{:?} {trusted:?} {distrust:?}", keys.0.each_ref().map(Slot::found)).as_bytes());
        let key = keys.take(slot).key.map_err(|trouble| Reason::NoLogin(trouble.why));
        let credentials = key.and_then(|key| Ok(Credentials { key, tls: roots? }));
        Read { facts, mark, credentials }
    })
    .await
}

/// All keys of the device, in the order of [`KeySlot::ALL`].
struct Keys([Slot; 3]);

struct Slot {
    path: PathBuf,
    key: Result<Key, Trouble>,
}

/// Why a key cannot be used.
struct Trouble {
    is_absent: bool,
    why: String,
}

impl Keys {
    fn read(folders: &Folders, machine: &Fingerprint) -> Self {
        Self(KeySlot::ALL.map(|slot| Slot::read(folders, slot, machine)))
    }

    fn take(self, slot: KeySlot) -> Slot {
        let Self([current, next, previous]) = self;
        match slot {
            KeySlot::Current => current,
            KeySlot::Next => next,
            KeySlot::Previous => previous,
        }
    }
}

impl Slot {
    fn read(folders: &Folders, slot: KeySlot, machine: &Fingerprint) -> Self {
        let file = key_file::read(folders, slot, machine);
        let path = file.as_ref().map_or_else(|error| error.path().to_owned(), |file| file.path.clone());
        let is_absent = matches!(file, Err(KeyFileError::Absent(_)));
        let key = file.map_err(|error| error.in_words()).and_then(|file| {
            Key::parse(&file.text).map_err(|error| format!("{}: {error}; hint: {}", path.display(), error.hint()))
        });
        Self { path, key: key.map_err(|why| Trouble { is_absent, why }) }
    }

    fn found(&self) -> Found {
        match &self.key {
            Ok(key) => Found::Usable { public: key.public_pem(), algorithm: name(key.algorithm()) },
            Err(Trouble { is_absent: true, .. }) => Found::Absent,
            Err(Trouble { why, .. }) => Found::Unusable(why.clone()),
        }
    }
}

/// What may be told of the keys.
fn facts(folders: &Folders, Keys(slots): &Keys) -> DeviceKey {
    let [current, ..] = slots;
    let mut facts = DeviceKey {
        is_credential: folders.credentials.as_ref().is_some_and(|folder| current.path.starts_with(folder)),
        path: current.path.display().to_string(),
        folder: folders.keys().display().to_string(),
        found: current.found(),
        others: Vec::new(),
        unusable: Vec::new(),
    };
    for (name, slot) in KeySlot::ALL.into_iter().zip(slots).skip(1) {
        match slot.found() {
            Found::Usable { .. } => facts.others.push(name),
            Found::Absent => {}
            Found::Unusable(why) => facts.unusable.push((name, why)),
        }
    }
    facts
}

/// As in RFC 7518 3.1. A key has one of these two.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => "ES256",
        _ => "RS256",
    }
}

/// Whom to trust; nobody is asked for without TLS.
fn roots(ca_file: Option<&Path>, tls: bool) -> Result<Option<Trust>, Reason> {
    let tls = tls.then(|| Trust::read(ca_file)).transpose();
    tls.map_err(|error| Reason::Tls(TlsFault::Other, untrusted(&error, ca_file)))
}

/// Why nobody can be trusted, with what to do where the `ca_file` is closed to us.
fn untrusted(error: &anyhow::Error, ca_file: Option<&Path>) -> String {
    let denied = error.downcast_ref::<io::Error>().filter(|error| error.kind() == io::ErrorKind::PermissionDenied);
    match (denied, ca_file) {
        (Some(denied), Some(path)) => format!("{error:#}; {}", access::remedy(denied, path, Readers::Everybody)),
        _ => format!("{error:#}"),
    }
}

async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the reading of the device's key ended in a panic")
}
