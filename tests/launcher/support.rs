//! The service in a process of its own, programs for it, and the agent's handler that asks it.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use twinagent::config::Folders;
use twinagent::config::manifest::{Action, Manifest};
use twinagent::handler::program::Program;
use twinagent::handler::{Context, Handler as _, NEWS, Stop};
use twinagent::launcher::{Find, Launcher, listener};
use twinagent::model::command::{Class, Command, CommandId, DeviceId, Key, Method, MethodSpec, Outcome};
use twinagent::model::digest::Digest;
use twinagent::model::payload::{Member, PayloadRules, Shape};
use twinagent::model::runs::{Run, RunId, Runs, To};
use twinagent::varlink::handlers::SOCKET;

/// Far beyond what anything here takes; a wait that reaches it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// So long the service waits for what it has killed to be gone, before it tells the outcome of the run.
const CLEARED: Duration = Duration::from_secs(2);

const SERVICE: &str = "support::the_service";
const SETTINGS: &str = "LAUNCHER_SETTINGS";

/// How the service is started.
pub(crate) struct Settings {
    pub(crate) callers: Vec<u32>,
    pub(crate) owners: Vec<u32>,
    pub(crate) idle: Duration,
    /// The user that it runs as; only root can choose.
    pub(crate) user: Option<u32>,
    /// Whether it is watched, as `WatchdogSec=` does: [`Service::manager`] hears it.
    pub(crate) is_watched: bool,
}

/// The service, and what systemd holds for it. Dropping it ends it.
pub(crate) struct Service {
    folder: TempDir,
    listener: UnixListener,
    settings: Settings,
    /// What it tells its manager.
    pub(crate) manager: UnixDatagram,
    process: Option<Child>,
}

/// A method, as its manifest has it.
pub(crate) struct Given {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) time_limit: Duration,
    pub(crate) grace: Duration,
    pub(crate) output_limit: usize,
    pub(crate) is_serial: bool,
    /// Its payload is `{"port": 1}`, or another whole number.
    pub(crate) has_rules: bool,
}

/// A run that goes on.
pub(crate) struct Running {
    pub(crate) task: tokio::task::JoinHandle<Outcome>,
    pub(crate) stop: watch::Sender<Option<Stop>>,
    pub(crate) news: mpsc::Receiver<(RunId, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        let own = own_user();
        Self { callers: vec![own], owners: vec![0, own], idle: LIMIT, user: None, is_watched: false }
    }
}

impl Given {
    pub(crate) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            time_limit: Duration::from_secs(60),
            grace: Duration::from_secs(1),
            output_limit: 16 * 1024,
            is_serial: false,
            has_rules: false,
        }
    }
}

pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A folder whose parents are closed to others, which those of `/tmp` are not.
pub(crate) fn closed_folder() -> TempDir {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    folder
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let folder = closed_folder();
        for name in ["agent-handlers", "notify", "handlers.d", "bin"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o755)).expect("a mode");
        }
        if let Some(user) = settings.user {
            std::os::unix::fs::chown(folder.path().join("notify"), Some(user), None).expect("root gives it away");
        }
        let listener = UnixListener::bind(folder.path().join("agent-handlers").join(SOCKET)).expect("a socket");
        let manager = UnixDatagram::bind(folder.path().join("manager")).expect("a socket");
        manager.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        let mut service = Self { folder, listener, settings, manager, process: None };
        service.start_again();
        service
    }

    /// As systemd does, when somebody connects.
    pub(crate) fn start_again(&mut self) {
        let settings = json!({
            "folder": self.folder.path(),
            "callers": self.settings.callers,
            "owners": self.settings.owners,
            "idle": u64::try_from(self.settings.idle.as_millis()).expect("a test's time"),
        });
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let stdin: OwnedFd = self.listener.try_clone().expect("a descriptor").into();
        // Whoever runs the tests may have left descriptors open, which systemd does not.
        let closing =
            "for fd in /proc/self/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && eval \"exec $n>&-\"; done; exec \"$@\"";
        let mut command = Process::new("/bin/bash");
        command.args(["-c", closing, "bash"]).arg(std::env::current_exe().expect("this test"));
        command.args(["--exact", SERVICE, "--nocapture"]).env(SETTINGS, settings.to_string());
        command.stdin(stdin).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        if self.settings.is_watched {
            command.env("NOTIFY_SOCKET", self.folder.path().join("manager")).env("WATCHDOG_USEC", "2000000");
        }
        if let Some(user) = self.settings.user {
            command.uid(user).gid(user);
        }
        self.process = Some(command.spawn().expect("this test starts"));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.process.as_ref().expect("it runs"));
        rustix::process::kill_process(pid, signal).expect("it is ours");
    }

    /// Waits for its end; how long it took, if it ended well.
    pub(crate) fn ended(&mut self) -> Result<Duration, String> {
        let begun = Instant::now();
        let process = self.process.as_mut().expect("it runs");
        loop {
            if let Some(status) = process.try_wait().expect("it is ours") {
                let took = begun.elapsed();
                self.process = None;
                return if status.success() { Ok(took) } else { Err(format!("{status}")) };
            }
            assert!(begun.elapsed() < LIMIT, "the service does not end; {}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it has ended, which it must in good order.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.process.as_mut().and_then(|process| process.try_wait().expect("it is ours"));
        if let Some(status) = status {
            assert!(status.success(), "{status}; {}", self.told());
        }
        status.is_some()
    }

    /// Its log.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Puts a program there.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join("bin").join(name);
        // Written under another name, and by nobody any more when it is run: another thread of this test may start a
        // process meanwhile, which has it open for a moment.
        let status = Process::new("/bin/sh")
            .args(["-c", "printf '%s' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(text)
            .status()
            .expect("a shell");
        assert!(status.success());
        path
    }

    /// Copies a program, by a process of its own as in [`Self::program`].
    pub(crate) fn copy(from: &Path, to: &Path) {
        let status = Process::new("cp").arg(from).arg(to).status().expect("cp");
        assert!(status.success());
    }

    /// Installs a manifest, and gives the agent's handler for it.
    pub(crate) fn handler(&self, name: &str, given: &Given) -> Program {
        let text = json!({
            "program": given.program,
            "arguments": given.arguments,
            "timeLimit": u64::try_from(given.time_limit.as_millis()).expect("a test's time"),
            "grace": u64::try_from(given.grace.as_millis()).expect("a test's time"),
            "outputLimit": given.output_limit,
            "isSerial": given.is_serial,
            "hasRules": given.has_rules,
        });
        fs::write(self.path().join("handlers.d").join(name), text.to_string()).expect("a manifest");
        self.installed(name)
    }

    /// The agent's handler for a manifest that is there.
    pub(crate) fn installed(&self, name: &str) -> Program {
        let folders = Folders { runtime: self.path().join("agent"), ..Folders::from_env() };
        Program::new(&folders, &find(self.path(), name).expect("a manifest"))
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, given: &Given, payload: Value) -> Outcome {
        let handler = self.handler("one.toml", given);
        let ended = handler.run(&command(payload), Context::alone());
        tokio::time::timeout(LIMIT, ended).await.unwrap_or_else(|_| panic!("no outcome; {}", self.told()))
    }

    /// Runs a shell script to its end.
    pub(crate) async fn script(&self, text: &str, payload: Value) -> Outcome {
        let program = self.program("script", &format!("#!/bin/sh\n{text}\n"));
        self.run(&Given::new(&program), payload).await
    }

    /// Its children and theirs, as long as they are its own.
    pub(crate) fn children(&self) -> Vec<String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Its memory, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Begins a run.
pub(crate) fn begin(handler: &Program, payload: Value) -> Running {
    let (stop, stopped) = watch::channel(None);
    let (sender, news) = mpsc::channel(NEWS);
    let command = command(payload);
    let run = Runs::default().begin(Run::Harmless {
        key: command.key.clone(),
        method: command.method.clone(),
        to: To::Cloud(None),
        received: twinagent::host::clock::wall(),
    });
    let task = tokio::spawn(handler.run(&command, Context::new(run, sender, stopped)));
    Running { task, stop, news }
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a run may have left behind is gone. A run that had its outcome sooner than the service gives anything up has left
/// nothing; after that, on a machine that stalls, something may still be ending.
pub(crate) async fn gone(took: Duration, what: &str, mut is_gone: impl FnMut() -> bool) {
    assert!(took >= CLEARED || is_gone(), "left behind: {what}");
    until(what, is_gone).await;
}

pub(crate) fn command(payload: Value) -> Command {
    let target = DeviceId::parse("device-7").expect("an id");
    let key = Key { target, id: CommandId::parse("c-1").expect("an id") };
    Command { key, method: Method::parse("one").expect("a method"), payload }
}

/// The manifests of these tests.
fn find(folder: &Path, name: &str) -> Result<Manifest, String> {
    let path = folder.join("handlers.d").join(name);
    let text = fs::read(&path).map_err(|error| format!("there is no manifest {name}: {error}"))?;
    let read: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let millis = |name: &str| Duration::from_millis(read[name].as_u64().expect("a number"));
    Ok(Manifest {
        path,
        digest: Digest::of(&text),
        spec: MethodSpec {
            time_limit: millis("timeLimit"),
            output_limit: usize::try_from(read["outputLimit"].as_u64().expect("a number")).expect("a size"),
            class: if read["isSerial"] == true { Class::Serial(8) } else { Class::Parallel(64) },
            payload: (read["hasRules"] == true).then(rules),
            ..MethodSpec::new(Method::parse("one").expect("a method"))
        },
        action: match read["program"].as_str() {
            Some(program) => Action::Program {
                program: program.into(),
                arguments: serde_json::from_value(read["arguments"].clone()).expect("texts"),
            },
            None => Action::Unit { job: "one".to_owned() },
        },
        grace: millis("grace"),
    })
}

fn rules() -> PayloadRules {
    let port = Member { required: true, shape: Shape::Integer { min: 1, max: 9 } };
    PayloadRules { members: [("port".to_owned(), port)].into(), others: false }
}

/// The service itself, when this test is started for it.
#[test]
fn the_service() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let settings: Value = serde_json::from_str(&settings).expect("settings");
    twinagent::logging::start();
    let users = |name: &str| serde_json::from_value(settings[name].clone()).expect("users");
    let folder = PathBuf::from(settings["folder"].as_str().expect("a folder"));
    let notify = folder.join("notify");
    let launcher = Launcher {
        callers: users("callers"),
        owners: users("owners"),
        folder: notify,
        idle: Duration::from_millis(settings["idle"].as_u64().expect("a time")),
    };
    let find: Find = Box::new(move |name| find(&folder, name));
    let listener = listener(std::os::fd::AsFd::as_fd(&std::io::stdin())).expect("a listening socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ended = runtime.block_on(async { tokio::spawn(launcher.serve(listener, find)).await });
    ended.expect("it does not panic").expect("it serves");
}
