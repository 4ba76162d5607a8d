//! `twinagent check`: everything that is wrong with configuration and key, at once. Starts nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::{Exit, Failure, device_key, output, read_configuration};
use crate::config::key_file::KeyFileError;
use crate::config::{Cloud, Config, DropIn, Fault, Folders, Loaded, is_drop_in};
use crate::mqtt::tls;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Check the configuration as it would be with FILE as a drop-in in /etc/twinagent/conf.d, under the name it has
    #[arg(long, value_name = "FILE")]
    drop_in: Option<PathBuf>,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: &Arguments) -> Result<(), Failure> {
    let drop_in = arguments.drop_in.as_deref();
    if let Some(path) = drop_in.filter(|path| !is_drop_in(path)) {
        let why = anyhow::anyhow!(
            "{} would not be read as a drop-in: its name must end in .toml and begin with no dot",
            path.display()
        );
        return Err(Failure::new(Exit::Usage, why));
    }
    let drop_in = drop_in.map(|path| DropIn { path, text: None });
    let distrusted = ca_file_fault(folders, file, drop_in);
    if let Some(why) = &distrusted {
        output::note(why)?;
    }
    match verdict(folders, file, drop_in)? {
        Some(words) if distrusted.is_none() => Ok(output::print(&format!("{words}\n"))?),
        _ => Err(Failure::new(Exit::BadConfiguration, anyhow::anyhow!("the configuration is wrong"))),
    }
}

/// Why no connection could be made with the configured `ca_file`. `setup` does not ask: it may be called before the file
/// is there.
fn ca_file_fault(folders: &Folders, file: Option<&Path>, drop_in: Option<DropIn<'_>>) -> Option<String> {
    let Loaded { config, origins, .. } = read_configuration(folders, file, drop_in).ok()?;
    let Cloud::IotCore(cloud) = config.cloud?;
    let path = cloud.ca_file.filter(|_| cloud.tls)?;
    let error = tls::client_config(Some(&path)).err()?;
    // Not everybody may read it, and the daemon says so if it may not.
    let is_denied =
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let place = origins.get("cloud.iotcore.ca_file").map(|place| format!("{place}: "));
    (!is_denied).then(|| format!("{}{error:#}", place.unwrap_or_default()))
}

/// What is right, in one line; `None` where something is wrong, after all of it was told.
pub(super) fn verdict(
    folders: &Folders,
    file: Option<&Path>,
    drop_in: Option<DropIn<'_>>,
) -> io::Result<Option<String>> {
    let (config, faults) = match read_configuration(folders, file, drop_in) {
        Ok(Loaded { config, unknown, .. }) => (Some(config), unknown),
        Err(faults) => (None, [faults.faults, faults.unknown].concat()),
    };
    let mut lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let key = match device_key(folders) {
        Ok((_, key)) => Some(format!("key {:?}", key.algorithm())),
        Err(failure) => {
            let words = unchecked(&failure).map(str::to_owned);
            if words.is_none() {
                lines.extend(failure.lines());
            }
            words
        }
    };
    for line in &lines {
        output::note(line)?;
    }
    match (config, key) {
        (Some(config), Some(key)) if lines.is_empty() => {
            Ok(Some(format!("configuration is right: {}; {key}", says(&config))))
        }
        _ => Ok(None),
    }
}

/// Not every missing key is a fault: a new device has none, and not everybody may read it.
fn unchecked(failure: &Failure) -> Option<&'static str> {
    match failure.cause::<KeyFileError>()? {
        KeyFileError::Absent(_) => Some("no key yet, `twinagent keygen` makes one"),
        KeyFileError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("key not checked, only root and the daemon may read it")
        }
        _ => None,
    }
}

/// The configuration in one line.
fn says(config: &Config) -> String {
    match (&config.cloud, &config.device) {
        (Some(Cloud::IotCore(cloud)), Some(device)) => format!(
            "device {device} of registry {} ({}, {}) at {}:{}{}",
            cloud.registry_id,
            cloud.project_id,
            cloud.region,
            cloud.host,
            cloud.port,
            if cloud.tls { "" } else { " without TLS" },
        ),
        _ => "no cloud is configured, set cloud.kind".to_owned(),
    }
}
