//! The service's API of IoT Hub, as Azure's libraries call it: routes, who may call them, JSON in and out.
//!
//! Paths, bodies and headers: the reference of the IoT Hub service REST API (learn.microsoft.com/rest/api/iothub/service). What
//! a call does is in `bridge::azure` and `World`; here it is only read and answered. Cloud-to-device messages have no call:
//! the service takes them by AMQP alone.

mod answer;
mod bulk;
mod devices;
mod methods;
mod parts;
mod queries;
mod twins;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use tokio::time::timeout;

use self::answer::Refusal;
use super::{CALL_LIMIT, MAX_BODY, Rest, World};
use crate::bridge::azure::{HubError, Right, is_api_version};
use crate::bridge::world::wall;

/// Time for the call of a method, body included: it may wait for its device and for the answer, 300 s each.
const METHOD_LIMIT: Duration = Duration::from_secs(660);

/// All routes. Whoever calls them shows a token of a policy.
pub(super) fn router(rest: Rest) -> Router {
    Router::new()
        .route("/devices", get(devices::list).post(bulk::apply))
        .route("/devices/query", post(queries::ask))
        .route("/devices/{device}", get(devices::read).put(devices::put).delete(devices::remove))
        .route("/devices/{device}/commands", delete(devices::purge))
        .route("/devices/{device}/modules", get(devices::modules))
        .route("/devices/{device}/modules/{module}", get(devices::read).put(devices::put).delete(devices::remove))
        .route("/twins/{device}", get(twins::read).patch(twins::patch).put(twins::replace))
        .route("/twins/{device}/modules/{module}", get(twins::read).patch(twins::patch).put(twins::replace))
        .route("/twins/{device}/methods", post(methods::invoke))
        .route("/twins/{device}/modules/{module}/methods", post(methods::invoke))
        .route("/statistics/devices", get(devices::registry_statistics))
        .route("/statistics/service", get(devices::service_statistics))
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(rest.clone(), guard))
        .with_state(rest)
}

/// Lets a call in if it may be made, and ends it if it takes too long.
async fn guard(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    let limit = if request.uri().path().ends_with("/methods") { METHOD_LIMIT } else { CALL_LIMIT };
    let caller = Caller::of(&request);
    let served = async {
        match admit(&rest, caller).await {
            Ok(()) => next.run(request).await,
            Err(error) => Refusal::from(error).into_response(),
        }
    };
    timeout(limit, served).await.unwrap_or_else(|_| Refusal::from(HubError::too_slow()).into_response())
}

/// What a request says of who sends it, and what for.
struct Caller {
    authorization: Option<String>,
    /// The host that was called.
    host: Option<String>,
    right: Right,
}

impl Caller {
    fn of(request: &Request) -> Result<Self, HubError> {
        let mut pairs = request.uri().query().into_iter().flat_map(|query| query.split('&'));
        if !pairs.any(|pair| pair.strip_prefix("api-version=").is_some_and(is_api_version)) {
            return Err(HubError::no_version());
        }
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let right = right(request.method(), request.uri());
        Ok(Self { authorization: header(AUTHORIZATION), host: header(HOST), right })
    }
}

async fn admit(rest: &Rest, caller: Result<Caller, HubError>) -> Result<(), HubError> {
    let Caller { authorization, host, right } = caller?;
    let check =
        move |world: &mut World| world.azure.authorize(authorization.as_deref(), host.as_deref(), right, wall());
    rest.owner.ask(check).await
}

/// What a caller needs for a call (learn.microsoft.com/azure/iot-hub, "IoT Hub permissions").
fn right(method: &Method, uri: &Uri) -> Right {
    // By their places: a device may be called `commands`.
    let parts: Vec<_> = uri.path().split('/').skip(1).collect();
    match parts.as_slice() {
        ["twins", ..] | ["devices", "query"] | ["devices", _, "commands"] => Right::ServiceConnect,
        _ if matches!(*method, Method::GET | Method::HEAD) => Right::RegistryRead,
        _ => Right::RegistryWrite,
    }
}

async fn unknown(request: Request) -> Refusal {
    Refusal::from(HubError::no_call(format!("There is no call {} {}.", request.method(), request.uri().path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_need_the_rights_of_the_page() {
        for (method, path, needed) in [
            (Method::GET, "/devices?top=3&api-version=2021-04-12", Right::RegistryRead),
            (Method::GET, "/devices/d/modules/m", Right::RegistryRead),
            (Method::GET, "/statistics/service", Right::RegistryRead),
            (Method::POST, "/devices", Right::RegistryWrite),
            (Method::PUT, "/devices/twins", Right::RegistryWrite),
            (Method::DELETE, "/devices/commands", Right::RegistryWrite),
            (Method::PUT, "/devices/d/modules/commands", Right::RegistryWrite),
            (Method::DELETE, "/devices/d/commands", Right::ServiceConnect),
            (Method::POST, "/devices/query", Right::ServiceConnect),
            (Method::GET, "/twins/d", Right::ServiceConnect),
            (Method::POST, "/twins/d/modules/m/methods", Right::ServiceConnect),
        ] {
            assert_eq!(right(&method, &path.parse().expect("a path")), needed, "{method} {path}");
        }
    }
}
