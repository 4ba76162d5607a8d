//! `twinagent setup`: from a new machine to a device that can log in, in one line.
//!
//! Writes one drop-in and makes the key. Everything is judged before anything is written: a configuration that would not
//! work is left as it was. Doing it again with the same words changes nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::daemon_key::PublicKey;
use super::keygen::Existing;
use super::service_reader::Reader;
use super::{Exit, Failure, check, config, keygen, output, read_configuration, run};
use crate::config::access::Readers;
use crate::config::{Cloud, Config, DropIn, Faults, Folders, Place, Setting};
use crate::host::clock;
use crate::mqtt::tls;

/// The most of a drop-in that is compared with what would be written, in bytes.
const LARGEST: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind of cloud
    #[arg(long)]
    kind: Kind,
    /// The id under which the cloud knows this device; %H, %m, %s and @/path are filled in when it is read
    #[arg(long, value_name = "ID")]
    device: String,
    /// The host name or address of the cloud's MQTT bridge
    #[arg(long)]
    host: Option<String>,
    /// Its port, if it is not 8883
    #[arg(long)]
    port: Option<u16>,
    /// The project that the device is registered in
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// The region of its registry
    #[arg(long)]
    region: Option<String>,
    /// The registry that the device is registered in
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// The certificates (PEM) that the bridge's own may come from, if not those of the system
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Cloud IoT Core, and the bridges that took its place
    Iotcore,
}

/// Keys that must be set somewhere, and the options that set them.
const OPTIONS: [(&str, &str); 4] = [
    ("cloud.iotcore.host", "--host"),
    ("cloud.iotcore.project_id", "--project"),
    ("cloud.iotcore.region", "--region"),
    ("cloud.iotcore.registry_id", "--registry"),
];

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let path = folders.set_up();
    if let Some(ca_file) = &arguments.ca_file {
        trustworthy(folders, ca_file)?;
    }
    let settings = settings(arguments)?;
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
    let existing = keygen::existing(folders, None)?;

    if is_written(&path, &text) {
        output::note(&format!("left {} as it is", path.display()))?;
    } else {
        make_folders(folders).and_then(|()| write(&path, &text)).with_context(|| format!("{}", path.display()))?;
        output::note(&format!("wrote {}", path.display()))?;
    }
    let key = match existing {
        Some(Existing { words, key }) => {
            output::note(&words)?;
            key
        }
        None => keygen::make(folders, None)?,
    };
    output::print(&key.pem)?;
    output::note(&next(folders, &loaded.config, &key))?;
    match check::verdict(folders, file, None)? {
        Ok(words) => Ok(output::note(&words)?),
        Err(wrong) => Err(Failure::new(Exit::Failed, wrong)),
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

/// What was given, by its keys, in the order of the reference.
fn settings(given: Arguments) -> Result<Vec<(&'static str, Setting)>, Failure> {
    let ca_file = match given.ca_file.map(std::path::absolute).transpose()?.map(PathBuf::into_os_string) {
        Some(path) => Some(path.into_string().map_err(|_| {
            Failure::new(Exit::Usage, anyhow!("the path of --ca-file is not UTF-8, which a configuration must be"))
        })?),
        None => None,
    };
    let kind = match given.kind {
        Kind::Iotcore => "iotcore",
    };
    let all = [
        ("device.id", Some(Setting::Text(given.device))),
        ("cloud.kind", Some(Setting::Text(kind.to_owned()))),
        ("cloud.iotcore.host", given.host.map(Setting::Text)),
        ("cloud.iotcore.port", given.port.map(|port| Setting::Number(port.into()))),
        ("cloud.iotcore.project_id", given.project.map(Setting::Text)),
        ("cloud.iotcore.region", given.region.map(Setting::Text)),
        ("cloud.iotcore.registry_id", given.registry.map(Setting::Text)),
        ("cloud.iotcore.ca_file", ca_file.map(Setting::Text)),
    ];
    Ok(all.into_iter().filter_map(|(key, setting)| Some((key, setting?))).collect())
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
    let then = if run::is_service(folders) { "`systemctl status twinagent`" } else { "`twinagent run`" };
    format!(
        "next: register the public key above ({}) for {whom}; `twinagent pubkey --json` prints it for the REST API\n\
         then: {then}; a daemon that runs already goes on by itself",
        key.algorithm
    )
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
