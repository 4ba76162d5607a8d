//! What calls of the hub's API have in common: whom they are about, for which version, and a body.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;

use super::answer::Refusal;
use crate::bridge::azure::{HubError, HubName, IfMatch};

pub(super) type Body = Result<Bytes, BytesRejection>;

/// The device or module in the path of a call.
#[derive(Debug)]
pub(super) struct Named(pub(super) HubName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Path(path) = path.map_err(|_| HubError::invalid("The path is not in UTF-8."))?;
        let part = |wanted: &str| path.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
        let device = HubName::device(part("device"))?;
        Ok(Self(match part("module") {
            "" => device,
            module => device.module(module)?,
        }))
    }
}

/// The header `If-Match`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, HubError> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().map_err(|_| HubError::invalid("If-Match is no text."))?;
    Ok(Some(IfMatch::parse(text)))
}

pub(super) fn bytes(body: Body) -> Result<Bytes, HubError> {
    body.map_err(|error| match error.status().as_u16() {
        413 => HubError::too_large("The body is larger than any call needs."),
        _ => HubError::invalid("The body cannot be read."),
    })
}
