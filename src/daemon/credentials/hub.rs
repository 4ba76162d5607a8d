//! What a device proves itself with to an IoT hub: a key that the hub has too, or a certificate.
//!
//! Whether it holds is judged before the login, so that it is told in words and not by a hub that closes the connection.

use std::path::Path;

use super::Found;
use crate::config::{Folders, HubProof, hub_key, key_file};
use crate::dialect::Proof;
use crate::dialect::sas::SharedKey;
use crate::model::device_key::{self, DeviceKey};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::Now;
use crate::mqtt::identity::{Identity, NotShown};
use crate::mqtt::tls;

pub(super) fn find(folders: &Folders, machine: &Fingerprint, proof: &HubProof, now: &Now) -> Found {
    match proof {
        HubProof::ConnectionString(path) | HubProof::Key(path) => shared(folders, proof, path),
        HubProof::Certificate { chain, key } => certificate(folders, machine, chain, key, now),
    }
}

fn shared(folders: &Folders, proof: &HubProof, path: &Path) -> Found {
    let read = hub_key::read(folders, proof).map_err(|error| error.in_words()).and_then(|secret| {
        // A connection string without a key says that there is a certificate, which has keys of its own in the configuration.
        let secret = secret.ok_or_else(|| format!("{}: there is no key in it", path.display()))?;
        let key = SharedKey::parse(secret.reveal()).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((Digest::of(secret.reveal().as_bytes()), key))
    });
    let (mark, found) = match &read {
        Ok((digest, _)) => (*digest, device_key::Found::Shared),
        Err(why) => (Digest::of(why.as_bytes()), device_key::Found::Unusable(why.clone())),
    };
    Found { facts: facts(folders, path, found), mark, proof: read.map(|(_, key)| Proof::Shared(key)), identity: None }
}

fn certificate(folders: &Folders, machine: &Fingerprint, chain: &Path, key: &Path, now: &Now) -> Found {
    let (found, outcome) = match shown(machine, chain, key) {
        Err(why) => (device_key::Found::Unusable(why.clone()), Err(why)),
        Ok(identity) => match holds(&identity, now) {
            Ok(()) => {
                let (thumbprint, ends) = (identity.thumbprint(), identity.ends());
                (device_key::Found::Certificate { thumbprint, ends }, Ok(identity))
            }
            Err(why) => {
                let why = format!("cert_file {}: {why}; renew it", chain.display());
                (device_key::Found::Unusable(why.clone()), Err(why))
            }
        },
    };
    let mark = match &outcome {
        Ok(identity) => Digest::of(format!("{identity:?}").as_bytes()),
        Err(why) => Digest::of(why.as_bytes()),
    };
    let proof = outcome.as_ref().map(|_| Proof::Certificate).map_err(Clone::clone);
    Found { facts: facts(folders, chain, found), mark, proof, identity: outcome.ok() }
}

/// What the two files hold, if it can be shown.
fn shown(machine: &Fingerprint, chain: &Path, key: &Path) -> Result<Identity, String> {
    let certificates = tls::read_chain(chain).map_err(|error| format!("{error:#}"))?;
    let secret = key_file::read_at(key.to_owned(), machine).map_err(|error| error.in_words())?;
    Identity::parse(&certificates, &secret.text).map_err(|error| {
        let (name, path) = if error.is_of_key() { ("cert_key_file", key) } else { ("cert_file", chain) };
        format!("{name} {}: {error}", path.display())
    })
}

/// A clock that is not believed shows the latest time that is known to have been. So what has ended by it has ended; what has
/// not begun by it may hold all the same.
fn holds(identity: &Identity, now: &Now) -> Result<(), NotShown> {
    match identity.holds(now.wall) {
        Err(NotShown::NotYetValid(_)) if !now.clock.is_believed() => Ok(()),
        outcome => outcome,
    }
}

fn facts(folders: &Folders, path: &Path, found: device_key::Found) -> DeviceKey {
    DeviceKey {
        is_credential: folders.credentials.as_ref().is_some_and(|folder| path.starts_with(folder)),
        path: path.display().to_string(),
        folder: folders.keys().display().to_string(),
        found,
        others: Vec::new(),
        unusable: Vec::new(),
    }
}
