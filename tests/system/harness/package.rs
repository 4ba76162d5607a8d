//! The package under test, and others made from it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::command::host;
use super::places;

/// A .deb on the host.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) file: PathBuf,
    pub(crate) version: String,
}

impl Package {
    /// The one in `TWINAGENT_DEB_DIR`, else in target/debian: the newest, for this architecture.
    pub(crate) fn under_test() -> Self {
        let folder = places::packages();
        let end = format!("_{}.deb", host(["dpkg", "--print-architecture"]));
        let is_ours = |name: &str| name.starts_with("twinagent_") && name.ends_with(&end);
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let ours = files.filter(|entry| entry.file_name().to_str().is_some_and(is_ours)).map(|entry| entry.path());
        let file = ours.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
        let file = file.unwrap_or_else(|| {
            panic!(
                "no twinagent_*{end} in {}; make it by `packaging/build.sh`, or set TWINAGENT_DEB_DIR",
                folder.display()
            )
        });
        Self::read(file)
    }

    /// The same files and scripts as another version.
    pub(crate) fn as_version(&self, version: &str, folder: &Path) -> Self {
        let parts = TempDir::new_in(folder).expect("a folder");
        let tree = parts.path().join("tree");
        host([Path::new("dpkg-deb"), Path::new("--raw-extract"), &self.file, &tree]);
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).expect("a package has it");
        let old = format!("\nVersion: {}\n", self.version);
        assert!(text.contains(&old), "{text}");
        fs::write(&control, text.replace(&old, &format!("\nVersion: {version}\n"))).expect("a file of ours");
        let name = self.file.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let file = folder.join(name.replace(&self.version, version));
        host([Path::new("dpkg-deb"), Path::new("-Zgzip"), Path::new("-z1"), Path::new("--build"), &tree, &file]);
        Self::read(file)
    }

    fn read(file: PathBuf) -> Self {
        let version = host([Path::new("dpkg-deb"), Path::new("--field"), &file, Path::new("Version")]);
        Self { file, version }
    }

    /// The name of its file.
    pub(crate) fn name(&self) -> &str {
        self.file.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8")
    }

    /// Names its content.
    pub(super) fn digest(&self) -> String {
        host([Path::new("sha256sum"), &self.file])[..12].to_owned()
    }
}
