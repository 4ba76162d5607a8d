//! A client of the broker as a process, and what the kernel says that it uses (proc(5)).

use std::fs;
use std::ops::{AddAssign, Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twinagent::dialect::token;

use crate::broker::{Broker, DEVICE, Line};

/// A process and its connection. Ended when dropped.
pub(crate) struct Client {
    child: Child,
    line: Line,
    to_subscribed: Duration,
}

impl Client {
    pub(crate) fn start(broker: &Broker, mut command: Command, tls: bool) -> Self {
        let begun = Instant::now();
        let child = command.spawn().expect("a process");
        let (line, subscribed) = broker.accept(tls);
        Self { child, line, to_subscribed: subscribed.duration_since(begun) }
    }

    /// Does something with the connection, and tells what it cost the client.
    pub(crate) fn measure<T>(&mut self, work: impl FnOnce(&mut Line) -> T) -> (T, Cost) {
        let before = self.cpu();
        let result = work(&mut self.line);
        (result, Cost(self.cpu().saturating_sub(before)))
    }

    pub(crate) fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    pub(crate) fn to_subscribed(&self) -> Duration {
        self.to_subscribed
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Time on a processor of all threads that live.
    fn cpu(&self) -> Duration {
        let threads = fs::read_dir(self.proc("task")).expect("the process lives");
        let nanos = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// How often its threads have gone to sleep by themselves, and so how often they were woken (proc(5),
    /// `voluntary_ctxt_switches`).
    pub(crate) fn wake_ups(&self) -> u64 {
        let threads = fs::read_dir(self.proc("task")).expect("the process lives");
        let waits = threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("status")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
        });
        waits.sum()
    }

    /// One line of the table of memory.
    pub(crate) fn memory(&self) -> String {
        // Pages of a program that was just built are not on disk yet, and would count as private and dirty.
        fs::File::open(self.proc("exe")).and_then(|program| program.sync_all()).expect("the process lives");
        let rollup = fs::read_to_string(self.proc("smaps_rollup")).expect("the process lives");
        let status = fs::read_to_string(self.proc("status")).expect("the process lives");
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a known line of proc(5)");
            line.split_whitespace().next().expect("a number").to_owned()
        };
        format!(
            "{:>8} {:>8} {:>14} {:>8}",
            number(&rollup, "Rss:"),
            number(&rollup, "Pss:"),
            number(&rollup, "Private_Dirty:"),
            number(&status, "Threads:"),
        )
    }

    pub(crate) fn binary_size(&self) -> u64 {
        fs::metadata(self.proc("exe")).expect("the process lives").len() / 1024
    }

    /// What of the program's file is mapped to be executed.
    pub(crate) fn code_size(&self) -> u64 {
        let program = fs::read_link(self.proc("exe")).expect("the process lives");
        let maps = fs::read_to_string(self.proc("maps")).expect("the process lives");
        let code = maps.lines().filter(|line| line.contains(" r-xp ") && line.ends_with(&*program.to_string_lossy()));
        let bytes = code.filter_map(|line| {
            let (begin, end) = line.split_whitespace().next()?.split_once('-')?;
            Some(u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(begin, 16).ok()?)
        });
        bytes.sum::<u64>() / 1024
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time on a processor.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost(Duration);

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "some thousand commands")]
    pub(crate) fn micros_for_each(self, commands: usize) -> f64 {
        self.0.as_secs_f64() * 1e6 / commands as f64
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// Which program.
#[derive(Clone, Copy)]
pub(crate) enum Binary {
    /// As it is packaged.
    Shipped,
    /// With the recorded method `count`, which here does nothing and answers.
    Counting,
}

/// Which cloud it takes the broker for, and by which road.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    /// Cloud IoT Core without TLS.
    Plain,
    /// Cloud IoT Core.
    IotCore,
    IotHub,
}

/// The daemon with folders of its own.
pub(crate) struct Agent {
    client: Client,
    folder: TempDir,
}

impl Agent {
    /// Starts the daemon and takes its connection.
    pub(crate) fn start(broker: &Broker, binary: Binary, cloud: Cloud) -> Self {
        Self::start_below(broker, binary, cloud, &[])
    }

    /// The same, with another program around it.
    pub(crate) fn start_below(broker: &Broker, binary: Binary, cloud: Cloud, above: &[&str]) -> Self {
        Self::start_in(folder(broker, cloud), broker, binary, cloud, above)
    }

    /// The same, in a [`folder`] where more was prepared.
    pub(crate) fn start_in(folder: TempDir, broker: &Broker, binary: Binary, cloud: Cloud, above: &[&str]) -> Self {
        let words = match binary {
            Binary::Shipped => &[env!("CARGO_BIN_EXE_twinagent"), "run"][..],
            Binary::Counting => &[env!("CARGO_BIN_EXE_twinagent-counting")],
        };
        let mut words = above.iter().chain(words);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .current_dir(folder.path())
            .env("CONFIGURATION_DIRECTORY", folder.path().join("etc"))
            .env("STATE_DIRECTORY", folder.path().join("state"))
            .env("RUNTIME_DIRECTORY", folder.path().join("run"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let client = Client::start(broker, command, cloud != Cloud::Plain);
        Self { client, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How long `twinagent status` takes beside this daemon, from its start to its end.
    pub(crate) fn time_status(&self) -> Duration {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinagent"));
        command.arg("status").env("RUNTIME_DIRECTORY", self.folder.path().join("run"));
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output().expect("the program runs");
        let took = begun.elapsed();
        assert!(output.status.success(), "{output:?}");
        took
    }
}

impl Deref for Agent {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The folders of an agent, and its configuration in them.
pub(crate) fn folder(broker: &Broker, cloud: Cloud) -> TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on a disk");
    configure(folder.path(), broker, cloud);
    folder
}

fn configure(folder: &Path, broker: &Broker, cloud: Cloud) {
    for part in ["etc/keys", "state", "run"] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    let (key, _) = token::generate().expect("a key");
    write_secret(&folder.join("etc/keys/device.key"), key.reveal());
    let shared_key = folder.join("etc/shared-key");
    write_secret(&shared_key, "a2V5a2V5a2V5a2V5");
    let ca_file = folder.join("ca.pem");
    broker.write_certificate(&ca_file);
    let trust = format!("ca_file = \"{}\"", ca_file.display());
    let core = "project_id = \"p\"\nregion = \"r\"\nregistry_id = \"r\"\nanswers = \"events\"";
    let (kind, lines) = match cloud {
        Cloud::Plain => ("iotcore", format!("{core}\ntls = false")),
        Cloud::IotCore => ("iotcore", format!("{core}\n{trust}")),
        Cloud::IotHub => ("iothub", format!("key_file = \"{}\"\n{trust}", shared_key.display())),
    };
    let text = format!(
        "device.id = \"{DEVICE}\"\n\
         session.keep_alive = \"19m\"\n\
         session.clock_wait = \"0s\"\n\
         [cloud]\nkind = \"{kind}\"\n\
         [cloud.{kind}]\nhost = \"localhost\"\nport = {}\n{lines}\n",
        broker.port(),
    );
    fs::write(folder.join("etc/twinagent.toml"), text).expect("a configuration");
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("a key file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the mode of a key file");
}
