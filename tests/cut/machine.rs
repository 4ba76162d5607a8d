//! A machine that goes down: a disk whose power can be cut, a boot id of its own, and the daemon as a process in it.
//!
//! It is a pid and a mount namespace, and its process 1 a shell that ends when its stdin is closed. So nothing outlives
//! the test, however that ends: the kernel kills the processes, and the loop device goes with its mount.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::device::Device;
use crate::point::Strace;

/// Where Debian has the tools; a lane needs nothing else of the environment.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run, and Debian's package that has it.
const TOOLS: [(&str, &str); 6] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
];

/// How long one tool may take, on a machine with much else to do.
const TOOL: Duration = Duration::from_secs(20);

/// Bytes of the disk. ext4 wants some megabytes for its own journal.
const DISK: u64 = 8 << 20;

/// Process 1 of the machine: `$1` is the disk, `$2` the folder it is mounted on, `$3` the file with the boot id.
///
/// An empty /run keeps the buses of the real machine out of reach, which nobody wants to be rebooted.
///
/// Neither time (`commit`) nor a rename (`noauto_da_alloc`) may bring anything to the disk; only the daemon's syncs do.
/// The power is cut when nobody runs any more, by `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`
/// (<linux/ext4.h>): from then on nothing is written, and what was not synced is gone with the mount.
const INIT: &str = r#"
mount -t ext4 -o loop,commit=300,noauto_da_alloc "$1" "$2" || exit
mount --bind "$3" /proc/sys/kernel/random/boot_id || exit
mount -t tmpfs -o size=1m run /run || exit
echo up
read -r how
kill -s KILL -- -1 2>/dev/null
if [ "$how" = cut ]; then
    python3 -I -S -c '
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' "$2" || exit
fi
tries=1000
until umount "$2" 2>/dev/null; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || exit 1
    sleep 0.01
done
exit 0
"#;

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// What was written is on the disk, synced or not.
    Reset,
    /// What was not synced is lost.
    PowerCut,
}

pub(crate) struct Machine {
    /// That of the device.
    folder: PathBuf,
    init: Option<Child>,
    /// Boot ids so far, the last one that of now.
    pub(crate) boots: Vec<String>,
}

/// The daemon, or strace above it.
pub(crate) struct Process(Child);

impl Machine {
    /// A machine that is off, with an empty disk.
    pub(crate) fn new(device: &Device) -> Self {
        assert!(geteuid().is_root(), "only root may mount disks and cut their power; hint: run this test with sudo");
        for (tool, package) in TOOLS {
            let is_there = PATH.split(':').any(|folder| Path::new(folder).join(tool).exists());
            assert!(is_there, "{tool} is not there; hint: `sudo apt-get install {package}`");
        }
        let folder = device.path("");
        let disk = folder.join("disk");
        File::create(&disk).and_then(|file| file.set_len(DISK)).expect("a file for the disk");
        let made = tool("mkfs.ext4").args(["-q", "-F"]).arg(&disk).output().expect("mkfs.ext4(8) starts");
        assert!(made.status.success(), "no file system: {}", String::from_utf8_lossy(&made.stderr));
        Self { folder, init: None, boots: Vec::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.join(rest)
    }

    /// Starts it, with nothing in /run and a boot id that it never had.
    pub(crate) fn boot(&mut self) {
        assert!(self.init.is_none(), "it is off");
        for part in ["run", "run-reboot", "run-reboot-helper"] {
            let part = self.path(part);
            if part.exists() {
                fs::remove_dir_all(&part).expect("what lay in memory");
            }
            fs::create_dir(&part).expect("a folder");
        }
        let id = format!("00000000-0000-4000-8000-{:012}", self.boots.len() + 1);
        fs::write(self.path("boot"), format!("{id}\n")).expect("a file for the boot id");
        self.boots.push(id);
        let mut init = tool("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--"])
            .args(["sh", "-c", INIT, "init"])
            .args(["disk", "state", "boot"].map(|part| self.path(part)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) starts");
        let mut said = String::new();
        let out = init.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut said).expect("text");
        self.init = Some(init);
        assert_eq!(said, "up\n", "no machine of its own; hint: this test needs mounts, loop devices and ext4");
    }

    /// Ends everything that runs on it, at once, and takes it from its disk.
    pub(crate) fn down(&mut self, how: Down) {
        let mut init = self.init.take().expect("it is on");
        let word = match how {
            Down::Reset => "reset\n",
            Down::PowerCut => "cut\n",
        };
        init.stdin.take().expect("a pipe").write_all(word.as_bytes()).expect("its process 1 listens");
        let status = ended(&mut init);
        assert!(status.is_some_and(|status| status.success()), "the machine does not go down: {status:?}");
    }

    /// Starts the daemon.
    pub(crate) fn start(&self, strace: Strace<'_>) -> Process {
        let mut command = tool("nsenter");
        command.args(["--target", &self.first(), "--mount", "--pid", "--"]);
        let options = strace.options(&self.folder);
        if !options.is_empty() {
            command.args(["strace", "-f", "-y", "-s", "64", "-o"]).arg(self.path("strace")).args(options);
        }
        let messages = File::options().create(true).append(true).open(self.path("messages")).expect("a file");
        let child = command
            .arg(env!("CARGO_BIN_EXE_twinagent-counting"))
            .env("CONFIGURATION_DIRECTORY", self.path("etc"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.path("bus").display()))
            // The clock is that of the host, and nobody in this machine keeps it.
            .env("TWINAGENT__SESSION__CLOCK_WAIT", "0s")
            .env("TWINAGENT_COUNT_FILE", self.path("counted"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .expect("nsenter(1) starts");
        Process(child)
    }

    /// The journal as the daemon would find it.
    pub(crate) fn journal(&self) -> String {
        let path = self.path("state/journal");
        let inside = Path::new("/proc").join(self.first()).join("root").join(path.strip_prefix("/").expect("absolute"));
        fs::read_to_string(inside).unwrap_or_default()
    }

    /// The number of its process 1, seen from outside.
    fn first(&self) -> String {
        let unshare = self.init.as_ref().expect("it is on").id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).expect("it runs");
        children.trim().to_owned()
    }

    /// What strace has seen of the last daemon that was started below it.
    pub(crate) fn seen(&self) -> String {
        fs::read_to_string(self.path("strace")).unwrap_or_default()
    }

    /// What the daemon and the tools have said, for people.
    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(self.path("messages")).unwrap_or_default()
    }
}

/// If the test ends early: without its pipe, process 1 takes everything down.
impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut init) = self.init.take() {
            drop(init.stdin.take());
            let _ = ended(&mut init);
        }
    }
}

impl Process {
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().expect("our child").is_some()
    }
}

/// It has ended with its machine, or is about to.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = ended(&mut self.0);
    }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    until(|| child.try_wait().expect("our child"))
}

fn until<T>(mut there: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let found @ Some(_) = there() {
            return found;
        }
        if begun.elapsed() > TOOL {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
