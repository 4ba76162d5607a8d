//! The files of the device's private keys: where they are, and whether they are kept well enough to be used, and by this
//! machine.
//!
//! Reads text; what kind of key it is, a dialect knows. The checks are made on the opened file, so that it cannot be
//! exchanged between check and use.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::Folders;
use super::access::{self, Readers, quoted};
use super::account::{GROUP, service_group, service_user};
use super::key_mark;
use crate::model::device_key::KeySlot;
use crate::model::fingerprint::Fingerprint;
use crate::model::wire::Secret;

/// The name of the current key among the credentials that systemd passes to the service.
pub const CREDENTIAL: &str = "twinagent.device.key";

/// The largest key file. An RSA key of 16384 bits has a fifth of it.
const LARGEST: u64 = 64 << 10;
/// Mode bits that let anybody but the owner do anything.
const BEYOND_OWNER: u32 = 0o077;
/// Mode bits that let the group do more than read, or others anything.
const BEYOND_GROUP_READS: u32 = 0o037;

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
    /// Its mark names another machine: two devices with one key would throw each other out for ever.
    #[error(
        "the key was made on another machine: {}; on a copy of a card or an image: `sudo twinagent reset --identity`, then \
         a key of its own; on the same device with another board or machine id: {mend}", path.display()
    )]
    OtherMachine { path: PathBuf, mend: &'static str },
}

impl KeyFileError {
    /// The file that was looked for.
    pub fn path(&self) -> &Path {
        match self {
            Self::Absent(path)
            | Self::NotAFile(path)
            | Self::TooLarge(path)
            | Self::NotText(path)
            | Self::Unreadable { path, .. }
            | Self::OtherMachine { path, .. }
            | Self::TooOpen { path, .. } => path,
        }
    }

    /// What to do about it, where the error itself does not say so.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Unreadable { path, source } => Some(access::remedy(source, path, Readers::Daemon)),
            _ => None,
        }
    }

    /// The error with its cause and what to do about it, in one line.
    pub fn in_words(&self) -> String {
        match self {
            Self::Unreadable { source, .. } => format!("{self}: {source}; {}", self.remedy().unwrap_or_default()),
            _ => self.to_string(),
        }
    }
}

/// A key's text and the file it came from.
#[derive(Clone, Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub text: Secret,
}

/// Reads the key of this slot: the current one is the credential `twinagent.device.key` where systemd passes one. `machine`
/// is the one we are on.
pub fn read(folders: &Folders, slot: KeySlot, machine: &Fingerprint) -> Result<KeyFile, KeyFileError> {
    if let (Some(credentials), KeySlot::Current) = (&folders.credentials, slot) {
        let path = credentials.join(CREDENTIAL);
        // Whether it is kept well is systemd's business: the folder is open to this service alone (systemd.exec(5)).
        match open(&path) {
            Err(KeyFileError::Absent(_)) => {}
            opened => {
                let mend = "take its first line away in the place that the credential comes from";
                return made_on(machine, text(path, &opened?.0)?, mend);
            }
        }
    }
    read_at(folders.key(slot), machine)
}

/// Reads a key that nobody but its owner, and at most the daemon's group, can read.
pub fn read_at(path: PathBuf, machine: &Fingerprint) -> Result<KeyFile, KeyFileError> {
    made_on(machine, read_any(path)?, "`sudo twinagent keygen --adopt`")
}

/// The same, whatever machine it was made on.
pub fn read_any(path: PathBuf) -> Result<KeyFile, KeyFileError> {
    let (file, facts) = open(&path)?;
    kept_well(&path, &facts)?;
    text(path, &file)
}

/// Reads a credential that systemd passes, which nobody but this service can read.
pub(super) fn read_credential(path: PathBuf) -> Result<KeyFile, KeyFileError> {
    let (file, _) = open(&path)?;
    text(path, &file)
}

fn made_on(machine: &Fingerprint, file: KeyFile, mend: &'static str) -> Result<KeyFile, KeyFileError> {
    match key_mark::read(&file.text) {
        Some(made_on) if machine.is_another_than(&made_on) => Err(KeyFileError::OtherMachine { path: file.path, mend }),
        _ => Ok(file),
    }
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
        service_user: service_user(),
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
    service_user: Option<u32>,
    service_group: Option<u32>,
}

impl Us {
    /// The file is ours or root's and closed to everybody else; or root's, and our group or the daemon's may read it.
    /// To root, what is the daemon's own is as good as to the daemon itself.
    fn may_trust(&self, owner: u32, group: u32, mode: u32) -> bool {
        let own = owner == self.user || owner == 0 || self.user == 0 && Some(owner) == self.service_user;
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

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: u32 = 990;

    #[test]
    fn a_key_is_the_owners_and_at_most_the_daemons_group_may_read_it() {
        let installed = |user, group| Us { user, group, service_user: Some(991), service_group: Some(SERVICE) };
        let (daemon, root) = (installed(991, SERVICE), installed(0, 0));
        let person = Us { service_user: None, service_group: None, ..installed(1000, 1000) };
        let stranger = installed(1000, 1000);
        for (us, owner, group, mode, fits) in [
            (&daemon, 0, SERVICE, 0o640, true),
            (&daemon, 0, SERVICE, 0o440, true),
            (&daemon, 991, SERVICE, 0o600, true),
            (&daemon, 991, SERVICE, 0o400, true),
            (&root, 0, SERVICE, 0o640, true),
            (&root, 0, 0, 0o640, true),
            (&root, 991, SERVICE, 0o600, true),
            (&root, 991, SERVICE, 0o400, true),
            (&root, 991, SERVICE, 0o640, false),
            (&stranger, 991, SERVICE, 0o600, false),
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
        let root = |service_group| Us { user: 0, group: 0, service_user: Some(991), service_group };
        let daemon = |service_group| Us { user: 991, group: SERVICE, service_user: Some(991), service_group };
        assert_eq!(root(Some(SERVICE)).mend(key, 1000), "chown root:twinagent /k && chmod 0640 /k");
        assert_eq!(root(None).mend(key, 0), "chmod 0600 /k");
        assert_eq!(root(None).mend(key, 1000), "chown 0 /k && chmod 0600 /k");
        assert_eq!(daemon(Some(SERVICE)).mend(key, 0), "chown root:twinagent /k && chmod 0640 /k");
        assert_eq!(daemon(Some(SERVICE)).mend(key, 991), "chmod 0600 /k");
        assert_eq!(daemon(None).mend(key, 0), "chown 991 /k && chmod 0600 /k");
    }
}
