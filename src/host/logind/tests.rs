//! Against a bus of the test's own, with a logind that says what the test wants. The real one is asked by the system
//! tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc;
use zbus::interface;
use zbus::object_server::SignalEmitter;

use super::*;

/// A bus, for as long as the test runs.
struct Bus {
    daemon: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Bus {
    fn start() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address", "--address"])
            .arg(format!("unix:path={}", folder.path().join("bus").display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon runs; hint: apt install dbus-daemon");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
        Self { daemon, address: address.trim().to_owned(), _folder: folder }
    }

    async fn connect(&self) -> Connection {
        let builder = connection::Builder::address(self.address.as_str()).expect("an address");
        builder.method_timeout(Duration::from_millis(500)).build().await.expect("the bus answers")
    }

    async fn logind(&self) -> Logind {
        Logind::on(&self.connect().await).await.expect("a proxy")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().expect("it was ours");
        self.daemon.wait().expect("it ends");
    }
}

/// What a test has it say.
struct Manager {
    right: &'static str,
    reboots: mpsc::Sender<bool>,
}

#[expect(clippy::unused_self, reason = "the macro calls methods")]
#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    async fn can_reboot(&self) -> String {
        if self.right == "silence" {
            std::future::pending::<()>().await;
        }
        self.right.to_owned()
    }

    async fn reboot(&self, interactive: bool) -> zbus::fdo::Result<()> {
        self.reboots.send(interactive).await.expect("somebody listens");
        if self.right == "yes" { Ok(()) } else { Err(zbus::fdo::Error::AccessDenied("not you".to_owned())) }
    }

    fn list_inhibitors(&self) -> Vec<(String, String, String, String, u32, u32)> {
        let entry = |what: &str, who: &str, mode: &str| (what.into(), who.into(), "why".into(), mode.into(), 0, 1);
        vec![
            entry("shutdown:sleep", "apt", "block"),
            entry("sleep", "player", "block"),
            entry("shutdown", "net", "delay"),
            entry("handle-power-key:shutdown", "desk", "block-weak"),
        ]
    }

    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::zvariant::OwnedFd {
        assert_eq!((what, who, mode), ("shutdown", "twinagent", "delay"));
        assert!(!why.is_empty(), "people read it in `systemd-inhibit`");
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        OwnedFd::from(ours).into()
    }

    #[zbus(signal)]
    async fn prepare_for_shutdown(emitter: &SignalEmitter<'_>, active: bool) -> zbus::Result<()>;
}

/// The connection must live as long as it is to answer.
async fn serve(bus: &Bus, right: &'static str) -> (Connection, mpsc::Receiver<bool>) {
    let (reboots, asked) = mpsc::channel(4);
    let builder = connection::Builder::address(bus.address.as_str()).expect("an address");
    let serving = builder.name(NAME).expect("a name").serve_at(PATH, Manager { right, reboots }).expect("a path");
    (serving.build().await.expect("the bus answers"), asked)
}

#[tokio::test]
async fn each_word_of_logind_is_understood() {
    let cases = [
        ("yes", Right::Yes),
        ("challenge", Right::Challenge),
        ("no", Right::No),
        ("na", Right::Impossible),
        ("inhibitor-blocked", Right::No),
    ];
    for (word, right) in cases {
        let bus = Bus::start();
        let (_serving, _asked) = serve(&bus, word).await;
        assert_eq!(bus.logind().await.can_reboot().await.expect("an answer"), right, "{word}");
    }
}

#[tokio::test]
async fn a_reboot_is_asked_for_without_a_dialogue_and_a_refusal_is_told() {
    let bus = Bus::start();
    let (_serving, mut asked) = serve(&bus, "challenge").await;
    let error = bus.logind().await.reboot().await.expect_err("it is refused");
    assert!(error.to_string().contains("not you"), "{error}");
    assert_eq!(asked.recv().await, Some(false));
}

#[tokio::test]
async fn those_who_object_to_a_shutdown_are_told_from_others() {
    let bus = Bus::start();
    let (_serving, _asked) = serve(&bus, "yes").await;
    let logind = bus.logind().await;
    let inhibitors = logind.inhibitors().await.expect("a list");
    let names: Vec<&str> = inhibitors.iter().map(|inhibitor| inhibitor.who.as_str()).collect();
    assert_eq!(names, ["apt", "desk"]);
    logind.delay().await.expect("a lock");
}

#[tokio::test]
async fn a_shutdown_is_heard_and_so_is_the_end_of_the_bus() {
    let bus = Bus::start();
    let (serving, _asked) = serve(&bus, "yes").await;
    let mut shutdowns = bus.logind().await.shutdowns().await.expect("signals");
    let emitter = SignalEmitter::new(&serving, PATH).expect("a path");
    Manager::prepare_for_shutdown(&emitter, true).await.expect("sent");
    Manager::prepare_for_shutdown(&emitter, false).await.expect("sent");
    assert_eq!((shutdowns.next().await, shutdowns.next().await), (Some(true), Some(false)));
    drop((serving, bus));
    assert_eq!(shutdowns.next().await, None);
}

#[tokio::test]
async fn a_bus_without_logind_and_one_that_is_silent_are_errors() {
    let bus = Bus::start();
    assert!(bus.logind().await.can_reboot().await.is_err(), "nobody is called so");
    let (_serving, _asked) = serve(&bus, "silence").await;
    assert!(bus.logind().await.can_reboot().await.is_err(), "an answer that does not come is none");
}
