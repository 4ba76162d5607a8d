//! Whether only the administrator can have put something where it lies, and can change it: what the handlers' service runs
//! and goes by must be out of reach of the agent's user, and of everybody else.
//!
//! Judges facts of what was opened already, and the folders on the way to it. Opens nothing by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Folders;
use super::access::quoted;

/// Who may own such files and folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners(BTreeSet<u32>);

/// Somebody else could have written it, or can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// What is in the wrong hands: the file, or a folder above it.
    pub path: PathBuf,
    why: String,
    mend: String,
}

impl Distrust {
    fn new(path: &Path, why: String, deed: &str) -> Self {
        Self { path: path.to_owned(), why, mend: format!("mend it with: {deed} {}", quoted(path)) }
    }

    /// The command that mends it.
    pub fn mend(&self) -> &str {
        &self.mend
    }

    /// What is wrong, and the command that mends it; without the path, which stands before it.
    pub fn words(&self) -> String {
        format!("{}; {}", self.why, self.mend)
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.path.display(), self.words())
    }
}

impl Owners {
    /// Root. In folders other than the machine's own also the user that runs this, so that a second agent, a test or a
    /// container needs no root; a service that starts programs as somebody else judges by itself.
    pub fn of(folders: &Folders) -> Self {
        let own = (!folders.is_standard()).then(|| rustix::process::geteuid().as_raw());
        Self(std::iter::once(0).chain(own).collect())
    }

    /// Their numbers.
    pub fn users(&self) -> &BTreeSet<u32> {
        &self.0
    }

    /// Judges a file or folder by what the kernel says of it, opened or not. `path` is for the words only.
    ///
    /// # Errors
    ///
    /// If somebody else owns it, or its mode lets its group or everybody write. An access control list shows in the mode
    /// of the group (acl(5)).
    pub fn judge(&self, path: &Path, facts: &Metadata) -> Result<(), Distrust> {
        self.judge_owner(path, facts)?;
        match facts.mode() & 0o022 {
            0 => Ok(()),
            _ => Err(writable(path, facts)),
        }
    }

    /// Judges every folder above a path, with links resolved: who can write in one can put something else in the place of
    /// what lies below. A folder with the sticky bit, such as `/tmp`, lets nobody do that with files of others (inode(7)).
    ///
    /// # Errors
    ///
    /// The first of them, from the root, that is in the wrong hands; or that one cannot be examined.
    pub fn judge_way(&self, path: &Path) -> Result<(), Distrust> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        // Mostly there is no link on the way, and nothing to resolve.
        if parent.is_absolute() && self.judge_folders(parent)? {
            return Ok(());
        }
        let folder = fs::canonicalize(parent).map_err(|error| unseen(parent, &error))?;
        if self.judge_folders(&folder)? {
            return Ok(());
        }
        Err(unseen(&folder, &std::io::Error::other("it changes meanwhile")))
    }

    /// Judges a folder and all above it, from the root on. False: up to a link, of which nothing is known.
    fn judge_folders(&self, folder: &Path) -> Result<bool, Distrust> {
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for at in way {
            // Where a link leads somewhere else, so does `..` behind it.
            if at.ends_with("..") {
                return Ok(false);
            }
            let facts = fs::symlink_metadata(at).map_err(|error| unseen(at, &error))?;
            if facts.is_symlink() {
                return Ok(false);
            }
            self.judge_owner(at, &facts)?;
            let is_sticky = facts.mode() & 0o1000 != 0;
            if facts.mode() & 0o022 != 0 && !is_sticky {
                return Err(writable(at, &facts));
            }
        }
        Ok(true)
    }

    fn judge_owner(&self, path: &Path, facts: &Metadata) -> Result<(), Distrust> {
        if self.0.contains(&facts.uid()) {
            return Ok(());
        }
        let why = format!("belongs to user {}, and only root's is trusted", facts.uid());
        Err(Distrust::new(path, why, "chown root:root"))
    }
}

fn unseen(at: &Path, error: &std::io::Error) -> Distrust {
    Distrust {
        path: at.to_owned(),
        why: format!("cannot be examined: {error}"),
        mend: format!("see with `namei -l {}` who may go there", quoted(at)),
    }
}

fn writable(path: &Path, facts: &Metadata) -> Distrust {
    let who = if facts.mode() & 0o002 == 0 { "its group" } else { "everybody" };
    let why = format!("may be written by {who} (mode {:04o}), so it is not trusted", facts.mode() & 0o7777);
    Distrust::new(path, why, "chmod go-w")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    /// Whoever runs this, beside root.
    fn ours() -> Owners {
        Owners([0, rustix::process::geteuid().as_raw()].into())
    }

    #[test]
    fn what_others_own_or_may_write_is_named_with_the_command_that_mends_it() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("it's");
        fs::write(&file, "").expect("a file");
        let judged = |owners: &Owners| owners.judge(&file, &fs::metadata(&file).expect("the file"));
        for (mode, words) in [
            (0o755, None),
            (0o600, None),
            (0o775, Some("may be written by its group (mode 0775)")),
            (0o757, Some("may be written by everybody (mode 0757)")),
        ] {
            set_mode(&file, mode);
            let told = judged(&ours()).err().map(|distrust| distrust.to_string());
            assert_eq!(told.is_some(), words.is_some(), "{mode:o}");
            let Some((told, words)) = told.zip(words) else { continue };
            assert!(told.contains(words) && told.contains("mend it with: chmod go-w '/"), "{told}");
        }
        set_mode(&file, 0o644);
        let nobody = Owners([4_000_001].into());
        let told = judged(&nobody).expect_err("of somebody else").to_string();
        assert!(told.contains("belongs to user ") && told.contains("chown root:root '/"), "{told}");
    }

    #[test]
    fn every_folder_on_the_way_counts_also_behind_a_link() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (outer, link) = (folder.path().join("outer"), folder.path().join("link"));
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).expect("folders");
        std::os::unix::fs::symlink(&inner, &link).expect("a link");
        for path in [folder.path(), &outer, &inner] {
            set_mode(path, 0o755);
        }
        let judged = || ours().judge_way(&link.join("file")).map_err(|distrust| distrust.path);
        assert_eq!(judged(), Ok(()));
        set_mode(&outer, 0o777);
        assert_eq!(judged(), Err(fs::canonicalize(&outer).expect("the folder")));
        let above = ours().judge_way(&link.join("../file")).map_err(|distrust| distrust.path);
        assert_eq!(above, judged(), "`..` is that of the folder behind the link");
        set_mode(&outer, 0o1777);
        assert_eq!(judged(), Ok(()), "sticky");
        fs::remove_dir(&inner).expect("the folder");
        assert!(judged().is_err(), "what cannot be seen is not trusted");
    }
}
