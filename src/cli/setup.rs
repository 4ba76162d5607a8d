//! `twinagent setup`: from a new machine to a device that can log in, in one line.
//!
//! Writes one drop-in, and makes the key where the cloud is told of a public one. Everything is judged before anything is written: a configuration that would not
//! work is left as it was. Doing it again with the same words changes nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::daemon_key::PublicKey;
use super::keygen::Existing;
use super::service_reader::Reader;
use super::{Exit, Failure, check, config, keygen, machine, output, read_configuration, run};
use crate::config::access::Readers;
use crate::config::{Cloud, Config, DropIn, Faults, Folders, IotHub, Place};
use crate::daemon::hub_key::{self, HubKey, Unread};
use crate::host::clock;
use crate::mqtt::tls;
pub(super) use arguments::Arguments;

mod arguments;

/// The most of a drop-in that is compared with what would be written, in bytes.
const LARGEST: u64 = 64 << 10;

/// Keys that must be set somewhere, and the options that set them.
const OPTIONS: [(&str, &str); 6] = [
    ("cloud.iotcore.host", "--host"),
    ("cloud.iotcore.project_id", "--project"),
    ("cloud.iotcore.region", "--region"),
    ("cloud.iotcore.registry_id", "--registry"),
    ("device.id", "--device"),
    ("cloud.iothub.cert_key_file", "--cert-key-file"),
];

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let path = folders.set_up();
    if let Some(ca_file) = &arguments.ca_file {
        trustworthy(folders, ca_file)?;
    }
    let settings = arguments.settings()?;
    let keys: Vec<&str> = settings.iter().map(|(key, _)| *key).collect();
    let text = format!(
        "# Written by `twinagent setup`, which replaces this file when it is run again.\n\n{}",
        config::sections(settings, |_| String::new())
    );

    let drop_in = DropIn { path: &path, text: Some(&text) };
    let loaded = read_configuration(folders, file, Some(drop_in)).map_err(|faults| refused(&path, faults))?;
    for key in keys {
        if let Some(place) = loaded.origins.get(key).filter(|place| !is_in(place, &path)) {
            let why = anyhow!("{key} is set by {place}, which wins over {}", path.display());
            return Err(Failure::new(Exit::Failed, why).hint("take it away there; nothing was changed"));
        }
    }
    // A key that cannot be used is told of before anything is written, too.
    let ready = match &loaded.config.cloud {
        Some(Cloud::IotHub(hub)) => Ready::Hub(shown_to_hub(folders, hub)?),
        Some(Cloud::IotCore(_)) | None => Ready::Key(keygen::existing(folders, None)?),
    };

    if is_written(&path, &text) {
        output::note(&format!("left {} as it is", path.display()))?;
    } else {
        make_folders(folders).and_then(|()| write(&path, &text)).with_context(|| format!("{}", path.display()))?;
        output::note(&format!("wrote {}", path.display()))?;
    }
    match ready {
        Ready::Hub(words) => output::note(&format!("next: {words}\n{}", then(folders)))?,
        Ready::Key(existing) => {
            let key = match existing {
                Some(Existing { words, key }) => {
                    output::note(&words)?;
                    key
                }
                None => keygen::make(folders, None)?,
            };
            output::print(&key.pem)?;
            output::note(&next(folders, &loaded.config, &key))?;
        }
    }
    match check::verdict(folders, file, None)? {
        Ok(words) => Ok(output::note(&words)?),
        Err(wrong) => Err(Failure::new(Exit::Failed, wrong)),
    }
}

/// With what the device will prove who it is.
enum Ready {
    /// Its own key, unless it has none yet.
    Key(Option<Existing>),
    /// What its hub knows already, or is to be told: words for people.
    Hub(String),
}

/// What is to be done at the hub, if this device can prove itself there.
fn shown_to_hub(folders: &Folders, hub: &IotHub) -> Result<String, Failure> {
    match hub_key::read(folders, &machine(), &hub.proof) {
        Ok(HubKey::Shared { .. }) => {
            Ok("nothing, if the hub or the enrollment has the device with this key".to_owned())
        }
        Ok(HubKey::Certificate(identity)) => {
            Ok(format!("register the device with its certificate, whose thumbprint is {}", identity.thumbprint()))
        }
        Err(Unread::Absent(why)) => Ok(format!("put the file in its place: {why}")),
        Err(unread @ Unread::Closed(_)) => {
            Err(Failure::new(Exit::NotPermitted, unread).hint("nothing was changed; as root this can be read"))
        }
        Err(unread) => Err(Failure::new(Exit::Usage, unread).hint("nothing was changed")),
    }
}

/// A connection could be made with this `--ca-file`: without it the daemon would only say so in its log.
fn trustworthy(folders: &Folders, ca_file: &Path) -> Result<(), Failure> {
    let Err(error) = tls::client_config(Some(ca_file)) else {
        let obstacle = Reader::service(folders).and_then(|reader| reader.obstacle(ca_file, Readers::Everybody));
        return obstacle.map_or(Ok(()), |obstacle| {
            Err(Failure::new(Exit::Usage, anyhow!("--ca-file {obstacle}")).hint("nothing was changed"))
        });
    };
    let failure = match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => Failure::from(error),
        _ => Failure::new(Exit::Usage, error),
    };
    Err(failure.hint("--ca-file wants the certificates (PEM) of the bridge's CA; nothing was changed"))
}

/// What was given is wrong, or does not suffice; or something else is wrong already.
fn refused(path: &Path, faults: Faults) -> Failure {
    let is_given = |place: &Place| is_in(place, path) && matches!(place, Place::File { line: Some(_), .. });
    let (ours, others): (Vec<_>, Vec<_>) = faults.faults.into_iter().partition(|fault| is_given(&fault.place));
    if ours.is_empty() {
        let faults = Faults { faults: others, unknown: Vec::new(), files: Vec::new() };
        return Failure::new(Exit::Failed, faults).hint("mend this first; nothing was changed");
    }
    let texts: Vec<&str> = ours.iter().map(|fault| fault.text.as_str()).collect();
    let mut failure = Failure::new(Exit::Usage, anyhow!("{}", texts.join("\n")));
    for (key, option) in OPTIONS {
        if texts.iter().any(|text| text.starts_with(&format!("{key} is not set"))) {
            failure = failure.hint(format!("{option} sets {key}"));
        }
    }
    failure
}

fn is_in(place: &Place, file: &Path) -> bool {
    matches!(place, Place::File { path, .. } if Path::new(path) == file)
}

fn next(folders: &Folders, config: &Config, key: &PublicKey) -> String {
    let device = config.device.as_ref().map(ToString::to_string).unwrap_or_default();
    let whom = match &config.cloud {
        Some(Cloud::IotCore(cloud)) => format!(
            "device {device} of registry {} (project {}, region {})",
            cloud.registry_id, cloud.project_id, cloud.region
        ),
        Some(Cloud::IotHub(_)) | None => format!("device {device}"),
    };
    format!(
        "next: register the public key above ({}) for {whom}; `twinagent pubkey --json` prints it for the REST API\n{}",
        key.algorithm,
        then(folders)
    )
}

fn then(folders: &Folders) -> String {
    let then = if run::is_service(folders) { "`systemctl status twinagent`" } else { "`twinagent run`" };
    format!("then: {then}; a daemon that runs already goes on by itself")
}

fn is_written(path: &Path, text: &str) -> bool {
    let facts = fs::symlink_metadata(path).ok().filter(|facts| facts.is_file() && facts.len() <= LARGEST);
    facts.is_some() && fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
}

/// Makes the configuration folder and its conf.d, open for reading whatever the umask: the daemon is another user.
fn make_folders(folders: &Folders) -> io::Result<()> {
    for folder in [folders.configuration.clone(), folders.drop_ins()] {
        match DirBuilder::new().mode(0o755).create(&folder) {
            Ok(()) => fs::set_permissions(&folder, Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts the text in its place: after a crash there is the old file, the new one, or none, and never a part of one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    // Hidden, so that it is no drop-in, and with a name that what a crash left behind does not have.
    let draft = folder.join(format!(".setup.{}.{}", std::process::id(), clock::boot().0.as_nanos()));
    let written = fill(&draft, text).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // It may not even have been made; what failed is told.
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn fill(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}
