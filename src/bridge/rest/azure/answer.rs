//! How calls of the hub's API are answered: JSON with an `ETag`, and the service's shape of an error.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::http::header::ETAG;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use crate::bridge::azure::HubError;
use crate::bridge::world::wall;

/// The name of the code of an error.
const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");

/// A resource, with its `etag` in the header too.
#[derive(Debug)]
pub(super) struct Resource(pub(super) Value);

impl IntoResponse for Resource {
    fn into_response(self) -> Response {
        let etag = self.0["etag"].as_str().map(|etag| format!("\"{etag}\""));
        (etag.map(|etag| [(ETAG, etag)]), Json(self.0)).into_response()
    }
}

/// What a call returns.
pub(super) type Answer = Result<Resource, Refusal>;

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Refusal {
    error: HubError,
    /// How long a device was waited for, where it was.
    waited: Option<Duration>,
}

impl From<HubError> for Refusal {
    fn from(error: HubError) -> Self {
        Self { error, waited: None }
    }
}

impl Refusal {
    pub(super) fn after(error: HubError, waited: Duration) -> Self {
        Self { error, waited: Some(waited) }
    }
}

/// `{"Message":"{…}","ExceptionMessage":""}`: the error proper is JSON within a text, as the service writes it.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { error, waited } = self;
        let now = wall();
        let mut inner = json!({
            "errorCode": error.code,
            "trackingId": format!("{}-G:0-TimeStamp:{now}", tracking_id()),
            "message": error.message,
            "timestampUtc": now,
        });
        if let Some(waited) = waited {
            let seconds = waited.as_secs();
            let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
            inner["info"] = json!({ "timeout": clock });
        }
        let body = json!({ "Message": inner.to_string(), "ExceptionMessage": "" });
        let status = StatusCode::from_u16(error.status).expect("each code begins with an HTTP status");
        (status, [(ERROR_CODE, error.code_name())], Json(body)).into_response()
    }
}

/// 32 hexadecimal digits, of no meaning here.
fn tracking_id() -> String {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a String takes all text");
        text
    })
}
