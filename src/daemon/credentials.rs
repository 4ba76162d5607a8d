//! With what the device proves who it is, and whom it trusts: read anew for each connection, and looked at again whenever a
//! file changes, so that what was spoiled is told before the next login needs it.
//!
//! * `slots`: private keys, of which there may be three. `hub`: a key that the cloud has too, or a certificate.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::config::access::{self, Readers};
use crate::config::{Cloud, Folders};
use crate::dialect::Proof;
use crate::model::device_key::{DeviceKey, KeySlot};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::Now;
use crate::model::wire::{Reason, TlsFault};
use crate::mqtt::identity::Identity;
use crate::mqtt::tls::Trust;

mod hub;
mod slots;

/// What a login needs from the disk.
pub(super) struct Credentials {
    pub(super) proof: Proof,
    pub(super) tls: Option<Trust>,
}

/// All that was read for a login.
pub(super) struct Read {
    pub(super) facts: DeviceKey,
    /// Tells what was read from what was read before: another key in any of the slots, another certificate, another
    /// `ca_file`, another reason why one of them cannot be used.
    pub(super) mark: Digest,
    /// With the key of the slot that was asked for, or why there can be no login.
    pub(super) credentials: Result<Credentials, Reason>,
}

/// What was found of a proof.
struct Found {
    facts: DeviceKey,
    mark: Digest,
    /// The error is for people.
    proof: Result<Proof, String>,
    /// What is shown when TLS begins.
    identity: Option<Identity>,
}

/// Looks for the keys, off the loop: the disk may be slow. `machine` is the one we are on.
pub(super) async fn look(
    folders: &Folders,
    machine: Fingerprint,
    cloud: Option<&Cloud>,
    now: &Now,
) -> anyhow::Result<DeviceKey> {
    let (folders, cloud, now) = (folders.clone(), cloud.cloned(), *now);
    off_the_loop(move || find(&folders, &machine, cloud.as_ref(), KeySlot::Current, &now).facts).await
}

/// Reads what this cloud wants for a proof, and `ca_file`, off the loop.
pub(super) async fn read(
    folders: &Folders,
    machine: Fingerprint,
    cloud: &Cloud,
    slot: KeySlot,
    now: &Now,
) -> anyhow::Result<Read> {
    let (folders, cloud, now) = (folders.clone(), cloud.clone(), *now);
    off_the_loop(move || {
        let Found { facts, mark, proof, identity } = find(&folders, &machine, Some(&cloud), slot, &now);
        let ca_file = cloud.ca_file();
        let trusted = ca_file.and_then(|path| metadata(path).ok());
        let trusted = trusted.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        let roots = roots(ca_file, cloud.tls(), identity.as_ref());
        let distrust = roots.as_ref().err();
        let mark = Digest::of(format!("{mark} {trusted:?} {distrust:?}").as_bytes());
        let proof = proof.map_err(Reason::NoLogin);
        let credentials = proof.and_then(|proof| Ok(Credentials { proof, tls: roots? }));
        Read { facts, mark, credentials }
    })
    .await
}

/// Keys in slots are for a cloud that knows public keys, and for a device that was told of none yet.
fn find(folders: &Folders, machine: &Fingerprint, cloud: Option<&Cloud>, slot: KeySlot, now: &Now) -> Found {
    match cloud {
        Some(Cloud::IotHub(settings)) => hub::find(folders, machine, &settings.proof, now),
        Some(Cloud::IotCore(_)) | None => slots::find(folders, machine, slot),
    }
}

/// Whom to trust; nobody is asked for without TLS.
fn roots(ca_file: Option<&Path>, tls: bool, identity: Option<&Identity>) -> Result<Option<Trust>, Reason> {
    let tls = tls.then(|| Trust::showing(ca_file, identity)).transpose();
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
