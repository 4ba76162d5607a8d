//! `twinagent check`: everything that is wrong with configuration, key and handlers, at once. Starts nothing.

mod handlers;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::daemon_key;
use super::service_reader::Reader;
use super::{Exit, Failure, device_key, key_in, machine, output, read_configuration};
use crate::config::access::{self, Readers};
use crate::config::key_file::KeyFileError;
use crate::config::{
    Cloud, Config, DropIn, Fault, Folders, Hub, IotHub, Loaded, Sources, Specifiers, is_drop_in, read_proxy_password,
};
use crate::daemon::hub_key::{self, HubKey, Unread};
use crate::host::clock;
use crate::model::device_key::KeySlot;
use crate::mqtt::tls;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Check the configuration as it would be with FILE as a drop-in in /etc/twinagent/conf.d, under the name it has
    #[arg(long, value_name = "FILE")]
    drop_in: Option<PathBuf>,

    /// Check only FILE, as it would be under its name in /etc/twinagent/handlers.d
    #[arg(long, value_name = "FILE", conflicts_with = "drop_in")]
    handler: Option<PathBuf>,
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
    if let Some(path) = &arguments.handler {
        return match handlers::draft(folders, path) {
            Ok(words) => Ok(output::print(&format!("{words}\n"))?),
            Err(lines) => refuse(&lines, anyhow::anyhow!("the manifest is wrong")),
        };
    }
    let is_whole = drop_in.is_none();
    let drop_in = drop_in.map(|path| DropIn { path, text: None });
    let verdict = verdict(folders, file, drop_in)?;
    match (verdict, if is_whole { handlers::all(folders) } else { Ok(None) }) {
        (Ok(words), Ok(handlers)) => {
            let handlers = handlers.map(|handlers| format!("; {handlers}")).unwrap_or_default();
            Ok(output::print(&format!("{words}{handlers}\n"))?)
        }
        (Err(wrong), Ok(_)) => Err(Failure::new(Exit::BadConfiguration, wrong)),
        (Ok(_), Err(lines)) => refuse(&lines, anyhow::anyhow!("the configuration is right, but handlers are wrong")),
        (Err(wrong), Err(lines)) => refuse(&lines, anyhow::anyhow!("{wrong}, and handlers are wrong")),
    }
}

fn refuse(lines: &[String], wrong: anyhow::Error) -> Result<(), Failure> {
    for line in lines {
        output::note(line)?;
    }
    Err(Failure::new(Exit::BadConfiguration, wrong))
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
    let (configuration, cloud, mut lines) = configuration(folders, file, drop_in);
    let (key, about_key) = match &cloud {
        Some(Cloud::IotHub(hub)) => hub_proof(folders, hub),
        Some(Cloud::IotCore(_)) | None => key(folders),
    };
    lines.extend(about_key);
    if !matches!(cloud, Some(Cloud::IotHub(_))) {
        lines.extend(KeySlot::OTHERS.into_iter().flat_map(|slot| beside(folders, slot)));
    }
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

/// The key in a few words, unless it cannot be used; then why.
fn key(folders: &Folders) -> (Option<String>, Vec<String>) {
    let theirs = daemon_key::ask(folders);
    let is_asked = theirs.is_ok();
    if let Some(theirs) = theirs.ok().flatten().filter(|theirs| theirs.is_credential) {
        let origin = theirs.origin();
        return match theirs.usable() {
            Ok(key) => (Some(format!("key {} ({origin})", key.algorithm)), Vec::new()),
            Err(failure) => (None, failure.lines()),
        };
    }
    match device_key(folders) {
        Ok((path, key)) => match Reader::service(folders).and_then(|reader| reader.obstacle(&path, Readers::Daemon)) {
            Some(obstacle) => (None, vec![obstacle.to_string()]),
            None => (Some(format!("key {:?}", key.algorithm())), Vec::new()),
        },
        Err(failure) => match unchecked(&failure) {
            // It may have one that nobody else can see.
            Some(_) if !is_asked => {
                (Some("key not checked, the daemon that runs cannot be asked for its own".to_owned()), Vec::new())
            }
            Some(words) => (Some(words.to_owned()), Vec::new()),
            None => (None, failure.lines()),
        },
    }
}

/// With what the device proves itself to its hub in a few words, unless that cannot be used; then why.
fn hub_proof(folders: &Folders, hub: &IotHub) -> (Option<String>, Vec<String>) {
    if let Some(theirs) = daemon_key::credential(folders) {
        let origin = theirs.origin();
        return match &theirs.proof {
            Some(proof) => (Some(format!("{proof} ({origin})")), Vec::new()),
            None => (None, theirs.usable().err().map(|failure| failure.lines()).unwrap_or_default()),
        };
    }
    match hub_key::read(folders, &machine(), &hub.proof) {
        Ok(HubKey::Shared { .. }) => (Some("shared key".to_owned()), Vec::new()),
        Ok(HubKey::Certificate(identity)) => match identity.holds(clock::wall()) {
            Ok(()) => {
                let ends = identity.ends().map(|ends| format!(", ends {ends}")).unwrap_or_default();
                (Some(format!("certificate {}{ends}", identity.thumbprint())), Vec::new())
            }
            Err(why) => (None, vec![format!("cert_file {}: {why}; renew it", hub_key::path(&hub.proof).display())]),
        },
        // As a device without a key is in order, so is one that was not given its proof yet.
        Err(Unread::Absent(why)) => (Some(format!("nothing to log in with yet: {why}")), Vec::new()),
        Err(Unread::Closed(_)) if !Reader::is_us() => {
            (Some("key not checked, only root and the daemon may read it".to_owned()), Vec::new())
        }
        Err(Unread::Closed(why) | Unread::Unfit(why)) => (None, vec![why]),
    }
}

/// What is wrong with a key beside the current one. The device is in order without it, so this is no fault of its own.
fn beside(folders: &Folders, slot: KeySlot) -> Vec<String> {
    let about = |line: String| format!("the {} key is not used: {line}", slot.name());
    match key_in(folders, slot) {
        Ok((path, _)) => {
            let obstacle = Reader::service(folders).and_then(|reader| reader.obstacle(&path, Readers::Daemon));
            obstacle.map(|obstacle| about(obstacle.to_string())).into_iter().collect()
        }
        Err(failure) if unchecked(&failure).is_some() => Vec::new(),
        Err(failure) => vec![about(failure.lines().join("; "))],
    }
}

/// What the configuration says, unless there are faults in it, and what is to be said of it besides.
fn configuration(
    folders: &Folders,
    file: Option<&Path>,
    drop_in: Option<DropIn<'_>>,
) -> (Option<String>, Option<Cloud>, Vec<String>) {
    match read_configuration(folders, file, drop_in) {
        Ok(loaded) => {
            let mut lines: Vec<String> = loaded.unknown.iter().map(Fault::to_string).collect();
            lines.extend(closed_to_the_daemon(folders, file, drop_in, &loaded));
            lines.extend(proxy_password(&loaded));
            let (is_fault, about_ca_file) = match distrusted(&loaded) {
                Some(Distrusted::Fault(line)) => (true, Some(line)),
                Some(Distrusted::Unknown(line)) => (false, Some(line)),
                None => (false, None),
            };
            let is_right = lines.is_empty() && !is_fault;
            lines.extend(about_ca_file);
            (is_right.then(|| says(&loaded.config)), loaded.config.cloud, lines)
        }
        Err(faults) => (None, None, faults.faults.iter().chain(&faults.unknown).map(Fault::to_string).collect()),
    }
}

/// Which of the files that count the daemon could not read. What is not in its place yet is not judged.
fn closed_to_the_daemon(
    folders: &Folders,
    file: Option<&Path>,
    drop_in: Option<DropIn<'_>>,
    loaded: &Loaded,
) -> Vec<String> {
    let Some(reader) = Reader::service(folders) else { return Vec::new() };
    let sources = Sources { folders, file, drop_in: None, specifiers: &Specifiers::default() };
    let given = |path: &PathBuf| file == Some(path) || drop_in.is_some_and(|given| given.path == path);
    let lists = [folders.vendor.clone(), folders.drop_ins(), folders.volatile.clone()];
    let read = lists.into_iter().chain(sources.files()).filter(|path| !given(path) && path.exists());
    let ca_file = loaded.config.cloud.as_ref().and_then(Cloud::ca_file).filter(|path| path.exists()).map(PathBuf::from);
    let all: BTreeSet<PathBuf> = read.chain(loaded.files.iter().cloned()).chain(ca_file).collect();
    // A secret is opened to the daemon alone.
    let mut secrets = loaded.config.cloud.as_ref().map(Cloud::secrets).unwrap_or_default();
    secrets.extend(loaded.config.session.proxy.as_ref().and_then(|proxy| proxy.password_file.as_deref()));
    let readers = |path: &Path| if secrets.contains(&path) { Readers::Daemon } else { Readers::Everybody };
    let closed = all.iter().filter_map(|path| reader.obstacle(path, readers(path)));
    closed.map(|obstacle| obstacle.to_string()).collect()
}

/// What is wrong with the file of the proxy's password. Who may not read it cannot tell, and that is no fault.
fn proxy_password(loaded: &Loaded) -> Option<String> {
    let path = loaded.config.session.proxy.as_ref()?.password_file.as_deref()?;
    let is_closed = rustix::fs::access(path, Access::READ_OK) == Err(Errno::ACCESS);
    read_proxy_password(path).err().filter(|_| !is_closed)
}

/// Why no connection could be made with the configured `ca_file`.
enum Distrusted {
    Fault(String),
    /// We may not read it; the daemon perhaps may.
    Unknown(String),
}

fn distrusted(Loaded { config, origins, .. }: &Loaded) -> Option<Distrusted> {
    let cloud = config.cloud.as_ref()?;
    let path = cloud.ca_file()?;
    let error = tls::client_config(Some(path)).err()?;
    let denied = error.downcast_ref::<io::Error>().filter(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let place = origins.get(format!("cloud.{}.ca_file", cloud.kind()).as_str()).map(|place| format!("{place}: "));
    let words = format!("{}{error:#}", place.unwrap_or_default());
    Some(match denied {
        None => Distrusted::Fault(words),
        Some(denied) if Reader::is_us() => {
            Distrusted::Fault(format!("{words}; {}", access::remedy(denied, path, Readers::Everybody)))
        }
        Some(_) => Distrusted::Unknown(format!("{words}; not checked, `sudo twinagent check` tells more")),
    })
}

/// Not every missing key is a fault: a new device has none, and not everybody may read it.
fn unchecked(failure: &Failure) -> Option<&'static str> {
    match failure.cause::<KeyFileError>()? {
        KeyFileError::Absent(_) => Some("no key yet, `twinagent keygen` makes one"),
        KeyFileError::Unreadable { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied && !Reader::is_us() =>
        {
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
        (Some(Cloud::IotHub(hub)), Some(device)) => format!("{} {}", hub_words(hub, device.as_str()), hub_way(hub)),
        _ => "no cloud is configured, set cloud.kind".to_owned(),
    }
}

/// Which device this is to an IoT hub.
pub(super) fn hub_words(hub: &IotHub, device: &str) -> String {
    let module = hub.module_id.as_ref().map(|module| format!("module {module} of ")).unwrap_or_default();
    match &hub.hub {
        Hub::Named(host) => format!("{module}device {device} of hub {host}"),
        Hub::Assigned(service) => format!(
            "device {device} of the hub that {} assigns to {} (id scope {})",
            service.host, service.registration_id, service.id_scope
        ),
    }
}

/// How it is reached.
fn hub_way(hub: &IotHub) -> String {
    let gateway = hub.gateway_host.as_ref().map(|host| format!("by way of {host}, ")).unwrap_or_default();
    let websocket = if hub.websocket { " within a WebSocket" } else { "" };
    format!("({gateway}port {}{websocket})", hub.port)
}
