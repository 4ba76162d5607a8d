//! Queries of twins, page by page.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::super::{Rest, World};
use super::answer::Refusal;
use super::parts::{Body, bytes};
use crate::bridge::azure::HubError;

const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const MOST: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");

#[derive(Deserialize)]
struct Specification {
    query: String,
}

pub(super) async fn ask(State(rest): State<Rest>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Specification { query } = serde_json::from_slice(&bytes(body)?)
        .map_err(|error| HubError::invalid(format!("The body is not {{\"query\": …}}: {error}.")))?;
    let header = |name: &HeaderName| -> Result<Option<String>, HubError> {
        let text = headers.get(name).map(|value| value.to_str().map(str::to_owned)).transpose();
        text.map_err(|_| HubError::invalid(format!("{name} is no text.")))
    };
    let most = header(&MOST)?.map(|text| text.parse::<usize>()).transpose();
    let most = most.map_err(|_| HubError::invalid(format!("{MOST} is no number.")))?;
    let continuation = header(&CONTINUATION)?;
    let ask = move |world: &mut World| world.azure.query(&query, most, continuation.as_deref());
    let page = rest.owner.ask(ask).await?;
    let mut response = Json(page.items).into_response();
    response.headers_mut().insert(ITEM_TYPE, HeaderValue::from_static("Twin"));
    if let Some(continuation) = page.continuation {
        let value = HeaderValue::from_str(&continuation).expect("base64 is a header");
        response.headers_mut().insert(CONTINUATION, value);
    }
    Ok(response)
}
