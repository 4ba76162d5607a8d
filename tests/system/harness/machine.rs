//! One Debian machine: its disk, its power, its network, and the hands of somebody who sits before it.
//!
//! A machine is a folder under target/system: `root`, its file system; `console`, what it printed; `boots`, when it began
//! and ended. It is removed with the value, unless `TWINAGENT_TEST_KEEP` is set.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::base::{Suite, remove};
use super::command::{host, run};
use super::installed::installed;
use super::network::Network;
use super::order::Order;
use super::package::Package;
use super::patience::{PATIENCE, within};
use super::places::{self, Hold};
use super::power::{Power, sweep};

/// Processes in a machine are in all of its namespaces.
pub(super) const NAMESPACES: [&str; 8] =
    ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--time", "--root"];

/// Units that see another /proc than the rest of the machine, and care for the boot id. Not the handlers' service: commands
/// of a unit that run with full privileges (`ExecStartPre=+`) have the machine's /proc, where that mount fails.
const HARDENED: [&str; 3] = ["twinagent.service", "twinagent-reboot.service", "twinagent-logs@.service"];

#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
    network: Network,
    /// Unless it is switched off.
    power: Option<Power>,
    /// How long a machine that boots has been up already.
    age: Duration,
    _folder_in_use: Hold,
    _place: Hold,
}

impl Machine {
    /// A Debian without our package, switched off.
    pub(crate) fn plain(suite: Suite) -> Self {
        Self::copy_of(suite, &suite.base())
    }

    /// A Debian where the package under test was installed and nothing else was done, switched off.
    pub(crate) fn installed(suite: Suite) -> Self {
        Self::copy_of(suite, &installed(suite).root)
    }

    fn copy_of(suite: Suite, root: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root may boot machines: run these tests as root");
        let place = Hold::of_a_machine();
        sweep();
        let network = Network::new();
        let folder = places::machines().join(&network.name);
        let hold = Hold::of(&folder.with_extension("lock"));
        remove(&folder);
        fs::create_dir(&folder).expect("a new folder");
        let machine = Self { folder, network, power: None, age: Duration::ZERO, _folder_in_use: hold, _place: place };
        host([Path::new("cp"), Path::new("-a"), root, &machine.path("")]);
        machine.write("/etc/hostname", &format!("{}\n", machine.network.name));
        machine.write("/etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {}\n", machine.network.name));
        // The first boot makes one.
        machine.write("/etc/machine-id", "");
        // As timesyncd leaves it: the clock is that of the host, and nobody sets it here.
        let flag = "d /run/systemd/timesync 0755 root root\nf /run/systemd/timesync/synchronized 0644 root root\n";
        machine.write("/etc/tmpfiles.d/harness-clock.conf", flag);
        if suite == Suite::Bookworm {
            machine.show_true_boot_id();
        }
        machine
    }

    /// systemd-nspawn gives each boot an id by a mount over one file of /proc. Units with a /proc of their own
    /// (`ProtectProc=`, `ProtectKernelTunables=`) would read the id of the host, which no reboot changes; so that file
    /// is mounted for them once more. From Debian 13 on systemd takes that mount along, and a second one fails.
    fn show_true_boot_id(&self) {
        const FILE: &str = "/proc/sys/kernel/random/boot_id";
        self.write("/etc/tmpfiles.d/harness.conf", &format!("C /run/harness-boot-id 0444 root root - {FILE}\n"));
        for unit in HARDENED {
            let drop_in = format!("[Service]\nBindReadOnlyPaths=/run/harness-boot-id:{FILE}\n");
            self.write(&format!("/etc/systemd/system/{unit}.d/harness.conf"), &drop_in);
        }
    }

    // === The disk

    /// Where a file of the machine's disk is on the host. What the machine mounts, such as /run, only it can see.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join("root").join(inside.trim_start_matches('/'))
    }

    #[track_caller]
    pub(crate) fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    /// Writes a file of root's that all may read, and makes its folder.
    #[track_caller]
    pub(crate) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("files are in folders")).expect("a folder of the machine");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{inside}: {error}"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a file of ours");
    }

    /// Copies a package to /root and returns its path there.
    pub(crate) fn bring(&self, package: &Package) -> String {
        let inside = format!("/root/{}", package.name());
        fs::copy(&package.file, self.path(&inside)).expect("a copy");
        inside
    }

    /// The folder that is removed with the machine.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    // === Power

    /// Whenever it is switched on from now on, it has been up so long already.
    pub(crate) fn age(&mut self, age: Duration) {
        self.age = age;
    }

    /// Switches it on and waits until it is up. Its boot id.
    #[track_caller]
    pub(crate) fn boot(&mut self) -> String {
        assert!(self.power.is_none(), "it is on");
        self.power = Some(Power::on(&self.folder, &self.network, self.age));
        self.wait_until_up("")
    }

    /// Waits until it is up with another boot id than this one, whose reboot it asked for itself.
    #[track_caller]
    pub(crate) fn wait_for_reboot(&self, old: &str) -> String {
        self.wait_until_up(old)
    }

    #[track_caller]
    fn wait_until_up(&self, old: &str) -> String {
        let id = within(PATIENCE, "the machine boots", || self.boot_id().filter(|id| id != old));
        within(PATIENCE, "the machine is up", || {
            // It says why it waits, or that it cannot be asked yet.
            let told = self.order(["systemctl", "is-system-running", "--wait"]).within(PATIENCE).run();
            ["running", "degraded"].contains(&told.out.trim()).then_some(())
        });
        id
    }

    /// Shuts it down as a person would, and waits until it is off.
    #[track_caller]
    pub(crate) fn shut_down(&mut self) {
        // apt holds its lock against shutdowns for a moment longer than it works, and a newer systemd heeds it for root too.
        let mut is_taken = false;
        within(PATIENCE, "the machine goes off", || {
            is_taken = is_taken || self.order(["systemctl", "poweroff"]).run().code == 0;
            self.power.as_mut().expect("it is on").is_off().then_some(())
        });
        self.power = None;
    }

    /// Pulls the plug. What it had not written to its disk is there all the same: the disk is the host's.
    pub(crate) fn cut_power(&mut self) {
        self.power = None;
    }

    /// How many times it has booted.
    pub(crate) fn boots(&self) -> usize {
        let lines = fs::read_to_string(self.folder.join("boots")).unwrap_or_default();
        lines.lines().filter(|line| *line == "begun").count()
    }

    /// The id of this boot as the machine itself sees it. `None`: it is down.
    pub(crate) fn boot_id(&self) -> Option<String> {
        let path = format!("/proc/{}/root/proc/sys/kernel/random/boot_id", self.leader()?);
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// The number, on the host, of its process 1.
    pub(super) fn leader(&self) -> Option<u32> {
        self.power.as_ref()?.leader()
    }

    // === Network

    /// The address of the host, as the machine sees it.
    pub(crate) fn host_address(&self) -> Ipv4Addr {
        self.network.host
    }

    pub(crate) fn cut_network(&self) {
        self.network.cut();
    }

    pub(crate) fn restore_network(&self) {
        self.network.restore();
    }

    /// How many packets it has sent since it was made.
    pub(crate) fn packets(&self) -> u64 {
        self.network.packets()
    }

    // === Hands

    /// A command for root to run in it.
    pub(crate) fn order<'m>(&'m self, words: impl IntoIterator<Item = &'m str>) -> Order<'m> {
        Order::new(self, words)
    }

    /// What a script of root's prints. It must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.order(["sh", "-euc", script]).done()
    }

    /// What systemd knows of a unit.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.order(["systemctl", "show", "--value", "--property", name, unit]).done()
    }

    /// Lines of its journal, which is read from its disk: also while it is off. `arguments` are those of journalctl.
    pub(crate) fn journal(&self, arguments: &[&str]) -> String {
        let folder = self.path("/var/log/journal");
        let mut command = Command::new("journalctl");
        command.arg("--directory").arg(folder).args(["--no-pager", "--quiet", "--output=short-precise"]);
        // It fails where a pattern of units fits none.
        run(command.args(arguments)).out
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        self.power = None;
        if std::env::var_os("TWINAGENT_TEST_KEEP").is_some() {
            fs::write(self.folder.join("keep"), "").expect("a folder of ours");
        } else {
            let removed = fs::remove_dir_all(&self.folder);
            assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", self.folder.display());
            let _ = fs::remove_file(self.folder.with_extension("lock"));
        }
    }
}

impl Machine {
    /// What one wants to know of a machine whose story failed.
    #[expect(clippy::print_stderr, reason = "beside the words of the failure, where the test's runner shows them")]
    fn tell(&self) {
        let console = fs::read(self.folder.join("console")).unwrap_or_default();
        let tail = &console[console.len().saturating_sub(3_000)..];
        eprintln!("--- the console of {}\n{}", self.folder.display(), String::from_utf8_lossy(tail));
        let lines = self.journal(&["--unit=twinagent*", "--lines=80"]);
        eprintln!("--- its journal of our units\n{lines}");
    }
}
