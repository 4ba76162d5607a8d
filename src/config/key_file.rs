//! The file of the device's private key: where it is, and whether it is kept well enough to be used.
//!
//! Reads text; what kind of key it is, a dialect knows. The checks are made on the opened file, so that it cannot be
//! exchanged between check and use.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::Folders;
use crate::model::wire::Secret;

/// The name of the key among the credentials that systemd passes to the service.
pub const CREDENTIAL: &str = "twinagent.device.key";
/// The group that the daemon runs in, made by the package.
pub const GROUP: &str = "twinagent";

/// The largest key file. An RSA key of 16384 bits has a fifth of it.
const LARGEST: u64 = 64 << 10;
/// Mode bits that let anybody but the owner do anything.
const BEYOND_OWNER: u32 = 0o077;
/// Mode bits that let the group do more than read, or others anything.
const BEYOND_GROUP_READS: u32 = 0o037;
/// The largest list of groups that is searched.
const LARGEST_GROUPS: u64 = 1 << 20;

/// Why there is no key text. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A state, not a fault: the device has no key yet.
    #[error("there is no key yet: {}", .0.display())]
    Absent(PathBuf),
    #[error("the key cannot be read: {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the key is not a regular file: {}", .0.display())]
    NotAFile(PathBuf),
    #[error("the key is larger than {} KiB: {}", LARGEST / 1024, .0.display())]
    TooLarge(PathBuf),
    #[error("the key is not text: {}", .0.display())]
    NotText(PathBuf),
    /// Others could read or change it.
    #[error("the key is open to others ({found}): {}; mend it with: {mend}", path.display())]
    TooOpen { path: PathBuf, found: String, mend: String },
}

/// A key's text and the file it came from.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub text: Secret,
}

/// Reads the credential `twinagent.device.key` where systemd passes one, else `keys/device.key`.
pub fn read(folders: &Folders) -> Result<KeyFile, KeyFileError> {
    if let Some(credentials) = &folders.credentials {
        let path = credentials.join(CREDENTIAL);
        // Whether it is kept well is systemd's business: the folder is open to this service alone (systemd.exec(5)).
        match open(&path) {
            Err(KeyFileError::Absent(_)) => {}
            opened => return text(path, &opened?.0),
        }
    }
    read_at(folders.device_key())
}

/// Reads a key that nobody but its owner, and at most the daemon's group, can read.
pub fn read_at(path: PathBuf) -> Result<KeyFile, KeyFileError> {
    let (file, facts) = open(&path)?;
    kept_well(&path, &facts)?;
    text(path, &file)
}

fn open(path: &Path) -> Result<(File, Metadata), KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    // Without waiting: a pipe in this place is refused below, and must not hold up the daemon before.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).map_err(
        |error| match error.kind() {
            io::ErrorKind::NotFound => KeyFileError::Absent(path.to_owned()),
            _ => unreadable(error),
        },
    )?;
    let facts = file.metadata().map_err(unreadable)?;
    if facts.is_file() { Ok((file, facts)) } else { Err(KeyFileError::NotAFile(path.to_owned())) }
}

fn text(path: PathBuf, file: &File) -> Result<KeyFile, KeyFileError> {
    let mut bytes = Vec::new();
    if let Err(source) = file.take(LARGEST + 1).read_to_end(&mut bytes) {
        return Err(KeyFileError::Unreadable { path, source });
    }
    if bytes.len() as u64 > LARGEST {
        return Err(KeyFileError::TooLarge(path));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(KeyFile { path, text: Secret::new(text) }),
        Err(_) => Err(KeyFileError::NotText(path)),
    }
}

fn kept_well(path: &Path, facts: &Metadata) -> Result<(), KeyFileError> {
    let us = Us {
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        service_group: service_group(),
    };
    let mode = facts.mode() & 0o7777;
    if us.may_trust(facts.uid(), facts.gid(), mode) {
        return Ok(());
    }
    let mend = us.mend(path, facts.uid());
    let found = format!("mode {mode:04o}, owner {}, group {}", facts.uid(), facts.gid());
    Err(KeyFileError::TooOpen { path: path.to_owned(), found, mend })
}

/// Who asks for the key.
struct Us {
    user: u32,
    group: u32,
    service_group: Option<u32>,
}

impl Us {
    /// The file is ours or root's and closed to everybody else; or root's, and our group or the daemon's may read it.
    fn may_trust(&self, owner: u32, group: u32, mode: u32) -> bool {
        let own = owner == self.user || owner == 0;
        let shared = owner == 0 && (group == self.group || Some(group) == self.service_group);
        own && (mode & BEYOND_OWNER == 0 || shared && mode & BEYOND_GROUP_READS == 0)
    }

    /// The command that closes the file to all who should not have it, and leaves it open to us.
    fn mend(&self, path: &Path, owner: u32) -> String {
        let name = quoted(path);
        match self.service_group {
            Some(_) if self.user == 0 || owner == 0 => format!("chown root:{GROUP} {name} && chmod 0640 {name}"),
            _ if owner == self.user => format!("chmod 0600 {name}"),
            _ => format!("chown {} {name} && chmod 0600 {name}", self.user),
        }
    }
}

/// The id of the group [`GROUP`], if the machine has it.
pub fn service_group() -> Option<u32> {
    let mut groups = String::new();
    File::open("/etc/group").ok()?.take(LARGEST_GROUPS).read_to_string(&mut groups).ok()?;
    group_id(&groups)
}

fn group_id(groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(GROUP)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: u32 = 990;

    #[test]
    fn a_key_is_the_owners_and_at_most_the_daemons_group_may_read_it() {
        let daemon = Us { user: 991, group: SERVICE, service_group: Some(SERVICE) };
        let root = Us { user: 0, group: 0, service_group: Some(SERVICE) };
        let person = Us { user: 1000, group: 1000, service_group: None };
        for (us, owner, group, mode, fits) in [
            (&daemon, 0, SERVICE, 0o640, true),
            (&daemon, 0, SERVICE, 0o440, true),
            (&daemon, 991, SERVICE, 0o600, true),
            (&daemon, 991, SERVICE, 0o400, true),
            (&root, 0, SERVICE, 0o640, true),
            (&root, 0, 0, 0o640, true),
            (&person, 1000, 1000, 0o600, true),
            (&person, 0, 1000, 0o640, true),
            // the daemon could change its own key, or let its group do so
            (&daemon, 991, SERVICE, 0o640, false),
            (&daemon, 0, SERVICE, 0o660, false),
            (&daemon, 0, SERVICE, 0o650, false),
            (&daemon, 0, SERVICE, 0o644, false),
            (&daemon, 0, SERVICE, 0o641, false),
            (&daemon, 0, 100, 0o640, false),
            (&root, 0, 100, 0o640, false),
            (&root, 1000, SERVICE, 0o600, false),
            (&person, 1001, 1000, 0o600, false),
            (&person, 1000, 1000, 0o640, false),
        ] {
            assert_eq!(us.may_trust(owner, group, mode), fits, "{mode:04o} {owner}:{group} for {}", us.user);
        }
    }

    #[test]
    fn what_mends_a_key_leaves_it_to_the_one_who_asked() {
        let key = Path::new("/k");
        let root = |service_group| Us { user: 0, group: 0, service_group };
        let daemon = |service_group| Us { user: 991, group: SERVICE, service_group };
        assert_eq!(root(Some(SERVICE)).mend(key, 1000), "chown root:twinagent /k && chmod 0640 /k");
        assert_eq!(root(None).mend(key, 0), "chmod 0600 /k");
        assert_eq!(root(None).mend(key, 1000), "chown 0 /k && chmod 0600 /k");
        assert_eq!(daemon(Some(SERVICE)).mend(key, 0), "chown root:twinagent /k && chmod 0640 /k");
        assert_eq!(daemon(Some(SERVICE)).mend(key, 991), "chmod 0600 /k");
        assert_eq!(daemon(None).mend(key, 0), "chown 991 /k && chmod 0600 /k");
    }

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nmytwinagent:x:5:\ntwinagent2:x:6:\ntwinagent:x:990:pi\n";
        assert_eq!(group_id(groups), Some(990));
        assert_eq!(group_id("root:x:0:\n"), None);
        assert_eq!(group_id("twinagent:x:\ntwinagent"), None);
    }

    #[test]
    fn a_path_is_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/etc/a-b_c.key")), "/etc/a-b_c.key");
        assert_eq!(quoted(Path::new("/etc/it's; rm")), r"'/etc/it'\''s; rm'");
    }
}
