//! One device and its cloud, as a story needs them: folders, configuration, the stand-in cloud, the daemon.
//!
//! The daemon runs in the test's own runtime; killing it is for the tests that start it as a process. How a cloud is spoken
//! to is in `cloud`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use twinagent::bridge::{Bridge, Options};
use twinagent::config::{Folders, load};
use twinagent::daemon::{self, Parts};
use twinagent::handler::built_in;
use twinagent::host::power::Places;
use twinagent::model::fingerprint::Fingerprint;
use twinagent::store::{LockError, StateDir};

use crate::cloud::{Cloud, Ear, Heard, Kind, Registered};
use crate::count::Count;

/// How long a story waits for what must come; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The methods of a device to which nobody has added any, and `count`, which is the stories' own.
pub(crate) const METHODS: [&str; 8] =
    ["cancelCommand", "cancelReboot", "count", "echo", "getStatus", "listMethods", "rebootDevice", "refreshState"];

/// What a story wants to be different.
pub(crate) struct Setup {
    pub(crate) cloud: Kind,
    /// `events` or `state`, where the cloud has both roads.
    pub(crate) answers: &'static str,
    /// Kept sessions, as EMQX has them, and as Azure IoT Hub always has.
    pub(crate) sessions: bool,
    /// Azure IoT Hub has nothing else.
    pub(crate) tls: bool,
    /// Cloud IoT Core's registry has a topic for telemetry.
    pub(crate) event_topic: bool,
    /// How long the bridge tolerates an expired token. Azure IoT Hub does not.
    pub(crate) skew: Duration,
    /// The names that an IoT hub goes by, wherever it is reached.
    pub(crate) hubs: &'static [&'static str],
    pub(crate) rest: bool,
    /// A listener that takes web sockets, too.
    pub(crate) https: bool,
    /// Where the bridge listens for MQTT.
    pub(crate) listen: &'static str,
    /// The name under which the device looks for it.
    pub(crate) host: &'static str,
    /// There is a way to the reboot helper, as the package makes it.
    pub(crate) helper: bool,
    /// `session.clock_wait`. It stands in the environment, so that `config` may open `[session]`.
    pub(crate) clock_wait: &'static str,
    /// More lines of `twinagent.toml`.
    pub(crate) config: &'static str,
}

impl Setup {
    pub(crate) fn on(cloud: Kind) -> Self {
        Self {
            cloud,
            answers: "state",
            sessions: cloud == Kind::IotHub,
            tls: cloud == Kind::IotHub,
            event_topic: true,
            skew: if cloud == Kind::IotHub { Duration::ZERO } else { Duration::from_secs(600) },
            hubs: &["localhost"],
            rest: false,
            https: false,
            listen: "127.0.0.1:0",
            host: "localhost",
            helper: true,
            clock_wait: "0s",
            config: "",
        }
    }
}

pub(crate) struct Device {
    pub(crate) bridge: Bridge,
    pub(crate) cloud: Cloud,
    /// With which the bridge can be started again, at the same address.
    options: Options,
    /// While the cloud is away, its address is nobody else's: others choose theirs meanwhile.
    place: Option<TcpSocket>,
    folder: TempDir,
    /// The one that the daemon will find itself on; not known, unless a story says so. A process asks the real one.
    pub(crate) machine: Fingerprint,
    clock_wait: &'static str,
    daemon: Option<Daemon>,
    /// Logins that were waited for.
    logins: u64,
    ear: Ear,
    /// The final answers so far: by id, in the order in which they came.
    heard: HashMap<String, Vec<Value>>,
    /// Commands of which nothing more is to be heard, though the reported document may list them for long.
    forgotten: HashSet<String>,
    /// Other telemetry so far, each with its subfolder.
    telemetry: Vec<(String, Bytes)>,
}

struct Daemon {
    task: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// The folders of the reboot helper, for an agent with this runtime folder. Nobody listens there.
pub(crate) fn make_helper(runtime: &Path) {
    let Places { requests, answers } = Places::beside(runtime);
    for place in [requests, answers] {
        std::fs::create_dir(place).expect("a folder");
    }
}

impl Device {
    /// A device that is registered and configured, and whose daemon does not run yet.
    pub(crate) async fn new(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder for this test");
        let listen = || Some(setup.listen.to_owned());
        let mut options = Options {
            mqtt: listen().filter(|_| !setup.tls),
            mqtts: listen().filter(|_| setup.tls),
            http: setup.rest.then(|| "127.0.0.1:0".to_owned()),
            https: setup.https.then(|| "127.0.0.1:0".to_owned()),
            sessions: setup.sessions,
            hubs: Some(setup.hubs.iter().copied().map(str::to_owned).collect()),
            skew: setup.skew,
            hub_skew: setup.skew,
            names: vec![setup.host.to_owned()],
            ..Options::new(folder.path().join("cloud"))
        };
        let bridge = Bridge::start(options.clone()).await.expect("the stand-in cloud starts");
        let addresses = bridge.addresses();
        options.mqtt = addresses.mqtt.map(|address| address.to_string());
        options.mqtts = addresses.mqtts.map(|address| address.to_string());
        for part in ["etc/keys", "state", "run"] {
            std::fs::create_dir_all(folder.path().join(part)).expect("a folder for this test");
        }
        if setup.helper {
            make_helper(&folder.path().join("run"));
        }
        let etc = folder.path().join("etc");
        let Registered { cloud, config } = Cloud::register(&bridge, &setup, &etc).await;
        write(&etc.join("twinagent.toml"), &format!("device.id = \"gw-1\"\n{config}{}", setup.config));
        let ear = cloud.ear().await;
        Self {
            bridge,
            cloud,
            options,
            place: None,
            folder,
            machine: Fingerprint::default(),
            clock_wait: setup.clock_wait,
            daemon: None,
            logins: 0,
            ear,
            heard: HashMap::new(),
            forgotten: HashSet::new(),
            telemetry: Vec::new(),
        }
    }

    /// A device whose daemon is connected.
    pub(crate) async fn online(setup: Setup) -> Self {
        let mut device = Self::new(setup).await;
        device.start();
        device.wait_until_ready().await;
        device
    }

    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    /// The address at which a story may have a system bus of its own. Never that of this machine, which would be rebooted.
    pub(crate) fn bus(&self) -> String {
        format!("unix:path={}", self.path("bus").display())
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders {
            vendor: self.path("usr"),
            vendor_handlers: self.path("usr-handlers"),
            configuration: self.path("etc"),
            volatile: self.path("volatile"),
            vetoes: self.path("veto"),
            state: self.path("state"),
            runtime: self.path("run"),
            bus: self.bus(),
            credentials: None,
            variables: self.variables().map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    /// What the environment of its daemon says of the configuration.
    pub(crate) fn variables(&self) -> [(&'static str, &'static str); 1] {
        [("TWINAGENT__SESSION__CLOCK_WAIT", self.clock_wait)]
    }

    // === The daemon

    pub(crate) fn start(&mut self) {
        let loaded = load(&self.folders(), None).expect("a right configuration");
        assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
        self.start_as_it_is();
    }

    /// Whatever its configuration may be.
    pub(crate) fn start_as_it_is(&mut self) {
        let folders = self.folders();
        let mut handlers = built_in();
        handlers.push(Arc::new(Count { file: Some(self.path("counted")) }));
        let parts = Parts { folders, file: None, handlers, machine: self.machine };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(daemon::run(parts, async move {
            let _ = stopped.await;
        }));
        self.daemon = Some(Daemon { task, stop });
    }

    /// Stops the daemon as systemd would.
    pub(crate) async fn stop(&mut self) {
        let Daemon { task, stop } = self.daemon.take().expect("the daemon runs");
        stop.send(()).expect("the daemon waits for it");
        let ended = tokio::time::timeout(PATIENCE, task).await.expect("the daemon stops");
        ended.expect("no panic").expect("no error");
        self.last_write().await;
    }

    /// Ends the daemon as a crash would.
    pub(crate) async fn crash(&mut self) {
        let Daemon { task, .. } = self.daemon.take().expect("the daemon runs");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()), "the daemon ran until it was ended");
        self.last_write().await;
    }

    /// A write of the state that was under way is a thread of its own here, and ends by itself.
    async fn last_write(&self) {
        let ended = async {
            while matches!(StateDir::lock(&self.path("state")), Err(LockError::Held { .. })) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the last write ends");
    }

    /// As [`Self::wait_until_ready`], for a device of the same name of which the cloud has forgotten all logins.
    pub(crate) async fn wait_until_ready_anew(&mut self) {
        self.logins = 0;
        self.wait_until_ready().await;
    }

    /// Waits for a login that was not waited for before, and until a command would arrive.
    pub(crate) async fn wait_until_ready(&mut self) {
        let again = async {
            while self.logins().await == self.logins {
                let ended = self.daemon.as_ref().is_some_and(|daemon| daemon.task.is_finished());
                assert!(!ended, "the daemon ended by itself");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("the device logs in");
        self.logins = self.logins().await;
        self.cloud.wait_until_ready().await;
    }

    // === The cloud as a machine

    /// Takes the cloud down. What it knows is kept in its folder.
    pub(crate) async fn lose_cloud(&mut self) {
        // In its place stands one that listens nowhere.
        let nowhere = Bridge::start(Options::new(self.path("nowhere"))).await.expect("a cloud that nobody can reach");
        std::mem::replace(&mut self.bridge, nowhere).stop().await;
        // Who does not listen does not stand in the way of one who does (`SO_REUSEADDR`, socket(7)).
        let address = self.options.mqtt.as_ref().or(self.options.mqtts.as_ref()).expect("a listener");
        let address = address.parse().expect("an address");
        let begun = Instant::now();
        self.place = loop {
            let place = TcpSocket::new_v4().expect("a socket");
            place.set_reuseaddr(true).expect("a socket");
            match place.bind(address) {
                Ok(()) => break Some(place),
                // A program that another test starts has a copy of the listener until it is another program.
                Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{address} was ours a moment ago: {error}"),
            }
        };
    }

    /// Brings the cloud back, at the same address.
    pub(crate) async fn restore_cloud(&mut self) {
        self.bridge = Bridge::start(self.options.clone()).await.expect("the stand-in cloud starts again");
        self.place = None;
        self.cloud = self.cloud.again(&self.bridge);
        self.listen().await;
        self.logins = 0;
    }

    /// How often the device has logged in since the cloud was started.
    pub(crate) async fn logins(&self) -> u64 {
        self.cloud.logins().await
    }

    /// What the cloud holds against the device, if anything.
    pub(crate) async fn complaint(&self) -> Option<String> {
        self.cloud.complaint().await
    }

    // === The caller in the cloud

    /// Sends a command; returns when the device has acknowledged it.
    pub(crate) async fn send(&self, subfolder: &str, payload: &str) {
        self.cloud.send(subfolder, payload).await.expect("an acknowledged command");
    }

    /// Has a method done, on the shortest road that this cloud has for commands and their answers.
    pub(crate) async fn ask(&mut self, method: &str, id: &str) {
        match &self.cloud {
            Cloud::IotCore(_) => {
                self.send(&format!("{method}/{id}"), "").await;
                self.answer(id, 200).await;
            }
            Cloud::IotHub(cloud) => {
                let answer = cloud.invoke(method, Value::Null).await;
                assert_eq!(answer.map(|(status, _)| status), Ok(200), "{method} {id}");
            }
        }
    }

    /// The next answer with this status to the command with this id, on the road that the setup chose or the cloud has.
    pub(crate) async fn answer(&mut self, id: &str, status: u16) -> Value {
        let fits = |answer: &Value| answer["status"] == status;
        loop {
            if let Some(answer) = self.heard.get(id).and_then(|answers| answers.iter().find(|answer| fits(answer))) {
                return answer.clone();
            }
            let heard = tokio::time::timeout(PATIENCE, self.hear()).await;
            assert!(heard.is_ok(), "no answer {status} to {id}; heard so far: {:#?}", self.heard);
        }
    }

    /// All answers to this command so far.
    pub(crate) fn answers_to(&self, id: &str) -> Vec<Value> {
        self.heard.get(id).cloned().unwrap_or_default()
    }

    /// All telemetry but answers, once there are this many messages of it.
    pub(crate) async fn telemetry(&mut self, count: usize) -> &[(String, Bytes)] {
        while self.telemetry.len() < count {
            let heard = tokio::time::timeout(PATIENCE, self.hear()).await;
            assert!(heard.is_ok(), "{} of {count} messages came", self.telemetry.len());
        }
        &self.telemetry
    }

    /// The reported document, once it is as `fits` wants it.
    pub(crate) async fn twin(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                if let Some(document) = self.cloud.reported().await.filter(&fits) {
                    return document;
                }
                self.hear().await;
            }
        };
        if let Ok(document) = tokio::time::timeout(PATIENCE, wait).await {
            return document;
        }
        panic!("the reported document is not as it should be: {:#?}", self.cloud.reported().await)
    }

    /// Takes the next answer, document or message that arrives.
    async fn hear(&mut self) {
        let heard = self.ear.hear().await;
        for (id, answer) in heard.answers() {
            if self.forgotten.contains(&id) {
                continue;
            }
            let answers = self.heard.entry(id).or_default();
            if answers.last() != Some(&answer) {
                answers.push(answer);
            }
        }
        if let Heard::Telemetry(subfolder, payload) = heard {
            self.telemetry.push((subfolder, payload));
        }
    }

    /// Listens to the cloud that the device is in now.
    pub(crate) async fn listen(&mut self) {
        self.ear = self.cloud.ear().await;
    }

    /// Takes all that arrives, until nothing has come for so long.
    pub(crate) async fn hear_until_quiet(&mut self, quiet: Duration) {
        while tokio::time::timeout(quiet, self.hear()).await.is_ok() {}
    }

    /// How many commands were answered with each status; of one that was answered twice, the last answer counts.
    pub(crate) fn statuses(&self) -> BTreeMap<u64, usize> {
        let mut statuses = BTreeMap::new();
        for answer in self.heard.values().filter_map(|answers| answers.last()) {
            *statuses.entry(answer["status"].as_u64().expect("a status")).or_default() += 1;
        }
        statuses
    }

    /// Forgets all commands that were answered so far, but not what was other telemetry.
    pub(crate) fn forget_answers(&mut self) {
        self.forgotten.extend(self.heard.drain().map(|(id, _)| id));
    }

    /// The payload of a `count` that runs until [`Self::let_go`].
    pub(crate) fn held(&self) -> Value {
        json!({ "until": self.path("go") })
    }

    /// Runs that are held end, and those to come are not held.
    pub(crate) fn let_go(&self) {
        std::fs::write(self.path("go"), "").expect("a file");
    }

    /// How often each command ran.
    pub(crate) fn counted(&self) -> HashMap<String, usize> {
        counted(&self.path("counted"))
    }
}

/// How often each id stands in the file of `count`.
pub(crate) fn counted(file: &Path) -> HashMap<String, usize> {
    let mut counted = HashMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        *counted.entry(line.to_owned()).or_default() += 1;
    }
    counted
}

/// Writes a new file that is for its owner alone.
pub(crate) fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).expect("a new file");
    file.write_all(text.as_bytes()).expect("a written file");
}
