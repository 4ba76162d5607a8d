//! The daemon as a process, with the recorded method `count`, and what it says of its renewals.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use twinagent::dialect::token;
use twinagent::local::client::{Client, Wait};

use crate::site::{LIFETIME, PROJECT, REGION, REGISTRY};

/// Ended when dropped.
pub(crate) struct Agent {
    child: Child,
    folder: TempDir,
    /// Gaps in the agent's own words, by the time of the renewal.
    told: BTreeMap<String, Duration>,
}

/// A configured device that does not run yet; its public key, in PEM.
pub(crate) fn prepare(id: &str, port: u16, ca_file: &Path) -> (TempDir, String) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a disk");
    for part in ["etc/keys", "state", "run"] {
        fs::create_dir_all(folder.path().join(part)).expect("a folder");
    }
    let (key, public) = token::generate().expect("a key");
    let key_file = folder.path().join("etc/keys/device.key");
    fs::write(&key_file, key.reveal()).expect("a key file");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("the mode of a key file");
    let text = format!(
        "device.id = \"{id}\"\nreboot.mode = \"simulate\"\nsession.clock_wait = \"0s\"\nauth.lifetime = \"{}s\"\n\
         [cloud]\nkind = \"iotcore\"\n\
         [cloud.iotcore]\nhost = \"localhost\"\nport = {port}\nca_file = \"{}\"\n\
         project_id = \"{PROJECT}\"\nregion = \"{REGION}\"\nregistry_id = \"{REGISTRY}\"\nanswers = \"events\"\n",
        LIFETIME.as_secs(),
        ca_file.display(),
    );
    fs::write(folder.path().join("etc/twinagent.toml"), text).expect("a configuration");
    (folder, public.public_pem())
}

impl Agent {
    pub(crate) fn start(folder: TempDir) -> Self {
        let at = |part: &str| folder.path().join(part);
        let log = fs::File::create(at("log")).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_twinagent-counting"))
            .current_dir(folder.path())
            .env("CONFIGURATION_DIRECTORY", at("etc"))
            .env("STATE_DIRECTORY", at("state"))
            .env("RUNTIME_DIRECTORY", at("run"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", at("no-bus").display()))
            .env("TWINAGENT_COUNT_FILE", at("counted"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a process");
        Self { child, folder, told: BTreeMap::new() }
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Takes note of what [`last_renewal`] found.
    pub(crate) fn note(&mut self, renewal: Option<(String, Duration)>) {
        self.told.extend(renewal);
    }

    pub(crate) fn told(&self) -> impl Iterator<Item = Duration> {
        self.told.values().copied()
    }

    /// How often each command ran.
    pub(crate) fn ran(&self) -> HashMap<String, usize> {
        let mut ran = HashMap::new();
        for id in fs::read_to_string(self.folder.path().join("counted")).unwrap_or_default().lines() {
            *ran.entry(id.to_owned()).or_default() += 1;
        }
        ran
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When the session of the agent with this runtime folder was last renewed, and for how long there was none. Blocks.
pub(crate) fn last_renewal(runtime: &Path) -> Option<(String, Duration)> {
    let status = Client::connect(runtime).ok()?.call("GetStatus", &json!({}), Wait::Short).ok()?;
    let renewal = status.get("session")?.get("lastRenewal")?;
    let gap = Duration::try_from_secs_f64(renewal["gapSeconds"].as_f64()?).ok()?;
    Some((renewal["time"].as_str()?.to_owned(), gap))
}
