//! What the sandbox must refuse: writing elsewhere, seeing others, and what only those need who take a machine over.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, send, socket};
use rustix::time::{ClockId, Timespec};

use crate::attempt::{Attempt, Given, Unmade, folder, system_call, tool, write_in};

/// `AF_ALG`, the crypto of the kernel (linux/socket.h).
const ALG: AddressFamily = AddressFamily::from_raw(38);

pub(crate) const ATTEMPTS: &[Attempt] = &[
    // Writing elsewhere
    Attempt { name: "write-etc", make: |_| write_in(Path::new("/etc")) },
    Attempt { name: "write-configuration", make: |_| write_in(&folder("CONFIGURATION_DIRECTORY")?) },
    Attempt { name: "write-usr", make: |_| write_in(Path::new("/usr/bin")) },
    Attempt { name: "write-var", make: |_| write_in(Path::new("/var")) },
    Attempt { name: "write-var-lib", make: |_| write_in(Path::new("/var/lib")) },
    Attempt { name: "write-var-log", make: |_| write_in(Path::new("/var/log")) },
    Attempt { name: "write-home", make: |_| write_in(Path::new("/home")) },
    Attempt { name: "write-root", make: |_| write_in(Path::new("/root")) },
    Attempt { name: "write-run", make: |_| write_in(Path::new("/run")) },
    Attempt { name: "write-run-lock", make: |_| write_in(Path::new("/run/lock")) },
    Attempt { name: "write-boot", make: |_| write_in(Path::new("/boot")) },
    Attempt { name: "write-dev", make: |_| write_in(Path::new("/dev")) },
    Attempt { name: "write-dev-shm", make: |_| write_in(Path::new("/dev/shm")) },
    Attempt { name: "write-cgroup", make: write_cgroup },
    Attempt { name: "write-kernel-settings", make: |_| open_to_write("/proc/sys/kernel/core_pattern") },
    Attempt { name: "write-sys", make: |_| open_to_write("/sys/power/state") },
    Attempt { name: "see-tmp-of-the-machine", make: see_marker },
    Attempt { name: "set-user-id-file", make: set_user_id_file },
    // Others
    Attempt { name: "see-others", make: see_others },
    Attempt { name: "read-memory-of-init", make: read_memory_of_init },
    // PTRACE_TRACEME, which no rule about who may trace whom forbids.
    Attempt { name: "ptrace", make: |_| system_call(101, 117, "0, 0, 0, 0") },
    Attempt { name: "read-home-of-root", make: |_| Ok(format!("{} entries", fs::read_dir("/root")?.count())) },
    // Sockets
    Attempt { name: "socket-packet", make: |_| open_socket(AddressFamily::PACKET, SocketType::RAW) },
    Attempt { name: "socket-packet-cooked", make: |_| open_socket(AddressFamily::PACKET, SocketType::DGRAM) },
    Attempt { name: "change-a-link", make: change_a_link },
    Attempt { name: "socket-raw-ip", make: socket_raw_ip },
    Attempt { name: "socket-bluetooth", make: |_| open_socket(AddressFamily::BLUETOOTH, SocketType::RAW) },
    Attempt { name: "socket-vsock", make: |_| open_socket(AddressFamily::VSOCK, SocketType::STREAM) },
    Attempt { name: "socket-alg", make: |_| open_socket(ALG, SocketType::SEQPACKET) },
    // Rights
    Attempt { name: "namespace-user", make: |_| tool("unshare", &["--user", "true"]) },
    Attempt { name: "namespace-net", make: |_| tool("unshare", &["--user", "--map-root-user", "--net", "true"]) },
    Attempt { name: "namespace-mount", make: |_| tool("unshare", &["--user", "--map-root-user", "--mount", "true"]) },
    Attempt { name: "mount", make: |_| tool("mount", &["-t", "tmpfs", "tmpfs", "/mnt"]) },
    Attempt { name: "become-root", make: |_| tool("setpriv", &["--reuid=0", "true"]) },
    Attempt { name: "gain-rights-by-a-program", make: |_| status_is("NoNewPrivs:", "0") },
    Attempt { name: "have-capabilities", make: have_capabilities },
    Attempt { name: "realtime", make: |_| tool("chrt", &["--fifo", "1", "true"]) },
    Attempt { name: "personality", make: |_| tool("setarch", &["--addr-no-randomize", "true"]) },
    // mmap of a page to read, write and execute, private and anonymous.
    Attempt { name: "write-and-execute", make: |_| system_call(9, 222, "0, 4096, 7, 0x22, -1, 0") },
    // The machine
    Attempt { name: "set-clock", make: set_clock },
    Attempt { name: "set-hostname", make: set_hostname },
    Attempt { name: "load-module", make: load_module },
    Attempt { name: "device-memory", make: |_| open_to_read("/dev/mem") },
    Attempt { name: "device-disk", make: device_disk },
    Attempt { name: "make-device", make: make_device },
    Attempt { name: "kernel-log", make: |_| open_to_read("/dev/kmsg").or_else(|_| open_to_read("/proc/kmsg")) },
    Attempt { name: "kernel-log-by-call", make: |_| tool("dmesg", &["--syslog"]) },
    Attempt { name: "leave-a-core", make: leave_a_core },
];

fn open_to_read(path: &str) -> anyhow::Result<String> {
    File::open(path).with_context(|| path.to_owned())?;
    Ok(format!("{path} was opened"))
}

fn open_to_write(path: &str) -> anyhow::Result<String> {
    File::options().write(true).open(path).with_context(|| path.to_owned())?;
    Ok(format!("{path} was opened"))
}

fn write_cgroup(_: &Given) -> anyhow::Result<String> {
    let all = fs::read_to_string("/proc/self/cgroup").map_err(|error| Unmade(error.to_string()))?;
    let own = all.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or_else(|| Unmade("no unified hierarchy".to_owned()))?;
    let below = Path::new("/sys/fs/cgroup").join(own).join("probe");
    fs::create_dir(&below).with_context(|| below.display().to_string())?;
    fs::remove_dir(&below)?;
    Ok(format!("{} was made", below.display()))
}

fn see_marker(given: &Given) -> anyhow::Result<String> {
    let marker = given.marker()?;
    fs::metadata(marker).with_context(|| marker.display().to_string())?;
    Ok(format!("{} is seen", marker.display()))
}

fn set_user_id_file(_: &Given) -> anyhow::Result<String> {
    let file = folder("STATE_DIRECTORY")?.join(format!(".probe.{}", std::process::id()));
    File::create_new(&file).map_err(|error| Unmade(error.to_string()))?;
    let set = fs::set_permissions(&file, Permissions::from_mode(0o4700));
    fs::remove_file(&file)?;
    set?;
    Ok("a set-user-id file was made".to_owned())
}

/// Processes of other users, of which a machine always has some.
fn see_others(_: &Given) -> anyhow::Result<String> {
    let own = rustix::process::geteuid().as_raw();
    let is_other = |name: &str| {
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit());
        is_process && fs::metadata(Path::new("/proc").join(name)).is_ok_and(|facts| facts.uid() != own)
    };
    let others: Vec<String> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_other(name))
        .collect();
    ensure!(!others.is_empty(), "none is seen");
    Ok(format!("{} are seen", others.len()))
}

fn read_memory_of_init(_: &Given) -> anyhow::Result<String> {
    let maps = fs::read_to_string("/proc/1/maps").context("/proc/1/maps")?;
    let start = maps.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok()).context("no mapping")?;
    let mut memory = File::open("/proc/1/mem").context("/proc/1/mem")?;
    memory.seek(SeekFrom::Start(start))?;
    memory.read_exact(&mut [0; 16])?;
    Ok("its memory was read".to_owned())
}

fn open_socket(family: AddressFamily, kind: SocketType) -> anyhow::Result<String> {
    socket(family, kind, None)?;
    Ok("it was opened".to_owned())
}

/// Asks for no change of the loopback, which nobody without the right to change links may ask (rtnetlink(7)).
fn change_a_link(_: &Given) -> anyhow::Result<String> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    // RTM_NEWLINK with NLM_F_REQUEST and NLM_F_ACK; the loopback is number 1.
    let (length, kind, flags) = (32_u32.to_ne_bytes(), 16_u16.to_ne_bytes(), 5_u16.to_ne_bytes());
    let ask = [&length[..], &kind, &flags, &[0; 8], &[0; 4], &1_u32.to_ne_bytes(), &[0; 8]].concat();
    send(&socket, &ask, SendFlags::empty())?;
    let mut answer = [0; 64];
    let (taken, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let error = answer.get(16..20).filter(|_| taken >= 20).context("no answer")?;
    match i32::from_ne_bytes(error.try_into()?) {
        0 => Ok("the kernel took it".to_owned()),
        error => bail!("{}", std::io::Error::from_raw_os_error(-error)),
    }
}

fn socket_raw_ip(_: &Given) -> anyhow::Result<String> {
    socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    Ok("it was opened".to_owned())
}

/// A line of `/proc/self/status` is this.
fn status_is(name: &str, value: &str) -> anyhow::Result<String> {
    let found = status(name)?;
    ensure!(found == value, "{name} {found}");
    Ok(format!("{name} {found}"))
}

fn status(name: &str) -> anyhow::Result<String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| Unmade(error.to_string()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.ok_or_else(|| Unmade(format!("no {name}")))?.trim().to_owned())
}

fn have_capabilities(_: &Given) -> anyhow::Result<String> {
    let sets = ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"];
    let found = sets.iter().map(|name| status(name)).collect::<Result<Vec<_>, _>>()?;
    let is_none = |set: &String| set.bytes().all(|digit| digit == b'0');
    ensure!(!found.iter().all(is_none), "none, and none to be had");
    Ok(found.join(" "))
}

/// To what it shows already, so that nobody is harmed where it is allowed.
#[expect(clippy::disallowed_methods, reason = "the time that it is already")]
fn set_clock(_: &Given) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let time = Timespec { tv_sec: now.as_secs().try_into()?, tv_nsec: now.subsec_nanos().into() };
    rustix::time::clock_settime(ClockId::Realtime, time)?;
    Ok("it was set".to_owned())
}

fn set_hostname(_: &Given) -> anyhow::Result<String> {
    rustix::system::sethostname(rustix::system::uname().nodename().to_bytes())?;
    Ok("it was set".to_owned())
}

/// An empty one: whoever may load modules is told that it is none.
fn load_module(_: &Given) -> anyhow::Result<String> {
    match rustix::system::init_module(b"", c"") {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => bail!("not permitted"),
        other => Ok(format!("{other:?}")),
    }
}

fn device_disk(_: &Given) -> anyhow::Result<String> {
    let devices = fs::read_dir("/dev").map_err(|error| Unmade(error.to_string()))?;
    let disks =
        devices.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    for disk in disks {
        if File::open(disk.path()).is_ok() {
            return Ok(format!("{} was opened", disk.path().display()));
        }
    }
    bail!("none can be opened")
}

fn make_device(_: &Given) -> anyhow::Result<String> {
    let path = folder("STATE_DIRECTORY")?.join(format!(".probe.{}", std::process::id()));
    mknodat(CWD, &path, FileType::BlockDevice, Mode::from(0o600), makedev(8, 0))?;
    fs::remove_file(&path)?;
    Ok("it was made".to_owned())
}

fn leave_a_core(_: &Given) -> anyhow::Result<String> {
    let limits = fs::read_to_string("/proc/self/limits").map_err(|error| Unmade(error.to_string()))?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let words: Vec<&str> = limit.ok_or_else(|| Unmade("no limit".to_owned()))?.split_ascii_whitespace().collect();
    ensure!(words.first() != Some(&"0") || words.get(1) != Some(&"0"), "its size is limited to 0");
    Ok(words.join(" "))
}
