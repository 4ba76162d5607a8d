//! What the sandbox must allow: all that the daemon does in its life, by the same calls where that is possible.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::fs::inotify;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::attempt::{Attempt, Given, folder, write_in};

/// How long a caller may let us wait.
const CALLER: Duration = Duration::from_secs(30);
const NETWORK: Duration = Duration::from_secs(10);

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "write-state", make: |_| write_in(&folder("STATE_DIRECTORY")?) },
    Attempt { name: "write-runtime", make: |_| write_in(&folder("RUNTIME_DIRECTORY")?) },
    Attempt { name: "ask-for-a-reboot", make: |_| write_in(Path::new("/run/twinagent-reboot")) },
    Attempt { name: "read-configuration", make: |_| read(&folder("CONFIGURATION_DIRECTORY")?.join("twinagent.toml")) },
    Attempt { name: "watch-configuration", make: watch_configuration },
    Attempt { name: "watch-network", make: watch_network },
    Attempt { name: "boot-id", make: boot_id },
    Attempt { name: "machine-id", make: |_| read(Path::new("/etc/machine-id")) },
    Attempt { name: "groups", make: |_| read(Path::new("/etc/group")) },
    Attempt { name: "zoneinfo", make: |_| read(Path::new("/usr/share/zoneinfo/Europe/Berlin")) },
    Attempt { name: "tls-roots", make: tls_roots },
    Attempt { name: "resolve", make: resolve },
    Attempt { name: "connect", make: connect },
    Attempt { name: "system-bus", make: system_bus },
    Attempt { name: "journal", make: journal },
    Attempt { name: "peer", make: peer },
];

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    Ok(format!("{} has {} bytes", path.display(), bytes.len()))
}

fn watch_configuration(_: &Given) -> anyhow::Result<String> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, folder("CONFIGURATION_DIRECTORY")?, inotify::WatchFlags::CREATE)?;
    Ok("it is watched".to_owned())
}

fn watch_network(_: &Given) -> anyhow::Result<String> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    // RTMGRP_LINK.
    bind(&socket, &SocketAddrNetlink::new(0, 1))?;
    Ok("it is watched".to_owned())
}

/// Its text is the detail, so that a test can compare it with the machine's.
fn boot_id(_: &Given) -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn tls_roots(_: &Given) -> anyhow::Result<String> {
    let found = rustls_native_certs::load_native_certs();
    ensure!(!found.certs.is_empty(), "none: {:?}", found.errors);
    Ok(format!("{} certificates", found.certs.len()))
}

/// getaddrinfo(3), with all that glibc reads for it.
fn resolve(given: &Given) -> anyhow::Result<String> {
    let found: Vec<_> = (given.resolve()?, 0).to_socket_addrs()?.map(|address| address.ip().to_string()).collect();
    ensure!(!found.is_empty(), "no address");
    Ok(found.join(" "))
}

fn connect(given: &Given) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&given.connect()?, NETWORK)?;
    Ok(format!("from {}", stream.local_addr()?))
}

/// As far as the bus believes who we are (D-Bus Specification, "Authentication Protocol").
fn system_bus(_: &Given) -> anyhow::Result<String> {
    let mut bus = UnixStream::connect("/run/dbus/system_bus_socket")?;
    bus.set_read_timeout(Some(NETWORK))?;
    // The digits of the user's number, each as the two hexadecimal digits of its byte, which begin with 3.
    let id = rustix::process::geteuid().as_raw().to_string().replace("", "3");
    bus.write_all(format!("\0AUTH EXTERNAL {}\r\n", &id[..id.len() - 1]).as_bytes())?;
    let mut answer = [0; 256];
    let length = bus.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]).trim().to_owned();
    ensure!(answer.starts_with("OK "), "{answer}");
    Ok("it knows us".to_owned())
}

fn journal(_: &Given) -> anyhow::Result<String> {
    let entry = "MESSAGE=the probe was here\nPRIORITY=6\nSYSLOG_IDENTIFIER=twinagent-probe\nTWINAGENT_PROBE=1\n";
    UnixDatagram::unbound()?.send_to(entry.as_bytes(), "/run/systemd/journal/socket")?;
    Ok("an entry was taken".to_owned())
}

/// Who calls is known, also if it is another user: `uid N` is the detail.
#[expect(clippy::disallowed_methods, reason = "the wait for a caller is bounded")]
fn peer(given: &Given) -> anyhow::Result<String> {
    given.peer()?;
    let path = folder("RUNTIME_DIRECTORY")?.join("probe.socket");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    let begun = Instant::now();
    let caller = loop {
        match listener.accept() {
            Ok((stream, _)) => break Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && begun.elapsed() < CALLER => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => break Err(error),
        }
    };
    fs::remove_file(&path)?;
    Ok(format!("uid {}", socket_peercred(caller.context("nobody called")?)?.uid.as_raw()))
}
