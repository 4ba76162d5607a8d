//! The part of `twinagent check` that is about handlers: their manifests, and what these name. A program is judged as the
//! handlers' service will judge it, a template by its file. Starts nothing.

use std::path::{Path, PathBuf};

use super::super::service_reader::Reader;
use crate::config::access::{Readers, unreachable};
use crate::config::account::Account;
use crate::config::manifest::{Action, Manifest, Manifests};
use crate::config::trust::Owners;
use crate::config::{Fault, Folders};
use crate::host::unit::{Sandbox, Template};
use crate::launcher;

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
    let sandbox = folders.is_standard().then(Sandbox::installed);
    if let Some(hidden) = sandbox.as_ref().and_then(|sandbox| sandbox.hides(program)) {
        let (program, hidden) = (program.display(), hidden.display());
        return Some(format!(
            "{program} cannot be run: the handlers' service does not see {hidden}; put it elsewhere, such as below \
             /usr/local/lib, or open that folder with `systemctl edit twinagent-handlers`"
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
