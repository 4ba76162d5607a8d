//! `twinagent-bridge demo`: the whole job on one machine, told step by step to a person.
//!
//! The cloud is the stand-in, everything else is the real thing: the daemon on its own folders, TLS, tokens, and REST
//! calls as any client makes them. Every wait is bounded. What was made is removed at the end.

mod client;
mod site;
mod told;

use std::future::{Future, pending};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use twinagent::host::clock;
use twinagent::logging;
use twinagent::model::now::Timestamp;

use crate::command_line::Demo;
use crate::interrupt::Interrupt;
use site::{DEVICE, PROJECT, REGION, REGISTRY, Site};
use told::Told;

/// How long one step may take. All of them together take about ten seconds.
const STEP: Duration = Duration::from_secs(20);
/// How long the whole story may take.
const STORY: Duration = Duration::from_secs(55);
/// How long agent and cloud have for their own ends.
const ENDING: Duration = Duration::from_secs(10);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// The id of the command.
const COMMAND: &str = "demo-1";

impl Demo {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        logging::start_at(tracing::Level::WARN);
        let folder = tempfile::Builder::new().prefix("twinagent-demo-").tempdir().context("cannot make a folder")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let told = Told::begin(folder.path())?;
        let played = runtime.block_on(self.play(folder.path(), &told));
        // It waits for the threads that may still write into the folder.
        drop(runtime);
        let path = folder.path().to_owned();
        let removed = folder.close().with_context(|| format!("cannot remove {}", path.display()));
        played.and(removed)?;
        if self.keep { told::line("\nStopped; the files are removed.") } else { told.done() }
    }

    async fn play(&self, folder: &Path, told: &Told) -> anyhow::Result<()> {
        let mut interrupt = Interrupt::listen()?;
        let mut site = Site::build(folder).await?;
        let mut played = tokio::select! {
            played = timeout(STORY, story(&mut site, told)) => {
                let in_time = played.unwrap_or_else(|_| bail!("it took longer than {} s in all", STORY.as_secs()));
                in_time.context("the demo failed (hint: TWINAGENT_LOG=info shows what the agent saw)")
            }
            () = interrupt.wait() => Err(anyhow!("interrupted")),
        };
        if played.is_ok() && self.keep {
            told.what_to_try(&site)?;
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
async fn story(site: &mut Site, told: &Told) -> anyhow::Result<()> {
    told.step("cloud", &format!("MQTT over TLS at {}, REST at {}", site.mqtts(), site.rest().origin()))?;
    let public_key = site.make_key()?;
    told.step("key", "ES256, made on the device; only its public half leaves it")?;

    bounded("the registration", register(site, &public_key)).await?;
    told.step("register", &format!("by REST: registry {REGISTRY}, device {DEVICE} with that public key"))?;

    site.start_agent()?;
    bounded("the login of the agent", site.agent_or(ready(site, 1))).await?;
    told.step("online", "the agent logged in with a fresh JWT and listens for commands")?;

    let reason = "to see it work";
    let sent = clock::wall();
    let (subfolder, payload) = (format!("rebootDevice/{COMMAND}"), json!({ "reason": reason }).to_string());
    bounded("the command", site.rest().command(&subfolder, &payload)).await?;
    told.step(
        "command",
        &format!("by REST: rebootDevice, id {COMMAND}, reason \"{reason}\"; the agent has it on disk"),
    )?;

    let accepted = bounded("the answer 202", site.agent_or(reported(site, |document| status(document) == 202))).await?;
    let due = &accepted["commands"][COMMAND]["payload"]["rebootAt"];
    told.step("answer 202", &format!("in the state read by REST: scheduled for {}", text(due)))?;

    bounded("the beginning of the reboot", site.agent_or(away(site))).await?;
    let left = clock::wall();
    let refusal = bounded("a command meanwhile", refusal(site)).await?;
    told.step("reboot", &format!("simulated: the device is away; a command now: {refusal}"))?;

    bounded("the return of the agent", site.agent_or(ready(site, 2))).await?;
    told.step("back", &format!("after {:.1} s, with a new login", clock::wall().since(left).as_secs_f64()))?;

    let done = |document: &Value| status(document) == 200 && document["rebootTime"].is_string();
    let document = bounded("the reported reboot", site.agent_or(reported(site, done))).await?;
    let time = document["rebootTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if time.is_none_or(|time| time < sent) || document["reboot"]["commandId"] != COMMAND {
        bail!("the reported document does not tell of this reboot: {document:#}");
    }
    told.step("answer 200", &format!("rebootTime is {}", text(&document["rebootTime"])))?;
    told::document(&document)
}

async fn bounded<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match timeout(STEP, work).await {
        Ok(done) => done.with_context(|| format!("{what} failed")),
        Err(_) => bail!("{what} did not come within {} s", STEP.as_secs()),
    }
}

async fn register(site: &Site, public_key: &str) -> anyhow::Result<()> {
    let registries = format!("/v1/projects/{PROJECT}/locations/{REGION}/registries");
    site.rest().post(&registries, &json!({ "id": REGISTRY })).await?;
    let credential = json!({ "publicKey": { "format": "ES256_PEM", "key": public_key } });
    let device = json!({ "id": DEVICE, "credentials": [credential] });
    site.rest().post(&format!("{registries}/{REGISTRY}/devices"), &device).await.map(drop)
}

/// Waits until the agent has logged in so often and would get a command.
async fn ready(site: &Site, logins: u64) -> anyhow::Result<()> {
    let (cloud, device) = (site.cloud(), site::device()?);
    while cloud.logins(&device).await? < logins || !cloud.takes_commands(&device).await? {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until the agent has gone. On a machine so slow that this was missed, it has come back.
async fn away(site: &Site) -> anyhow::Result<()> {
    let (cloud, device) = (site.cloud(), site::device()?);
    while cloud.connected(&device).await? && cloud.logins(&device).await? == 1 {
        sleep(LOOK).await;
    }
    Ok(())
}

/// What a caller is told while the device is away.
async fn refusal(site: &Site) -> anyhow::Result<String> {
    match site.rest().command("echo", "").await {
        Err(error) => match error.downcast::<client::Refused>() {
            Ok(refused) => Ok(refused.status),
            Err(error) => Err(error),
        },
        Ok(()) => Ok("too late, the device is back already".to_owned()),
    }
}

/// Waits for a state that is as `fits` wants it.
async fn reported(site: &Site, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    loop {
        if let Some(document) = site.rest().states().await?.into_iter().find(&fits) {
            return Ok(document);
        }
        sleep(LOOK).await;
    }
}

/// How far the document tells of the command.
fn status(document: &Value) -> u64 {
    document["commands"][COMMAND]["status"].as_u64().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("an unknown time")
}
