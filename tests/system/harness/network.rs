//! The network of one machine: a namespace, and a cable between it and the host.
//!
//! A process holds the namespace. When it ends, namespace and cable are gone.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use super::command::{host, run};
use super::patience::eventually;

/// The networks of machines: the /30 parts of this /10, of which there are 2^20.
const RANGE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const PARTS: u32 = 1 << 20;

#[derive(Debug)]
pub(super) struct Network {
    /// The name of the cable's end on the host, and of everything else that must have a name.
    pub(super) name: String,
    pub(super) host: Ipv4Addr,
    /// Holds the namespace.
    holder: Child,
}

impl Network {
    /// Lays a cable that is plugged in.
    pub(super) fn new() -> Self {
        // It ends with the thread that starts it: that of the test.
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("setpriv is a part of every Debian");
        let namespace = format!("/proc/{}/ns/net", holder.id());
        let ours = fs::read_link("/proc/self/ns/net").expect("a namespace");
        eventually("a network namespace", || {
            fs::read_link(&namespace).ok().filter(|link| *link != ours && is_running(&holder, "sleep"))
        });
        let (name, address) = cable(&holder.id().to_string());
        let network = Self { name, host: Ipv4Addr::from_bits(address + 1), holder };
        host(["ip", "addr", "add", &format!("{}/30", network.host), "dev", &network.name]);
        // IPv6 speaks by itself, and a story counts packets.
        fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", network.name), "1").expect("a new device");
        network.set("up");
        network.inside(&format!(
            "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
             ip addr add {}/30 dev host0
             ip link set lo up
             ip link set host0 up
             ip route add default via {}",
            Ipv4Addr::from_bits(address + 2),
            network.host
        ));
        network
    }

    /// The words before a command that is to run in this network.
    pub(super) fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id())]
    }

    /// Pulls the plug of the cable.
    pub(super) fn cut(&self) {
        self.set("down");
    }

    pub(super) fn restore(&self) {
        self.set("up");
        // Both ends forget at once who could not be reached.
        self.inside("ip neigh flush all");
        host(["ip", "neigh", "flush", "dev", &self.name]);
    }

    /// How many packets the machine has sent.
    pub(super) fn packets(&self) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/rx_packets", self.name);
        let text = fs::read_to_string(path).expect("a network device");
        text.trim().parse().expect("a number")
    }

    fn set(&self, state: &str) {
        host(["ip", "link", "set", &self.name, state]);
    }

    fn inside(&self, script: &str) {
        host(self.enter().into_iter().chain(["sh", "-euc", script].map(str::to_owned)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A cable from the host to the namespace of this process, in a part of the range that nobody uses: name and address.
fn cable(holder: &str) -> (String, u32) {
    // Processes that run beside each other begin at different places.
    let first = std::process::id().wrapping_mul(2_654_435_761) % PARTS;
    for part in (first..PARTS).chain(0..first).take(64) {
        let address = RANGE.to_bits() + part * 4;
        let name = format!("twin{part:05x}");
        let taken = host(["ip", "-4", "-o", "addr", "show", "to", &format!("{}/30", Ipv4Addr::from_bits(address))]);
        let add = ["link", "add", &name, "type", "veth", "peer", "name", "host0", "netns", holder];
        // The name belongs to the part, so the kernel gives each to one machine only.
        if taken.is_empty() && run(Command::new("ip").args(add)).code == 0 {
            return (name, address);
        }
    }
    panic!("64 networks under {RANGE} are in use; is `ip` allowed to make one?")
}

fn is_running(child: &Child, program: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|name| name.trim() == program)
}
