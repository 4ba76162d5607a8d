//! The key that a device shares with its hub: read from its file when a login needs it, and never kept.
//!
//! The files follow the rules of the private keys (`key_file.rs`); a connection string may be a credential of systemd's too.

use std::io;
use std::path::{Path, PathBuf};

use super::key_file::{self, KeyFile, KeyFileError};
use super::{Folders, HubProof, connection_string};
use crate::model::wire::Secret;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum HubKeyError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file was read and is not what it should be. What it holds is not told.
    #[error("{}: {why}", path.display())]
    Unfit { path: PathBuf, why: String },
}

impl HubKeyError {
    /// A state, not a fault: the device has no key yet.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::File(KeyFileError::Absent(_)))
    }

    /// We may not read it. Another user, such as that of the daemon, perhaps may.
    pub fn is_closed_to_us(&self) -> bool {
        matches!(self, Self::File(KeyFileError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The file that was looked for.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(error) => error.path(),
            Self::Unfit { path, .. } => path,
        }
    }

    /// The error with its cause and what to do about it, in one line.
    pub fn in_words(&self) -> String {
        match self {
            Self::File(error) => error.in_words(),
            Self::Unfit { .. } => self.to_string(),
        }
    }
}

/// The key of this proof, in base64; `None` where it is a certificate, which has files of its own.
pub fn read(folders: &Folders, proof: &HubProof) -> Result<Option<Secret>, HubKeyError> {
    match proof {
        HubProof::ConnectionString(path) => match connection_string::read(folders, path)?.key {
            Some(key) => Ok(Some(key)),
            None => {
                Err(HubKeyError::Unfit { path: path.clone(), why: "names no key any more, but x509=true".to_owned() })
            }
        },
        HubProof::Key(path) => {
            let file = text(folders.credentials.as_deref(), path)?;
            let line = file.text.reveal().lines().next().unwrap_or_default().trim();
            let why = || "its first line is not the base64 of a key".to_owned();
            let key = connection_string::key(line);
            key.map(Some).ok_or_else(|| HubKeyError::Unfit { path: path.clone(), why: why() })
        }
        HubProof::Certificate { .. } => Ok(None),
    }
}

/// The text of a file that is kept well. Whether that holds of credentials is systemd's business.
pub(super) fn text(credentials: Option<&Path>, path: &Path) -> Result<KeyFile, KeyFileError> {
    match credentials {
        Some(folder) if path.starts_with(folder) => key_file::read_credential(path.to_owned()),
        _ => key_file::read_any(path.to_owned()),
    }
}
