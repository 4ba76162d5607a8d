//! A network namespace, with mounts of its own: a shell that holds it until its stdin is closed.
//!
//! So nothing outlives the test, however that ends: the kernel takes the namespace away with the last process in it, and with
//! the namespace its links, addresses and rules. Nothing of the machine's own network is touched.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where Debian has the tools; nothing else of the environment is needed.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run, and Debian's package that has it.
const TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ss", "iproute2"),
    ("unshare", "util-linux"),
];

/// The folder `$1` holds what the resolver reads. An empty /run keeps the services of the machine out of reach: a name server's
/// cache, and the bus.
const HOLD: &str = r#"
for file in hosts nsswitch.conf resolv.conf; do
    mount --bind "$1/$file" "/etc/$file" || exit
done
mount -t tmpfs -o size=1m run /run && ip link set lo up && echo up && read -r _
"#;

pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// A namespace with a loopback and nothing else. `etc` has `hosts`, `nsswitch.conf` and `resolv.conf`.
    pub(crate) fn new(etc: &Path) -> Self {
        assert!(geteuid().is_root(), "only root may make networks; hint: run this test with sudo");
        for (tool, package) in TOOLS {
            let is_there = PATH.split(':').any(|folder| Path::new(folder).join(tool).exists());
            assert!(is_there, "{tool} is not there; hint: `sudo apt-get install {package}`");
        }
        let mut holder = tool("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", HOLD, "holder"])
            .arg(etc)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare(1) starts");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut said).expect("text");
        let namespace = Self { holder };
        assert_eq!(said, "up\n", "no network of its own; hint: this test needs namespaces and mounts");
        namespace
    }

    /// Of a process in it.
    pub(crate) fn id(&self) -> u32 {
        self.holder.id()
    }

    /// Moves this thread into its network; what the thread starts from then on is in it too.
    pub(crate) fn enter(&self) {
        let link = File::open(format!("/proc/{}/ns/net", self.id())).expect("its holder runs");
        move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
    }

    /// The words before a command line that put it into this namespace. What is run becomes the process itself, and dies with
    /// the thread that started it.
    pub(crate) fn within(&self) -> [String; 9] {
        let id = self.id().to_string();
        ["nsenter", "--target", &id, "--net", "--mount", "--", "setpriv", "--pdeathsig", "KILL"].map(str::to_owned)
    }

    /// A command line in it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let [enter, within @ ..] = self.within();
        let mut command = tool(&enter);
        command.args(within).args(words);
        command
    }

    /// Runs a line of the shell in it; what it prints. Holds up the thread.
    pub(crate) fn sh(&self, line: &str) -> String {
        told(line, self.command(&["sh", "-c", line]).output())
    }

    /// Hands nft(8) a list of rules, in it.
    pub(crate) fn nft(&self, rules: &str) {
        let mut nft = self
            .command(&["nft", "--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter(1) starts");
        nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("it reads");
        told(rules, nft.wait_with_output());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The shell reads the end of its stdin, and ends; it may have ended before.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command
}

fn told(what: &str, output: std::io::Result<Output>) -> String {
    let output = output.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}
