//! What the unit of the package allows and refuses, tried from inside: the unit as it is shipped, with a probe in the
//! place of the daemon. The same probe as root without a sandbox shows that a refusal is no accident of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::harness::{Cloud, Machine, Suite, eventually};

/// What must be refused.
const REFUSED: &[&str] = &[
    // Writing elsewhere
    "set-user-id-file",
    "write-boot",
    "write-cgroup",
    "write-configuration",
    "write-dev",
    "write-dev-shm",
    "write-etc",
    "write-home",
    "write-kernel-settings",
    "write-root",
    "write-run",
    "write-run-lock",
    "write-sys",
    "write-usr",
    "write-var",
    "write-var-lib",
    "write-var-log",
    // Others
    "ptrace",
    "read-home-of-root",
    "read-memory-of-init",
    "see-others",
    "see-tmp-of-the-machine",
    // Sockets
    "socket-alg",
    "socket-bluetooth",
    "change-a-link",
    "socket-packet",
    "socket-packet-cooked",
    "socket-raw-ip",
    "socket-vsock",
    // Rights
    "become-root",
    "gain-rights-by-a-program",
    "have-capabilities",
    "mount",
    "namespace-mount",
    "namespace-net",
    "namespace-user",
    "personality",
    "realtime",
    "write-and-execute",
    // The machine
    "device-disk",
    "device-memory",
    "kernel-log",
    "kernel-log-by-call",
    "leave-a-core",
    "load-module",
    "make-device",
    "set-clock",
    "set-hostname",
];

/// Of these, what the machine of a story refuses to its root too, since it is a container, or what its kernel may lack.
const BEYOND_THE_MACHINE: &[&str] = &[
    "change-a-link",
    "device-disk",
    "device-memory",
    "kernel-log",
    "kernel-log-by-call",
    "load-module",
    "make-device",
    "set-clock",
    "socket-alg",
    "socket-bluetooth",
    "socket-vsock",
    "write-kernel-settings",
    "write-sys",
];

/// What must be allowed.
const ALLOWED: &[&str] = &[
    "ask-for-a-reboot",
    "boot-id",
    "connect",
    "groups",
    "journal",
    "machine-id",
    "peer",
    "read-configuration",
    "resolve",
    "system-bus",
    "tls-roots",
    "watch-configuration",
    "watch-network",
    "write-runtime",
    "write-state",
    "zoneinfo",
];

const PROBE: &str = "/usr/local/bin/twinagent-probe";
/// In the machine's own /tmp.
const MARKER: &str = "/tmp/of-the-machine";
/// A name that only DNS knows, and its address.
const NAME: &str = "somewhere.example.com";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// What the probe says, by the names of its attempts.
type Probed = BTreeMap<String, Value>;

/// A machine with the probe in it, and what it can reach.
struct Site {
    _names: Names,
    machine: Machine,
    cloud: Cloud,
    boot_id: String,
}

impl Site {
    fn of(suite: Suite) -> Self {
        let mut machine = Machine::installed(suite);
        let cloud = Cloud::at(&machine);
        let resolver = machine.host_address();
        machine.write("/etc/resolv.conf", &format!("nameserver {resolver}\n"));
        let names = Names::at(resolver);
        fs::copy(env!("CARGO_BIN_EXE_twinagent-probe"), machine.path(PROBE)).expect("a copy");
        fs::set_permissions(machine.path(PROBE), Permissions::from_mode(0o755)).expect("a mode");
        let boot_id = machine.boot();
        machine.sh(&format!("systemctl stop twinagent; touch {MARKER}"));
        Self { _names: names, machine, cloud, boot_id }
    }

    fn command(&self) -> String {
        let Self { machine, cloud, .. } = self;
        let cloud = format!("{}:{}", machine.host_address(), cloud.port());
        format!("{PROBE} --connect {cloud} --resolve {NAME} --marker {MARKER} --peer")
    }

    /// In the place of the daemon: of the shipped unit, all holds but what is said here.
    fn inside(&self) -> Probed {
        let drop_in = format!(
            "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nTimeoutStartSec=90\n\
             StandardOutput=truncate:/run/probed.json\nExecStart=\nExecStart={}\n",
            self.command()
        );
        self.machine.write("/etc/systemd/system/twinagent.service.d/probe.conf", &drop_in);
        self.machine.sh("systemctl daemon-reload");
        self.probed("systemctl start twinagent; cat /run/probed.json", "/run/twinagent")
    }

    /// As root, in a unit that has the same folders and no sandbox.
    fn outside(&self) -> Probed {
        let folders = "-p StateDirectory=twinagent -p RuntimeDirectory=outside -p ConfigurationDirectory=twinagent";
        let run = format!("systemd-run --quiet --wait --collect --pipe {folders} {}", self.command());
        self.probed(&run, "/run/outside")
    }

    /// Runs the probe by this script, which prints what it says, while another user calls it.
    fn probed(&self, run: &str, folder: &str) -> Probed {
        let call = format!("until {PROBE} --call {folder}/probe.socket; do sleep 0.1; done");
        let text = thread::scope(|scope| {
            let caller = scope.spawn(|| self.machine.order(["sh", "-uc", &call]).by("games").run());
            let text = self.machine.sh(run);
            assert_eq!(caller.join().expect("no panic").code, 0, "it called");
            text
        });
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A DNS server at the host's end of the cable, to which every name has the same address (RFC 1035, 4.1).
struct Names {
    address: Ipv4Addr,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    fn at(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 53)).expect("nobody else serves this cable");
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length @ 1.., asker)) = socket.recv_from(&mut query) {
                // It may have gone meanwhile.
                let _ = socket.send_to(&answer(&query[..length]), asker);
            }
        });
        Self { address, thread: Some(thread) }
    }
}

/// The next machine may have the same cable.
impl Drop for Names {
    fn drop(&mut self) {
        // An empty datagram ends it.
        let told = UdpSocket::bind((self.address, 0)).and_then(|socket| socket.send_to(&[], (self.address, 53)));
        if let Some(thread) = self.thread.take().filter(|_| told.is_ok()) {
            let _ = thread.join();
        }
    }
}

fn answer(query: &[u8]) -> Vec<u8> {
    let name = query[12..].iter().position(|byte| *byte == 0).expect("an end of the name");
    let end = 12 + name + 5;
    let is_for_ipv4 = query[end - 4..end] == [0, 1, 0, 1];
    let mut answer = query[..end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0]);
    if is_for_ipv4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ADDRESS.octets());
    }
    answer
}

fn can(probed: &Probed, name: &str) -> bool {
    probed[name]["ok"] == true
}

fn holds(debian: Suite) {
    let site = Site::of(debian);
    let inside = site.inside();
    let named: BTreeSet<&str> = REFUSED.iter().chain(ALLOWED).copied().collect();
    assert_eq!(inside.keys().map(String::as_str).collect::<BTreeSet<_>>(), named, "each attempt is judged");
    let told = |name: &&str| format!("{name}: {}", inside[*name]["detail"]);
    let allowed: Vec<String> = REFUSED.iter().filter(|name| can(&inside, name)).map(told).collect();
    let refused: Vec<String> = ALLOWED.iter().filter(|name| !can(&inside, name)).map(told).collect();
    assert!(allowed.is_empty(), "the unit must refuse:\n{}", allowed.join("\n"));
    assert!(refused.is_empty(), "the unit must allow:\n{}", refused.join("\n"));

    assert_eq!(inside["boot-id"]["detail"], site.boot_id.as_str(), "that of its own machine");
    assert_eq!(inside["resolve"]["detail"], ADDRESS.to_string());
    let caller = site.machine.sh("id -u games");
    assert_eq!(inside["peer"]["detail"], format!("uid {caller}"), "callers are who they are");
    // Not by its unit: the process of that attempt has ended before journald looks whose it is.
    let kept = eventually("its entry is in the journal", || {
        let kept = site.machine.sh("journalctl SYSLOG_IDENTIFIER=twinagent-probe TWINAGENT_PROBE=1 --output=cat");
        (!kept.is_empty()).then_some(kept)
    });
    assert_eq!(kept, "the probe was here");

    let outside = site.outside();
    let possible = |name: &&&str| !BEYOND_THE_MACHINE.contains(name);
    let vain: Vec<&str> = REFUSED.iter().filter(possible).filter(|name| !can(&outside, name)).copied().collect();
    assert_eq!(vain, [""; 0], "root can do all of it without the sandbox: {outside:#?}");
}

#[test]
fn the_sandbox_of_the_unit_is_what_it_says_on_bookworm() {
    holds(Suite::Bookworm);
}

#[test]
fn the_sandbox_of_the_unit_is_what_it_says_on_trixie() {
    holds(Suite::Trixie);
}
