//! Which unit a name means, by the files that are installed.
//!
//! systemd asks polkit by a unit's first name, and lets whoever may start a unit that is not installed say what it is: so a rule
//! for an alias would never hold, and one for a unit that is not there would be a right to everything.
//!
//! An alias is a link to a name in one of systemd's folders. A link that leads out of them is a file like any other, by its own
//! name (`systemctl link`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::cli::{Exit, Failure};
use crate::model::unit_name::UnitName;

/// Links from one name to the next.
const MOST_LINKS: usize = 8;

/// The name of the file of this unit, or of its template with the instance, that all its aliases lead to.
pub(super) fn first_name(folders: &[PathBuf], unit: &UnitName) -> Result<UnitName, Failure> {
    let mut name = unit.clone();
    for _ in 0..MOST_LINKS {
        let Some(file) = file(folders, &name) else {
            let why = if name == *unit {
                anyhow!("there is no unit {name}")
            } else {
                anyhow!("there is no unit {name}, of which {unit} is another name")
            };
            let hint = "install it first; `systemctl list-unit-files` shows what there is";
            return Err(Failure::new(Exit::Failed, why).hint(hint));
        };
        let next = fs::read_link(&file).ok().and_then(|target| {
            let target = file.parent()?.join(target);
            is_in(folders, &target).then(|| named_by(&target, &name)).flatten()
        });
        match next {
            Some(next) if next != name => name = next,
            _ if fs::canonicalize(&file).is_ok_and(|file| file == Path::new("/dev/null")) => {
                return Err(Failure::new(Exit::Failed, anyhow!("{name} is masked")));
            }
            _ => return Ok(name),
        }
    }
    Err(Failure::new(Exit::Failed, anyhow!("{unit} is a link that leads to a link, and so on")))
}

/// The first that systemd would take.
fn file(folders: &[PathBuf], name: &UnitName) -> Option<PathBuf> {
    let template = name.as_str().split_once('@').and_then(|(prefix, rest)| {
        let (_, kind) = rest.rsplit_once('.')?;
        Some(format!("{prefix}@.{kind}"))
    });
    let names = [Some(name.as_str().to_owned()), template];
    let files = names.iter().flatten().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.exists())
}

/// Whether it lies in one of the folders, however its path is spelled. What it leads to itself does not matter.
fn is_in(folders: &[PathBuf], file: &Path) -> bool {
    let folder = file.parent().and_then(|folder| fs::canonicalize(folder).ok());
    // Those that are not there hold nothing.
    folder.is_some_and(|folder| {
        folders.iter().filter_map(|known| fs::canonicalize(known).ok()).any(|known| folder.starts_with(known))
    })
}

/// The unit that a link of this name leads to: an alias of a template has the same instance.
fn named_by(target: &Path, name: &UnitName) -> Option<UnitName> {
    let target = target.file_name()?.to_str()?;
    match (target.split_once("@."), name.as_str().split_once('@')) {
        (Some((prefix, kind)), Some((_, rest))) => {
            let (instance, _) = rest.rsplit_once('.')?;
            UnitName::parse(&format!("{prefix}@{instance}.{kind}")).ok()
        }
        _ => UnitName::parse(target).ok(),
    }
}
