//! The daemon of a device as a process of its own, for stories that kill it or watch it from outside.
//!
//! Folders, key and configuration are those of the [`Device`]; the log goes to a file beside them. The process is ended
//! through its `Child` only, and at the latest when this value is dropped.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::device::{Device, PATIENCE};

pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(device: &Device) -> Self {
        Self::start_with(device, &[])
    }

    /// With more variables in its environment.
    pub(crate) fn start_with(device: &Device, variables: &[(&str, &str)]) -> Self {
        Self::start_below(device, &[], variables)
    }

    /// As the child of another program that is given its command line, and which must become the daemon.
    pub(crate) fn start_below(device: &Device, above: &[&str], variables: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(device.path("log")).expect("a file for the log");
        let mut words = above.iter().copied().chain([env!("CARGO_BIN_EXE_twinagent-counting")]);
        let child = Command::new(words.next().expect("a program"))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CONFIGURATION_DIRECTORY", device.path("etc"))
            .env("STATE_DIRECTORY", device.path("state"))
            .env("RUNTIME_DIRECTORY", device.path("run"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", device.bus())
            .env("TWINAGENT_COUNT_FILE", device.path("counted"))
            .envs(device.variables())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        Self { child }
    }

    /// The daemon of this device, once it is connected.
    pub(crate) async fn online(device: &mut Device) -> Self {
        let process = Self::start(device);
        device.wait_until_ready().await;
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the end that no program can prepare for.
    pub(crate) async fn kill(mut self) {
        assert_eq!(self.child.try_wait().expect("our child"), None, "it ran until it was killed");
        self.child.kill().expect("our child");
        self.end().await;
    }

    /// SIGTERM, as systemd stops it.
    pub(crate) fn terminate(&self) {
        kill_process(pid(&self.child), Signal::TERM).expect("our child");
    }

    /// SIGSTOP, until [`Self::thaw`]: there, and doing nothing.
    pub(crate) fn freeze(&self) {
        kill_process(pid(&self.child), Signal::STOP).expect("our child");
    }

    pub(crate) fn thaw(&self) {
        kill_process(pid(&self.child), Signal::CONT).expect("our child");
    }

    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(pid(&self.child), Signal::HUP).expect("our child");
    }

    /// Waits until it has ended. The caller's cloud goes on meanwhile.
    pub(crate) async fn end(mut self) -> ExitStatus {
        ended(&mut self.child).await
    }

    /// Ends it as systemd does, and takes any other end than a good one for a failure.
    pub(crate) async fn stop(self) {
        self.terminate();
        let status = self.end().await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a child without holding up the cloud that runs in this thread.
pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    let wait = async {
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the process ends")
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// All that daemons of this device have logged so far.
pub(crate) fn log(device: &Device) -> String {
    std::fs::read_to_string(device.path("log")).expect("the log is text")
}

/// Waits until one of them has logged this.
pub(crate) async fn logged(device: &Device, text: &str) {
    let wait = async {
        while !log(device).contains(text) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(in_time, "{text:?} is not logged: {}", log(device));
}
