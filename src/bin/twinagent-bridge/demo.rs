//! `twinagent-bridge demo`: the whole job on one machine, told step by step to a person.
//!
//! The cloud is the stand-in, everything else is the real thing: the daemon on its own folders, TLS, tokens, and REST
//! calls as any client makes them. Every wait is bounded. What was made is removed at the end.

mod client;
mod iotcore;
mod iothub;
mod site;
mod told;

use std::future::{Future, pending};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use twinagent::bridge::Bridge;
use twinagent::host::clock;
use twinagent::logging;
use twinagent::model::now::Timestamp;

use crate::command_line::{CloudKind, Demo};
use crate::interrupt::Interrupt;
use iotcore::IotCore;
use iothub::IotHub;
use site::Site;
use told::Told;

/// How long one step may take. All of them together take about ten seconds.
const STEP: Duration = Duration::from_secs(20);
/// How long the whole story may take.
const STORY: Duration = Duration::from_secs(55);
/// How long agent and cloud have for their own ends.
const ENDING: Duration = Duration::from_secs(10);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// The device, as its cloud names it.
const DEVICE: &str = "demo-device";
/// Why the device is rebooted.
const REASON: &str = "to see it work";

/// What a person does with one kind of cloud, by its REST API, and sees there.
trait Operator: Sized {
    /// What the agent logs in with.
    const LOGIN: &str;
    /// Where the reported document is read.
    const DOCUMENT: &str;

    fn new(bridge: &Bridge) -> anyhow::Result<Self>;
    /// Where REST is served.
    fn origin(&self) -> String;
    /// The file that a person would write for this cloud, up to what has nothing to do with it.
    fn configuration(&self, site: &Site) -> String;
    /// Makes the device known to its cloud, and tells how.
    async fn register(&self, site: &Site, told: &Told) -> anyhow::Result<()>;
    /// How often the agent has logged in, and whether it would get a command.
    async fn presence(&self) -> anyhow::Result<(u64, bool)>;
    /// Reboots the device for `REASON`, tells it with the answer, and gives the id of the command.
    async fn reboot(&self, site: &Site, told: &Told) -> anyhow::Result<String>;
    /// What the cloud answers to a command while the device is away; nothing if it is back already.
    async fn refusal(&self) -> anyhow::Result<Option<String>>;
    /// The reported documents that can be read, the newest first.
    async fn reported(&self) -> anyhow::Result<Vec<Value>>;
    /// Commands to copy into a shell, in `folder`, where a file that they need is made.
    fn what_to_try(&self, folder: &Path) -> anyhow::Result<String>;
}

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self.cloud {
            CloudKind::Iotcore => self.run_with::<IotCore>(),
            CloudKind::Iothub => self.run_with::<IotHub>(),
        }
    }

    fn run_with<O: Operator>(&self) -> anyhow::Result<()> {
        logging::start_at(tracing::Level::WARN);
        let folder = tempfile::Builder::new().prefix("twinagent-demo-").tempdir().context("cannot make a folder")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let told = Told::begin(folder.path())?;
        let played = runtime.block_on(self.play::<O>(folder.path(), &told));
        // It waits for the threads that may still write into the folder.
        drop(runtime);
        let path = folder.path().to_owned();
        let removed = folder.close().with_context(|| format!("cannot remove {}", path.display()));
        played.and(removed)?;
        if self.keep { told::line("\nStopped; the files are removed.") } else { told.done() }
    }

    async fn play<O: Operator>(&self, folder: &Path, told: &Told) -> anyhow::Result<()> {
        let mut interrupt = Interrupt::listen()?;
        let mut site = Site::build(folder).await?;
        let operator = O::new(site.bridge())?;
        let mut played = tokio::select! {
            played = timeout(STORY, story(&mut site, &operator, told)) => {
                let in_time = played.unwrap_or_else(|_| bail!("it took longer than {} s in all", STORY.as_secs()));
                in_time.context("the demo failed (hint: TWINAGENT_LOG=info shows what the agent saw)")
            }
            () = interrupt.wait() => Err(anyhow!("interrupted")),
        };
        if played.is_ok() && self.keep {
            told.what_to_try(&site, &operator.what_to_try(folder)?)?;
            played = tokio::select! {
                () = interrupt.wait() => Ok(()),
                ended = site.agent_or(pending()) => ended,
            };
        }
        let ended = timeout(ENDING, site.end()).await;
        let ended = ended.unwrap_or_else(|_| bail!("agent and cloud did not end within {} s", ENDING.as_secs()));
        match (played, ended) {
            // Why the agent ended says more than that it did.
            (Err(played), Err(ended)) => Err(ended.context(format!("{played:#}"))),
            (played, ended) => played.and(ended),
        }
    }
}

/// From nothing to the reported `rebootTime`.
async fn story<O: Operator>(site: &mut Site, operator: &O, told: &Told) -> anyhow::Result<()> {
    told.step("cloud", &format!("MQTT over TLS at {}, REST at {}", site.mqtts(), operator.origin()))?;
    site.configure(&operator.configuration(site))?;
    bounded("the registration", operator.register(site, told)).await?;

    site.start_agent()?;
    bounded("the login of the agent", site.agent_or(ready(operator, 1))).await?;
    told.step("online", &format!("the agent logged in with {} and listens for commands", O::LOGIN))?;

    let sent = clock::wall();
    let command = operator.reboot(site, told).await?;

    bounded("the beginning of the reboot", site.agent_or(away(operator))).await?;
    let left = clock::wall();
    let refusal = bounded("a command meanwhile", operator.refusal()).await?;
    let refusal = refusal.as_deref().unwrap_or("too late, the device is back already");
    told.step("reboot", &format!("simulated: the device is away; a command now: {refusal}"))?;

    bounded("the return of the agent", site.agent_or(ready(operator, 2))).await?;
    told.step("back", &format!("after {:.1} s, with a new login", clock::wall().since(left).as_secs_f64()))?;

    let done = |document: &Value| status(document, &command) == 200 && document["rebootTime"].is_string();
    let document = bounded("the reported reboot", site.agent_or(reported(operator, done))).await?;
    let time = document["rebootTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if time.is_none_or(|time| time < sent) || document["reboot"]["commandId"] != command {
        bail!("the reported document does not tell of this reboot: {document:#}");
    }
    told.step("answer 200", &format!("rebootTime is {}", text(&document["rebootTime"])))?;
    told::document(&document, O::DOCUMENT)
}

async fn bounded<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(STEP, work).await {
        Ok(done) => done.with_context(|| format!("{what} failed")),
        Err(_) => bail!("{what} did not come within {} s", STEP.as_secs()),
    }
}

/// Waits until the agent has logged in so often and would get a command.
async fn ready(operator: &impl Operator, wanted: u64) -> anyhow::Result<()> {
    loop {
        let (logins, listens) = operator.presence().await?;
        if logins >= wanted && listens {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// Waits until the agent has gone. On a machine so slow that this was missed, it has come back.
async fn away(operator: &impl Operator) -> anyhow::Result<()> {
    while operator.presence().await? == (1, true) {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Waits for a reported document that is as `fits` wants it.
async fn reported(operator: &impl Operator, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    loop {
        if let Some(document) = operator.reported().await?.into_iter().find(&fits) {
            return Ok(document);
        }
        sleep(LOOK).await;
    }
}

/// How far the document tells of the command.
fn status(document: &Value, command: &str) -> u64 {
    document["commands"][command]["status"].as_u64().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("an unknown time")
}
