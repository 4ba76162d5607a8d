//! Calls on twins, of devices and of modules.

use axum::extract::State;
use axum::http::HeaderMap;

use super::super::Rest;
use super::answer::{Answer, Resource};
use super::parts::{Body, Named, bytes, if_match};
use crate::bridge::azure::{IfMatch, TwinBody, Write};

pub(super) async fn read(State(rest): State<Rest>, Named(name): Named) -> Answer {
    Ok(Resource(rest.owner.ask_hub(&name, |world, number| world.azure.twin(number)).await?))
}

pub(super) async fn patch(rest: State<Rest>, name: Named, headers: HeaderMap, body: Body) -> Answer {
    write(rest, name, &headers, body, Write::Patch).await
}

pub(super) async fn replace(rest: State<Rest>, name: Named, headers: HeaderMap, body: Body) -> Answer {
    write(rest, name, &headers, body, Write::Replace).await
}

async fn write(State(rest): State<Rest>, Named(name): Named, headers: &HeaderMap, body: Body, how: Write) -> Answer {
    let if_match = if_match(headers)?.unwrap_or(IfMatch::Any);
    let body = TwinBody::parse(&bytes(body)?)?;
    let write = move |world: &mut super::super::World, number| world.update_twin(number, body, &if_match, how);
    Ok(Resource(rest.owner.ask_hub(&name, write).await?))
}
