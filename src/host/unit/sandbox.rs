//! What the sandbox of twinagent-handlers.service hides of the machine, for whoever wants to know before a program is missing
//! there. The operator may have opened it, so it is read from the unit and its drop-ins as they are installed.
//!
//! Knows the settings that the unit has and those that open them, not all of systemd.exec(5).

use std::path::{Path, PathBuf};

use super::{FOLDERS, is_yes, last, texts, values};

const NAME: &str = "twinagent-handlers.service";

/// Of `ProtectHome=`.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// Of `PrivateTmp=`.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What is hidden. Where the unit is not installed, nothing is known to be.
#[derive(Debug)]
pub struct Sandbox {
    /// Nothing is there, whatever is bound below.
    closed: Vec<PathBuf>,
    /// Only what is bound below is there.
    emptied: Vec<PathBuf>,
    bound: Vec<PathBuf>,
}

impl Sandbox {
    /// That of this machine. Whether the service runs with it already is not asked.
    pub fn installed() -> Self {
        Self::read(&FOLDERS.map(Path::new))
    }

    fn read(folders: &[&Path]) -> Self {
        let texts = texts(folders, NAME).unwrap_or_default();
        let is_on = |key: &str| last(&texts, key).is_some_and(is_yes);
        let mut closed = paths(&texts, &["InaccessiblePaths"], first);
        let mut emptied = paths(&texts, &["TemporaryFileSystem"], first);
        if is_on("ProtectHome") {
            closed.extend(HOMES.map(PathBuf::from));
        } else if last(&texts, "ProtectHome") == Some("tmpfs") {
            emptied.extend(HOMES.map(PathBuf::from));
        }
        if is_on("PrivateTmp") || last(&texts, "PrivateTmp") == Some("disconnected") {
            emptied.extend(TEMPORARY.map(PathBuf::from));
        }
        if is_on("PrivateDevices") {
            emptied.push("/dev".into());
        }
        // One list of the service manager; where either is reset, both are.
        let bound = paths(&texts, &["BindPaths", "BindReadOnlyPaths"], target);
        Self { closed, emptied, bound }
    }

    /// The folder that hides this file from the service.
    pub fn hides(&self, file: &Path) -> Option<&Path> {
        let is_bound = |folder: &Path| self.bound.iter().any(|at| at.starts_with(folder) && file.starts_with(at));
        let emptied = self.emptied.iter().filter(|folder| !is_bound(folder));
        self.closed.iter().chain(emptied).find(|folder| file.starts_with(folder)).map(PathBuf::as_path)
    }
}

/// What these keys list together. An empty assignment takes back what stands before it (systemd.exec(5)).
fn paths(texts: &[String], keys: &[&str], path: fn(&str) -> &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for value in values(texts, keys) {
        if value.is_empty() {
            all.clear();
        }
        let words = value.split_whitespace().map(|word| word.trim_start_matches(['-', '+']));
        all.extend(words.map(|word| PathBuf::from(path(word))));
    }
    all
}

/// Without its options.
fn first(word: &str) -> &str {
    word.split_once(':').map_or(word, |(path, _)| path)
}

/// Where it is seen: `source:target:options`.
fn target(word: &str) -> &str {
    word.split(':').nth(1).filter(|target| !target.is_empty()).unwrap_or_else(|| first(word))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UNIT: &str = include_str!("../../../systemd/twinagent-handlers.service");

    /// The folder that hides this file, with these lines in a drop-in.
    fn hides(lines: &str, file: &str) -> Option<String> {
        let folder = tempfile::TempDir::new().expect("a folder");
        let drop_ins = folder.path().join("twinagent-handlers.service.d");
        fs::create_dir(&drop_ins).expect("a folder");
        fs::write(folder.path().join(NAME), UNIT).expect("a file");
        fs::write(drop_ins.join("override.conf"), format!("[Service]\n{lines}\n")).expect("a file");
        Sandbox::read(&[folder.path()]).hides(Path::new(file)).map(|found| found.display().to_string())
    }

    #[test]
    fn what_the_unit_hides_is_hidden_and_no_more() {
        for folder in [
            "/dev",
            "/etc/twinagent",
            "/home",
            "/root",
            "/run/credentials",
            "/run/twinagent",
            "/run/twinagent-notify",
            "/run/twinagent-veto.d",
            "/run/user",
            "/tmp",
            "/var/lib/twinagent",
            "/var/tmp",
        ] {
            assert_eq!(hides("", &format!("{folder}/x")).as_deref(), Some(folder));
        }
        for seen in ["/etc/twinagent/handlers.d/x", "/etc/twinagent-x", "/usr/local/lib/x", "/opt/x", "/srv/home/x"] {
            assert_eq!(hides("", seen), None, "{seen}");
        }
        assert_eq!(Sandbox::read(&[Path::new("/nonexistent")]).hides(Path::new("/home/x")), None, "no unit");
    }

    #[test]
    fn what_the_operator_has_opened_is_seen_and_what_he_has_closed_is_not() {
        for (lines, file, hidden) in [
            ("ProtectHome=no", "/home/x", None),
            ("ProtectHome=read-only", "/root/x", None),
            ("ProtectHome=read-only", "/tmp/x", Some("/tmp")),
            ("PrivateTmp=no", "/var/tmp/x", None),
            ("ProtectHome=tmpfs", "/home/a/x", Some("/home")),
            ("ProtectHome=tmpfs\nBindReadOnlyPaths=/srv /home/a", "/home/a/x", None),
            ("ProtectHome=tmpfs\nBindReadOnlyPaths=/srv \\\n  /home/a", "/home/a/x", None),
            ("ProtectHome=tmpfs\nBindPaths=-/home/a:/home/b:rbind", "/home/a/x", Some("/home")),
            ("ProtectHome=tmpfs\nBindPaths=-/home/a:/home/b:rbind", "/home/b/x", None),
            // As systemd has it, nothing is bound below what is inaccessible.
            ("BindReadOnlyPaths=/home/a", "/home/a/x", Some("/home")),
            ("BindPaths=", "/etc/twinagent/handlers.d/x", Some("/etc/twinagent")),
            ("InaccessiblePaths=", "/var/lib/twinagent/x", None),
            ("InaccessiblePaths=", "/home/x", Some("/home")),
            ("InaccessiblePaths=-/opt", "/opt/x", Some("/opt")),
        ] {
            assert_eq!(hides(lines, file).as_deref(), hidden, "{lines}: {file}");
        }
    }
}
