//! How calls are answered: JSON, and Google's shape of an error.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bridge::google::ApiError;

/// What a call returns.
pub(super) type Answer = Result<Json<Value>, Refusal>;

/// An error on its way out: `{"error":{"code":…,"message":…,"status":…}}`.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) ApiError);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(ApiError { status, message }) = self;
        let body = json!({ "error": { "code": status.http(), "message": message, "status": status.as_str() } });
        let code = StatusCode::from_u16(status.http()).expect("each canonical code has an HTTP status");
        (code, Json(body)).into_response()
    }
}

/// Reads the body of a call. An empty one is an empty object.
pub(super) fn body<T: DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let bytes = bytes.map_err(|error| ApiError::invalid(format!("The body cannot be read: {error}")))?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::invalid(format!("Invalid JSON payload received. {error}")))
}
