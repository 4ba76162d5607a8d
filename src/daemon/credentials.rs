//! The device's key, and whom to trust: read anew for each connection, and looked at again whenever a file changes, so
//! that a key that was spoiled is told before the next login needs it.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::config::access::{self, Readers};
use crate::config::key_file::{self, KeyFileError};
use crate::config::{Folders, IotCore};
use crate::dialect::token::{Algorithm, Key};
use crate::model::device_key::{DeviceKey, Found};
use crate::model::digest::Digest;
use crate::model::wire::{Reason, TlsFault};
use crate::mqtt::tls::Trust;

/// What a login needs from the disk.
pub(super) struct Credentials {
    pub(super) key: Key,
    pub(super) tls: Option<Trust>,
    /// Tells these from others: another key or another `ca_file` has another mark.
    pub(super) mark: Digest,
}

/// Looks for the key, off the loop: the disk may be slow.
pub(super) async fn look(folders: &Folders) -> anyhow::Result<DeviceKey> {
    let folders = folders.clone();
    off_the_loop(move || key(&folders).0).await
}

/// Reads key and `ca_file`, off the loop. The inner error is why there can be no login.
pub(super) async fn read(
    folders: &Folders,
    cloud: &IotCore,
) -> anyhow::Result<(DeviceKey, Result<Credentials, Reason>)> {
    let (folders, ca_file, tls) = (folders.clone(), cloud.ca_file.clone(), cloud.tls);
    off_the_loop(move || {
        let (facts, key) = key(&folders);
        let credentials = key.map_err(Reason::NoLogin).and_then(|key| with_roots(key, ca_file.as_deref(), tls));
        (facts, credentials)
    })
    .await
}

/// The key, and what may be told of it; the error is why it cannot be used.
fn key(folders: &Folders) -> (DeviceKey, Result<Key, String>) {
    let file = key_file::read(folders);
    let path = file.as_ref().map_or_else(|error| error.path().to_owned(), |file| file.path.clone());
    let is_absent = matches!(file, Err(KeyFileError::Absent(_)));
    let key = file.map_err(|error| error.in_words()).and_then(|file| {
        Key::parse(&file.text).map_err(|error| format!("{}: {error}; hint: {}", path.display(), error.hint()))
    });
    let found = match &key {
        Ok(key) => Found::Usable { public: key.public_pem(), algorithm: name(key.algorithm()) },
        Err(_) if is_absent => Found::Absent,
        Err(why) => Found::Unusable(why.clone()),
    };
    let facts = DeviceKey {
        is_credential: folders.credentials.as_ref().is_some_and(|folder| path.starts_with(folder)),
        path: path.display().to_string(),
        folder: folders.keys().display().to_string(),
        found,
        others: Vec::new(),
    };
    (facts, key)
}

/// As in RFC 7518 3.1. A key has one of these two.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::ES256 => "ES256",
        _ => "RS256",
    }
}

fn with_roots(key: Key, ca_file: Option<&Path>, tls: bool) -> Result<Credentials, Reason> {
    let trusted = ca_file.and_then(|path| metadata(path).ok());
    let trusted = trusted.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
    let mark = Digest::of(format!("{} {trusted:?}", key.public_pem()).as_bytes());
    let tls = tls.then(|| Trust::read(ca_file)).transpose();
    let tls = tls.map_err(|error| Reason::Tls(TlsFault::Other, untrusted(&error, ca_file)))?;
    Ok(Credentials { key, tls, mark })
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
