//! The device's private keys: the current one, and those beside it while keys are changed.

use std::path::PathBuf;

use super::Found;
use crate::config::Folders;
use crate::config::key_file::{self, KeyFileError};
use crate::dialect::Proof;
use crate::dialect::token::{Algorithm, Key};
use crate::model::device_key::{self, DeviceKey, KeySlot};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;

/// Looks at all of them; the proof is the one in this slot.
pub(super) fn find(folders: &Folders, machine: &Fingerprint, slot: KeySlot) -> Found {
    let keys = Keys::read(folders, machine);
    let facts = facts(folders, &keys);
    let mark = Digest::of(format!("{:?}", keys.0.each_ref().map(Slot::found)).as_bytes());
    let proof = keys.take(slot).key.map(Proof::Key).map_err(|trouble| trouble.why);
    Found { facts, mark, proof, identity: None }
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

    fn found(&self) -> device_key::Found {
        match &self.key {
            Ok(key) => device_key::Found::Usable { public: key.public_pem(), algorithm: name(key.algorithm()) },
            Err(Trouble { is_absent: true, .. }) => device_key::Found::Absent,
            Err(Trouble { why, .. }) => device_key::Found::Unusable(why.clone()),
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
            device_key::Found::Absent | device_key::Found::Awaited(_) => {}
            device_key::Found::Unusable(why) => facts.unusable.push((name, why)),
            _ => facts.others.push(name),
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
