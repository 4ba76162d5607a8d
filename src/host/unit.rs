//! The unit of the daemon, as it is installed on this machine: what whoever runs the program by hand should know of it.
//!
//! Reads files and asks nobody: the service manager may be another one, or none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

const NAME: &str = "twinagent.service";

/// Where units lie, the strongest first (systemd.unit(5)).
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The largest unit file that is read, in bytes.
const LARGEST: u64 = 256 << 10;

/// What is known of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `/home`, `/root` and `/run/user` are not there for the service (`ProtectHome=`).
    pub hides_homes: bool,
}

impl Unit {
    /// The unit, if it is installed. Whether it runs is not asked.
    pub fn installed() -> Option<Self> {
        Self::read(&FOLDERS.map(Path::new))
    }

    fn read(folders: &[&Path]) -> Option<Self> {
        let unit = folders.iter().find_map(|folder| text(&folder.join(NAME)))?;
        // Drop-ins count in the order of their names, and one of a stronger folder masks its namesake.
        let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for folder in folders.iter().rev() {
            let found = fs::read_dir(folder.join(format!("{NAME}.d"))).into_iter().flatten().flatten();
            let found = found.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "conf"));
            drop_ins.extend(found.map(|entry| (entry.file_name(), entry.path())));
        }
        let texts = std::iter::once(unit).chain(drop_ins.values().filter_map(|path| text(path)));
        let hides_homes = texts.filter_map(|text| hides_homes(&text)).fold(None, |_, last| Some(last)).unwrap_or(false);
        Some(Self { hides_homes })
    }
}

/// Whether systemd is the service manager of this machine, as `sd_booted(3)` finds out.
pub fn is_systemd_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// What the last assignment in a unit file says; `read-only` hides nothing from a reader.
fn hides_homes(text: &str) -> Option<bool> {
    let value =
        |line: &str| Some(line.trim().strip_prefix("ProtectHome")?.trim_start().strip_prefix('=')?.trim().to_owned());
    let last = text.lines().rev().find_map(value)?;
    Some(matches!(last.as_str(), "yes" | "true" | "on" | "1" | "tmpfs"))
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_assignment_of_unit_and_drop_ins_counts() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (strong, weak) = (folder.path().join("etc"), folder.path().join("usr"));
        let folders = [&*strong, &*weak];
        assert_eq!(Unit::read(&folders), None);
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(weak.join(NAME), include_str!("../../systemd/twinagent.service"));
        assert_eq!(Unit::read(&folders), Some(Unit { hides_homes: true }));
        write(weak.join("twinagent.service.d/50-home.conf"), "[Service]\nProtectHome=read-only\n");
        assert_eq!(Unit::read(&folders), Some(Unit { hides_homes: false }));
        write(strong.join("twinagent.service.d/50-home.conf"), "[Service]\n");
        assert_eq!(Unit::read(&folders), Some(Unit { hides_homes: true }), "it masks the other");
        write(strong.join(NAME), "[Service]\nExecStart=/usr/bin/twinagent run\n");
        assert_eq!(Unit::read(&folders), Some(Unit { hides_homes: false }), "another unit");
    }
}
