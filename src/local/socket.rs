//! The socket's place in the runtime folder: made, taken over from a daemon that has ended, and removed.
//!
//! Everybody may connect; what a caller may do is judged by credentials, since one mode cannot tell two groups apart.
//! The folder must be ours alone, or somebody could put a socket of his own in the place of ours.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::SOCKET;

/// A socket that is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Socket {
    /// Makes the folder if it is missing, and the socket in it.
    pub(super) fn bind(folder: &Path) -> anyhow::Result<(Self, UnixListener)> {
        own(folder)?;
        let path = folder.join(SOCKET);
        clear(&path)?;
        let bound = || {
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o666))?;
            listener.set_nonblocking(true)?;
            let found = fs::symlink_metadata(&path)?;
            Ok::<_, io::Error>((found.dev(), found.ino(), listener))
        };
        let (device, inode, listener) = bound().with_context(|| format!("{} cannot be made", path.display()))?;
        Ok((Self { path, device, inode }, listener))
    }
}

/// Removes it, unless something else has taken its place.
impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours = |found: Metadata| found.dev() == self.device && found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "{} cannot be removed", self.path.display());
        }
    }
}

/// The folder is there, and nobody else can write to it.
fn own(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("{shown} cannot be made"));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(folder).with_context(|| format!("{shown} cannot be looked at"))?;
    if !found.is_dir() {
        bail!("{shown} is no folder");
    }
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        bail!("{shown} must be our own and closed to others' writing; hint: chown it to this user and chmod 0755 it");
    }
    Ok(())
}

/// Clears the place of a socket that nobody serves any more. Whatever else stands there is left alone.
fn clear(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("{shown} cannot be looked at"))?,
    };
    if !found.file_type().is_socket() || found.uid() != rustix::process::geteuid().as_raw() {
        bail!("{shown} is in the way and not ours; hint: find out whose it is, then remove it");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("{shown} is left of an earlier run and cannot be removed"))
        }
        Err(error) => Err(error).with_context(|| format!("{shown} cannot be tried")),
        Ok(_) => bail!("another twinagent serves {shown}; hint: give this one its own $RUNTIME_DIRECTORY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    fn refusal(folder: &Path) -> String {
        format!("{:#}", Socket::bind(folder).expect_err("it must be refused"))
    }

    #[test]
    fn everybody_may_connect_and_nothing_is_left_behind() {
        let above = TempDir::new().expect("a folder");
        let folder = above.path().join("twinagent");
        let (socket, _listener) = Socket::bind(&folder).expect("a socket");
        let path = folder.join(SOCKET);
        assert_eq!(fs::symlink_metadata(&path).expect("it is there").mode() & 0o7777, 0o666);
        UnixStream::connect(&path).expect("it is served");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_of_a_daemon_that_was_killed_is_replaced_and_one_that_is_served_is_not() {
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        let (socket, listener) = Socket::bind(folder.path()).expect("a socket");
        assert!(refusal(folder.path()).contains("another twinagent serves"));
        drop(listener);
        std::mem::forget(socket);
        let (_second, _listener) = Socket::bind(folder.path()).expect("the stale one is replaced");
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join(SOCKET);
        fs::write(&path, "mine").expect("a file");
        assert!(refusal(folder.path()).contains("in the way and not ours"));
        assert_eq!(fs::read_to_string(&path).expect("it stays"), "mine");
        fs::remove_file(&path).expect("removed");
        symlink("/nowhere", &path).expect("a link");
        assert!(refusal(folder.path()).contains("in the way and not ours"));

        fs::remove_file(&path).expect("removed");
        let (socket, _listener) = Socket::bind(folder.path()).expect("a socket");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "another's").expect("a file");
        drop(socket);
        assert_eq!(fs::read_to_string(&path).expect("it stays"), "another's");
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o775)).expect("a mode");
        assert!(refusal(folder.path()).contains("closed to others' writing"));
    }
}
