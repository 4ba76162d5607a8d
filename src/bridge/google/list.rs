//! Lists: which resources a client wants to see, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ApiError;
use super::gateway::GatewayType;
use crate::bridge::broker::ClientNumber;

/// The most resources in one page of a list, and the number if a client names none.
const PAGE: usize = 500;
const DEFAULT_PAGE: usize = 100;
/// The most ids, and the most numbers, that a list may name (discovery document).
const MAX_NAMED: usize = 10_000;

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
    /// Only devices of this gateway type, if one is named.
    pub(crate) gateway_type: GatewayType,
}

impl ListOptions {
    /// Refuses a list that names too many resources.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.ids.len() > MAX_NAMED || self.numbers.len() > MAX_NAMED {
            return Err(ApiError::invalid(format!("A list can name at most {MAX_NAMED} devices.")));
        }
        Ok(())
    }
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
