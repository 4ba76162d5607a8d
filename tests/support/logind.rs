//! A bus of a test's own, with a logind on it that says what the test wants. The real one is asked by the system tests.
//!
//! It answers in the runtime in which it was started, or on a thread of its own where the test has none.

#![allow(dead_code, reason = "each suite that takes this in needs another part of it")]

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, connection, fdo, interface};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";

/// A bus, for as long as the test runs.
pub(crate) struct Bus {
    daemon: Child,
    socket: PathBuf,
    /// Of a bus that has one of its own.
    folder: Option<tempfile::TempDir>,
}

/// What logind is to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says {
    /// To `CanReboot`. `silence`: never anything. An error, where it begins with a capital letter.
    pub(crate) right: &'static str,
    /// What, who, why and mode of each lock; `None`: it does not tell.
    pub(crate) locks: Option<&'static [[&'static str; 4]]>,
}

/// Nothing stands in the way.
pub(crate) const FREE: Says = Says { right: "yes", locks: Some(&[]) };

/// A package manager is at work.
pub(crate) const HELD: Says = Says {
    right: "challenge",
    locks: Some(&[["shutdown:sleep", "apt", "package upgrade", "block"], ["sleep", "x", "y", "block"]]),
};

/// A logind, for as long as this value lives.
pub(crate) struct Logind {
    connection: Connection,
    pub(crate) says: watch::Sender<Says>,
    /// Each call of `Reboot`, and whether it asked for a dialogue.
    pub(crate) reboots: mpsc::Receiver<bool>,
    /// Each call of `PowerOff`, likewise.
    pub(crate) power_offs: mpsc::Receiver<bool>,
    /// Our end of each lock that was taken: it reads as ended once the lock is dropped.
    pub(crate) locks: mpsc::Receiver<UnixStream>,
    preparing: watch::Sender<bool>,
}

/// What, who, why, mode, user and process of a lock.
type Entry = (String, String, String, String, u32, u32);

struct Manager {
    says: watch::Receiver<Says>,
    reboots: mpsc::Sender<bool>,
    power_offs: mpsc::Sender<bool>,
    locks: mpsc::Sender<UnixStream>,
    preparing: watch::Receiver<bool>,
}

impl Bus {
    pub(crate) fn start() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let socket = folder.path().join("bus");
        let mut bus = Self::at(socket);
        bus.folder = Some(folder);
        bus
    }

    /// A bus that listens here.
    pub(crate) fn at(socket: PathBuf) -> Self {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address", "--address"])
            .arg(format!("unix:path={}", socket.display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon runs; hint: apt install dbus-daemon");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut line).expect("it listens now");
        Self { daemon, socket, folder: None }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().expect("it was ours");
        self.daemon.wait().expect("it ends");
    }
}

impl Logind {
    pub(crate) async fn start(bus: &str, says: Says) -> Self {
        let (says, saying) = watch::channel(says);
        let ((reboots, asked), (locks, taken)) = (mpsc::channel(8), mpsc::channel(8));
        let (power_offs, asked_off) = mpsc::channel(8);
        let (preparing, prepared) = watch::channel(false);
        let manager = Manager { says: saying, reboots, power_offs, locks, preparing: prepared };
        let builder = connection::Builder::address(bus).expect("an address");
        let serving = builder.name(NAME).expect("a name").serve_at(PATH, manager).expect("a path");
        let connection = serving.build().await.expect("the bus answers");
        Self { connection, says, reboots: asked, power_offs: asked_off, locks: taken, preparing }
    }

    /// Tells everybody that a shutdown begins, or that it was given up.
    pub(crate) async fn prepare(&self, begins: bool) {
        self.preparing.send_replace(begins);
        let emitter = SignalEmitter::new(&self.connection, PATH).expect("a path");
        Manager::prepare_for_shutdown(&emitter, begins).await.expect("sent");
    }
}

/// A logind on a thread of its own; it ends with the sender.
pub(crate) fn on_a_thread(bus: &str, says: Says) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let bus = bus.to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let _logind = Logind::start(&bus, says).await;
            ready.send(()).expect("the test waits");
            let _ = ended.await;
        });
    });
    is_ready.recv().expect("it starts");
    end
}

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    async fn can_reboot(&self) -> fdo::Result<String> {
        let right = self.says.borrow().right;
        if right == "silence" {
            std::future::pending::<()>().await;
        }
        if right.starts_with(char::is_uppercase) {
            return Err(fdo::Error::AccessDenied(right.to_owned()));
        }
        Ok(right.to_owned())
    }

    async fn reboot(&self, interactive: bool) -> fdo::Result<()> {
        self.reboots.send(interactive).await.expect("somebody listens");
        if self.says.borrow().right == "yes" { Ok(()) } else { Err(fdo::Error::AccessDenied("not you".to_owned())) }
    }

    async fn can_power_off(&self) -> fdo::Result<String> {
        self.can_reboot().await
    }

    async fn power_off(&self, interactive: bool) -> fdo::Result<()> {
        self.power_offs.send(interactive).await.expect("somebody listens");
        if self.says.borrow().right == "yes" { Ok(()) } else { Err(fdo::Error::AccessDenied("not you".to_owned())) }
    }

    fn list_inhibitors(&self) -> fdo::Result<Vec<Entry>> {
        let entry = |[what, who, why, mode]: &[&str; 4]| {
            ((*what).to_owned(), (*who).to_owned(), (*why).to_owned(), (*mode).to_owned(), 0, 1)
        };
        let locks = self.says.borrow().locks;
        locks
            .map(|locks| locks.iter().map(entry).collect())
            .ok_or_else(|| fdo::Error::Failed("it is broken".to_owned()))
    }

    async fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::zvariant::OwnedFd {
        assert_eq!((what, who, mode), ("shutdown", "twinagent", "delay"));
        assert!(!why.is_empty(), "people read it in `systemd-inhibit`");
        let (theirs, ours) = UnixStream::pair().expect("a pair");
        self.locks.send(ours).await.expect("somebody listens");
        OwnedFd::from(theirs).into()
    }

    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> bool {
        *self.preparing.borrow()
    }

    #[zbus(signal)]
    async fn prepare_for_shutdown(emitter: &SignalEmitter<'_>, active: bool) -> zbus::Result<()>;
}
