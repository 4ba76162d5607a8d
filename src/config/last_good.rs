//! The configuration that last led to a session, as bytes that outlive the files it came from.
//!
//! Pure: `store/last_good.rs` keeps the bytes. They hold what was in force, specifiers filled in and defaults written
//! out, under a version and a digest, so that damage is never taken for a configuration. They go through the same checks
//! as a file. Keys that this version does not know are passed over, as `run` does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::file::{Tree, is_plain};
use super::reader::{Findings, Reader};
use super::setting::Setting;
use super::{Config, Specifiers, raw};
use crate::model::digest::Digest;

/// The form of these bytes.
const VERSION: u32 = 1;
/// The largest that are read, in bytes. Bounds on lists, names and paths keep what is written below half of it.
pub const LARGEST: usize = 256 << 10;
/// Keys have at most three parts; more would only cost.
const DEEPEST: usize = 4;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    digest: Digest,
    /// Settings by their whole names, such as `session.keep_alive`.
    config: Map<String, Json>,
}

/// Only the version: what else a later one holds is not ours to judge.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Why bytes are not a configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("larger than {} KiB", LARGEST / 1024)]
    TooLarge,
    #[error("kept in form {0}, and this version knows {VERSION} only")]
    OtherVersion(u32),
    #[error("damaged: {0}")]
    Damaged(String),
    /// Whole, but no longer right; a newer version may be stricter.
    #[error("no longer right: {0}")]
    Refused(String),
}

/// The same configuration gives the same bytes.
pub fn write(config: &Config) -> Vec<u8> {
    let kept = Kept { version: VERSION, digest: config.hash(), config: canonical(config) };
    let mut bytes = serde_json::to_vec_pretty(&kept).expect("texts, numbers and flags are JSON");
    bytes.push(b'\n');
    bytes
}

/// What [`write()`] has written, in this version or another.
pub fn read(bytes: &[u8]) -> Result<Config, ReadError> {
    if bytes.len() > LARGEST {
        return Err(ReadError::TooLarge);
    }
    let damaged = |error: serde_json::Error| ReadError::Damaged(error.to_string());
    let Head { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(ReadError::OtherVersion(version));
    }
    let Kept { digest, config, .. } = serde_json::from_slice(bytes).map_err(damaged)?;
    if digest_of(&config) != digest {
        return Err(ReadError::Damaged("the digest does not fit".to_owned()));
    }
    let mut reader = Reader::of_kept(tree(config)?);
    let config = raw::read(&mut reader, &Specifiers::default());
    let Findings { faults, missing, .. } = reader.finish();
    match faults.into_iter().chain(missing).next() {
        Some(fault) => Err(ReadError::Refused(fault.text)),
        None => Ok(config),
    }
}

impl Config {
    /// What tells this configuration from another, defaults included: `configHash` of the reported document.
    ///
    /// The device's id is part of it, so two devices never have the same.
    pub fn hash(&self) -> Digest {
        digest_of(&canonical(self))
    }
}

fn canonical(config: &Config) -> Map<String, Json> {
    config.settings().into_iter().map(|(key, setting)| (key.to_owned(), setting.to_json())).collect()
}

/// Members are in the order of their names, so the text is one and the same.
fn digest_of(config: &Map<String, Json>) -> Digest {
    Digest::of(&serde_json::to_vec(config).expect("JSON from memory"))
}

fn tree(config: Map<String, Json>) -> Result<Tree, ReadError> {
    let mut tree = Tree::new();
    for (name, json) in config {
        let odd = || ReadError::Damaged("a setting of a form that none has".to_owned());
        let mut parts: Vec<&str> = name.split('.').collect();
        if parts.len() > DEEPEST || !parts.iter().all(|part| is_plain(part)) {
            return Err(odd());
        }
        let key = parts.pop().ok_or_else(odd)?;
        let mut section = &mut tree;
        for part in parts {
            let inner = section.entry(part.to_owned()).or_insert_with(|| config::Value::new(None, Tree::new()));
            let config::ValueKind::Table(table) = &mut inner.kind else { return Err(odd()) };
            section = table;
        }
        let value = Setting::from_json(json).ok_or_else(odd)?.into_value();
        if section.insert(key.to_owned(), value).is_some() {
            return Err(odd());
        }
    }
    Ok(tree)
}
