//! The part of `twinagent check` that is about handlers: their manifests, and what these name. A program is judged as the
//! handlers' service will judge it, a template by its file. Starts nothing.

use std::path::{Path, PathBuf};

use super::super::service_reader::Reader;
use crate::config::access::{Readers, unreachable};
use crate::config::account::Account;
use crate::config::manifest::{Action, Manifest, Manifests};
use crate::config::trust::Owners;
use crate::config::{Fault, Folders};
use crate::host::unit::Template;
use crate::launcher;

/// What the sandbox of twinagent-handlers.service hides of the machine. Who checks sees it, and a program there would be
/// missing when a command wants it.
const HIDDEN: [&str; 15] = [
    "/dev",
    "/etc/twinagent",
    "/home",
    "/root",
    "/run/credentials",
    "/run/twinagent",
    "/run/twinagent-config",
    "/run/twinagent-jobs",
    "/run/twinagent-logs",
    "/run/twinagent-reboot",
    "/run/twinagent-veto.d",
    "/run/user",
    "/tmp",
    "/var/lib/twinagent",
    "/var/tmp",
];

/// And what it shows all the same.
const SHOWN: &str = "/etc/twinagent/handlers.d";

/// All manifests that hold: what is right, in a few words and only if there are any, or what is wrong.
pub(super) fn all(folders: &Folders) -> Result<Option<String>, Vec<String>> {
    let manifests = Manifests::load(folders);
    let mut lines: Vec<String> = manifests.faults.iter().map(Fault::to_string).collect();
    lines.extend(manifests.list.iter().flat_map(|manifest| named(folders, manifest)));
    lines.extend(closed(folders, &manifests));
    match manifests.list.len() {
        _ if !lines.is_empty() => Err(lines),
        0 => Ok(None),
        1 => Ok(Some("1 handler".to_owned())),
        many => Ok(Some(format!("{many} handlers"))),
    }
}

/// One manifest, as it would be under its name in `handlers.d`: what is right, or what is wrong.
pub(super) fn draft(folders: &Folders, path: &Path) -> Result<String, Vec<String>> {
    let told = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect::<Vec<_>>();
    let manifest = Manifest::draft(path).map_err(told)?;
    let mut lines: Vec<String> = Manifests::load(folders).clash(&manifest).iter().map(Fault::to_string).collect();
    lines.extend(named(folders, &manifest));
    if lines.is_empty() { Ok(format!("the manifest is right: method {}", manifest.spec.name)) } else { Err(lines) }
}

/// What is wrong with the program or unit that a manifest names.
fn named(folders: &Folders, manifest: &Manifest) -> Vec<String> {
    let wrong = match &manifest.action {
        Action::Program { program, .. } => program_trouble(folders, program).map(|why| format!("program: {why}")),
        // Units belong to the machine. A second agent, or a test, may be about another one.
        Action::Unit { job } if folders.is_standard() => Template::trouble(job).map(|why| format!("unit: {why}")),
        Action::Unit { .. } => None,
    };
    wrong.map(|why| format!("{}: {why}", manifest.path.display())).into_iter().collect()
}

fn program_trouble(folders: &Folders, program: &Path) -> Option<String> {
    // A second agent, or a test, has a service of its own.
    if let Some(hidden) = hidden(program).filter(|_| folders.is_standard()) {
        return Some(format!(
            "{} cannot be run: the handlers' service does not see {hidden}; put it elsewhere, such as below /usr/local/lib",
            program.display()
        ));
    }
    let owners = Owners::of(folders);
    if let Err(why) = launcher::check(program, owners.users()) {
        return Some(why);
    }
    // Only root sees all of the way, and only the machine's own service has an account of its own.
    let is_judge = rustix::process::geteuid().is_root() && folders.is_standard();
    let whom = Account::handlers().filter(|_| is_judge)?;
    unreachable(program, &whom).map(|obstacle| obstacle.to_string())
}

/// Which manifests, or folders of them, the daemon could not read.
fn closed(folders: &Folders, manifests: &Manifests) -> Vec<String> {
    let Some(reader) = Reader::service(folders) else { return Vec::new() };
    let lists = [folders.vendor_handlers.clone(), folders.handlers()].into_iter().filter(|folder| folder.exists());
    let all: Vec<PathBuf> = lists.chain(manifests.list.iter().map(|manifest| manifest.path.clone())).collect();
    let closed = all.iter().filter_map(|path| reader.obstacle(path, Readers::Everybody));
    closed.map(|obstacle| obstacle.to_string()).collect()
}

/// The folder that hides this program from the handlers' service.
fn hidden(program: &Path) -> Option<&'static str> {
    HIDDEN.into_iter().find(|folder| program.starts_with(folder)).filter(|_| !program.starts_with(SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = include_str!("../../../systemd/twinagent-handlers.service");

    #[test]
    fn what_the_sandbox_hides_is_hidden_and_no_more() {
        let settings = UNIT.lines().filter_map(|line| line.split_once('='));
        let paths = settings.filter(|(name, _)| ["InaccessiblePaths", "TemporaryFileSystem"].contains(name));
        let paths = paths.flat_map(|(_, value)| value.split(' '));
        let mut count = 0;
        for path in paths.map(|path| path.trim_start_matches('-').split(':').next().unwrap_or_default()) {
            // The one folder of its own that is made anew for programs belongs to the service, and not to root.
            let is_known = hidden(&Path::new(path).join("x")).is_some() || path == "/run/twinagent-notify";
            assert!(is_known, "{path}");
            count += 1;
        }
        assert!(count > 8, "{count}");
        for setting in ["\nProtectHome=yes\n", "\nPrivateTmp=yes\n", "\nPrivateDevices=yes\n"] {
            assert!(UNIT.contains(setting), "{setting}");
        }
        assert!(UNIT.contains(&format!("\nBindReadOnlyPaths=-{SHOWN}\n")));
        for seen in ["/etc/twinagent/handlers.d/x", "/etc/twinagent-x", "/usr/local/lib/x", "/opt/x", "/srv/home/x"] {
            assert_eq!(hidden(Path::new(seen)), None, "{seen}");
        }
    }
}
