//! Calls on registries.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};

use super::Rest;
use super::answer::{Answer, Refusal, body};
use super::query::Pairs;
use crate::bridge::google::{ApiError, Canonical, RegistryBody, RegistryName};
use crate::bridge::world::wall;

type Body = Result<Bytes, BytesRejection>;

pub(super) async fn list(
    State(rest): State<Rest>,
    Path((project, region)): Path<(String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let options = Pairs(pairs).list_options()?;
    let parent = format!("projects/{project}/locations/{region}");
    Ok(Json(rest.owner.ask(move |world| world.google.list_registries(&parent, &options)).await?))
}

pub(super) async fn create(
    State(rest): State<Rest>,
    Path((project, region)): Path<(String, String)>,
    bytes: Body,
) -> Answer {
    let body: RegistryBody = body(bytes)?;
    let name = RegistryName::new(&project, &region, &body.id)?;
    Ok(Json(rest.owner.ask(move |world| world.google.create_registry(name, body, wall())).await?))
}

pub(super) async fn read(State(rest): State<Rest>, Path(path): Path<(String, String, String)>) -> Answer {
    let name = name(&path)?;
    Ok(Json(rest.owner.ask(move |world| world.google.get_registry(&name)).await?))
}

pub(super) async fn patch(
    State(rest): State<Rest>,
    Path(path): Path<(String, String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
    bytes: Body,
) -> Answer {
    let name = name(&path)?;
    let mask = Pairs(pairs).mask("updateMask");
    let body: RegistryBody = body(bytes)?;
    Ok(Json(rest.owner.ask(move |world| world.google.patch_registry(&name, &body, &mask, wall())).await?))
}

pub(super) async fn delete(State(rest): State<Rest>, Path(path): Path<(String, String, String)>) -> Answer {
    let name = name(&path)?;
    Ok(Json(rest.owner.ask(move |world| world.google.delete_registry(&name)).await?))
}

/// `{registry}:{verb}`: gateways and access rules, which the stand-in does not have.
pub(super) async fn act(Path((_, _, last)): Path<(String, String, String)>) -> Refusal {
    let verb = last.split_once(':').map_or("POST", |(_, verb)| verb);
    Refusal(ApiError::new(Canonical::Unimplemented, format!("The stand-in does not have the call '{verb}'.")))
}

fn name((project, region, registry): &(String, String, String)) -> Result<RegistryName, ApiError> {
    RegistryName::new(project, region, registry)
}
