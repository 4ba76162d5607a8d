//! The identity of a device or module: what is kept of it, how a caller writes it, and how it is shown.
//!
//! Source: "Understand the identity registry in your IoT hub", and the schemas `Device` and `Module` of the service's API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::access::{Authentication, AuthenticationBody};
use super::{HubError, HubName};
use crate::model::now::Timestamp;

/// The longest reason for a status, in characters.
const LONGEST_REASON: usize = 128;
/// What the service shows for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub(super) name: HubName,
    /// Tells a device from an earlier one of the same name.
    generation: String,
    /// 1 at first, one more with every write. The `ETag` is made of this.
    version: u64,
    enabled: bool,
    status_reason: Option<String>,
    status_updated: Option<Timestamp>,
    pub(super) authentication: Authentication,
    /// Shown, and of no effect: the stand-in has no edge.
    edge: bool,
    managed_by: Option<String>,
    #[serde(skip)]
    pub(super) connection: Connection,
    connection_updated: Option<Timestamp>,
    last_activity: Option<Timestamp>,
}

/// What of an identity is no longer true after the end of the bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) connected: bool,
    /// Cloud-to-device messages that wait.
    pub(super) queued: usize,
}

/// What a caller may write, and what it may send back of what it read, which is left alone.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IdentityBody {
    device_id: Option<String>,
    module_id: Option<String>,
    status: Option<Status>,
    status_reason: Option<String>,
    authentication: Option<AuthenticationBody>,
    capabilities: Option<Capabilities>,
    managed_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Enabled,
    Disabled,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    iot_edge: bool,
}

impl IdentityBody {
    /// Reads the body of a call.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HubError> {
        // The reader's words may hold a part of a key.
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            HubError::invalid(format!("The body is no identity in JSON, at line {line}, column {column}."))
        })
    }

    /// Keys in base64. Without a second one it is made.
    pub(crate) fn with_keys(primary: &str, secondary: Option<&str>) -> Self {
        Self { authentication: Some(AuthenticationBody::with_keys(primary, secondary)), ..Self::default() }
    }

    /// Thumbprints of certificates: SHA-1 or SHA-256 over the DER, in hexadecimal digits.
    pub(crate) fn with_thumbprints(primary: &str, secondary: Option<&str>) -> Self {
        Self { authentication: Some(AuthenticationBody::with_thumbprints(primary, secondary)), ..Self::default() }
    }

    /// Whether it may connect, and nothing else.
    pub(super) fn with_status(enabled: bool) -> Self {
        let status = if enabled { Status::Enabled } else { Status::Disabled };
        Self { status: Some(status), ..Self::default() }
    }

    /// Refuses a body that is about another identity than its path.
    fn check(&self, name: &HubName) -> Result<(), HubError> {
        let other = |given: &Option<String>, is: Option<&str>| given.as_deref().is_some_and(|given| Some(given) != is);
        if other(&self.device_id, Some(&name.device)) || other(&self.module_id, name.module.as_deref()) {
            return Err(HubError::invalid(format!("The body is about another identity than {name}.")));
        }
        if self.status_reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
            return Err(HubError::invalid(format!("statusReason has more than {LONGEST_REASON} characters.")));
        }
        if name.module.is_some() && self.status == Some(Status::Disabled) {
            return Err(HubError::invalid("A module cannot be disabled; its device can."));
        }
        Ok(())
    }
}

impl Identity {
    pub(super) fn new(name: HubName, generation: String, body: IdentityBody) -> Result<Self, HubError> {
        body.check(&name)?;
        Ok(Self {
            name,
            generation,
            version: 1,
            enabled: body.status != Some(Status::Disabled),
            status_reason: body.status_reason,
            status_updated: None,
            authentication: body.authentication.unwrap_or_default().read()?,
            edge: body.capabilities.unwrap_or_default().iot_edge,
            managed_by: body.managed_by,
            connection: Connection::default(),
            connection_updated: None,
            last_activity: None,
        })
    }

    /// Puts what the body names in the place of what there is.
    pub(super) fn update(&mut self, body: IdentityBody, now: Timestamp) -> Result<(), HubError> {
        body.check(&self.name)?;
        if let Some(authentication) = body.authentication {
            self.authentication = authentication.read()?;
        }
        if let Some(status) = body.status {
            let enabled = status == Status::Enabled;
            if enabled != self.enabled {
                self.status_updated = Some(now);
            }
            self.enabled = enabled;
            // A reason belongs to its status.
            self.status_reason = body.status_reason;
        } else if body.status_reason.is_some() {
            self.status_reason = body.status_reason;
        }
        if let Some(capabilities) = body.capabilities {
            self.edge = capabilities.iot_edge;
        }
        if body.managed_by.is_some() {
            self.managed_by = body.managed_by;
        }
        self.version += 1;
        Ok(())
    }

    /// Whether it may connect, as far as it alone decides that.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn etag(&self) -> String {
        // Unlike that of a twin, so that one cannot be taken for the other.
        STANDARD.encode(format!("{}-{}", self.generation, self.version))
    }

    pub(super) fn set_connected(&mut self, connected: bool, now: Timestamp) {
        if connected != self.connection.connected {
            self.connection.connected = connected;
            self.connection_updated = Some(now);
        }
        self.seen(now);
    }

    pub(super) fn seen(&mut self, now: Timestamp) {
        self.last_activity = Some(now);
    }

    /// As the service shows it.
    pub(super) fn resource(&self) -> Value {
        let mut members = Map::from_iter([
            ("deviceId".to_owned(), json!(self.name.device)),
            ("generationId".to_owned(), json!(self.generation)),
            ("etag".to_owned(), json!(self.etag())),
            ("authentication".to_owned(), self.authentication.resource()),
            ("connectionStateUpdatedTime".to_owned(), time(self.connection_updated)),
        ]);
        members.extend(self.state());
        if let Some(module) = &self.name.module {
            members.insert("moduleId".to_owned(), json!(module));
            members.insert("managedBy".to_owned(), json!(self.managed_by));
        } else {
            members.extend(self.status());
            members.insert("statusUpdatedTime".to_owned(), time(self.status_updated));
            members.insert("capabilities".to_owned(), self.capabilities());
        }
        Value::Object(members)
    }

    /// What a twin shows of it.
    pub(super) fn members_for_twin(&self) -> Map<String, Value> {
        let mut members = self.state();
        members.extend(self.status());
        members.extend([
            ("deviceEtag".to_owned(), json!(self.etag())),
            ("statusUpdateTime".to_owned(), time(self.status_updated)),
            ("authenticationType".to_owned(), json!(self.authentication.kind())),
            ("x509Thumbprint".to_owned(), self.authentication.thumbprint()),
            ("capabilities".to_owned(), self.capabilities()),
        ]);
        members
    }

    fn state(&self) -> Map<String, Value> {
        let state = if self.connection.connected { "Connected" } else { "Disconnected" };
        Map::from_iter([
            ("connectionState".to_owned(), json!(state)),
            ("lastActivityTime".to_owned(), time(self.last_activity)),
            ("cloudToDeviceMessageCount".to_owned(), json!(self.connection.queued)),
        ])
    }

    fn status(&self) -> Map<String, Value> {
        let status = if self.enabled { "enabled" } else { "disabled" };
        let mut members = Map::from_iter([("status".to_owned(), json!(status))]);
        if let Some(reason) = &self.status_reason {
            members.insert("statusReason".to_owned(), json!(reason));
        }
        members
    }

    fn capabilities(&self) -> Value {
        json!({ "iotEdge": self.edge })
    }
}

fn time(time: Option<Timestamp>) -> Value {
    time.map_or_else(|| json!(NEVER), |time| json!(time))
}
