//! `twinagent keygen --adopt`: the keys here belong to this machine from now on, whatever machine they were made on.
//!
//! Rewrites the mark of a key and nothing else of it. Each file is replaced whole, with the owner and the mode it had.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::{Exit, Failure, key_file_failure, machine, output};
use crate::config::Folders;
use crate::config::key_file::{self, KeyFileError};
use crate::config::key_mark;
use crate::host::clock;
use crate::model::device_key::KeySlot;
use crate::model::wire::Secret;

pub(super) fn run(folders: &Folders) -> Result<(), Failure> {
    let machine = machine();
    if machine.is_unknown() {
        let why =
            anyhow!("nothing tells this machine from others: neither a machine id nor a serial number of its board");
        return Err(Failure::new(Exit::Failed, why).hint("`systemd-machine-id-setup` gives it a machine id"));
    }
    let mut adopted = 0;
    for path in KeySlot::ALL.map(|slot| folders.key(slot)) {
        let text = match key_file::read_any(path.clone()) {
            Ok(file) => file.text,
            Err(KeyFileError::Absent(_)) => continue,
            Err(error) => return Err(key_file_failure(error)),
        };
        if key_mark::read(&text).is_some_and(|made_on| machine.is_another_than(&made_on)) {
            let text = key_mark::write(&text, &machine);
            replace(&path, &text).with_context(|| format!("{} cannot be replaced", path.display()))?;
            output::note(&format!("{} belongs to this machine from now on", path.display()))?;
            adopted += 1;
        }
    }
    if adopted == 0 {
        output::note("no key here was made on another machine; nothing was changed")?;
    }
    Ok(())
}

/// Puts the text in the place of the file, which may be a link to it elsewhere.
fn replace(path: &Path, text: &Secret) -> anyhow::Result<()> {
    let path = fs::canonicalize(path)?;
    let facts = fs::metadata(&path)?;
    let folder = path.parent().context("a key is kept in a folder")?;
    let beside = folder.join(format!(".twinagent-key.{}.{}", std::process::id(), clock::boot().0.as_nanos()));
    let replaced = fill(&beside, text, &facts).and_then(|()| Ok(fs::rename(&beside, &path)?));
    if replaced.is_err() {
        // It may not even have been made; what failed is told.
        let _ = fs::remove_file(&beside);
    }
    replaced?;
    Ok(File::open(folder)?.sync_all()?)
}

fn fill(beside: &Path, text: &Secret, facts: &fs::Metadata) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(text.reveal().as_bytes())?;
    // Of another user the file can only be root's work, and then it stays that user's.
    fchown(&file, Some(facts.uid()), Some(facts.gid()))?;
    file.set_permissions(facts.permissions())?;
    Ok(file.sync_all()?)
}
