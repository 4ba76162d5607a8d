//! The device resource: what is kept of a device, how a client writes it, and how it is shown.
//!
//! Fields and their names: the discovery document `cloudiot.v1`, schema `Device`.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authority::Authority;
use super::credential::{self, Credential};
use super::error::ApiError;
use super::fields::unchangeable;
use super::gateway::GatewayConfig;
use super::json::{Number, Payload, Version};
use super::log_level::LogLevel;
use super::names::DeviceName;
use super::quoted;
use crate::model::now::Timestamp;

/// Versions of the configuration and states that are kept.
pub(crate) const MAX_HISTORY: usize = 10;
/// Metadata: pairs, bytes of a key, of a value, and of all together.
const MAX_METADATA: (usize, usize, usize, usize) = (500, 128, 32 * 1024, 256 * 1024);
/// The largest configuration and the largest state, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 64 * 1024;

/// One version of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) version: Version,
    pub(crate) cloud_update_time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device_ack_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Payload::is_empty")]
    pub(crate) binary_data: Payload,
}

/// A state that the device sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub(crate) update_time: Timestamp,
    #[serde(default, skip_serializing_if = "Payload::is_empty")]
    pub(crate) binary_data: Payload,
}

/// What a client may write, and what it may send back to us of what it read, which is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct DeviceBody {
    pub(crate) id: String,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) blocked: bool,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) log_level: LogLevel,
    pub(crate) gateway_config: Option<GatewayConfig>,
    pub(crate) config: Option<ConfigBody>,
    #[serde(rename = "name")]
    _name: serde::de::IgnoredAny,
    #[serde(rename = "numId")]
    _num_id: serde::de::IgnoredAny,
    #[serde(rename = "state")]
    _state: serde::de::IgnoredAny,
    #[serde(rename = "lastHeartbeatTime")]
    _last_heartbeat_time: serde::de::IgnoredAny,
    #[serde(rename = "lastEventTime")]
    _last_event_time: serde::de::IgnoredAny,
    #[serde(rename = "lastStateTime")]
    _last_state_time: serde::de::IgnoredAny,
    #[serde(rename = "lastConfigAckTime")]
    _last_config_ack_time: serde::de::IgnoredAny,
    #[serde(rename = "lastConfigSendTime")]
    _last_config_send_time: serde::de::IgnoredAny,
    #[serde(rename = "lastErrorTime")]
    _last_error_time: serde::de::IgnoredAny,
    #[serde(rename = "lastErrorStatus")]
    _last_error_status: serde::de::IgnoredAny,
}

/// The configuration that a device may be created with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigBody {
    version: Number,
    binary_data: Payload,
}

impl DeviceBody {
    /// A device with one credential and nothing else.
    pub(crate) fn with_key(id: &str, public_key_pem: &str) -> Self {
        Self { id: id.to_owned(), credentials: vec![Credential::from_pem(public_key_pem)], ..Self::default() }
    }

    fn gateway(&self) -> GatewayConfig {
        self.gateway_config.unwrap_or_default()
    }
}

/// A device, with all that is kept of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub(crate) name: DeviceName,
    pub(crate) num_id: u64,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) blocked: bool,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) log_level: LogLevel,
    pub(crate) gateway_config: Option<GatewayConfig>,
    pub(crate) last: Last,
    /// The newest first; never empty.
    pub(crate) configs: VecDeque<Config>,
    /// The newest first.
    pub(crate) states: VecDeque<State>,
}

/// The last… fields of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Last {
    #[serde(rename = "lastHeartbeatTime", skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat: Option<Timestamp>,
    #[serde(rename = "lastEventTime", skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<Timestamp>,
    #[serde(rename = "lastStateTime", skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Timestamp>,
    #[serde(rename = "lastConfigAckTime", skip_serializing_if = "Option::is_none")]
    pub(crate) config_ack: Option<Timestamp>,
    #[serde(rename = "lastConfigSendTime", skip_serializing_if = "Option::is_none")]
    pub(crate) config_send: Option<Timestamp>,
    #[serde(rename = "lastErrorTime", skip_serializing_if = "Option::is_none")]
    pub(crate) error_time: Option<Timestamp>,
    #[serde(rename = "lastErrorStatus", skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<RpcStatus>,
}

/// `google.rpc.Status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RpcStatus {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Device {
    /// A new device, of a registry with these authorities.
    pub(crate) fn new(
        name: DeviceName,
        num_id: u64,
        body: DeviceBody,
        authorities: &[Authority],
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        credential::check(&body.credentials, &[], authorities, now)?;
        let ConfigBody { version, binary_data } = body.config.unwrap_or_default();
        if version != Number::default() {
            return Err(ApiError::invalid("The config version of a new device must be 0; the cloud makes it 1."));
        }
        check_document(&binary_data.0)?;
        let first = Config { version: Version(1), cloud_update_time: now, device_ack_time: None, binary_data };
        let device = Self {
            name,
            num_id,
            credentials: body.credentials,
            blocked: body.blocked,
            metadata: body.metadata,
            log_level: body.log_level,
            gateway_config: body.gateway_config,
            last: Last::default(),
            configs: VecDeque::from([first]),
            states: VecDeque::new(),
        };
        device.check_metadata()?;
        Ok(device)
    }

    /// Puts the named fields of the body in the place of those of the device.
    pub(crate) fn patch(
        &mut self,
        body: &DeviceBody,
        mask: &[String],
        authorities: &[Authority],
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let mut next = self.clone();
        for field in mask {
            match field.as_str() {
                "credentials" => next.credentials.clone_from(&body.credentials),
                "blocked" => next.blocked = body.blocked,
                "metadata" => next.metadata.clone_from(&body.metadata),
                "log_level" => next.log_level = body.log_level,
                "gateway_config" => next.gateway_config = body.gateway_config,
                "gateway_config.gateway_type" => next.gateway().gateway_type = body.gateway().gateway_type,
                "gateway_config.gateway_auth_method" => {
                    next.gateway().gateway_auth_method = body.gateway().gateway_auth_method;
                }
                other => {
                    let all = "credentials, blocked, metadata, log_level and gateway_config";
                    return Err(unchangeable(other, all));
                }
            }
        }
        credential::check(&next.credentials, &self.credentials, authorities, now)?;
        next.check_metadata()?;
        *self = next;
        Ok(())
    }

    fn gateway(&mut self) -> &mut GatewayConfig {
        self.gateway_config.get_or_insert_default()
    }

    fn check_metadata(&self) -> Result<(), ApiError> {
        let (pairs, key, value, all) = MAX_METADATA;
        let total: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        let too_long = self.metadata.iter().any(|(name, text)| name.len() > key || text.len() > value);
        if self.metadata.len() > pairs || too_long || total > all {
            return Err(ApiError::invalid(format!(
                "The metadata is too large: {pairs} pairs, {key} bytes in a key, {value} in a value and {all} in all \
                 are allowed."
            )));
        }
        // One edition of the discovery document wants a letter first, the other has no `.+~%`: what either takes is taken.
        let is_key = |key: &str| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+~%".contains(&byte))
        };
        if let Some(key) = self.metadata.keys().find(|key| !is_key(key)) {
            return Err(ApiError::invalid(format!(
                "Invalid metadata key {}: letters, digits and -_.+~% are expected.",
                quoted(key)
            )));
        }
        Ok(())
    }

    /// The newest version.
    pub(crate) fn config(&self) -> &Config {
        self.configs.front().expect("a device always has a configuration")
    }

    /// The resource as a client sees it. Fields at their default are left out, as JSON of protocol buffers does.
    pub(crate) fn resource(&self) -> Value {
        let mut resource = serde_json::to_value(&self.last).expect("times and texts are JSON");
        resource["id"] = json!(self.name.device);
        resource["name"] = json!(format!("{}/devices/{}", self.name.of(), self.num_id));
        resource["numId"] = json!(self.num_id.to_string());
        resource["config"] = json!(self.config());
        if !self.credentials.is_empty() {
            resource["credentials"] = json!(self.credentials);
        }
        if self.blocked {
            resource["blocked"] = json!(true);
        }
        if !self.metadata.is_empty() {
            resource["metadata"] = json!(self.metadata);
        }
        if self.log_level != LogLevel::default() {
            resource["logLevel"] = json!(self.log_level);
        }
        if let Some(config) = &self.gateway_config {
            resource["gatewayConfig"] = json!(config);
        }
        if let Some(state) = self.states.front() {
            resource["state"] = json!(state);
        }
        resource
    }
}

/// Refuses a configuration that is too large.
pub(crate) fn check_document(bytes: &[u8]) -> Result<(), ApiError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(ApiError::invalid(format!(
            "The data is too large: {} bytes, of which {MAX_DOCUMENT} are allowed.",
            bytes.len()
        )));
    }
    Ok(())
}
