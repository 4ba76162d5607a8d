//! What a device resource says of gateways: whether the device is one, and how devices get in by it.
//!
//! Kept, shown and used to pick devices for a list. Source: the discovery document, schema `GatewayConfig`.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum GatewayType {
    #[default]
    #[serde(rename = "GATEWAY_TYPE_UNSPECIFIED")]
    Unspecified,
    Gateway,
    NonGateway,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum GatewayAuthMethod {
    #[default]
    #[serde(rename = "GATEWAY_AUTH_METHOD_UNSPECIFIED")]
    Unspecified,
    AssociationOnly,
    DeviceAuthTokenOnly,
    AssociationAndDeviceAuthToken,
}

/// The last accessed gateway is the cloud's to say, and what a client says of it is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct GatewayConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) gateway_type: GatewayType,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) gateway_auth_method: GatewayAuthMethod,
    #[serde(rename = "lastAccessedGatewayId", skip_serializing)]
    _last_accessed_gateway_id: IgnoredAny,
    #[serde(rename = "lastAccessedGatewayTime", skip_serializing)]
    _last_accessed_gateway_time: IgnoredAny,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl GatewayConfig {
    /// Whether this is a device of the wanted type. What says nothing of gateways is none.
    pub(crate) fn is_of(config: Option<&Self>, wanted: GatewayType) -> bool {
        let kind = match config.map(|config| config.gateway_type) {
            None | Some(GatewayType::Unspecified) => GatewayType::NonGateway,
            Some(kind) => kind,
        };
        wanted == GatewayType::Unspecified || wanted == kind
    }
}
