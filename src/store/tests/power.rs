//! Loss of power on a real ext4: the script is killed at each system call in turn, and whatever was not synced is dropped.
//!
//! `EXT4_IOC_SHUTDOWN` without a flush of ext4's own log cuts a mounted file system off from its disk at once; mounted
//! again, it shows what a machine finds after the power came back. Needs root, loop devices, e2fsprogs and perl.
//!
//! Each test runs itself once more in a mount namespace of its own: whoever makes such a namespace copies the mounts that
//! he sees, and a copy keeps the file system that was cut off. Mounted again, that one would be found, not its disk.

#![expect(clippy::disallowed_methods, reason = "a test that runs itself again tells itself so by a variable")]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::open;
use super::script::{CALLS, Traced, all_records};

/// Set in a run that has mounts of its own.
const APART: &str = "TWINAGENT_TEST_APART";

/// An ext4 file system in a file, which nobody outside this mount namespace may see.
struct Disk(TempDir);

impl Disk {
    fn make() -> Self {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        File::create(disk.image()).and_then(|image| image.set_len(8 << 20)).expect("a sparse file");
        must(Command::new("mkfs.ext4").arg("-q").arg(disk.image()));
        fs::create_dir(disk.mounted()).expect("a folder");
        disk
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    fn mount(&self) {
        must(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.mounted()));
    }

    fn unmount(&self) {
        must(Command::new("umount").arg(self.mounted()));
    }

    /// linux/fs/ext4/ext4.h: `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`, 2 is `EXT4_GOING_FLAGS_NOLOGFLUSH`.
    fn cut_power(&self) {
        let perl =
            "open(my $d, '<', $ARGV[0]) or die $!; my $how = pack('L', 2); ioctl($d, 0x8004587d, $how) or die $!";
        must(Command::new("perl").args(["-e", perl]).arg(self.mounted()));
        self.unmount();
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is left if this fails goes with the mount namespace.
        let _ = Command::new("umount").arg("--lazy").arg(self.mounted()).stderr(Stdio::null()).status();
    }
}

/// Runs the test of this name in a mount namespace of its own (`mount_namespaces(7)`): nobody else copies what it mounts.
fn apart(name: &str, test: impl FnOnce()) {
    if env::var_os(APART).is_some() {
        return test();
    }
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", &format!("store::tests::power::{name}")])
        .env(APART, "1")
        .output()
        .expect("unshare(1) starts");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "this test needs root for a mount namespace of its own: {}\n{said}\n{why}", output.status);
}

fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test mounts an ext4 image and needs root for it: {command:?}: {why}");
}

/// Kills the script at this call, cuts the power, and says how many records are left and how many had to be.
fn cut_at(disk: &Disk, expressions: &[&str]) -> Option<(usize, usize)> {
    disk.mount();
    let state = disk.mounted().join("state");
    let run = Traced::run(&state, &disk.0.path().join("strace"), expressions);
    let killed = run.was_killed("on a disk that will lose its power");
    disk.cut_power();
    let left = left(&state);
    if state.exists() {
        fs::remove_dir_all(&state).expect("the folder");
    }
    disk.unmount();
    killed.then_some((left, run.must_survive()))
}

fn left(state: &Path) -> usize {
    let (journal, records) = open(state);
    assert!(journal.fault().is_none());
    assert!(all_records().starts_with(&records));
    records.len()
}

#[test]
fn what_was_promised_survives_a_loss_of_power_at_any_call() {
    apart("what_was_promised_survives_a_loss_of_power_at_any_call", survives_a_loss_of_power_at_any_call);
}

fn survives_a_loss_of_power_at_any_call() {
    let disk = Disk::make();
    for call in CALLS {
        for number in 1.. {
            let Some((left, promised)) = cut_at(&disk, &[&format!("inject={call}:signal=KILL:when={number}")]) else {
                assert!(number > 1, "{call} was never called");
                break;
            };
            assert!(left >= promised, "killed at {call} number {number}: {left} records left of {promised}");
        }
    }
}

/// The control: the same with an fdatasync that only pretends.
#[test]
fn without_syncs_a_loss_of_power_takes_what_was_promised() {
    apart("without_syncs_a_loss_of_power_takes_what_was_promised", without_syncs);
}

fn without_syncs() {
    let disk = Disk::make();
    let cut = cut_at(&disk, &["inject=fdatasync:retval=0", "inject=pwrite64:signal=KILL:when=4"]);
    let (left, promised) = cut.expect("killed");
    assert!(left < promised, "{left} records left of {promised}: this disk keeps what was never synced");
}
