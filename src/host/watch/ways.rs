//! The ways to watched paths: which folders and files a path leads through, and what matters in each.
//!
//! Reads folders and links, watches nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{Event, ReadFlags, WatchFlags};

/// As the kernel follows them (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// What matters in one folder or file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// These names in a folder: that they come, go, or lead elsewhere.
    steps: BTreeSet<OsString>,
    /// These names in a folder, and what is written to them.
    files: BTreeSet<OsString>,
    /// Everything in a folder.
    all: bool,
    /// The file itself, whatever its name: it may be written to by another one, or be mounted over.
    itself: bool,
}

impl Interest {
    pub(super) fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.files.extend(other.files);
        self.all |= other.all;
        self.itself |= other.itself;
    }

    /// What to ask the kernel for. Added to what was asked before: two ways may lead to one folder.
    ///
    /// Not each write: a file is complete when it is closed.
    pub(super) fn flags(&self) -> WatchFlags {
        // ATTRIB: a mode that changes may open a way, or close it.
        let always = WatchFlags::MASK_ADD | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ATTRIB;
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        if self.itself {
            always | WatchFlags::CLOSE_WRITE
        } else if self.all || !self.files.is_empty() {
            always | names | WatchFlags::CLOSE_WRITE
        } else {
            always | names
        }
    }

    pub(super) fn is_met_by(&self, event: &Event<'_>) -> bool {
        let Some(name) = event.file_name() else {
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
            return event.events().intersects(gone)
                || (self.all || self.itself) && !event.events().contains(ReadFlags::IGNORED);
        };
        let name = OsStr::from_bytes(name.to_bytes());
        self.all || self.files.contains(name) || self.steps.contains(name)
    }
}

/// All folders and files that these paths lead through, by a path that leads there.
pub(super) fn ways(paths: &[PathBuf]) -> BTreeMap<PathBuf, Interest> {
    let mut ways = BTreeMap::new();
    for path in paths {
        walk(path, &mut ways);
    }
    ways
}

fn walk(path: &Path, ways: &mut BTreeMap<PathBuf, Interest>) {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = names(path).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let interest = ways.entry(here.clone()).or_default();
        if ahead.is_empty() {
            interest.files.insert(name.clone());
        } else {
            interest.steps.insert(name.clone());
        }
        let there = here.join(&name);
        let Ok(facts) = fs::symlink_metadata(&there) else { return };
        if facts.is_symlink() {
            links += 1;
            let Ok(target) = fs::read_link(&there) else { return };
            if links > MOST_LINKS {
                return;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(name);
            }
            continue;
        }
        here = there;
        if ahead.is_empty() {
            let interest = ways.entry(here.clone()).or_default();
            interest.all |= facts.is_dir();
            interest.itself |= !facts.is_dir();
        } else if !facts.is_dir() {
            return;
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
