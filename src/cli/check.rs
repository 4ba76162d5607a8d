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
    match verdict(folders, file, drop_in)? {
        Ok(words) => Ok(output::print(&format!("{words}\n"))?),
        Err(wrong) => Err(Failure::new(Exit::BadConfiguration, wrong)),
    }
}

/// What is wrong, in short; the faults themselves have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("the configuration is wrong")]
    Configuration,
    #[error("the configuration is right, but the key cannot be used")]
    Key,
    #[error("the configuration is wrong, and the key cannot be used")]
    Both,
}

/// What is right, in one line, or what is wrong, after all of it was told.
pub(super) fn verdict(
    folders: &Folders,
    file: Option<&Path>,
    drop_in: Option<DropIn<'_>>,
) -> io::Result<Result<String, Wrong>> {
    let (configuration, mut lines) = configuration(folders, file, drop_in);
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
    Ok(match (configuration, key) {
        (Some(words), Some(key)) => Ok(format!("configuration is right: {words}; {key}")),
        (Some(_), None) => Err(Wrong::Key),
        (None, Some(_)) => Err(Wrong::Configuration),
        (None, None) => Err(Wrong::Both),
    })
}

/// What the configuration says, unless there are faults in it.
fn configuration(folders: &Folders, file: Option<&Path>, drop_in: Option<DropIn<'_>>) -> (Option<String>, Vec<String>) {
    match read_configuration(folders, file, drop_in) {
        Ok(loaded) => {
            let unknown = loaded.unknown.iter().map(Fault::to_string);
            let lines: Vec<String> = unknown.chain(distrusted(&loaded)).collect();
            (lines.is_empty().then(|| says(&loaded.config)), lines)
        }
        Err(faults) => (None, faults.faults.iter().chain(&faults.unknown).map(Fault::to_string).collect()),
    }
}

/// Why no connection could be made with the configured `ca_file`.
fn distrusted(Loaded { config, origins, .. }: &Loaded) -> Option<String> {
    let Cloud::IotCore(cloud) = config.cloud.as_ref()?;
    let path = cloud.ca_file.as_ref().filter(|_| cloud.tls)?;
    let error = tls::client_config(Some(path)).err()?;
    // Not everybody may read it, and the daemon says so if it may not.
    let is_denied =
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let place = origins.get("cloud.iotcore.ca_file").map(|place| format!("{place}: "));
    (!is_denied).then(|| format!("{}{error:#}", place.unwrap_or_default()))
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
