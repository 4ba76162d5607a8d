//! With what a device proves itself to an IoT hub, read from the files that the configuration names: a key that the hub has
//! too, or a certificate with its private key.

use std::fmt;
use std::io;
use std::path::Path;

use crate::config::key_file::{self, KeyFileError};
use crate::config::{Folders, HubProof, hub_key};
use crate::dialect::sas::SharedKey;
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::mqtt::identity::Identity;
use crate::mqtt::tls;

/// What was read.
pub enum HubKey {
    /// `mark` tells the key from others.
    Shared {
        key: SharedKey,
        mark: Digest,
    },
    Certificate(Identity),
}

impl fmt::Debug for HubKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { .. } => out.write_str("Shared(secret)"),
            Self::Certificate(identity) => identity.fmt(out),
        }
    }
}

/// Why nothing was; for people, with the file and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is not there yet. That is a state of a new device, and not a fault of the configuration.
    #[error("{0}")]
    Absent(String),
    /// It is there, and we may not read it.
    #[error("{0}")]
    Closed(String),
    #[error("{0}")]
    Unfit(String),
}

/// Where it lies: the file that a person would look at first.
pub fn path(proof: &HubProof) -> &Path {
    match proof {
        HubProof::ConnectionString(path) | HubProof::Key(path) | HubProof::Certificate { chain: path, .. } => path,
    }
}

/// Reads it. `machine` is the one we are on: a private key that was made on another is not used.
pub fn read(folders: &Folders, machine: &Fingerprint, proof: &HubProof) -> Result<HubKey, Unread> {
    match proof {
        HubProof::ConnectionString(path) | HubProof::Key(path) => shared(folders, proof, path),
        HubProof::Certificate { chain, key } => certificate(machine, chain, key),
    }
}

fn shared(folders: &Folders, proof: &HubProof, path: &Path) -> Result<HubKey, Unread> {
    let secret = hub_key::read(folders, proof).map_err(|error| {
        let words = error.in_words();
        if error.is_absent() {
            Unread::Absent(words)
        } else if error.is_closed_to_us() {
            Unread::Closed(words)
        } else {
            Unread::Unfit(words)
        }
    })?;
    let secret = secret.ok_or_else(|| Unread::Unfit(format!("{}: there is no key in it", path.display())))?;
    let key = SharedKey::parse(secret.reveal());
    let key = key.map_err(|error| Unread::Unfit(format!("{}: {error}", path.display())))?;
    Ok(HubKey::Shared { key, mark: Digest::of(secret.reveal().as_bytes()) })
}

fn certificate(machine: &Fingerprint, chain: &Path, key: &Path) -> Result<HubKey, Unread> {
    let certificates = tls::read_chain(chain).map_err(|error| {
        let words = format!("{error:#}");
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::NotFound) => Unread::Absent(words),
            Some(io::ErrorKind::PermissionDenied) => Unread::Closed(words),
            _ => Unread::Unfit(words),
        }
    })?;
    let secret = key_file::read_at(key.to_owned(), machine).map_err(|error| {
        let words = format!("cert_key_file: {}", error.in_words());
        match error {
            KeyFileError::Absent(_) => Unread::Absent(words),
            KeyFileError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Unread::Closed(words)
            }
            _ => Unread::Unfit(words),
        }
    })?;
    let identity = Identity::parse(&certificates, &secret.text).map_err(|error| {
        let (name, path) = if error.is_of_key() { ("cert_key_file", key) } else { ("cert_file", chain) };
        Unread::Unfit(format!("{name} {}: {error}", path.display()))
    })?;
    Ok(HubKey::Certificate(identity))
}
