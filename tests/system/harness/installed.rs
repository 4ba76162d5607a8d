//! Machines where the package under test was installed and nothing else was done, from which others are copied.
//!
//! Made once for each package, kept for the next run, and replaced when the package is another one.

use std::fs;
use std::path::PathBuf;

use super::base::{Suite, remove};
use super::machine::Machine;
use super::package::Package;
use super::places::{self, Hold};

/// Such a machine, which nobody replaces while this is held.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) root: PathBuf,
    _hold: Hold,
}

pub(super) fn installed(suite: Suite) -> Installed {
    let package = Package::under_test();
    let base = suite.base();
    let folder = places::machines();
    let prefix = format!("installed-{}-", suite.name());
    let base_name = base.file_name().and_then(|name| name.to_str()).expect("a name of ours");
    let root = folder.join(format!("{prefix}{}-{base_name}", package.digest()));
    let hold = Hold::of(&folder.join(format!("{prefix}lock")));
    if !root.exists() {
        for old in fs::read_dir(&folder).expect("a folder of ours").flatten() {
            if old.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) && old.path().is_dir() {
                remove(&old.path());
            }
        }
        let mut machine = Machine::plain(suite);
        let file = machine.bring(&package);
        machine.boot();
        machine.order(["apt-get", "install", "--yes", &file]).done();
        machine.shut_down();
        fs::remove_file(machine.path(&file)).expect("it was there");
        remove(&machine.path("/var/log/journal"));
        fs::create_dir(machine.path("/var/log/journal")).expect("a folder");
        fs::rename(machine.path(""), &root).expect("the same file system");
    }
    Installed { root, _hold: hold }
}
