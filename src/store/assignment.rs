//! The file that keeps which hub this device was assigned to, so that the service that assigns hubs is asked once and not at
//! each start.
//!
//! It holds who was asked and for whom: an assignment counts for nobody else.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::atomic::{self, Unfinished};
use super::{StateDir, StoreError, small};
use crate::model::command::DeviceId;

pub(super) const NAME: &str = "assignment.json";

/// The most bytes that are read; there are some two hundred.
const LARGEST: u64 = 8 << 10;

/// The longest name of a host (RFC 1035 2.3.4).
const LONGEST_HOST: usize = 253;

/// What a service has assigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    pub asked: Asked,
    /// The host name of the hub.
    pub hub: String,
    /// The device's name there.
    pub device: DeviceId,
}

/// Who was asked, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub host: String,
    pub id_scope: String,
    pub registration_id: String,
}

fn path(dir: &StateDir) -> PathBuf {
    dir.path().join(NAME)
}

/// What was kept; `None` if nothing was, or nothing that can be read: then the service is asked again.
pub fn read(dir: &StateDir) -> Result<Option<Assignment>, StoreError> {
    Ok(small::read(dir, NAME, LARGEST)?.as_deref().and_then(parse))
}

/// The same for who only looks, beside the daemon whose folder this is: the file is replaced as a whole.
pub fn peek(state: &Path) -> Option<Assignment> {
    small::peek(&state.join(NAME), LARGEST).as_deref().and_then(parse)
}

/// Keeps this; on disk when it returns.
pub fn write(dir: &StateDir, assignment: &Assignment) -> Result<(), StoreError> {
    let text = serde_json::to_string(assignment).expect("strings are JSON");
    match atomic::replace(&dir.folder(), NAME, format!("{text}\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(Unfinished { doing, error, .. }) => Err(StoreError::new(&path(dir), doing, error)),
    }
}

fn parse(bytes: &[u8]) -> Option<Assignment> {
    let fits = |host: &str| {
        (1..=LONGEST_HOST).contains(&host.len())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
    };
    serde_json::from_slice::<Assignment>(bytes).ok().filter(|assignment| fits(&assignment.hub))
}
