//! The units of the daemon, of its handlers and of its jobs, as they are installed on this machine: what whoever runs the
//! program by hand should know of them.
//!
//! Reads files and asks nobody: the service manager may be another one, or none.

mod sandbox;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use self::sandbox::Sandbox;

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
        let texts = texts(folders, NAME)?;
        // `read-only` hides nothing from a reader.
        let hides_homes = last(&texts, "ProtectHome").is_some_and(|value| is_yes(value) || value == "tmpfs");
        Some(Self { hides_homes })
    }
}

/// The template of a job, `twinagent-job-NAME@.service`.
#[derive(Debug)]
pub struct Template;

impl Template {
    /// What is wrong with the template of the job NAME, as its files say it: no template, or one whose result could be lost
    /// while the agent is away. Nothing, where systemd would take it.
    pub fn trouble(job: &str) -> Option<String> {
        Self::read(&FOLDERS.map(Path::new), job)
    }

    fn read(folders: &[&Path], job: &str) -> Option<String> {
        let name = format!("twinagent-job-{job}@.service");
        let Some(texts) = texts(folders, &name) else {
            let folder = folders.first().map(|folder| folder.display());
            return Some(format!(
                "there is no {name}; put it into {}, then `systemctl daemon-reload`",
                folder.map(|folder| folder.to_string()).unwrap_or_default()
            ));
        };
        let is_oneshot = last(&texts, "Type").is_some_and(|value| value == "oneshot");
        let remains = last(&texts, "RemainAfterExit").is_some_and(is_yes);
        match (is_oneshot, remains) {
            (true, true) => None,
            (false, true) => Some(format!("{name} must be of Type=oneshot: only then its result can be waited for")),
            (_, false) => Some(format!(
                "{name} must have Type=oneshot and RemainAfterExit=yes: its result could be lost while the agent is away"
            )),
        }
    }
}

/// The text of a unit and of its drop-ins, in the order in which they count: by their names, and one of a stronger folder
/// masks its namesake.
fn texts(folders: &[&Path], name: &str) -> Option<Vec<String>> {
    let unit = folders.iter().find_map(|folder| text(&folder.join(name)))?;
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for folder in folders.iter().rev() {
        let found = fs::read_dir(folder.join(format!("{name}.d"))).into_iter().flatten().flatten();
        let found = found.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "conf"));
        drop_ins.extend(found.map(|entry| (entry.file_name(), entry.path())));
    }
    Some(std::iter::once(unit).chain(drop_ins.values().filter_map(|path| text(path))).collect())
}

/// The last assignment of a key in these files.
fn last<'t>(texts: &'t [String], key: &str) -> Option<&'t str> {
    values(texts, &[key]).last()
}

/// All assignments of these keys, in their order.
fn values<'t>(texts: &'t [String], keys: &[&str]) -> impl Iterator<Item = &'t str> {
    let value = move |line: &'t str| {
        let (key, value) = line.split_once('=')?;
        keys.contains(&key.trim()).then_some(value.trim())
    };
    texts.iter().flat_map(|text| text.lines()).filter_map(value)
}

/// A boolean of systemd.syntax(7).
fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1" | "y" | "t")
}

/// Whether systemd is the service manager of this machine, as `sd_booted(3)` finds out.
pub fn is_systemd_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    // A line that goes on in the next one (systemd.syntax(7)).
    Some(text.replace("\\\n", " "))
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

    #[test]
    fn a_template_whose_result_could_be_lost_is_told() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (strong, weak) = (folder.path().join("etc"), folder.path().join("usr"));
        let folders = [&*strong, &*weak];
        let told = || Template::read(&folders, "up");
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        assert!(told().is_some_and(|why| why.contains("there is no twinagent-job-up@.service; put it into ")));
        let template = weak.join("twinagent-job-up@.service");
        write(template.clone(), "[Service]\nExecStart=/bin/true\nRemainAfterExit=yes\n");
        assert!(told().is_some_and(|why| why.contains("Type=oneshot")));
        write(template.clone(), "[Service]\nType=oneshot\n#RemainAfterExit=yes\n");
        assert!(told().is_some_and(|why| why.contains("RemainAfterExit=yes")));
        write(template, "[Service]\nType = oneshot\nRemainAfterExit=true\nExecStart=/bin/true\n");
        assert_eq!(told(), None);
        write(strong.join("twinagent-job-up@.service.d/50.conf"), "[Service]\nRemainAfterExit=no\n");
        assert!(told().is_some(), "a drop-in says otherwise");
        std::os::unix::fs::symlink("/dev/null", strong.join("twinagent-job-up@.service")).expect("a link");
        assert!(told().is_some(), "masked");
    }
}
