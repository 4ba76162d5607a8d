//! The demo's cloud as Cloud IoT Core: a registry, a device with a public key, commands, states.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use twinagent::bridge::{Bridge, Cloud, DeviceName, RegistryName};

use super::client::{Refused, Rest};
use super::site::Site;
use super::told::Told;
use super::{DEVICE, Operator, REASON, bounded, reported, status, text};

const PROJECT: &str = "demo-project";
const REGION: &str = "us-central1";
const REGISTRY: &str = "demo-registry";
/// The id of the command.
const COMMAND: &str = "demo-1";

pub(super) struct IotCore {
    rest: Rest,
    /// A look behind the stage, to know when to go on.
    cloud: Cloud,
    name: DeviceName,
    /// The path of the device's resource.
    device: String,
}

impl IotCore {
    /// Sends a command to the device; returns when the device has acknowledged it.
    async fn command(&self, subfolder: &str, payload: &str) -> anyhow::Result<()> {
        let body = json!({ "subfolder": subfolder, "binaryData": STANDARD.encode(payload) });
        self.rest.post(&format!("{}:sendCommandToDevice", self.device), &body).await.map(drop)
    }
}

impl Operator for IotCore {
    const LOGIN: &str = "a fresh JWT";
    const DOCUMENT: &str = "as states.list gives it";

    fn new(bridge: &Bridge) -> anyhow::Result<Self> {
        let https = bridge.addresses().https.expect("the listener was asked for");
        Ok(Self {
            rest: Rest::new(https, bridge.ca_file(), None)?,
            cloud: bridge.cloud(),
            name: RegistryName::new(PROJECT, REGION, REGISTRY)?.device(DEVICE)?,
            device: format!("/v1/projects/{PROJECT}/locations/{REGION}/registries/{REGISTRY}/devices/{DEVICE}"),
        })
    }

    fn origin(&self) -> String {
        self.rest.origin()
    }

    fn configuration(&self, site: &Site) -> String {
        // A text in JSON is one in TOML.
        let ca_file = json!(site.bridge().ca_file());
        let port = site.mqtts().port();
        format!(
            "[device]\n\
             id = \"{DEVICE}\"\n\n\
             [cloud]\n\
             kind = \"iotcore\"\n\n\
             [cloud.iotcore]\n\
             host = \"localhost\"\n\
             port = {port}\n\
             project_id = \"{PROJECT}\"\n\
             region = \"{REGION}\"\n\
             registry_id = \"{REGISTRY}\"\n\
             ca_file = {ca_file}\n"
        )
    }

    async fn register(&self, site: &Site, told: &Told) -> anyhow::Result<()> {
        let public_key = site.make_key()?;
        told.step("key", "ES256, made on the device; only its public half leaves it")?;
        let registries = format!("/v1/projects/{PROJECT}/locations/{REGION}/registries");
        self.rest.post(&registries, &json!({ "id": REGISTRY })).await?;
        let credential = json!({ "publicKey": { "format": "ES256_PEM", "key": public_key } });
        let device = json!({ "id": DEVICE, "credentials": [credential] });
        self.rest.post(&format!("{registries}/{REGISTRY}/devices"), &device).await?;
        told.step("register", &format!("by REST: registry {REGISTRY}, device {DEVICE} with that public key"))
    }

    async fn presence(&self) -> anyhow::Result<(u64, bool)> {
        Ok((self.cloud.logins(&self.name).await?, self.cloud.takes_commands(&self.name).await?))
    }

    async fn reboot(&self, site: &Site, told: &Told) -> anyhow::Result<String> {
        let (subfolder, payload) = (format!("rebootDevice/{COMMAND}"), json!({ "reason": REASON }).to_string());
        bounded("the command", self.command(&subfolder, &payload)).await?;
        told.step(
            "command",
            &format!("by REST: rebootDevice, id {COMMAND}, reason \"{REASON}\"; the agent has it on disk"),
        )?;
        let is_accepted = |document: &Value| status(document, COMMAND) == 202;
        let accepted = bounded("the answer 202", site.agent_or(reported(self, is_accepted))).await?;
        let due = &accepted["commands"][COMMAND]["payload"]["rebootAt"];
        told.step("answer 202", &format!("in the state read by REST: scheduled for {}", text(due)))?;
        Ok(COMMAND.to_owned())
    }

    async fn refusal(&self) -> anyhow::Result<Option<String>> {
        match self.command("echo", "").await {
            Err(error) => {
                let refused: Refused = error.downcast()?;
                Ok(Some(refused.answer["error"]["status"].as_str().unwrap_or("no reason").to_owned()))
            }
            Ok(()) => Ok(None),
        }
    }

    async fn reported(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.rest.get(&format!("{}/states", self.device)).await?;
        let states = answer["deviceStates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let read = |state: &Value| {
            let data = STANDARD.decode(state["binaryData"].as_str().unwrap_or_default())?;
            anyhow::Ok(serde_json::from_slice(&data)?)
        };
        states.iter().map(|state| read(state).context("a state is not JSON in base64")).collect()
    }

    fn what_to_try(&self, _: &Path) -> anyhow::Result<String> {
        let device = format!("{}{}", self.rest.origin(), self.device);
        let data = |payload: &Value| STANDARD.encode(payload.to_string());
        let command = |subfolder: &str, payload| json!({ "subfolder": subfolder, "binaryData": data(&payload) });
        let echo = command("echo/hello-1", json!({ "hello": "world" }));
        let reboot = command("rebootDevice/again-1", json!({ "reason": "once more" }));
        let config = json!({ "binaryData": data(&json!({ "color": "blue" })) });
        let curl = "curl --silent --show-error --cacert cloud/ca.pem";
        Ok(format!(
            "    device='{device}'\n\n\
             Send a command with an id and a payload; the answer stands in the state under commands.hello-1:\n\n    \
             {curl} \"${{device}}:sendCommandToDevice\" --data '{echo}'\n\n\
             Change the configuration; the state tells its digest under desired:\n\n    \
             {curl} \"${{device}}:modifyCloudToDeviceConfig\" --data '{config}'\n\n\
             Reboot once more, in simulation:\n\n    \
             {curl} \"${{device}}:sendCommandToDevice\" --data '{reboot}'\n\n\
             Read the state, a second later:\n\n    \
             {curl} \"${{device}}/states?numStates=1\" \
             | grep -o '\"binaryData\":\"[^\"]*' | cut -d '\"' -f 4 | base64 -d"
        ))
    }
}
