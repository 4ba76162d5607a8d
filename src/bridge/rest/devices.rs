//! Calls on devices. A device is named by its id or by its number.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::Rest;
use super::answer::{Answer, body};
use super::query::Pairs;
use crate::bridge::google::{ApiError, Canonical, DeviceBody, Number, Payload, RegistryName, Violation, check_command};
use crate::bridge::world::{World, wall};

type Body = Result<Bytes, BytesRejection>;
type DevicePath = Path<(String, String, String, String)>;

pub(super) async fn list(
    State(rest): State<Rest>,
    Path((project, region, registry)): Path<(String, String, String)>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let registry = RegistryName::new(&project, &region, &registry)?;
    let options = Pairs(pairs).list_options()?;
    Ok(Json(rest.owner.ask(move |world| world.google.list_devices(&registry, &options)).await?))
}

pub(super) async fn create(
    State(rest): State<Rest>,
    Path((project, region, registry)): Path<(String, String, String)>,
    headers: HeaderMap,
    bytes: Body,
) -> Answer {
    if headers.get("x-http-method-override").is_some_and(|method| method == "GET") {
        // Google's client for Python sends a list so when its query is longer than 2 048 characters.
        let bytes = bytes.map_err(|error| ApiError::invalid(format!("The body cannot be read: {error}")))?;
        let no_query = || ApiError::invalid("The body is no query.");
        let uri = format!("/?{}", String::from_utf8_lossy(&bytes)).parse().map_err(|_| no_query())?;
        let pairs = Query::try_from_uri(&uri).map_err(|_| no_query())?;
        return list(State(rest), Path((project, region, registry)), pairs).await;
    }
    let registry = RegistryName::new(&project, &region, &registry)?;
    let body: DeviceBody = body(bytes)?;
    Ok(Json(rest.owner.ask(move |world| world.google.create_device(&registry, body, wall())).await?))
}

pub(super) async fn read(
    State(rest): State<Rest>,
    Path(path): DevicePath,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let (registry, device) = split(path)?;
    let fields = Pairs(pairs).mask("fieldMask");
    let question = move |world: &mut World, number| world.google.get_device(number, &fields);
    Ok(Json(rest.ask_about(registry, device, question).await?))
}

pub(super) async fn patch(
    State(rest): State<Rest>,
    Path(path): DevicePath,
    Query(pairs): Query<Vec<(String, String)>>,
    bytes: Body,
) -> Answer {
    let (registry, device) = split(path)?;
    let mask = Pairs(pairs).mask("updateMask");
    let body: DeviceBody = body(bytes)?;
    let question = move |world: &mut World, number| {
        let (resource, blocked) = world.google.patch_device(number, &body, &mask, wall())?;
        if blocked && world.broker.connection_of(number).is_some() {
            world.violated(number, Violation::new(Canonical::PermissionDenied, "mqtt: the device is blocked"));
        }
        Ok(resource)
    };
    Ok(Json(rest.ask_about(registry, device, question).await?))
}

pub(super) async fn delete(State(rest): State<Rest>, Path(path): DevicePath) -> Answer {
    let (registry, device) = split(path)?;
    let question = |world: &mut World, number| Ok(world.delete_device(number));
    Ok(Json(rest.ask_about(registry, device, question).await?))
}

pub(super) async fn config_versions(
    State(rest): State<Rest>,
    Path(path): DevicePath,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let (registry, device) = split(path)?;
    let count = Pairs(pairs).number("numVersions")?;
    let question = move |world: &mut World, number| Ok(world.google.config_versions(number, count));
    Ok(Json(rest.ask_about(registry, device, question).await?))
}

pub(super) async fn states(
    State(rest): State<Rest>,
    Path(path): DevicePath,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answer {
    let (registry, device) = split(path)?;
    let count = Pairs(pairs).number("numStates")?;
    let question = move |world: &mut World, number| Ok(world.google.list_states(number, count));
    Ok(Json(rest.ask_about(registry, device, question).await?))
}

/// `{device}:{verb}`
pub(super) async fn act(State(rest): State<Rest>, Path(path): DevicePath, bytes: Body) -> Answer {
    let (project, region, registry, last) = path;
    let registry = RegistryName::new(&project, &region, &registry)?;
    match last.split_once(':') {
        Some((device, "modifyCloudToDeviceConfig")) => modify_config(rest, registry, device, body(bytes)?).await,
        Some((device, "sendCommandToDevice")) => send_command(rest, registry, device, body(bytes)?).await,
        _ => Err(ApiError::not_found("Method", &last).into()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ModifyConfig {
    version_to_update: Number,
    binary_data: Payload,
}

async fn modify_config(rest: Rest, registry: RegistryName, device: &str, body: ModifyConfig) -> Answer {
    let question =
        move |world: &mut World, number| world.set_config(number, body.version_to_update.0, body.binary_data);
    Ok(Json(rest.ask_about(registry, device.to_owned(), question).await?))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SendCommand {
    binary_data: Payload,
    #[serde(default)]
    subfolder: String,
}

async fn send_command(rest: Rest, registry: RegistryName, device: &str, body: SendCommand) -> Answer {
    check_command(&body.subfolder, &body.binary_data.0)?;
    let question = move |world: &mut World, number| world.send_command(number, &body.subfolder, body.binary_data.0);
    let receipt = rest.ask_about(registry, device.to_owned(), question).await?;
    rest.cloud.settle(device, vec![receipt]).await?;
    Ok(Json(json!({})))
}

fn split(
    (project, region, registry, device): (String, String, String, String),
) -> Result<(RegistryName, String), ApiError> {
    Ok((RegistryName::new(&project, &region, &registry)?, device))
}
