//! One Debian machine: its disk, its power, its network, and the hands of somebody who sits before it.
//!
//! A machine is a folder under target/system: `root`, its file system; `console`, what it printed; `boots`, when it began
//! and ended. It is removed with the value, unless `TWINAGENT_TEST_KEEP` is set.

use std::fs::{self, File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::base::{Suite, remove};
use super::command::{Told, host, run};
use super::network::Network;
use super::order::Order;
use super::package::Package;
use super::patience::{PATIENCE, look_for, within};
use super::places::{self, Hold};

/// Processes in a machine are in all of its namespaces.
pub(super) const NAMESPACES: [&str; 8] =
    ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--time", "--root"];

/// Units that see another /proc than the rest of the machine.
const HARDENED: [&str; 2] = ["twinagent.service", "twinagent-reboot.service"];

#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
    network: Network,
    /// The process that keeps it running, if it is switched on.
    power: Option<Child>,
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
        Self::copy_of(suite, &golden(suite))
    }

    fn copy_of(suite: Suite, root: &Path) -> Self {
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

    /// Where a file of the machine is on the host.
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

    /// From the next boot on a machine that boots has been up so long already.
    pub(crate) fn age(&mut self, age: Duration) {
        self.age = age;
    }

    /// Switches it on and waits until it is up. Its boot id.
    #[track_caller]
    pub(crate) fn boot(&mut self) -> String {
        self.switch_on();
        self.wait_until_up("")
    }

    fn switch_on(&mut self) {
        assert!(self.power.is_none(), "it is on");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/harness/power_supply.sh");
        let console = File::options().create(true).append(true).open(self.folder.join("console")).expect("a new file");
        let [nsenter, network] = self.network.enter();
        // Process 1 of the PID namespace ends with unshare, and unshare with the thread of the test.
        let power = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", &nsenter, &network])
            .args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg("sh")
            .arg(script)
            .arg(&self.network.name)
            .arg(&self.folder)
            .arg(self.age.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("an open file"))
            .stderr(console)
            .spawn();
        self.power = Some(power.expect("setpriv is a part of every Debian"));
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
            let told = self.order(["systemctl", "is-system-running", "--wait"]).run();
            ["running", "degraded"].contains(&told.out.trim()).then_some(())
        });
        id
    }

    /// Shuts it down as a person would, and waits until it is off.
    #[track_caller]
    pub(crate) fn shut_down(&mut self) {
        self.order(["systemctl", "poweroff"]).run();
        let power = self.power.as_mut().expect("it is on");
        within(PATIENCE, "the machine goes off", || power.try_wait().expect("a child"));
        self.cut_power();
    }

    /// Pulls the plug. What it had not written to its disk is there all the same: the disk is the host's.
    pub(crate) fn cut_power(&mut self) {
        if let Some(mut power) = self.power.take() {
            // It may have ended by itself.
            let _ = power.kill();
            let _ = power.wait();
            let gone = self.remove_cgroup();
            assert!(gone || std::thread::panicking(), "the processes of {} do not end", self.network.name);
        }
    }

    /// Whether it went: it does when all processes in it are gone, which takes the kernel a moment.
    fn remove_cgroup(&self) -> bool {
        let mounted = self.folder.join("cgroup");
        let _ = fs::create_dir(&mounted);
        let script = "mount -t cgroup2 cgroup2 \"$1\" && find \"$1/$2\" -depth -type d -exec rmdir {} +";
        let gone = || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-uc", &script, "sh"]);
            let told = run(command.arg(&mounted).arg(&self.network.name), b"");
            (told.code == 0 || told.err.contains("No such file")).then_some(())
        };
        look_for(PATIENCE, gone).is_some()
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
        let supply = only_child(self.power.as_ref()?.id())?;
        let nspawn = children(supply).into_iter().find(|pid| name_of(*pid) == "systemd-nspawn")?;
        children(nspawn).into_iter().find(|pid| name_of(*pid) == "systemd")
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
        run(command.args(arguments), b"").out
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        self.cut_power();
        if std::env::var_os("TWINAGENT_TEST_KEEP").is_some() {
            fs::write(self.folder.join("keep"), "").expect("a folder of ours");
        } else {
            remove(&self.folder);
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

/// A base where the package under test was installed. Made once for each package and kept for the next run.
fn golden(suite: Suite) -> PathBuf {
    let package = Package::under_test();
    let base = suite.base();
    let folder = places::machines();
    let prefix = format!("installed-{}-", suite.name());
    let base_name = base.file_name().and_then(|name| name.to_str()).expect("a name of ours");
    let golden = folder.join(format!("{prefix}{}-{base_name}", package.digest()));
    let _hold = Hold::of(&folder.join(format!("{prefix}lock")));
    if !golden.exists() {
        for old in fs::read_dir(&folder).expect("a folder of ours").flatten() {
            if old.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) && old.path().is_dir() {
                remove(&old.path());
            }
        }
        let mut machine = Machine::plain(suite);
        let file = machine.bring(&package);
        machine.boot();
        machine.order(["apt-get", "install", "--yes", &file]).done();
        machine.shut_down();
        fs::remove_file(machine.path(&file)).expect("it was there");
        remove(&machine.path("/var/log/journal"));
        fs::create_dir(machine.path("/var/log/journal")).expect("a folder");
        fs::rename(machine.path(""), &golden).expect("the same file system");
    }
    golden
}

/// Removes what was left by runs that were killed.
fn sweep() {
    for entry in fs::read_dir(places::machines()).expect("a folder of ours").flatten() {
        let folder = entry.path();
        let lock = folder.with_extension("lock");
        if lock.exists() && folder.is_dir() && !folder.join("keep").exists() {
            if let Some(_hold) = Hold::try_of(&lock) {
                remove(&folder);
                let _ = fs::remove_file(&lock);
            }
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn only_child(pid: u32) -> Option<u32> {
    children(pid).first().copied()
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
