//! Manifests: one file for each method that an operator adds, `handlers.d/*.toml`.
//!
//! Read and checked here, for the agent, which must know what a method is, and for the handlers' service, which runs its
//! program. `folder.rs` has the files, `text.rs` the keys. What becomes of a command is not known.

mod fields;
mod folder;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::trust::Owners;
use super::{Fault, Folders};
use crate::model::command::MethodSpec;
use crate::model::digest::Digest;

pub use text::parse;

/// Each of them has its place in the reported document.
const MOST_DESIRED: usize = 64;

/// A manifest that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub path: PathBuf,
    /// Of the file's bytes.
    pub digest: Digest,
    pub spec: MethodSpec,
    pub action: Action,
    /// Between SIGTERM and SIGKILL, for a run that is to end; at most a minute. Of programs only.
    pub grace: Duration,
}

/// What a method does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs this program, an absolute path, with these arguments.
    Program { program: PathBuf, arguments: Vec<String> },
    /// Starts `twinagent-job-NAME@ID.service`: this is NAME.
    Unit { job: String },
}

/// Reads manifests one by one, for who needs the same ones again and again: the same text in the same place says the same, and
/// is parsed once. Whether the file is to be trusted is judged each time.
#[derive(Debug)]
pub struct Finder {
    folders: Folders,
    known: BTreeMap<PathBuf, Manifest>,
}

/// All manifests that hold, in the order of their files' names, and what is wrong with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    pub list: Vec<Manifest>,
    pub faults: Vec<Fault>,
    /// What could not be used: what it once said may hold a while longer.
    doubtful: Doubtful,
}

/// Files of which nobody knows what they should say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doubtful {
    These(Vec<PathBuf>),
    All,
}

impl Default for Doubtful {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Manifests {
    /// Reads all that hold: of two files with the same name that in the configuration folder; a link to `/dev/null`
    /// switches a method off. Of two with the same method, or the same member of the desired document, the second is a
    /// fault, by the names of the files.
    pub fn load(folders: &Folders) -> Self {
        let mut all = Self::default();
        let files = match folder::list(folders) {
            Ok(files) => files,
            Err(fault) => {
                // Without the whole list nobody knows what is masked.
                return Self { list: Vec::new(), faults: vec![fault], doubtful: Doubtful::All };
            }
        };
        let owners = Owners::of(folders);
        let mut wrong = Vec::new();
        for (name, path) in files {
            if folder::is_off(&path) {
                continue;
            }
            let read = read(&name, &path, &owners).and_then(|manifest| match manifest {
                Some(manifest) => all.clash(&manifest).map_or(Ok(Some(manifest)), |fault| Err(vec![fault])),
                None => Ok(None),
            });
            match read {
                Ok(manifest) => all.list.extend(manifest),
                Err(faults) => {
                    // A folder in the wrong hands is one fault, not one for each of its files.
                    for fault in faults {
                        if !all.faults.contains(&fault) {
                            all.faults.push(fault);
                        }
                    }
                    wrong.push(path);
                }
            }
        }
        all.doubtful = Doubtful::These(wrong);
        all
    }

    /// The same, with those of before whose files have become wrong since. What was masked, switched off or removed is gone,
    /// and what another file says now wins.
    #[must_use]
    pub fn keeping(mut self, before: &[Manifest]) -> Self {
        for manifest in before {
            if self.doubts(&manifest.path) && self.clash(manifest).is_none() {
                self.list.push(manifest.clone());
            }
        }
        self.list.sort_by(|one, other| one.path.file_name().cmp(&other.path.file_name()));
        self
    }

    /// Those that are from before, since nobody knows what their files should say now.
    pub fn kept(&self) -> impl Iterator<Item = &Manifest> {
        self.list.iter().filter(|manifest| self.doubts(&manifest.path))
    }

    fn doubts(&self, path: &Path) -> bool {
        match &self.doubtful {
            Doubtful::These(paths) => paths.iter().any(|doubtful| doubtful == path),
            Doubtful::All => true,
        }
    }

    /// What is wrong with having this one, too, in the place of one whose file has its name.
    pub fn clash(&self, manifest: &Manifest) -> Option<Fault> {
        let MethodSpec { name, desired, .. } = &manifest.spec;
        let others = || self.list.iter().filter(|other| other.file_name() != manifest.file_name());
        let same_method = others().find(|other| other.spec.name == *name);
        let same_member = others().find(|other| desired.is_some() && other.spec.desired == *desired);
        let members = others().filter(|other| other.spec.desired.is_some()).count();
        let text = match (same_method, same_member) {
            (Some(other), _) => format!("method: \"{name}\" is that of {} already", other.path.display()),
            (None, Some(other)) => format!("desired: {} is run for this member already", other.path.display()),
            (None, None) if desired.is_some() && members >= MOST_DESIRED => {
                format!("desired: more than {MOST_DESIRED} handlers are run for members of the desired document")
            }
            (None, None) => return None,
        };
        Some(folder::fault(&manifest.path, text))
    }
}

impl Manifest {
    /// The manifest in this file, wherever it lies: as it would be read in `handlers.d`. Who owns it is not judged.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn draft(path: &Path) -> Result<Self, Vec<Fault>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !folder::is_name(&name) {
            return Err(vec![bad_name(path)]);
        }
        match super::file::read(path) {
            Ok(Some(text)) if text.len() as u64 > folder::LARGEST => {
                Err(vec![folder::fault(path, format!("is larger than {} KiB", folder::LARGEST / 1024))])
            }
            Ok(Some(text)) => parse(path, &text),
            Ok(None) => Err(vec![folder::fault(path, "there is no such file")]),
            Err(fault) => Err(vec![fault]),
        }
    }

    /// The name of the file, by which the handlers' service finds it.
    pub fn file_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl Finder {
    pub fn new(folders: Folders) -> Self {
        Self { folders, known: BTreeMap::new() }
    }

    /// The manifest in the file of this name that holds. The name comes from the agent and may be anything.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that there is none.
    pub fn find(&mut self, name: &str) -> Result<Manifest, Vec<Fault>> {
        let nothing = |why: &str| vec![folder::fault(&self.folders.handlers().join(name), why)];
        if !folder::is_name(name) {
            return Err(vec![folder::fault(&self.folders.handlers(), "no file of such a name is looked for")]);
        }
        let path = folder::find(&self.folders, name).ok_or_else(|| nothing("there is no such file"))?;
        if folder::is_off(&path) {
            return Err(nothing("is switched off by a link to /dev/null"));
        }
        match folder::read(&path, &Owners::of(&self.folders)) {
            Ok(Some(text)) => self.parsed(path, &text),
            Ok(None) => Err(nothing("there is no such file")),
            Err(fault) => Err(vec![fault]),
        }
    }

    fn parsed(&mut self, path: PathBuf, text: &str) -> Result<Manifest, Vec<Fault>> {
        if let Some(manifest) = self.known.get(&path)
            && manifest.digest == Digest::of(text.as_bytes())
        {
            return Ok(manifest.clone());
        }
        let manifest = parse(&path, text)?;
        // Files that are gone are forgotten with the rest.
        if self.known.len() >= folder::MOST {
            self.known.clear();
        }
        self.known.insert(path, manifest.clone());
        Ok(manifest)
    }
}

/// Nothing if it has gone meanwhile.
fn read(name: &str, path: &Path, owners: &Owners) -> Result<Option<Manifest>, Vec<Fault>> {
    if !folder::is_name(name) {
        return Err(vec![bad_name(path)]);
    }
    match folder::read(path, owners) {
        Ok(Some(text)) => parse(path, &text).map(Some),
        Ok(None) => Ok(None),
        Err(fault) => Err(vec![fault]),
    }
}

fn bad_name(path: &Path) -> Fault {
    folder::fault(path, "has a name with other characters than A-Z a-z 0-9 . _ - and the end .toml, so it is not read")
}

#[cfg(test)]
mod tests;
