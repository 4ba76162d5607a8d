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

use super::Sources;
use super::fault::{Fault, Place};
use super::file::{self, Tree};
use crate::model::device_key::KeySlot;

/// Begins the name of every variable that sets a key; two underscores also part section and key.
const PREFIX: &str = "TWINAGENT__";
/// The configuration folder of the machine's own device.
const CONFIGURATION: &str = "/etc/twinagent";
/// A folder with more drop-ins than this is a mistake.
const MOST_DROP_INS: usize = 256;
/// No key has more parts than this; what nests deeper could exhaust the stack.
const DEEPEST: usize = 8;

/// A file that is to count as a drop-in of the configuration folder, wherever it lies.
#[derive(Clone, Copy, Debug)]
pub struct DropIn<'a> {
    /// Its last part is the name by which it is ordered and masked; faults name it as it is.
    pub path: &'a Path,
    /// What it holds, where it is not written yet.
    pub text: Option<&'a str>,
}

/// The folders the program works in, and the variables that set keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// Drop-ins of vendor and image.
    pub vendor: PathBuf,
    /// Handlers of vendor and image.
    pub vendor_handlers: PathBuf,
    /// `twinagent.toml`, `conf.d`, `handlers.d`, `keys`.
    pub configuration: PathBuf,
    /// Drop-ins that last until the next boot.
    pub volatile: PathBuf,
    /// Vetoes that last until the next boot.
    pub vetoes: PathBuf,
    /// What must outlive a reboot.
    pub state: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// The D-Bus address of the system bus.
    pub bus: String,
    /// Where systemd put the credentials of this service, if it did.
    pub credentials: Option<PathBuf>,
    /// Variables whose names begin with `TWINAGENT__`.
    pub variables: BTreeMap<OsString, OsString>,
}

impl Folders {
    /// The folders of the machine, or those that systemd passes in `$CONFIGURATION_DIRECTORY`, `$STATE_DIRECTORY`,
    /// `$RUNTIME_DIRECTORY` and `$CREDENTIALS_DIRECTORY` (systemd.exec(5); the first, where it passes a list). The bus is that
    /// of `$DBUS_SYSTEM_BUS_ADDRESS`, if it is set (D-Bus Specification, "Well-known Message Bus Instances").
    pub fn from_env() -> Self {
        Self {
            vendor: "/usr/lib/twinagent/conf.d".into(),
            vendor_handlers: "/usr/lib/twinagent/handlers.d".into(),
            configuration: folder("CONFIGURATION_DIRECTORY").unwrap_or_else(|| CONFIGURATION.into()),
            volatile: "/run/twinagent-config".into(),
            vetoes: "/run/twinagent-veto.d".into(),
            state: folder("STATE_DIRECTORY").unwrap_or_else(|| "/var/lib/twinagent".into()),
            runtime: folder("RUNTIME_DIRECTORY").unwrap_or_else(|| "/run/twinagent".into()),
            bus: bus().unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned()),
            credentials: folder("CREDENTIALS_DIRECTORY"),
            variables: std::env::vars_os()
                .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
                .collect(),
        }
    }

    /// Whether this is the device of the machine, and not a second one, a test or a container's.
    pub fn is_standard(&self) -> bool {
        self.configuration == Path::new(CONFIGURATION)
    }

    /// The file that people edit.
    pub fn main_file(&self) -> PathBuf {
        self.configuration.join("twinagent.toml")
    }

    /// Where drop-ins of this machine are kept.
    pub fn drop_ins(&self) -> PathBuf {
        self.configuration.join("conf.d")
    }

    /// Where the handlers of this machine are kept.
    pub fn handlers(&self) -> PathBuf {
        self.configuration.join("handlers.d")
    }

    /// The folder of the handlers' service, for its socket. For `/run/twinagent` it is `/run/twinagent-handlers`; a second
    /// agent has its own, as it has those below.
    pub fn launcher(&self) -> PathBuf {
        self.beside_runtime("-handlers")
    }

    /// Where the payloads of jobs lie (`/run/twinagent-jobs`), which outlive the agent.
    pub fn jobs(&self) -> PathBuf {
        self.beside_runtime("-jobs")
    }

    /// The folder of the service that reads the journal of the system (`/run/twinagent-logs`), for its socket.
    pub fn logs(&self) -> PathBuf {
        self.beside_runtime("-logs")
    }

    fn beside_runtime(&self, suffix: &str) -> PathBuf {
        let mut name = self.runtime.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.runtime.with_file_name(name)
    }

    /// The drop-in that `twinagent setup` writes.
    pub fn set_up(&self) -> PathBuf {
        self.drop_ins().join("50-setup.toml")
    }

    /// Vetoes that outlive a reboot.
    pub fn kept_vetoes(&self) -> PathBuf {
        self.configuration.join("veto.d")
    }

    /// Where private keys are kept.
    pub fn keys(&self) -> PathBuf {
        self.configuration.join("keys")
    }

    /// Where the device's private key is kept.
    pub fn device_key(&self) -> PathBuf {
        self.key(KeySlot::Current)
    }

    /// Where the private key of this slot is kept.
    pub fn key(&self, slot: KeySlot) -> PathBuf {
        self.keys().join(match slot {
            KeySlot::Current => "device.key",
            KeySlot::Next => "next.key",
            KeySlot::Previous => "previous.key",
        })
    }

    /// Everything whose change can change what is configured, which methods there are or which key is used: files and folders, there or not.
    /// `named` are files that the configuration itself names, and the file of `--config`.
    ///
    /// Relative paths mean what they mean at the moment of the call.
    pub fn watched<'a>(&self, named: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
        let own = [
            self.vendor.clone(),
            self.main_file(),
            self.drop_ins(),
            self.volatile.clone(),
            self.keys(),
            self.vendor_handlers.clone(),
            self.handlers(),
        ];
        let named = named.into_iter().map(Path::to_owned);
        let all = own.into_iter().chain(self.credentials.clone()).chain(named);
        all.map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
    }
}

/// Whether a file of this name would be read as a drop-in.
pub fn is_drop_in(path: &Path) -> bool {
    let hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    path.extension() == Some(OsStr::new("toml")) && path.file_name().is_some_and(|name| !hidden(name))
}

fn folder(variable: &str) -> Option<PathBuf> {
    let folders = std::env::var_os(variable)?;
    std::env::split_paths(&folders).next().filter(|first| !first.as_os_str().is_empty())
}

/// Where the system bus listens, if the variable for it says so.
#[expect(clippy::disallowed_methods, reason = "the environment is a layer of the configuration")]
fn bus() -> Option<String> {
    std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().filter(|address| !address.is_empty())
}

/// The files of all layers, the weakest first.
pub(super) fn files(sources: &Sources<'_>) -> Vec<PathBuf> {
    let main = sources.file.map_or_else(|| sources.folders.main_file(), Path::to_owned);
    std::iter::once(main).chain(drop_ins(sources.folders, sources.drop_in, &mut Vec::new()).into_values()).collect()
}

/// The values of every layer, the weakest first.
pub(super) fn read(sources: &Sources<'_>, faults: &mut Vec<Fault>) -> Vec<Tree> {
    let Sources { folders, file, drop_in, .. } = *sources;
    let mut layers = Vec::new();
    let main = file.map_or_else(|| folders.main_file(), Path::to_owned);
    let drop_ins = drop_ins(folders, drop_in, faults);
    for path in std::iter::once(&main).chain(drop_ins.values()) {
        let given = drop_in.filter(|given| given.path == path);
        let text = match given.and_then(|given| given.text) {
            Some(text) => Ok(Some(text.to_owned())),
            None => file::read(path),
        };
        match text {
            Ok(Some(text)) => {
                let (tree, found) = file::parse(path, &text);
                layers.push(tree);
                faults.extend(found);
            }
            Ok(None) if file == Some(path.as_path()) || given.is_some() => {
                faults.push(fault(path, "there is no such file"));
            }
            // Without a twinagent.toml nothing is configured by it; a drop-in may go away while it is looked for.
            Ok(None) => {}
            Err(found) => faults.push(found),
        }
    }
    layers.extend(folders.variables.iter().filter_map(|(name, value)| variable(name, value, faults)));
    layers
}

/// The drop-ins that hold, by name. A later folder masks an earlier one; one that is `given` counts as in conf.d.
fn drop_ins(folders: &Folders, given: Option<DropIn<'_>>, faults: &mut Vec<Fault>) -> BTreeMap<OsString, PathBuf> {
    let mut found = BTreeMap::new();
    list(&folders.vendor, &mut found, faults);
    list(&folders.drop_ins(), &mut found, faults);
    found.extend(given.and_then(|given| Some((given.path.file_name()?.to_owned(), given.path.to_owned()))));
    list(&folders.volatile, &mut found, faults);
    if let Some(DropIn { path, .. }) = given
        && let Some(stronger) = path.file_name().and_then(|name| found.get(name)).filter(|found| *found != path)
    {
        faults.push(fault(path, &format!("is not read, since {} has the same name and wins", stronger.display())));
    }
    let is_new = |path: &Path| given.is_some_and(|given| given.path == path && given.text.is_some());
    let is_off = |path: &Path| fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"));
    found.retain(|_, path| is_new(path) || !is_off(path));
    found
}

fn list(folder: &Path, found: &mut BTreeMap<OsString, PathBuf>, faults: &mut Vec<Fault>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return faults.push(fault(folder, &format!("cannot be listed: {error}"))),
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
        if is_drop_in(&path)
            && let Some(name) = path.file_name()
        {
            found.insert(name.to_owned(), path);
        }
    }
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
