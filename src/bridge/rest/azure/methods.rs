//! The call of a direct method: what the service checks before it asks the device, and how it tells the outcome.
//!
//! Source: "Understand and invoke direct methods from IoT Hub" (learn.microsoft.com/azure/iot-hub).

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::super::Rest;
use super::answer::{Answer, Refusal, Resource};
use super::parts::{Body, Named, bytes};
use crate::bridge::azure::HubError;

/// In seconds.
const CONNECT_TIMEOUT: RangeInclusive<u64> = 0..=300;
const RESPONSE_TIMEOUT: RangeInclusive<u64> = 5..=300;
const RESPONSE_DEFAULT: u64 = 30;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    method_name: String,
    #[serde(default, deserialize_with = "given")]
    payload: Option<Value>,
    response_timeout_in_seconds: Option<u64>,
    connect_timeout_in_seconds: Option<u64>,
}

/// `null` is a payload too; only a member that is missing is none.
fn given<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(input).map(Some)
}

pub(super) async fn invoke(State(rest): State<Rest>, Named(name): Named, body: Body) -> Answer {
    let call: Call = serde_json::from_slice(&bytes(body)?).map_err(|error| {
        // The reader's words may hold a part of the payload.
        let (line, column) = (error.line(), error.column());
        HubError::invalid(format!("The body is no call of a method, at line {line}, column {column}."))
    })?;
    let connect = seconds("connectTimeoutInSeconds", call.connect_timeout_in_seconds, 0, &CONNECT_TIMEOUT)?;
    let response =
        seconds("responseTimeoutInSeconds", call.response_timeout_in_seconds, RESPONSE_DEFAULT, &RESPONSE_TIMEOUT)?;
    match rest.hub.invoke(&name, &call.method_name, call.payload, connect, response).await {
        Ok((status, payload)) => Ok(Resource(json!({ "status": status, "payload": payload }))),
        Err(error) if error == HubError::not_online() => Err(Refusal::after(error, connect)),
        Err(error) if error == HubError::no_answer() => Err(Refusal::after(error, response)),
        Err(error) => Err(error.into()),
    }
}

fn seconds(what: &str, given: Option<u64>, default: u64, range: &RangeInclusive<u64>) -> Result<Duration, HubError> {
    let given = given.unwrap_or(default);
    if !range.contains(&given) {
        let (least, most) = (range.start(), range.end());
        return Err(HubError::invalid(format!("{what} must be between {least} and {most}.")));
    }
    Ok(Duration::from_secs(given))
}
