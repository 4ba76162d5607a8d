//! The key that a device shares with its IoT hub, from the file that the configuration names.

use std::path::Path;

use super::key_file::{self, KeyFileError};
use super::{Folders, HubProof};
use crate::model::wire::Secret;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HubKeyError(#[from] KeyFileError);

impl HubKeyError {
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn in_words(&self) -> String {
        self.0.in_words()
    }
}

/// The key of this proof, in base64; `None` where it is a certificate, which has files of its own.
pub fn read(_: &Folders, proof: &HubProof) -> Result<Option<Secret>, HubKeyError> {
    let (HubProof::ConnectionString(path) | HubProof::Key(path)) = proof else { return Ok(None) };
    let file = key_file::read_any(path.clone())?;
    let line = file.text.reveal().lines().next().unwrap_or_default();
    let key = line.split(';').find_map(|member| member.strip_prefix("SharedAccessKey=")).unwrap_or(line);
    Ok(Some(Secret::new(key.trim().to_owned())))
}
