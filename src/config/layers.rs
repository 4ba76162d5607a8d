//! Where a configuration comes from, and which of two values holds.
//!
//! From the weakest to the strongest:
//!
//! 1. `twinagent.toml` in the configuration folder, or the file of `--config` in its place;
//! 2. the drop-ins `*.toml` of all folders, in one order of their names: `/usr/lib/twinagent/conf.d`, `conf.d` in the
//!    configuration folder, `/run/twinagent-config`. Of two with the same name only one is read: that in `/run`, else
//!    that in `/etc`; a link to `/dev/null` switches a drop-in off. This is the order of systemd.conf(5);
//! 3. the environment, `TWINAGENT__SECTION__KEY`.
//!
//! This file and `logging.rs` are the only ones that read the environment.

#![allow(clippy::disallowed_methods, reason = "the environment is read here, and handed on as a value")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use config::Value;

use super::fault::{Fault, Place};
use super::file::{self, Tree};

/// Begins the name of every variable that sets a key; two underscores also part section and key.
const PREFIX: &str = "TWINAGENT__";
/// A folder with more drop-ins than this is a mistake.
const MOST_DROP_INS: usize = 256;
/// No key has more parts than this; what nests deeper could exhaust the stack.
const DEEPEST: usize = 8;

/// The folders the program works in, and the variables that set keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Drop-ins of vendor and image.
    pub vendor: PathBuf,
    /// `twinagent.toml`, `conf.d`, `keys`.
    pub configuration: PathBuf,
    /// Drop-ins that last until the next boot.
    pub volatile: PathBuf,
    /// What must outlive a reboot.
    pub state: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// Where systemd put the credentials of this service, if it did.
    pub credentials: Option<PathBuf>,
    /// Variables whose names begin with `TWINAGENT__`.
    pub variables: BTreeMap<OsString, OsString>,
}

impl Folders {
    /// The folders of the machine, or those that systemd passes in `$CONFIGURATION_DIRECTORY`, `$STATE_DIRECTORY`,
    /// `$RUNTIME_DIRECTORY` and `$CREDENTIALS_DIRECTORY` (systemd.exec(5); the first, where it passes a list).
    pub fn from_env() -> Self {
        Self {
            vendor: "/usr/lib/twinagent/conf.d".into(),
            configuration: folder("CONFIGURATION_DIRECTORY").unwrap_or_else(|| "/etc/twinagent".into()),
            volatile: "/run/twinagent-config".into(),
            state: folder("STATE_DIRECTORY").unwrap_or_else(|| "/var/lib/twinagent".into()),
            runtime: folder("RUNTIME_DIRECTORY").unwrap_or_else(|| "/run/twinagent".into()),
            credentials: folder("CREDENTIALS_DIRECTORY"),
            variables: std::env::vars_os()
                .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
                .collect(),
        }
    }

    /// Where the device's private key is kept.
    pub fn device_key(&self) -> PathBuf {
        self.configuration.join("keys/device.key")
    }
}

fn folder(variable: &str) -> Option<PathBuf> {
    let folders = std::env::var_os(variable)?;
    std::env::split_paths(&folders).next().filter(|first| !first.as_os_str().is_empty())
}

/// The values of every layer, the weakest first.
pub(super) fn read(folders: &Folders, file: Option<&Path>, faults: &mut Vec<Fault>) -> Vec<Tree> {
    let mut layers = Vec::new();
    let main = file.map_or_else(|| folders.configuration.join("twinagent.toml"), Path::to_owned);
    let drop_ins = drop_ins([&folders.vendor, &folders.configuration.join("conf.d"), &folders.volatile], faults);
    for path in std::iter::once(&main).chain(drop_ins.values()) {
        match file::read(path) {
            Ok(Some(text)) => {
                let (tree, found) = file::parse(path, &text);
                layers.push(tree);
                faults.extend(found);
            }
            Ok(None) if file == Some(path.as_path()) => faults.push(fault(path, "there is no such file")),
            // Without a twinagent.toml nothing is configured by it; a drop-in may go away while it is looked for.
            Ok(None) => {}
            Err(found) => faults.push(found),
        }
    }
    layers.extend(folders.variables.iter().filter_map(|(name, value)| variable(name, value, faults)));
    layers
}

/// The drop-ins that hold, by name. A later folder masks an earlier one.
fn drop_ins(folders: [&PathBuf; 3], faults: &mut Vec<Fault>) -> BTreeMap<OsString, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                faults.push(fault(folder, &format!("cannot be listed: {error}")));
                continue;
            }
        };
        for (at, entry) in entries.enumerate() {
            let path = match entry {
                Ok(entry) if at < MOST_DROP_INS => entry.path(),
                Ok(_) => {
                    faults.push(fault(folder, &format!("holds more than {MOST_DROP_INS} files")));
                    break;
                }
                Err(error) => {
                    faults.push(fault(folder, &format!("cannot be listed: {error}")));
                    break;
                }
            };
            let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
            if let Some(name) = path.file_name().filter(|name| !hidden(name))
                && path.extension() == Some(OsStr::new("toml"))
            {
                found.insert(name.to_owned(), path);
            }
        }
    }
    found.retain(|_, path| fs::canonicalize(path).ok().as_deref() != Some(Path::new("/dev/null")));
    found
}

/// `TWINAGENT__SESSION__KEEP_ALIVE=30s` as a layer of its own. An empty one sets nothing.
fn variable(name: &OsStr, value: &OsStr, faults: &mut Vec<Fault>) -> Option<Tree> {
    let shown = name.to_string_lossy();
    let place = Place::Variable(shown.clone().into_owned());
    if value.is_empty() {
        return None;
    }
    let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
        faults.push(Fault::new(place, "is not UTF-8"));
        return None;
    };
    let keys: Vec<String> = name.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
    if keys.len() > DEEPEST || !keys.iter().all(|key| file::is_plain(key)) {
        faults.push(Fault::new(place, "is not the name of a key: TWINAGENT__SECTION__KEY is expected"));
        return None;
    }
    let origin = place.to_origin();
    let leaf = Value::new(origin.as_ref(), value);
    let mut keys = keys.into_iter().rev();
    let last = keys.next()?;
    Some(keys.fold(Tree::from_iter([(last, leaf)]), |inner, key| {
        Tree::from_iter([(key, Value::new(origin.as_ref(), inner))])
    }))
}

fn fault(path: &Path, text: &str) -> Fault {
    Fault::new(Place::File { path: path.display().to_string(), line: None }, text)
}
