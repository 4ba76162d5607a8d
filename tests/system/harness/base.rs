//! The plain Debian systems that machines are copied from: made once by mmdebstrap, kept in the cache.
//!
//! A base is named by a digest of all that goes into it, so a change of this file makes a new one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{host, run};
use super::places::{self, Hold};

/// To be raised when [`Suite::make`] makes it another way.
const FORMAT: u32 = 1;

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    /// The package must do in each what it does in the others.
    pub(crate) const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// What the package depends on and recommends, and what the stories do by hand.
    fn packages(self) -> String {
        let mut packages = vec![
            "systemd",
            "systemd-sysv",
            "dbus",
            "polkitd",
            "libpam-systemd",
            "libnss-systemd",
            "ca-certificates",
            "tzdata",
            "iproute2",
            "sudo",
            "curl",
        ];
        if self == Self::Bookworm {
            packages.push("unattended-upgrades");
        }
        packages.join(",")
    }

    /// The folder of its root file system. Makes it if it is not in the cache: that takes a minute and a mirror.
    pub(super) fn base(self) -> PathBuf {
        let recipe = format!("{FORMAT} {} {}", self.name(), self.packages());
        let digest = ring::digest::digest(&ring::digest::SHA256, recipe.as_bytes());
        let key: String = digest.as_ref().iter().take(6).fold(String::new(), |key, byte| key + &format!("{byte:02x}"));
        let cache = places::cache();
        let base = cache.join(format!("{}-{key}", self.name()));
        let _hold = Hold::of(&cache.join(format!("{}.lock", self.name())));
        if !base.exists() {
            let draft = cache.join(format!("{}.draft", self.name()));
            remove(&draft);
            self.make(&draft);
            fs::rename(&draft, &base).expect("the cache can be written");
        }
        base
    }

    fn make(self, root: &Path) {
        let source = format!("deb {} {} main", mirror(), self.name());
        let told = run(
            // What it mounts and starts goes with it, however it ends.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
                .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
                .args(["mmdebstrap", "--quiet", "--variant=apt", &format!("--include={}", self.packages())])
                .arg("--dpkgopt=force-unsafe-io")
                // What nobody reads in a test is a third of it.
                .args(["man", "locale", "doc"].map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*")))
                .arg(self.name())
                .arg(root)
                .arg(source),
        );
        told.good("mmdebstrap");
        // Our own package is unpacked whole.
        fs::remove_file(root.join("etc/dpkg/dpkg.cfg.d/99mmdebstrap")).expect("mmdebstrap has left its options there");
        // No machine has a mirror.
        fs::write(root.join("etc/apt/sources.list"), "").expect("a new file system");
        // A journal that outlives a reboot.
        fs::create_dir_all(root.join("var/log/journal")).expect("a new file system");
        for unit in ["apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service"] {
            symlink("/dev/null", root.join("etc/systemd/system").join(unit)).expect("a new file system");
        }
    }
}

#[test]
fn the_debians_that_machines_are_copied_from_are_in_the_cache() {
    for suite in Suite::ALL {
        let release = fs::read_to_string(suite.base().join("etc/os-release")).expect("every Debian has it");
        assert!(release.contains(suite.name()), "{release}");
    }
}

/// Where apt on this host gets Debian from, or `TWINAGENT_TEST_MIRROR`.
fn mirror() -> String {
    if let Ok(mirror) = std::env::var("TWINAGENT_TEST_MIRROR") {
        return mirror;
    }
    let lines = host(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Origin: Debian"]);
    // A codename with a hyphen is one of the suites beside the release, such as security updates.
    let release = lines.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| !name.contains('-'));
    let (_, mirror) =
        release.expect("apt has lists of a Debian release; run `apt-get update`, or set TWINAGENT_TEST_MIRROR");
    mirror.to_owned()
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap_or_else(|error| panic!("cannot remove {}: {error}", folder.display()));
    }
}
