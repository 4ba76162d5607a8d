//! Calls on identities: devices and their modules.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::{Rest, World};
use super::answer::{Answer, Refusal, Resource};
use super::parts::{Body, Named, bytes, if_match};
use crate::bridge::azure::{HubError, IdentityBody, LONGEST_LIST};

pub(super) async fn list(
    State(rest): State<Rest>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Refusal> {
    let top = pairs.iter().find(|(name, _)| name == "top").map(|(_, value)| value.parse::<usize>());
    let top = match top.transpose() {
        // Numbers out of range mean the most: documentation of the call in Azure's library.
        Ok(top) => top.filter(|top| (1..=LONGEST_LIST).contains(top)).unwrap_or(LONGEST_LIST),
        Err(_) => return Err(HubError::invalid("top is no number.").into()),
    };
    Ok(Json(rest.owner.ask(move |world: &mut World| Ok::<_, HubError>(json!(world.azure.devices(top)))).await?))
}

pub(super) async fn read(State(rest): State<Rest>, Named(name): Named) -> Answer {
    Ok(Resource(rest.owner.ask(move |world: &mut World| world.azure.identity(&name)).await?))
}

pub(super) async fn put(State(rest): State<Rest>, Named(name): Named, headers: HeaderMap, body: Body) -> Answer {
    let if_match = if_match(&headers)?;
    let body = IdentityBody::parse(&bytes(body)?)?;
    let put = move |world: &mut World| world.put_identity(&name, body, if_match.as_ref());
    Ok(Resource(rest.owner.ask(put).await?))
}

pub(super) async fn remove(
    State(rest): State<Rest>,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let if_match = if_match(&headers)?.ok_or_else(|| HubError::invalid("A deletion needs If-Match: an ETag, or *."))?;
    rest.owner.ask(move |world: &mut World| world.delete_identity(&name, &if_match)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn modules(State(rest): State<Rest>, Named(name): Named) -> Result<Json<Value>, Refusal> {
    let modules = rest.owner.ask(move |world: &mut World| world.azure.modules(&name)).await?;
    Ok(Json(json!(modules)))
}

/// Drops the cloud-to-device messages that wait for a device.
pub(super) async fn purge(State(rest): State<Rest>, Named(name): Named) -> Answer {
    let device = name.device.clone();
    let purged = rest.owner.ask_hub(&name, |world, number| Ok(world.purge_messages(number))).await?;
    Ok(Resource(json!({ "deviceId": device, "moduleId": null, "totalMessagesPurged": purged })))
}

pub(super) async fn registry_statistics(State(rest): State<Rest>) -> Answer {
    let count = |world: &mut World| Ok::<_, HubError>(world.azure.registry_statistics());
    Ok(Resource(rest.owner.ask(count).await?))
}

pub(super) async fn service_statistics(State(rest): State<Rest>) -> Answer {
    let count = |world: &mut World| Ok::<_, HubError>(world.azure.service_statistics());
    Ok(Resource(rest.owner.ask(count).await?))
}
