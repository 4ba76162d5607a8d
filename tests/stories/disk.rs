//! A disk that fails under a running daemon: recorded commands are refused, everything else goes on, and it heals.
//!
//! The full disk is a small tmpfs, for which a story needs root. The failing fsync is strace's.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::both::on_both_clouds;
use crate::cloud::Kind;
use crate::device::{Device, PATIENCE, Setup};
use crate::process::{Process, log, logged};
use crate::strace::Strace;

on_both_clouds! {
    a_full_disk_refuses_what_needs_it_and_heals_when_space_returns,
    a_disk_that_is_full_at_the_start_is_one_that_may_have_space_later,
    a_disk_that_is_read_only_at_the_start_is_used_once_it_is_not,
    a_failing_sync_refuses_what_needs_it_and_heals_when_it_works_again,
}

/// Long enough for the outcome of a run to be told, were it told while the disk is broken.
const TOLD: Duration = Duration::from_secs(4);

/// A payload longer than any room that may be left at the end of a page.
fn large() -> String {
    format!("\"{}\"", "x".repeat(6_000))
}

/// What a story does with a disk that is broken before `slow` ends, and after it was mended.
struct Outage {
    device: Device,
    process: Process,
    logins: u64,
}

impl Outage {
    /// A device with a command that runs and was acknowledged.
    async fn coming(mut device: Device) -> Self {
        let process = Process::online(&mut device).await;
        device.send("count/before", "").await;
        device.answer("before", 200).await;
        let logins = device.logins().await;
        device.send("count/slow", &device.held().to_string()).await;
        Self { device, process, logins }
    }

    /// While the disk is broken: what needs it is refused with this reason, what does not works.
    async fn while_on(&mut self, reason: &str) {
        let device = &mut self.device;
        device.send("count/refused", &large()).await;
        let refused = device.answer("refused", 503).await;
        let why = refused["payload"]["error"].as_str().expect("a reason");
        assert!(why.contains(reason) && why.contains("/state/journal"), "{why}");
        device.send("echo/e-1", r#""still here""#).await;
        assert_eq!(device.answer("e-1", 200).await["payload"], "still here");
        // The next one is refused before anything is tried.
        device.send("count/refused-too", "").await;
        device.answer("refused-too", 503).await;

        device.let_go();
        tokio::time::sleep(TOLD).await;
        device.send("echo/e-2", "").await;
        device.answer("e-2", 200).await;
        let told = device.answers_to("slow");
        assert!(told.is_empty(), "an outcome that is not on disk is not told: {told:?}");
        assert!(!device.counted().contains_key("refused"), "what was refused did not run");
        assert!(log(device).contains(reason), "{}", log(device));
    }

    /// After it was mended: healed without a restart, nothing lost, nothing run twice.
    async fn afterwards(mut self) {
        let device = &mut self.device;
        let told = device.answer("slow", 200).await;
        device.send("count/refused", &large()).await;
        device.answer("refused", 200).await;
        let logins = device.logins().await;
        assert_eq!(logins, self.logins, "it stayed connected");
        assert!(log(device).contains("the journal can be written again"), "{}", log(device));

        // What was told is what is on disk.
        self.process.kill().await;
        let process = Process::online(device).await;
        device.send("count/slow", &device.held().to_string()).await;
        device.send("count/before", "").await;
        device.send("count/after", "").await;
        device.answer("after", 200).await;
        assert_eq!(device.answers_to("slow"), [told]);
        let once = ["before", "slow", "refused", "after"].map(|id| (id.to_owned(), 1));
        assert_eq!(device.counted(), once.into());
        process.stop().await;
    }
}

async fn a_full_disk_refuses_what_needs_it_and_heals_when_space_returns(kind: Kind) {
    let device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let disk = SmallDisk::mount(device.path("state"));
    let mut outage = Outage::coming(device).await;
    disk.fill();
    outage.while_on("No space left on device").await;
    disk.make_space();
    outage.afterwards().await;
}

async fn a_disk_that_is_full_at_the_start_is_one_that_may_have_space_later(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let disk = SmallDisk::mount(device.path("state"));
    disk.fill();
    let process = Process::online(&mut device).await;
    device.send("count/c-1", "").await;
    let refused = device.answer("c-1", 503).await;
    let why = refused["payload"]["error"].as_str().expect("a reason");
    assert!(why.contains("No space left on device"), "{why}");
    device.send("echo/e-1", "").await;
    device.answer("e-1", 200).await;
    disk.make_space();
    logged(&device, "the journal can be written again").await;
    device.send("count/c-1", "").await;
    device.answer("c-1", 200).await;
    assert_eq!(device.logins().await, 1, "it stayed connected");
    process.kill().await;
    let process = Process::online(&mut device).await;
    device.send("count/c-1", "").await;
    device.send("count/c-2", "").await;
    device.answer("c-2", 200).await;
    assert_eq!(device.counted(), ["c-1", "c-2"].map(|id| (id.to_owned(), 1)).into());
    process.stop().await;
}

async fn a_disk_that_is_read_only_at_the_start_is_used_once_it_is_not(kind: Kind) {
    let mut device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let disk = SmallDisk::mount(device.path("state"));
    // First without a journal, then with one.
    for id in ["c-1", "c-2"] {
        disk.remount("ro");
        let process = Process::online(&mut device).await;
        device.send(&format!("count/{id}"), "").await;
        let refused = device.answer(id, 503).await;
        let why = refused["payload"]["error"].as_str().expect("a reason");
        assert!(why.contains("Read-only file system") && why.contains("make this file system writable"), "{why}");
        disk.remount("rw");
        logged(&device, "the journal can be written again").await;
        device.send(&format!("count/{id}"), "").await;
        device.answer(id, 200).await;
        process.stop().await;
        std::fs::remove_file(device.path("log")).expect("the log");
    }
}

async fn a_failing_sync_refuses_what_needs_it_and_heals_when_it_works_again(kind: Kind) {
    let device = Device::new(Setup { answers: "events", ..Setup::on(kind) }).await;
    let mut outage = Outage::coming(device).await;
    let fault = Strace::fail(&outage.device, &outage.process, "fsync,fdatasync", "EIO").await;
    outage.while_on("Input/output error").await;
    new_file_is_tried(&outage.device).await;
    let calls = fault.end().await;
    assert!(calls.iter().any(|call| call.is_injected && call.name == "fdatasync"), "{calls:#?}");
    assert!(calls.iter().any(|call| call.is_injected && call.name == "fsync"), "a new file was tried: {calls:#?}");
    outage.afterwards().await;
}

/// Waits until strace has made the sync of a new file fail: the daemon tries one when a pause after the first fault is over.
async fn new_file_is_tried(device: &Device) {
    let is_fsync = |line: &str| line.contains(" fsync") && line.ends_with("(INJECTED)");
    let tried = async {
        while !std::fs::read_to_string(device.path("strace")).expect("text").lines().any(is_fsync) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Where it is not tried, the calls are shown by who ends strace.
    let _ = tokio::time::timeout(PATIENCE, tried).await;
}

/// A tmpfs of a few pages over the state folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k,mode=0700", "twinagent-test"])
            .arg(&at)
            .output()
            .expect("mount(8) starts");
        assert!(
            mounted.status.success(),
            "no tmpfs can be mounted; hint: this story needs root: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(at)
    }

    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).expect("a file");
        let full = loop {
            if let Err(error) = ballast.write_all(&[0; 4_096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    fn remount(&self, how: &str) {
        let option = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &option]).arg(&self.0).status().expect("mount(8) starts");
        assert!(done.success(), "{option}");
    }

    fn make_space(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: when a story fails, the daemon may still be in it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
