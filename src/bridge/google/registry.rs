//! The registry resource: what is kept of a registry, how a client writes it, and how it is shown.
//!
//! Fields and their names: the discovery document `cloudiot.v1`, schema `DeviceRegistry`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authority::{self, Authority};
use super::error::ApiError;
use super::fields::unchangeable;
use super::log_level::LogLevel;
use super::names::RegistryName;
use super::quoted;
use crate::model::now::Timestamp;

/// Event notification configurations of one registry (cloud.google.com/iot/docs/quotas).
const MAX_EVENT_TOPICS: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventTopic {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subfolder_matches: String,
    pub(crate) pubsub_topic_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StateTopic {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pubsub_topic_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MqttState {
    #[serde(rename = "MQTT_STATE_UNSPECIFIED")]
    Unspecified,
    #[serde(rename = "MQTT_ENABLED")]
    Enabled,
    #[serde(rename = "MQTT_DISABLED")]
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MqttConfig {
    mqtt_enabled_state: MqttState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HttpState {
    #[serde(rename = "HTTP_STATE_UNSPECIFIED")]
    Unspecified,
    #[serde(rename = "HTTP_ENABLED")]
    Enabled,
    #[serde(rename = "HTTP_DISABLED")]
    Disabled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpConfig {
    http_enabled_state: HttpState,
}

/// What a client writes, and what is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RegistryBody {
    pub(crate) id: String,
    /// Written by us; what a client says is ignored.
    #[serde(skip_serializing)]
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) event_notification_configs: Vec<EventTopic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_notification_config: Option<StateTopic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_config: Option<MqttConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_config: Option<HttpConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<LogLevel>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) credentials: Vec<Authority>,
}

/// A registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registry {
    pub(crate) name: RegistryName,
    /// What its file is called; clients never see it.
    pub(crate) number: u64,
    pub(crate) body: RegistryBody,
}

impl RegistryBody {
    /// A registry with or without a topic for telemetry.
    pub(crate) fn plain(name: &RegistryName, event_topic: bool) -> Self {
        let topic = EventTopic {
            subfolder_matches: String::new(),
            pubsub_topic_name: format!("projects/{}/topics/events", name.project),
        };
        Self {
            id: name.registry.clone(),
            event_notification_configs: event_topic.then_some(topic).into_iter().collect(),
            ..Self::default()
        }
    }
}

impl Registry {
    pub(crate) fn new(
        name: RegistryName,
        number: u64,
        mut body: RegistryBody,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        body.id.clone_from(&name.registry);
        // What a new registry of the cloud shows, too.
        body.mqtt_config.get_or_insert(MqttConfig { mqtt_enabled_state: MqttState::Enabled });
        body.http_config.get_or_insert(HttpConfig { http_enabled_state: HttpState::Enabled });
        authority::check(&body.credentials, &[], now)?;
        let registry = Self { name, number, body };
        registry.check()?;
        Ok(registry)
    }

    pub(crate) fn patch(&mut self, body: &RegistryBody, mask: &[String], now: Timestamp) -> Result<(), ApiError> {
        let mut next = self.clone();
        for field in mask {
            match field.as_str() {
                "event_notification_config" | "event_notification_configs" => {
                    next.body.event_notification_configs.clone_from(&body.event_notification_configs);
                }
                "state_notification_config" | "state_notification_config.pubsub_topic_name" => {
                    next.body.state_notification_config.clone_from(&body.state_notification_config);
                }
                "mqtt_config" | "mqtt_config.mqtt_enabled_state" => next.body.mqtt_config = body.mqtt_config,
                "http_config" | "http_config.http_enabled_state" => next.body.http_config = body.http_config,
                "log_level" => next.body.log_level = body.log_level,
                "credentials" => next.body.credentials.clone_from(&body.credentials),
                other => {
                    let all = "event_notification_config, state_notification_config, mqtt_config, http_config, log_level \
                               and credentials";
                    return Err(unchangeable(other, all));
                }
            }
        }
        authority::check(&next.body.credentials, &self.body.credentials, now)?;
        next.check()?;
        *self = next;
        Ok(())
    }

    fn check(&self) -> Result<(), ApiError> {
        let topics = &self.body.event_notification_configs;
        if topics.len() > MAX_EVENT_TOPICS {
            return Err(ApiError::invalid(format!("A registry can have at most {MAX_EVENT_TOPICS} event topics.")));
        }
        let state_topic = self.body.state_notification_config.iter().map(|topic| &topic.pubsub_topic_name);
        let named =
            topics.iter().map(|topic| &topic.pubsub_topic_name).chain(state_topic.filter(|name| !name.is_empty()));
        if let Some(wrong) = named.into_iter().find(|name| !is_topic(name)) {
            return Err(ApiError::invalid(format!(
                "{} is no Pub/Sub topic: projects/PROJECT/topics/TOPIC is expected.",
                quoted(wrong)
            )));
        }
        if topics.iter().any(|topic| topic.subfolder_matches.starts_with('/')) {
            return Err(ApiError::invalid("A subfolder must not begin with '/'."));
        }
        // Those behind it could never match. Terraform's page on `google_cloudiot_registry` has the rule.
        if topics.iter().rev().skip(1).any(|topic| topic.subfolder_matches.is_empty()) {
            return Err(ApiError::invalid("Only the last event topic can be for all subfolders."));
        }
        Ok(())
    }

    /// Whether devices may log in by MQTT.
    pub(crate) fn takes_mqtt(&self) -> bool {
        self.body.mqtt_config.is_none_or(|config| config.mqtt_enabled_state != MqttState::Disabled)
    }

    /// The topic for telemetry of this subfolder: the first that matches.
    pub(crate) fn event_topic(&self, subfolder: &str) -> Option<&str> {
        let fits = |topic: &&EventTopic| topic.subfolder_matches.is_empty() || topic.subfolder_matches == subfolder;
        self.body.event_notification_configs.iter().find(fits).map(|topic| topic.pubsub_topic_name.as_str())
    }

    pub(crate) fn log_level(&self) -> LogLevel {
        self.body.log_level.unwrap_or_default()
    }

    /// The resource as a client sees it.
    pub(crate) fn resource(&self) -> Value {
        let mut resource = json!(self.body);
        resource["name"] = json!(self.name.to_string());
        if !self.body.credentials.is_empty() {
            resource["credentials"] = self.body.credentials.iter().map(Authority::resource).collect();
        }
        resource
    }
}

fn is_topic(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts[..], ["projects", project, "topics", topic] if !project.is_empty() && !topic.is_empty())
}
