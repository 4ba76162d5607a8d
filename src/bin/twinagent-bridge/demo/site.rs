//! What stands on the stage: the stand-in cloud, the device's folders, and the daemon.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::future::{Future, pending};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twinagent::bridge::{Bridge, Options};
use twinagent::config::{Folders, load};
use twinagent::daemon::{self, Parts};
use twinagent::dialect::token;
use twinagent::handler::built_in;
use twinagent::model::fingerprint::Fingerprint;

/// The end of the file that a person would write: reboots to watch, and a clock that need not be waited for.
const FOR_A_DEMO: &str = "
[session]
clock_wait = \"0s\"

[reboot]
mode = \"simulate\"
simulate_for = \"3s\"
min_interval = \"1s\"
grace = \"1s\"
";

pub(super) struct Site {
    bridge: Bridge,
    mqtts: SocketAddr,
    folders: Folders,
    agent: Option<Agent>,
}

struct Agent {
    task: JoinHandle<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
    /// Ready when the task has ended, whoever waits for the task itself.
    ended: CancellationToken,
}

impl Site {
    /// Starts the cloud in `folder/cloud` and makes the device's folders in `folder/agent`.
    pub(super) async fn build(folder: &Path) -> anyhow::Result<Self> {
        let any = || Some("127.0.0.1:0".to_owned());
        let options = Options { mqtts: any(), https: any(), ..Options::new(folder.join("cloud")) };
        let bridge = Bridge::start(options).await.context("the stand-in cloud cannot start")?;
        let mqtts = bridge.addresses().mqtts.expect("the listener was asked for");

        let agent = folder.join("agent");
        let folders = Folders {
            vendor: agent.join("vendor"),
            vendor_handlers: agent.join("vendor-handlers"),
            configuration: agent.join("etc"),
            volatile: agent.join("volatile"),
            vetoes: agent.join("veto"),
            state: agent.join("state"),
            runtime: agent.join("run"),
            // Reboots are simulated here, and nobody asks anything of the machine.
            bus: format!("unix:path={}", agent.join("bus").display()),
            credentials: None,
            variables: BTreeMap::new(),
        };
        for folder in [&folders.configuration.join("keys"), &folders.state, &folders.runtime] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self { bridge, mqtts, folders, agent: None })
    }

    /// Writes the file that a person would write, with these lines about the cloud.
    pub(super) fn configure(&self, cloud: &str) -> anyhow::Result<()> {
        write(&self.configuration_file(), &format!("{cloud}{FOR_A_DEMO}"))
    }

    pub(super) fn configuration_file(&self) -> PathBuf {
        self.folders.configuration.join("twinagent.toml")
    }

    pub(super) fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Makes the device's key; its public half in PEM.
    pub(super) fn make_key(&self) -> anyhow::Result<String> {
        let (private, public) = token::generate().context("no key could be made")?;
        write(&self.folders.device_key(), private.reveal())?;
        Ok(public.public_pem())
    }

    /// Starts the daemon on its folders, as `twinagent run` would.
    pub(super) fn start_agent(&mut self) -> anyhow::Result<()> {
        // The daemon would go on with a bad one; here it is a fault of the demo.
        load(&self.folders, None).map_err(|faults| {
            let told: Vec<_> = faults.faults.iter().map(ToString::to_string).collect();
            anyhow!("the agent's configuration is wrong: {}", told.join("; "))
        })?;
        let parts =
            Parts { folders: self.folders.clone(), file: None, handlers: built_in(), machine: Fingerprint::default() };
        let (stop, stopped) = oneshot::channel();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _guard = guard;
            daemon::run(parts, async move {
                // A sender that is gone is an order to stop, too.
                let _ = stopped.await;
            })
            .await
        });
        self.agent = Some(Agent { task, stop, ended });
        Ok(())
    }

    /// What `work` leads to, unless the agent ends before.
    pub(super) async fn agent_or<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let ended = async {
            match &self.agent {
                Some(agent) => agent.ended.cancelled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            done = work => done,
            () = ended => Err(anyhow!("the agent has ended by itself")),
        }
    }

    pub(super) fn mqtts(&self) -> SocketAddr {
        self.mqtts
    }

    pub(super) fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Stops the agent as systemd would, and the cloud after it.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let ended = match self.agent {
            Some(Agent { task, stop, .. }) => {
                // Refused only if it has ended already.
                let _ = stop.send(());
                task.await
            }
            None => Ok(Ok(())),
        };
        self.bridge.stop().await;
        ended.context("the agent panicked")?.context("the agent failed")
    }
}

/// Writes a file of the device's that only its owner can read.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
