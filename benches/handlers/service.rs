//! The handlers' service as a process, with the socket that systemd would give it, and what it holds.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use twinagent::varlink::handlers::SOCKET;

/// Ended when dropped.
pub(crate) struct Service {
    child: Child,
    /// In memory, as `/run` is: each run makes a socket there, which costs a disk more than a program.
    _own: TempDir,
}

impl Service {
    /// Beside the agent that has these folders.
    pub(crate) fn start(folder: &Path) -> Self {
        let sockets = folder.join("run-handlers");
        fs::create_dir(&sockets).expect("a folder");
        let own = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let listener = UnixListener::bind(sockets.join(SOCKET)).expect("a socket");
        let log = File::create(folder.join("log.handlers")).expect("a file for the log");
        let child = Command::new(env!("CARGO_BIN_EXE_twinagent"))
            .arg("run-handlers")
            .env("CONFIGURATION_DIRECTORY", folder.join("etc"))
            .env("STATE_DIRECTORY", own.path())
            .env("RUNTIME_DIRECTORY", own.path())
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        Self { child, _own: own }
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Its resident memory, in KiB.
    pub(crate) fn memory(&self) -> String {
        let status = fs::read_to_string(self.proc("status")).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a known line of proc(5)");
        line.split_whitespace().next().expect("a number").to_owned()
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the process lives").count()
    }

    /// Those that nobody has waited for count, too.
    pub(crate) fn children(&self) -> usize {
        let tasks = fs::read_dir(self.proc("task")).expect("the process lives").flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children.map(|children| children.split_whitespace().count()).sum()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
