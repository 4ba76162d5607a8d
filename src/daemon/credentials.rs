//! The device's key, and whom to trust: read anew for each connection, and looked at again whenever a file changes, so
//! that a key that was spoiled is told before the next login needs it.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{Folders, IotCore, key_file};
use crate::dialect::token::Key;
use crate::model::digest::Digest;
use crate::model::wire::Reason;
use crate::mqtt;

/// What a login needs from the disk.
pub(super) struct Credentials {
    pub(super) key: Key,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// Tells these from others: another key or another `ca_file` has another mark.
    pub(super) mark: Digest,
}

/// Reads key and `ca_file`, off the loop: the disk may be slow. The inner error is why there can be no login.
pub(super) async fn read(folders: &Folders, cloud: &IotCore) -> anyhow::Result<Result<Credentials, Reason>> {
    let (folders, ca_file, tls) = (folders.clone(), cloud.ca_file.clone(), cloud.tls);
    tokio::task::spawn_blocking(move || {
        let file = key_file::read(&folders).map_err(|error| Reason::NoLogin(error.to_string()))?;
        let key = Key::parse(&file.text)
            .map_err(|error| Reason::NoLogin(format!("{}: {error}; hint: {}", file.path.display(), error.hint())))?;
        let trusted = ca_file.as_deref().and_then(|path| metadata(path).ok());
        let trusted = trusted.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        let mark = Digest::of(format!("{} {trusted:?}", key.public_pem()).as_bytes());
        let tls = tls.then(|| mqtt::tls::client_config(ca_file.as_deref())).transpose();
        let tls = tls.map_err(|error| Reason::Tls(format!("{error:#}")))?;
        Ok(Credentials { key, tls, mark })
    })
    .await
    .context("the reading of the device's key ended in a panic")
}
