//! Field masks: which fields of a device a client wants to see, and which it wants to change.
//!
//! Names are in snake case, as the discovery document asks; camel case, as JSON has it, is taken as well. A path may
//! name a field of a field, but nothing inside of a list or a map (`google/protobuf/field_mask.proto`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::device::Device;
use super::error::ApiError;

/// The fields of a device, each with its own fields.
const FIELDS: [(&str, &[&str]); 17] = [
    ("id", &[]),
    ("name", &[]),
    ("num_id", &[]),
    ("credentials", &[]),
    ("last_heartbeat_time", &[]),
    ("last_event_time", &[]),
    ("last_state_time", &[]),
    ("last_config_ack_time", &[]),
    ("last_config_send_time", &[]),
    ("blocked", &[]),
    ("last_error_time", &[]),
    ("last_error_status", &["code", "message", "details"]),
    ("config", &["version", "cloud_update_time", "device_ack_time", "binary_data"]),
    ("state", &["update_time", "binary_data"]),
    ("log_level", &[]),
    ("metadata", &[]),
    (
        "gateway_config",
        &["gateway_type", "gateway_auth_method", "last_accessed_gateway_id", "last_accessed_gateway_time"],
    ),
];

/// Reads the names of a mask, which have commas between them.
pub(crate) fn mask(text: &str) -> Vec<String> {
    let snake = |name: &str| {
        let mut snake = String::new();
        for letter in name.trim().chars() {
            if letter.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        snake
    };
    text.split(',').map(snake).filter(|name| !name.is_empty()).collect()
}

/// Fields of a device to be shown, with the field inside if only that is wanted; none stands for all. Each is in it
/// once, however often a mask names it.
#[derive(Debug)]
pub(crate) struct Fields(BTreeSet<(&'static str, Option<&'static str>)>);

impl Fields {
    /// Refuses names that a device does not have.
    pub(crate) fn of_device(mask: &[String]) -> Result<Self, ApiError> {
        let known = |path: &String| {
            let (top, inner) = path.split_once('.').map_or((path.as_str(), None), |(top, inner)| (top, Some(inner)));
            let (top, all) = FIELDS.iter().find(|(name, _)| *name == top)?;
            let Some(inner) = inner else { return Some((*top, None)) };
            all.iter().find(|name| **name == inner).map(|inner| (*top, Some(*inner)))
        };
        let found = mask.iter().map(|path| {
            known(path).ok_or_else(|| ApiError::invalid(format!("Unknown field '{path}' in the field mask.")))
        });
        found.collect::<Result<_, _>>().map(Self)
    }

    /// All fields if none was named.
    pub(crate) fn shown_or_all(&self, device: &Device) -> Value {
        if self.0.is_empty() { device.resource() } else { self.shown(device) }
    }

    /// The named fields, as far as the device has them; `id` and `numId` always.
    pub(crate) fn shown(&self, device: &Device) -> Value {
        let all = device.resource();
        let mut shown = json!({ "id": all["id"], "numId": all["numId"] });
        for (top, inner) in &self.0 {
            let name = camel(top);
            let Some(value) = all.get(&name) else { continue };
            match inner {
                None => shown[name] = value.clone(),
                Some(inner) => {
                    let inner = camel(inner);
                    if let Some(value) = value.get(&inner) {
                        shown[name][inner] = value.clone();
                    }
                }
            }
        }
        shown
    }
}

fn camel(snake: &str) -> String {
    let mut parts = snake.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut camel, part| {
        camel.push_str(&part[..1].to_ascii_uppercase());
        camel.push_str(&part[1..]);
        camel
    })
}

/// Refuses a change that names no field.
pub(crate) fn check_update_mask(mask: &[String]) -> Result<(), ApiError> {
    if mask.is_empty() { Err(ApiError::invalid("The update mask must not be empty.")) } else { Ok(()) }
}

/// A field that is not there, is only set by the cloud, or cannot be changed after creation.
pub(crate) fn unchangeable(field: &str, changeable: &str) -> ApiError {
    ApiError::invalid(format!("The field '{field}' in the update mask cannot be changed: {changeable} can."))
}
