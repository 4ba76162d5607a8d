//! A device and its cloud at the two ends of a wire, and what can go wrong on the wire.
//!
//! The cloud lives in the story's own thread, whose network is the far end; the daemon is a process at the near end. A fault
//! takes packets where they arrive, at both ends, so that nobody who sends one learns of it.

use std::collections::HashMap;
use std::fs;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::program::{Told, finish, program};

/// The broker's name, and the addresses on the wire.
pub(crate) const NAME: &str = "broker.example";
pub(crate) const CLOUD: &str = "10.77.0.1";
pub(crate) const DEVICE: &str = "10.77.0.2";
/// An address of the cloud's machine where nothing is served. The resolver prefers it: it has more bits in common with the
/// device's (RFC 6724, rule 9).
pub(crate) const OTHER: &str = "10.77.0.3";

/// Of most stories.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// What may come on top of a time that is promised, on a machine with much else to do.
pub(crate) const MARGIN: Duration = Duration::from_secs(6);

const CONFIG: &str = "[session]\nkeep_alive = \"4s\"\nconnect_timeout = \"5s\"\nbackoff_max = \"1s\"\n";

/// Everything of IP is lost. ARP is not: there is a router on most ways, and it is still there.
pub(crate) const DEAD: &str = "meta protocol { ip, ip6 } drop";

/// How often a caller in the cloud sends its command again when it is not acknowledged.
const AGAIN: Duration = Duration::from_secs(2);

/// Who knows the broker's address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    ByFile,
    ByDns,
}

/// The setup of most stories.
pub(crate) fn setup(cloud: Kind) -> Setup {
    Setup { tls: true, listen: "10.77.0.1:0", host: NAME, config: CONFIG, ..Setup::on(cloud) }
}

pub(crate) struct Site {
    pub(crate) device: Device,
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
    _etc: TempDir,
}

/// Lives a story on a thread at the far end of a wire of its own.
pub(crate) fn story(known: Known, setup: Setup, plot: impl AsyncFnOnce(Site) + Send) {
    let thread = || {
        let etc = etc(known);
        let (near, far) = (Namespace::new(etc.path()), Namespace::new(etc.path()));
        far.enter();
        far.sh(&format!("ip link add wire type veth peer name wire netns {}", near.id()));
        far.sh(&format!("ip addr add {CLOUD}/24 dev wire && ip addr add {OTHER}/24 dev wire && ip link set wire up"));
        near.sh(&format!(
            "ip addr add {DEVICE}/24 dev wire && ip link set wire up && ip route add default via {CLOUD}"
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let device = Device::new(setup).await;
            plot(Site { device, near, far, _etc: etc }).await;
        });
    };
    let told = std::thread::scope(|scope| scope.spawn(thread).join());
    if let Err(panic) = told {
        resume_unwind(panic);
    }
}

/// What a resolver reads.
fn etc(known: Known) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    let broker = if known == Known::ByFile { format!("{CLOUD} {NAME}\n") } else { String::new() };
    write("hosts", &format!("127.0.0.1 localhost\n{broker}"));
    write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
    write("resolv.conf", &format!("nameserver {CLOUD}\n"));
    folder
}

impl Site {
    // === The wire

    /// From now on packets at both ends meet this rule of nft(8).
    pub(crate) fn break_wire(&self, rule: &str) {
        let table = format!(
            "table netdev fault {{ chain wire {{ type filter hook ingress device wire priority 0; {rule}; }}; }}"
        );
        for end in [&self.near, &self.far] {
            end.nft(&table);
        }
    }

    pub(crate) fn mend_wire(&self) {
        for end in [&self.near, &self.far] {
            end.nft("delete table netdev fault");
        }
    }

    /// How many packets a rule with a `counter` has dropped.
    pub(crate) fn dropped(&self) -> u64 {
        let counted = |end: &Namespace| {
            let table = end.sh("nft list table netdev fault");
            let count = table.split_once("counter packets ").and_then(|(_, rest)| rest.split_whitespace().next());
            count.and_then(|count| count.parse::<u64>().ok()).expect("a rule that counts")
        };
        counted(&self.near) + counted(&self.far)
    }

    // === The daemon

    pub(crate) fn start(&self) -> Process {
        let within = self.near.within();
        Process::start_below(&self.device, &within.each_ref().map(String::as_str), &[])
    }

    pub(crate) async fn online(&mut self) -> Process {
        let process = self.start();
        self.device.wait_until_ready().await;
        process
    }

    pub(crate) fn log(&self) -> String {
        process::log(&self.device)
    }

    /// How many lines of the log have this in them.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until the log has so many lines with this, for at most so long; how long it took.
    pub(crate) async fn tells(&self, text: &str, times: usize, within: Duration) -> Duration {
        let begun = Instant::now();
        while self.logged(text) < times {
            assert!(begun.elapsed() < within, "{text:?} is not logged within {within:?}:\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// The same, without a moment for the cloud, which is frozen meanwhile.
    pub(crate) fn tells_while_frozen(&self, text: &str, times: usize, within: Duration) -> Duration {
        let begun = Instant::now();
        while self.logged(text) < times {
            assert!(begun.elapsed() < within, "{text:?} is not logged within {within:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    /// The reason of the last end of a connection, as the log has it.
    pub(crate) fn last_end(&self) -> String {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("not connected: ")).expect("a connection has ended");
        let reason = line.split_once("not connected: ").expect("found").1;
        reason.split("; hint: ").next().unwrap_or(reason).to_owned()
    }

    /// The command line of the device, with this on its stdin.
    pub(crate) async fn ask(&self, words: &[&str], input: &[u8]) -> Told {
        finish(program(&self.device, words), input).await
    }

    // === The caller in the cloud

    /// Sends a command, and again under its id until the device has acknowledged it.
    pub(crate) async fn send(&self, subfolder: &str, payload: &str) {
        let begun = Instant::now();
        let send = || self.device.cloud.send(subfolder, payload);
        while !matches!(timeout(AGAIN, send()).await, Ok(Ok(()))) {
            assert!(begun.elapsed() < PATIENCE * 2, "{subfolder} is not acknowledged:\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has the device count this id, and waits for the answer; how long it took.
    pub(crate) async fn counts(&mut self, id: &str) -> Duration {
        let begun = Instant::now();
        self.send(&format!("count/{id}"), "").await;
        self.device.answer(id, 200).await;
        begun.elapsed()
    }

    /// Ends the story: the daemon stops, and has run each of these commands exactly once.
    pub(crate) async fn ends(self, process: Process, ids: &[&str]) {
        process.stop().await;
        let once: HashMap<String, usize> = ids.iter().map(|id| ((*id).to_owned(), 1)).collect();
        assert_eq!(self.device.counted(), once, "each command runs once:\n{}", self.log());
    }
}
