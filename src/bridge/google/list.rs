//! Lists and field masks: which resources a client wants to see, and which fields of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ApiError;
use super::device::Device;
use crate::bridge::broker::ClientNumber;

/// The most resources in one page of a list, and the number if a client names none.
const PAGE: usize = 500;
const DEFAULT_PAGE: usize = 100;

/// What a client asks of a list.
#[derive(Debug, Default)]
pub(crate) struct ListOptions {
    pub(crate) page_size: usize,
    pub(crate) page_token: String,
    /// Fields shown besides `id` and `numId`.
    pub(crate) fields: Vec<String>,
    /// Only these, by id or by number, if any is named.
    pub(crate) ids: Vec<String>,
    pub(crate) numbers: Vec<ClientNumber>,
    /// Only devices of this gateway type.
    pub(crate) gateway_type: Option<String>,
}

/// Reads a field mask: names with commas between, in snake case; camel case is taken as well.
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

/// The fields of a device that a mask may name.
const FIELDS: [&str; 17] = [
    "id",
    "name",
    "num_id",
    "credentials",
    "last_heartbeat_time",
    "last_event_time",
    "last_state_time",
    "last_config_ack_time",
    "last_config_send_time",
    "blocked",
    "last_error_time",
    "last_error_status",
    "config",
    "state",
    "log_level",
    "metadata",
    "gateway_config",
];

fn camel(snake: &str) -> String {
    let mut parts = snake.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut camel, part| {
        camel.push_str(&part[..1].to_ascii_uppercase());
        camel.push_str(&part[1..]);
        camel
    })
}

/// The named fields of a device; `id` and `numId` always.
pub(super) fn shown(device: &Device, fields: &[String]) -> Result<Value, ApiError> {
    let all = device.resource();
    let mut shown = json!({ "id": all["id"], "numId": all["numId"] });
    for field in fields {
        let top = field.split('.').next().unwrap_or_default();
        if !FIELDS.contains(&top) {
            return Err(ApiError::invalid(format!("Unknown field '{field}' in the field mask.")));
        }
        let name = camel(top);
        if let Some(value) = all.get(&name) {
            shown[name] = value.clone();
        }
    }
    Ok(shown)
}

/// One page, and the token of the next. A token names the last resource of its page, so changes between two pages
/// neither hide nor repeat others.
pub(super) fn page<'a, T>(
    all: impl Iterator<Item = &'a T>,
    id: impl Fn(&T) -> &String,
    options: &ListOptions,
) -> Result<(Vec<&'a T>, Option<String>), ApiError> {
    let wrong = || ApiError::invalid("The page token is not one of this list.");
    let after = URL_SAFE_NO_PAD.decode(&options.page_token).map_err(|_| wrong())?;
    let after = String::from_utf8(after).map_err(|_| wrong())?;
    let size = if options.page_size == 0 { DEFAULT_PAGE } else { options.page_size.min(PAGE) };
    let mut page: Vec<&T> = all.filter(|item| *id(item) > after).take(size + 1).collect();
    let more = page.len() > size;
    page.truncate(size);
    let token = page.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(id(last)));
    Ok((page, token))
}

/// The answer of a list. What is empty is left out.
pub(super) fn listed(name: &str, list: Vec<Value>, token: Option<String>) -> Value {
    let mut answer = json!({});
    if !list.is_empty() {
        answer[name] = Value::Array(list);
    }
    if let Some(token) = token {
        answer["nextPageToken"] = Value::String(token);
    }
    answer
}
