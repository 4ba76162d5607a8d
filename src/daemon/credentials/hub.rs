//! What a device proves itself with to an IoT hub: a key that the hub has too, or a certificate.
//!
//! Whether a certificate holds is judged before the login, so that it is told in words and not by a hub that closes the
//! connection.

use super::Found;
use crate::config::{Folders, HubProof};
use crate::daemon::hub_key::{self, HubKey, Unread};
use crate::dialect::Proof;
use crate::model::device_key::{self, DeviceKey};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::Now;
use crate::mqtt::identity::{Identity, NotShown};

pub(super) fn find(folders: &Folders, machine: &Fingerprint, proof: &HubProof, now: &Now) -> Found {
    let path = hub_key::path(proof);
    let facts = |found| DeviceKey {
        is_credential: folders.credentials.as_ref().is_some_and(|folder| path.starts_with(folder)),
        path: path.display().to_string(),
        folder: folders.keys().display().to_string(),
        found,
        others: Vec::new(),
        unusable: Vec::new(),
    };
    let none = |found, why: String| Found {
        facts: facts(found),
        mark: Digest::of(why.as_bytes()),
        proof: Err(why),
        identity: None,
    };
    let unusable = |why: String| none(device_key::Found::Unusable(why.clone()), why);
    match hub_key::read(folders, machine, proof) {
        Err(Unread::Absent(why)) => {
            let why = format!("there is nothing to log in with yet: {why}");
            none(device_key::Found::Awaited(why.clone()), why)
        }
        Err(Unread::Closed(why) | Unread::Unfit(why)) => unusable(why),
        Ok(HubKey::Shared { key, mark }) => {
            Found { facts: facts(device_key::Found::Shared), mark, proof: Ok(Proof::Shared(key)), identity: None }
        }
        Ok(HubKey::Certificate(identity)) => {
            if let Err(why) = holds(&identity, now) {
                return unusable(format!("cert_file {}: {why}; renew it", path.display()));
            }
            let (thumbprint, ends) = (identity.thumbprint(), identity.ends());
            Found {
                facts: facts(device_key::Found::Certificate { thumbprint, ends }),
                mark: Digest::of(format!("{identity:?}").as_bytes()),
                proof: Ok(Proof::Certificate),
                identity: Some(identity),
            }
        }
    }
}

/// A clock that is not believed shows the latest time that is known to have been. So what has ended by it has ended; what has
/// not begun by it may hold all the same.
fn holds(identity: &Identity, now: &Now) -> Result<(), NotShown> {
    match identity.holds(now.wall) {
        Err(NotShown::NotYetValid(_)) if !now.clock.is_believed() => Ok(()),
        outcome => outcome,
    }
}
