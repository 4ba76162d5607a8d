//! The REST side of both clouds: routes, who may call them, JSON in and out. What a call does is in `google` and `azure`; here
//! it is only read and answered. Bodies and time are bounded.
//!
//! This file and those beside it are Cloud IoT Core's v1, as `google-api-python-client` calls it, with a bearer token; paths
//! and parameters: the discovery document `cloudiot.v1`. IoT Hub's are in `azure`, with tokens of its own.

mod answer;
mod azure;
mod devices;
mod query;
mod registries;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::time::timeout;

use self::answer::Refusal;
use super::broker::ClientNumber;
use super::cloud::Cloud;
use super::google::{ApiError, Canonical, RegistryName};
use super::hub::Hub;
use super::owner::Owner;
use super::world::World;
use crate::model::digest::Digest;

/// The largest body: metadata of 256 KiB in JSON, or a command of 256 KiB in base64, fit well.
const MAX_BODY: usize = 1024 * 1024;
/// Time for one call, body included.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What the calls need.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    owner: Owner,
    cloud: Cloud,
    hub: Hub,
}

impl Rest {
    pub(crate) fn new(owner: Owner, cloud: Cloud, hub: Hub) -> Self {
        Self { owner, cloud, hub }
    }

    /// Runs a function on the state, with the number of a device that is named by its id or by its number.
    async fn ask_about<T: Send + 'static>(
        &self,
        registry: RegistryName,
        device: String,
        question: impl FnOnce(&mut World, ClientNumber) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.owner
            .ask(move |world| {
                let number = world.google.find(&registry, &device)?;
                question(world, number)
            })
            .await
    }
}

/// The bearer token that calls must carry. Only its digest is kept, so comparing takes the same time for all.
#[derive(Clone, Copy)]
pub(crate) struct Token(Digest);

impl Token {
    /// Reads the first line of a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the token file {}", path.display()))?;
        match text.lines().next().map(str::trim) {
            Some(token) if !token.is_empty() => Ok(Self(Digest::of(token.as_bytes()))),
            _ => bail!("the token file {} is empty: one line with the token is expected", path.display()),
        }
    }
}

/// All routes. Without a token everyone may call those of Cloud IoT Core.
pub(crate) fn router(rest: Rest, token: Option<Token>) -> Router {
    const REGISTRIES: &str = "/v1/projects/{project}/locations/{region}/registries";
    Router::new()
        .route(REGISTRIES, get(registries::list).post(registries::create))
        .route(
            &format!("{REGISTRIES}/{{registry}}"),
            get(registries::read).patch(registries::patch).delete(registries::delete).post(registries::act),
        )
        .route(&format!("{REGISTRIES}/{{registry}}/devices"), get(devices::list).post(devices::create))
        .route(
            &format!("{REGISTRIES}/{{registry}}/devices/{{device}}"),
            get(devices::read).patch(devices::patch).delete(devices::delete).post(devices::act),
        )
        .route(&format!("{REGISTRIES}/{{registry}}/devices/{{device}}/configVersions"), get(devices::config_versions))
        .route(&format!("{REGISTRIES}/{{registry}}/devices/{{device}}/states"), get(devices::states))
        .route(&format!("{REGISTRIES}/{{registry}}/groups/{{*rest}}"), get(unsupported).merge(post(unsupported)))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(token, guard))
        .with_state(rest.clone())
        // Behind the layers, so that the bearer token is not asked of its callers.
        .merge(azure::router(rest))
}

/// Lets a call in if it may be made, and ends it if it takes too long.
async fn guard(State(token): State<Option<Token>>, request: Request, next: Next) -> Response {
    if let Some(Token(expected)) = token {
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|text| text.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        if given.is_none_or(|(_, token)| Digest::of(token.trim().as_bytes()) != expected) {
            let text = "Request had invalid authentication credentials. A bearer token is expected.";
            return Refusal(ApiError::new(Canonical::Unauthenticated, text)).into_response();
        }
    }
    timeout(CALL_LIMIT, next.run(request)).await.unwrap_or_else(|_| {
        Refusal(ApiError::new(Canonical::DeadlineExceeded, "The call took too long.")).into_response()
    })
}

async fn unknown(request: Request) -> Refusal {
    Refusal(ApiError::new(
        Canonical::NotFound,
        format!("The requested URL {} {} was not found.", request.method(), request.uri().path()),
    ))
}

async fn unsupported() -> Refusal {
    Refusal(ApiError::new(Canonical::Unimplemented, "The stand-in does not have this call."))
}
