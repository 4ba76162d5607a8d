//! The demo's cloud as Azure IoT Hub: a device with a key of the hub's, direct methods, the device's twin.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};
use twinagent::bridge::{Bridge, Hub, HubName};
use twinagent::dialect::sas::{self, SharedKey};
use twinagent::host::clock;

use super::client::{Refused, Rest};
use super::site::{self, Site};
use super::told::Told;
use super::{DEVICE, Operator, REASON, bounded, text};

/// Of the service's REST API.
const API: &str = "api-version=2021-04-12";
/// How long the token of the operator holds: longer than anybody keeps a demo.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The file of the header that carries it, for a person's own calls.
const HEADER: &str = "authorization";

pub(super) struct IotHub {
    rest: Rest,
    /// A look behind the stage, to know when to go on.
    hub: Hub,
    name: HubName,
    /// What each call carries.
    token: String,
}

impl IotHub {
    /// Invokes a direct method; the status and the payload of the device's answer.
    async fn invoke(&self, method: &str, payload: &Value) -> anyhow::Result<(u64, Value)> {
        let body = json!({ "methodName": method, "payload": payload, "responseTimeoutInSeconds": 10 });
        let mut answer = self.rest.post(&format!("/twins/{DEVICE}/methods?{API}"), &body).await?;
        let status = answer["status"].as_u64().context("an answer without a status")?;
        Ok((status, answer["payload"].take()))
    }

    fn connection_string_file(site: &Site) -> PathBuf {
        site.folders().configuration.join("connection-string")
    }
}

/// A token for all of the hub, by the connection string of its owner.
fn owners_token(connection_string: &str) -> anyhow::Result<String> {
    let part = |name: &str| {
        let mut parts = connection_string.split(';').filter_map(|part| part.split_once('='));
        let found = parts.find(|(found, _)| *found == name).map(|(_, value)| value);
        found.with_context(|| format!("the hub's connection string has no {name}"))
    };
    let key = SharedKey::parse(part("SharedAccessKey")?)?;
    let expires = clock::wall().saturating_add(TOKEN_LIFE);
    let token = sas::mint(&key, part("HostName")?, expires, Some(part("SharedAccessKeyName")?));
    Ok(token.reveal().to_owned())
}

impl Operator for IotHub {
    const LOGIN: &str = "a fresh token, signed with that key,";
    const DOCUMENT: &str = "as the device's twin has it";

    fn new(bridge: &Bridge) -> anyhow::Result<Self> {
        let https = bridge.addresses().https.expect("the listener was asked for");
        let announced = bridge.announcement();
        let token = owners_token(announced["iothub"].as_str().context("no connection string of the hub")?)?;
        Ok(Self {
            rest: Rest::new(https, bridge.ca_file(), Some(token.clone()))?,
            hub: bridge.hub(),
            name: HubName::device(DEVICE)?,
            token,
        })
    }

    fn origin(&self) -> String {
        self.rest.origin()
    }

    fn configuration(&self, site: &Site) -> String {
        // A text in JSON is one in TOML.
        let (ca_file, connection_string) = (json!(site.bridge().ca_file()), json!(Self::connection_string_file(site)));
        let port = site.mqtts().port();
        format!(
            "[cloud]\n\
             kind = \"iothub\"\n\n\
             [cloud.iothub]\n\
             connection_string_file = {connection_string}\n\
             port = {port}\n\
             ca_file = {ca_file}\n"
        )
    }

    async fn register(&self, site: &Site, told: &Told) -> anyhow::Result<()> {
        let device = json!({ "deviceId": DEVICE, "status": "enabled", "authentication": { "type": "sas" } });
        let made = self.rest.put(&format!("/devices/{DEVICE}?{API}"), &device).await?;
        let key = made["authentication"]["symmetricKey"]["primaryKey"].as_str().context("a device without a key")?;
        told.step("register", &format!("by REST: device {DEVICE}; the hub has drawn a key for it"))?;
        let connection_string = format!("HostName=localhost;DeviceId={DEVICE};SharedAccessKey={key}\n");
        site::write(&Self::connection_string_file(site), &connection_string)?;
        told.step("key", "its connection string is in a file of the device, which only the agent can read")
    }

    async fn presence(&self) -> anyhow::Result<(u64, bool)> {
        Ok((self.hub.logins(&self.name).await?, self.hub.ready(&self.name).await?))
    }

    async fn reboot(&self, _: &Site, told: &Told) -> anyhow::Result<String> {
        let payload = json!({ "reason": REASON });
        let (status, answer) = bounded("the direct method", self.invoke("rebootDevice", &payload)).await?;
        told.step("command", &format!("by REST: direct method rebootDevice, reason \"{REASON}\""))?;
        let id = answer["commandId"].as_str().filter(|_| status == 202);
        let id = id.ok_or_else(|| anyhow!("the method was answered with {status} {answer}"))?;
        let due = text(&answer["rebootAt"]);
        told.step("answer 202", &format!("by REST, at once: the agent has it on disk as {id}, scheduled for {due}"))?;
        Ok(id.to_owned())
    }

    async fn refusal(&self) -> anyhow::Result<Option<String>> {
        match self.invoke("echo", &Value::Null).await {
            Err(error) => {
                let Refused { code, answer } = error.downcast()?;
                // The hub wraps its errors: a text in JSON, with JSON in it.
                let told: Value =
                    answer["Message"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                Ok(Some(told["errorCode"].as_u64().unwrap_or(code.into()).to_string()))
            }
            Ok(_) => Ok(None),
        }
    }

    async fn reported(&self) -> anyhow::Result<Vec<Value>> {
        let mut twin = self.rest.get(&format!("/twins/{DEVICE}?{API}")).await?;
        let Value::Object(mut reported) = twin["properties"]["reported"].take() else {
            bail!("a twin without reported")
        };
        // The hub's own members are none of the document's.
        reported.retain(|name, _| !name.starts_with('$'));
        Ok(vec![Value::Object(reported)])
    }

    fn what_to_try(&self, folder: &Path) -> anyhow::Result<String> {
        let twin = format!("{}/twins/{DEVICE}", self.rest.origin());
        // Neither the screen nor the list of processes shows the token.
        site::write(&folder.join(HEADER), &format!("Authorization: {}\n", self.token))?;
        let method = |name: &str, payload: Value| json!({ "methodName": name, "payload": payload });
        let echo = method("echo", json!({ "hello": "world" }));
        let reboot = method("rebootDevice", json!({ "reason": "once more" }));
        let desired = json!({ "properties": { "desired": { "color": "blue" } } });
        let curl = format!("curl --silent --show-error --cacert cloud/ca.pem --header @{HEADER}");
        Ok(format!(
            "    twin='{twin}'\n\n\
             Invoke a direct method; its answer is the answer:\n\n    \
             {curl} \"${{twin}}/methods?{API}\" --data '{echo}'\n\n\
             Change what is desired; the twin tells its digest under reported.desired:\n\n    \
             {curl} --request PATCH \"${{twin}}?{API}\" --header 'If-Match: *' --data '{desired}'\n\n\
             Reboot once more, in simulation:\n\n    \
             {curl} \"${{twin}}/methods?{API}\" --data '{reboot}'\n\n\
             Read the twin, some seconds later; the outcome stands under reported.commands:\n\n    \
             {curl} \"${{twin}}?{API}\""
        ))
    }
}
