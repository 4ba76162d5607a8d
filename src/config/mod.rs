//! The configuration as the program may rely on it: read from all its places, merged, judged as a whole, typed.
//!
//! Plain data. What is configured by it knows this module; this module knows nothing of that. `raw.rs`, with what lies
//! below it, has the keys and their defaults, `layers.rs` the places. `effective.rs` is the way back, from the value to its
//! keys, and a test reads what it writes. Whatever shows or keeps a configuration uses it: `twinagent config`,
//! `configHash`, the last good configuration, which is kept as bytes with a digest (`last_good.rs` knows what they mean,
//! `store/last_good.rs` where they lie).
//!
//! A connection string of IoT Hub says several things at once. What it names is read with the configuration and kept with
//! it, so that the last good one needs the file no more; its key is read at each login and never kept. What the machine is
//! called comes in as plain data ([`Specifiers`]), since this module and `host` do not know each other.
//!
//! Manifests of handlers are read beside it (`manifest/`), each by itself: one that is wrong leaves the others alone. No
//! link is followed, and the file and each folder above it belong to root and can be written by nobody else (`trust.rs`):
//! who could write there could have the handlers' service run what they like.

pub mod access;
pub mod account;
mod cloud;
pub mod connection_string;
mod effective;
mod fault;
mod file;
pub mod hub_key;
pub mod key_file;
pub mod key_mark;
pub mod last_good;
mod layers;
pub mod manifest;
pub mod own_methods;
pub mod polkit;
mod proxy;
mod raw;
mod reader;
mod rules;
mod setting;
mod specifier;
pub mod trust;
pub mod veto;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Source;

pub use cloud::{Answers, Cloud, Hub, HubProof, IotCore, IotHub, Provisioning};
pub use fault::{Fault, Faults, Place};
pub use layers::{DropIn, Folders, is_drop_in};
pub use proxy::{Proxy, read_password as read_proxy_password};
pub use rules::{host as host_name, hub_device};
pub use setting::Setting;
pub use specifier::Specifiers;

use crate::model::command::{DeviceId, Method};
pub use crate::model::duration;
use crate::model::reboot::{TooSoon, window::Window};
use crate::model::unit_name::UnitName;
use file::Tree;
use reader::{Findings, Reader};

/// All that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Always there where `cloud` is.
    pub device: Option<DeviceId>,
    /// Missing: not configured. That is a state, not a fault.
    pub cloud: Option<Cloud>,
    pub auth: Auth,
    pub session: Session,
    pub reboot: Reboot,
    pub methods: Methods,
    pub commands: Commands,
    pub report: Report,
    pub local: Local,
}

/// What holds where no file says otherwise: not configured.
impl Default for Config {
    fn default() -> Self {
        raw::read(&mut Reader::new(Tree::default()), &Specifiers::default())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Of a login token, 5 seconds to 24 hours.
    pub lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whole seconds, 1 to 1177.
    pub keep_alive: Duration,
    /// From the first look-up of the host to CONNACK.
    pub connect_timeout: Duration,
    /// The longest wait between two tries, at least 1 second.
    pub backoff_max: Duration,
    /// The same, after the broker judged who we are.
    pub backoff_max_refused: Duration,
    /// How long after the start a doubtful clock keeps logins waiting. Zero: the clock is used as it is.
    pub clock_wait: Duration,
    pub proxy: Option<Proxy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reboot {
    pub mode: Mode,
    /// How long a simulated reboot keeps the device away.
    pub simulate_for: Duration,
    /// Between reboots that we ask for.
    pub min_interval: Duration,
    /// A machine younger than this is not rebooted; in real modes only.
    pub min_uptime: Duration,
    /// So many reboots within `per`, without a session of `healthy` between them, are too many. 1 to 20.
    pub max_reboots: u32,
    pub per: Duration,
    pub healthy: Duration,
    /// What becomes of a command that comes too soon.
    pub too_soon: TooSoon,
    /// Between the acknowledged 202 and the act.
    pub grace: Duration,
    /// How long running handlers are waited for.
    pub drain: Duration,
    /// How long a due reboot may be held back by inhibitors, vetoes and commands that still run.
    pub inhibitor_wait: Duration,
    /// At most 32. None: always.
    pub windows: Vec<Window>,
    /// How far devices are kept apart in a window.
    pub spread: Duration,
    /// Whether `force` of a command is heeded.
    pub allow_force: bool,
}

/// Who performs a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Auto,
    Logind,
    Helper,
    Simulate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    /// Methods that are answered beyond the harmless ones.
    pub enable: BTreeSet<Method>,
    /// Methods that are answered as if they did not exist. Wins over `enable`.
    pub disable: BTreeSet<Method>,
    /// Units whose log `getLogs` may tell besides the agent's own. At most 32.
    pub log_units: BTreeSet<UnitName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Other names for methods, at most 256. None leads to another alias.
    pub alias: BTreeMap<Method, Method>,
    /// What a payload without a method is for. Never an alias.
    pub default_method: Option<Method>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The reported document is sent again when it was last sent longer ago than this: 1 minute to 30 days.
    pub heartbeat: Duration,
}

/// Who may use the local interface, besides root. Whether the machine has these groups is not checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub read_group: Option<String>,
    pub act_group: Option<String>,
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// Keys that mean nothing: an error for `check`, a warning for `run`.
    pub unknown: Vec<Fault>,
    /// Where each key that is set stands, by its whole name, and each entry of a table (`commands.alias.NAME`).
    pub origins: BTreeMap<String, Place>,
    /// Files that the configuration names, there or not. When one of them changes, so may what is configured.
    pub files: Vec<PathBuf>,
}

/// All that a configuration is read from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub folders: &'a Folders,
    /// Takes the place of `twinagent.toml`, and must exist.
    pub file: Option<&'a Path>,
    /// Counts as if it lay in `conf.d` of the configuration folder.
    pub drop_in: Option<DropIn<'a>>,
    /// What `%H` and its like stand for on this machine.
    pub specifiers: &'a Specifiers,
}

/// Reads the configuration where nothing is known of the machine, so that a specifier in it is a fault.
/// See [`Sources::load`].
pub fn load(folders: &Folders, file: Option<&Path>) -> Result<Loaded, Faults> {
    Sources { folders, file, drop_in: None, specifiers: &Specifiers::default() }.load()
}

impl Sources<'_> {
    /// The files that would be read, there or not. What cannot be listed is left out, and told by [`Sources::load`].
    pub fn files(&self) -> Vec<PathBuf> {
        layers::files(self)
    }

    /// Reads every layer, merges them and checks the whole.
    ///
    /// The error holds all that could be found in one go. While a file cannot be read, nothing is said of keys that are
    /// missing: they may stand in it.
    pub fn load(&self) -> Result<Loaded, Faults> {
        let mut faults = Vec::new();
        let layers = layers::read(self, &mut faults);
        let whole = faults.is_empty();
        let tree = merge(layers).unwrap_or_else(|fault| {
            faults.push(fault);
            Tree::new()
        });
        let mut reader = Reader::new(tree).with_credentials(self.folders.credentials.clone());
        let config = raw::read(&mut reader, self.specifiers);
        let Findings { faults: found, missing, unknown, origins, files } = reader.finish();
        faults.extend(found);
        if whole {
            faults.extend(missing);
        }
        if faults.is_empty() {
            Ok(Loaded { config, unknown, origins, files })
        } else {
            Err(Faults { faults, unknown, files })
        }
    }
}

/// The units that `methods.log_units` names, whatever else may be wrong: who reads the journal may not read all that a
/// configuration names.
///
/// # Errors
///
/// If a file of the configuration cannot be read, or this key is wrong.
pub fn log_units(folders: &Folders, file: Option<&Path>) -> Result<BTreeSet<UnitName>, Faults> {
    let specifiers = Specifiers::default();
    let mut faults = Vec::new();
    let layers = layers::read(&Sources { folders, file, drop_in: None, specifiers: &specifiers }, &mut faults);
    let tree = merge(layers).unwrap_or_else(|fault| {
        faults.push(fault);
        Tree::new()
    });
    let mut reader = Reader::new(tree);
    let units = raw::log_units(&mut reader);
    faults.extend(reader.finish().faults);
    if faults.is_empty() { Ok(units) } else { Err(Faults { faults, unknown: Vec::new(), files: Vec::new() }) }
}

/// Tables are merged, everything else is replaced by the stronger layer; each value keeps its place.
fn merge(layers: Vec<Tree>) -> Result<Tree, Fault> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(Layer(layer));
    }
    builder
        .build()
        .and_then(|merged| merged.collect())
        .map_err(|error| Fault::new(Place::Merged, format!("cannot be merged: {error}")))
}

/// One layer, as the `config` crate takes it.
#[derive(Clone, Debug)]
struct Layer(Tree);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Tree, config::ConfigError> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests;
