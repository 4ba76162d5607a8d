//! One call that changes many identities, each for itself: `POST /devices`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Rest, World};
use super::answer::Refusal;
use super::parts::{Body, bytes};
use crate::bridge::azure::{HubError, HubName, IdentityBody, IfMatch, TwinBody, Write};

/// The most entries of one call.
const MOST: usize = 100;

/// One of them: `ExportImportDevice`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    #[serde(default)]
    module_id: Option<String>,
    #[serde(default, rename = "eTag")]
    etag: Option<String>,
    #[serde(default, rename = "twinETag")]
    twin_etag: Option<String>,
    #[serde(default)]
    import_mode: Option<String>,
    #[serde(default)]
    tags: Option<Value>,
    #[serde(default)]
    properties: Option<Value>,
    /// Of which the names are read above.
    #[serde(flatten)]
    identity: IdentityBody,
}

pub(super) async fn apply(State(rest): State<Rest>, body: Body) -> Result<(StatusCode, Json<Value>), Refusal> {
    let entries: Vec<Entry> = serde_json::from_slice(&bytes(body)?).map_err(|error| {
        // The reader's words may hold a part of a key.
        let (line, column) = (error.line(), error.column());
        HubError::invalid(format!("The body is no list of devices, at line {line}, column {column}."))
    })?;
    let names: BTreeSet<_> = entries.iter().map(|entry| (&entry.id, &entry.module_id)).collect();
    if entries.is_empty() || entries.len() > MOST || names.len() < entries.len() {
        return Err(HubError::invalid(format!("1 to {MOST} devices are expected, each once.")).into());
    }
    let errors = rest.owner.ask(move |world: &mut World| Ok::<_, HubError>(apply_all(world, entries))).await?;
    // The service answers so that a list with errors is an answer and a refusal at once.
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let result = json!({ "isSuccessful": errors.is_empty(), "errors": errors, "warnings": [] });
    Ok((status, Json(result)))
}

/// The errors of those that did not go well.
fn apply_all(world: &mut World, entries: Vec<Entry>) -> Vec<Value> {
    let mut errors = Vec::new();
    for entry in entries {
        let (id, module, mode) = (entry.id.clone(), entry.module_id.clone(), entry.import_mode.clone());
        if let Err(error) = apply_one(world, entry) {
            errors.push(json!({
                "deviceId": id,
                "moduleId": module,
                "errorCode": error.code_name(),
                "errorStatus": error.message,
                "operation": mode,
            }));
        }
    }
    errors
}

fn apply_one(world: &mut World, entry: Entry) -> Result<(), HubError> {
    let mut name = HubName::device(&entry.id)?;
    if let Some(module) = &entry.module_id {
        name = name.module(module)?;
    }
    let twin = TwinBody::from_members(entry.tags, entry.properties)?;
    let tag = |etag: Option<String>| etag.map(|etag| IfMatch::parse(&etag)).ok_or_else(HubError::precondition);
    match entry.import_mode.as_deref() {
        Some("create") => {
            world.put_identity(&name, entry.identity, None)?;
            if let Err(error) = write_twin(world, &name, twin, &IfMatch::Any) {
                // Half a device is none.
                world.delete_identity(&name, &IfMatch::Any)?;
                return Err(error);
            }
            Ok(())
        }
        Some("update") => world.put_identity(&name, entry.identity, Some(&IfMatch::Any)).map(drop),
        Some("updateIfMatchETag") => world.put_identity(&name, entry.identity, Some(&tag(entry.etag)?)).map(drop),
        Some("delete") => world.delete_identity(&name, &IfMatch::Any),
        Some("deleteIfMatchETag") => world.delete_identity(&name, &tag(entry.etag)?),
        Some("updateTwin") => write_twin(world, &name, twin, &IfMatch::Any),
        Some("updateTwinIfMatchETag") => write_twin(world, &name, twin, &tag(entry.twin_etag)?),
        _ => Err(HubError::invalid(
            "importMode is none of create, update, updateIfMatchETag, delete, deleteIfMatchETag, updateTwin and \
             updateTwinIfMatchETag.",
        )),
    }
}

fn write_twin(world: &mut World, name: &HubName, body: TwinBody, if_match: &IfMatch) -> Result<(), HubError> {
    let number = world.azure.number_of(name)?;
    world.update_twin(number, body, if_match, Write::Patch).map(drop)
}
