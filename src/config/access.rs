//! Whether the user that the daemon runs as could read a file, asked by somebody who can read everything.
//!
//! Judges by owner, group and mode of the file and of each folder on the way to it. A file or folder with an access
//! control list is taken to be open: what stands in it is its owner's decision.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::account::{Account, GROUP};

/// What `ProtectHome=` hides from a service (systemd.exec(5)).
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

const KEEP_ELSEWHERE: &str = "keep the file in /etc/twinagent";

/// Who is to be able to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The daemon and nobody else.
    Daemon,
    Everybody,
}

/// Why a file cannot be read, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    path: PathBuf,
    why: String,
    mend: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}; {}", self.path.display(), self.why, self.mend)
    }
}

impl Obstacle {
    /// What can be done about it.
    pub fn mend(&self) -> &str {
        &self.mend
    }

    fn new(path: &Path, readers: Readers, whom: &Account, at: &Path, facts: &Metadata) -> Self {
        let (user, place) = (whom.user, quoted(at));
        let mode = facts.mode() & 0o7777;
        let deed = if facts.is_dir() { "go through" } else { "read" };
        if mode.trailing_zeros() >= 9 && HOMES.iter().any(|home| at == Path::new(home)) {
            return Self::hidden(path, at);
        }
        // Folders further up are not the key's own, and others have to get through.
        let is_own = path.parent() == Some(at);
        let mend = match (readers, facts.is_dir()) {
            // A home is opened to nobody.
            (_, true) if HOMES.iter().any(|home| at.starts_with(home)) => KEEP_ELSEWHERE.to_owned(),
            (Readers::Daemon, true) if is_own => {
                format!("mend it with: chown root:{GROUP} {place} && chmod 0750 {place}")
            }
            (Readers::Daemon, false) => format!("mend it with: chown root:{GROUP} {place} && chmod 0640 {place}"),
            (_, true) => format!("mend it with: chmod a+rx {place}"),
            (Readers::Everybody, false) => format!("mend it with: chmod a+r {place}"),
        };
        let (owner, group) = (facts.uid(), facts.gid());
        let why = format!(
            "the daemon (user {user}) may not {deed} {} (mode {mode:04o}, owner {owner}, group {group})",
            at.display()
        );
        Self { path: path.to_owned(), why, mend }
    }

    fn hidden(path: &Path, home: &Path) -> Self {
        Self {
            path: path.to_owned(),
            why: format!("the unit hides {} from the service (ProtectHome=)", home.display()),
            mend: KEEP_ELSEWHERE.to_owned(),
        }
    }
}

/// What keeps this account from reading a file or listing a folder. `hides_homes`: see `HOMES`.
///
/// `None` also where that cannot be found out; that the path leads nowhere is no business of this function.
pub fn obstacle(path: &Path, readers: Readers, whom: &Account, hides_homes: bool) -> Option<Obstacle> {
    let given = std::path::absolute(path).ok()?;
    // A link needs the way to itself, and the way to what it leads to. If that is not found, the first is judged alone.
    let real = fs::canonicalize(&given).ok();
    let ways = || std::iter::once(&given).chain(&real);
    let home = |home: &&str| ways().any(|way| way.starts_with(home));
    if let Some(home) = HOMES.iter().find(|found| hides_homes && home(found)) {
        return Some(Obstacle::hidden(path, Path::new(home)));
    }
    if whom.user == 0 {
        return None;
    }
    let blocked = |at: &Path, wanted: u32| match fs::metadata(at) {
        Ok(facts) if !is_open(&facts, wanted, whom) && !has_list(at) => {
            Some(Obstacle::new(path, readers, whom, at, &facts))
        }
        _ => None,
    };
    let folders = ways().flat_map(|way| way.ancestors().skip(1)).collect::<BTreeSet<_>>();
    let on_the_way = folders.into_iter().find_map(|folder| blocked(folder, 0o1));
    let wanted = if given.is_dir() { 0o5 } else { 0o4 };
    on_the_way.or_else(|| blocked(&given, wanted))
}

/// What keeps this account, that of the handlers' service, from running a program; the same holds of it.
pub fn unreachable(program: &Path, whom: &Account) -> Option<Obstacle> {
    let blocked = |at: &Path| match fs::metadata(at) {
        Ok(facts) => whom.user != 0 && !is_open(&facts, 0o1, whom) && !has_list(at),
        Err(_) => false,
    };
    let mut way: Vec<&Path> = program.ancestors().collect();
    way.reverse();
    let at = way.into_iter().find(|at| blocked(at))?;
    let why =
        format!("the user of the handlers' service ({}) may not run it, for the mode of {}", whom.user, at.display());
    Some(Obstacle { path: program.to_owned(), why, mend: format!("mend it with: chmod a+rx {}", quoted(at)) })
}

/// [`obstacle`] for this process, which was just refused.
pub fn own_obstacle(path: &Path, readers: Readers) -> Option<Obstacle> {
    obstacle(path, readers, &Account::own(), false)
}

/// What to do about an error of reading this file.
pub fn remedy(error: &io::Error, path: &Path, readers: Readers) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => own_obstacle(path, readers).map_or_else(
            || format!("see with `namei -l {}` who may read it", quoted(path)),
            |obstacle| obstacle.mend().to_owned(),
        ),
        _ => "check the file and the disk that it is on".to_owned(),
    }
}

/// Of owner, group and others only one counts: the first that fits (`path_resolution(7)`).
fn is_open(facts: &Metadata, wanted: u32, whom: &Account) -> bool {
    let shift = if facts.uid() == whom.user {
        6
    } else if whom.groups.contains(&facts.gid()) {
        3
    } else {
        0
    };
    (facts.mode() >> shift) & wanted == wanted
}

fn has_list(path: &Path) -> bool {
    let mut none = [0_u8; 0];
    let found = rustix::fs::getxattr(path, "system.posix_acl_access", &mut none[..]);
    !matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP) | Ok(0))
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    /// Neither the owner of what this test makes nor of its group.
    fn stranger() -> Account {
        Account { user: 4_000_001, groups: vec![4_000_002] }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_command_that_mends_it() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let inner = folder.path().join("inner");
        let file = inner.join("ca.pem");
        fs::create_dir(&inner).expect("a folder");
        fs::write(&file, "x").expect("a file");
        let found = |readers| obstacle(&file, readers, &stranger(), false).map(|found| found.to_string());

        set_mode(folder.path(), 0o755);
        set_mode(&inner, 0o700);
        set_mode(&file, 0o644);
        let told = found(Readers::Everybody).expect("the folder is closed");
        assert!(told.contains(&format!("may not go through {} (mode 0700, owner ", inner.display())), "{told}");
        assert!(told.ends_with(&format!("mend it with: chmod a+rx {}", inner.display())), "{told}");
        let told = found(Readers::Daemon).expect("the folder is closed");
        assert!(told.ends_with(&format!("chmod 0750 {}", inner.display())), "its own folder: {told}");
        set_mode(folder.path(), 0o700);
        let told = found(Readers::Daemon).expect("the folder above is closed");
        assert!(told.ends_with(&format!(": chmod a+rx {}", folder.path().display())), "no folder of its own: {told}");
        set_mode(folder.path(), 0o755);
        set_mode(&inner, 0o711);
        assert_eq!(found(Readers::Everybody), None);
        assert!(obstacle(&inner, Readers::Everybody, &stranger(), false).is_some(), "to be listed it must be readable");
        set_mode(&file, 0o640);
        let told = found(Readers::Daemon).expect("the file is closed");
        assert!(told.contains(" may not read ") && told.contains("&& chmod 0640 "), "{told}");

        let facts = fs::metadata(&file).expect("the file");
        let of_the_group = Account { groups: vec![facts.gid()], ..stranger() };
        assert_eq!(obstacle(&file, Readers::Daemon, &of_the_group, false), None);
        set_mode(&file, 0o604);
        assert!(
            obstacle(&file, Readers::Daemon, &of_the_group, false).is_some(),
            "what holds for others is not for the group"
        );
        assert_eq!(obstacle(&file, Readers::Daemon, &Account { user: 0, groups: vec![] }, false), None);
    }

    #[test]
    fn a_link_out_of_sight_and_a_hidden_home_are_noticed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        set_mode(folder.path(), 0o755);
        let (closed, link) = (folder.path().join("closed"), folder.path().join("link"));
        fs::create_dir(&closed).expect("a folder");
        fs::write(closed.join("file"), "x").expect("a file");
        set_mode(&closed.join("file"), 0o644);
        std::os::unix::fs::symlink(closed.join("file"), &link).expect("a link");
        set_mode(&closed, 0o755);
        assert_eq!(obstacle(&link, Readers::Everybody, &stranger(), true), None);
        set_mode(&closed, 0o700);
        assert!(obstacle(&link, Readers::Everybody, &stranger(), true).is_some());

        for home in ["/home/pi/ca.pem", "/root/ca.pem", "/run/user/1000/ca.pem"] {
            let told = obstacle(Path::new(home), Readers::Everybody, &stranger(), true).expect(home).to_string();
            assert!(told.contains("ProtectHome=") && told.ends_with("keep the file in /etc/twinagent"), "{told}");
        }
        assert_eq!(obstacle(Path::new("/homes/ca.pem"), Readers::Everybody, &stranger(), true), None);
    }

    #[test]
    fn a_program_that_others_may_not_run_is_named_with_the_folder_in_the_way() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        set_mode(folder.path(), 0o755);
        set_mode(&program, 0o750);
        let told = |whom: &Account| unreachable(&program, whom).map(|found| found.to_string());
        let words = told(&stranger()).expect("closed");
        assert!(words.ends_with(&format!("; mend it with: chmod a+rx {}", program.display())), "{words}");
        set_mode(&program, 0o711);
        assert_eq!(told(&stranger()), None);
        set_mode(folder.path(), 0o700);
        let words = told(&stranger()).expect("closed");
        assert!(words.ends_with(&format!("chmod a+rx {}", folder.path().display())), "{words}");
        assert_eq!(told(&Account { user: 0, groups: vec![] }), None);
    }

    #[test]
    fn a_path_is_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/etc/a-b_c.key")), "/etc/a-b_c.key");
        assert_eq!(quoted(Path::new("/etc/it's; rm")), r"'/etc/it'\''s; rm'");
    }
}
