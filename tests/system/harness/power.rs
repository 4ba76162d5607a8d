//! What keeps a machine running: a process whose end is the end of all that runs in the machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::base::remove;
use super::command::run;
use super::network::Network;
use super::patience::{PATIENCE, look_for};
use super::places::{self, Hold};

/// A machine that is switched on, or has switched itself off.
#[derive(Debug)]
pub(super) struct Power {
    supply: Child,
    folder: PathBuf,
}

impl Power {
    /// Switches on the machine in this folder, which has been up for `age` already.
    pub(super) fn on(folder: &Path, network: &Network, age: Duration) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/harness/power_supply.sh");
        let console = File::options().create(true).append(true).open(folder.join("console")).expect("a file of ours");
        // Process 1 of the PID namespace ends with unshare, and unshare with the thread of the test.
        let supply = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(network.enter())
            .args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg("sh")
            .arg(script)
            .arg(&network.name)
            .arg(folder)
            .arg(age.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("an open file"))
            .stderr(console)
            .spawn();
        Self { supply: supply.expect("setpriv is a part of every Debian"), folder: folder.to_owned() }
    }

    /// Whether the machine has switched itself off.
    pub(super) fn is_off(&mut self) -> bool {
        self.supply.try_wait().expect("a child").is_some()
    }

    /// The number, on the host, of the machine's process 1.
    pub(super) fn leader(&self) -> Option<u32> {
        let loop_of_boots = *children(self.supply.id()).first()?;
        let nspawn = children(loop_of_boots).into_iter().find(|pid| name_of(*pid) == "systemd-nspawn")?;
        children(nspawn).into_iter().find(|pid| name_of(*pid) == "systemd")
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.supply.kill();
        let _ = self.supply.wait();
        let gone = remove_cgroup(&self.folder);
        assert!(gone || std::thread::panicking(), "the processes of {} do not end", self.folder.display());
    }
}

/// Removes the cgroup of the machine with this folder. Whether it went: it does when all processes in it are gone, which
/// takes the kernel a moment.
fn remove_cgroup(folder: &Path) -> bool {
    let mounted = folder.join("cgroup");
    // It may be there from the time before a boot.
    let _ = fs::create_dir(&mounted);
    let name = folder.file_name().expect("a name of ours");
    let script = "mount -t cgroup2 cgroup2 \"$1\" && cd \"$1\" || exit 2
                  [ ! -e \"$2\" ] || find \"$2\" -depth -type d -exec rmdir {} +";
    let gone = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-uc", script, "sh"]);
        (run(command.arg(&mounted).arg(name)).code == 0).then_some(())
    };
    look_for(PATIENCE, gone).is_some()
}

/// Removes what was left by runs that were killed.
pub(super) fn sweep() {
    for entry in fs::read_dir(places::machines()).expect("a folder of ours").flatten() {
        let folder = entry.path();
        let lock = folder.with_extension("lock");
        if !lock.exists() || !folder.is_dir() || folder.join("keep").exists() {
            continue;
        }
        if let Some(_hold) = Hold::try_of(&lock) {
            remove_cgroup(&folder);
            remove(&folder);
            let _ = fs::remove_file(&lock);
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
