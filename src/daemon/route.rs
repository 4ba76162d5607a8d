//! How a broker is reached, and what lasts from one connection to the next: trust with its sessions of TLS, and names.
//!
//! Opens no connection itself; `mqtt` does. Files are read off the loop.

use anyhow::Context as _;

use crate::config::{self, Config, HubProof, IotCore, IotHub};
use crate::model::now::Timestamp;
use crate::model::wire::{Reason, Secret};
use crate::mqtt::tls::Trust;
use crate::mqtt::{Approach, Endpoint, Proxy, ProxyLogin, Resolver};

/// Where an IoT hub, and the service that assigns hubs, take MQTT in a WebSocket: the path of the cloud's own libraries. Who shows a
/// certificate must not say that it has none.
const WEBSOCKET: &str = "/$iothub/websocket";
const WEBSOCKET_WITHOUT_CERTIFICATE: &str = "/$iothub/websocket?iothub-no-client-cert=true";

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broker {
    host: String,
    port: u16,
    /// The path of a WebSocket that carries MQTT.
    websocket: Option<&'static str>,
}

impl Broker {
    pub(super) fn of_iotcore(cloud: &IotCore) -> Self {
        Self { host: cloud.host.clone(), port: cloud.port, websocket: None }
    }

    /// The hub of this name, or the gateway to it.
    pub(super) fn of_hub(settings: &IotHub, hub: &str) -> Self {
        let host = settings.gateway_host.as_deref().unwrap_or(hub);
        Self { host: host.to_owned(), port: settings.port, websocket: settings.websocket.then_some(path(settings)) }
    }

    /// The service that assigns hubs. It listens as hubs do, and the configuration lets no gateway stand beside it.
    pub(super) fn of_service(settings: &IotHub, host: &str) -> Self {
        let websocket = settings.websocket.then_some(WEBSOCKET);
        Self { host: host.to_owned(), port: settings.port, websocket }
    }
}

fn path(settings: &IotHub) -> &'static str {
    match settings.proof {
        HubProof::Certificate { .. } => WEBSOCKET,
        HubProof::ConnectionString(_) | HubProof::Key(_) => WEBSOCKET_WITHOUT_CERTIFICATE,
    }
}

/// The proxy of the configuration with its password, or why that cannot be used.
pub(super) type Way = Result<Option<Proxy>, Reason>;

pub(super) struct Route {
    /// Of the last connection. As long as the roots are the same it is kept, for the sessions that it knows.
    trust: Option<Trust>,
    resolver: Resolver,
}

impl Route {
    /// Needs the tokio runtime in which connections will be made.
    pub(super) fn new() -> Self {
        Self { trust: None, resolver: Resolver::start() }
    }

    /// The way to this broker, for who trusts these roots; none is without TLS. `wall`: the time by which certificates are
    /// judged; without it, that of the last way goes on. A broker on this machine is reached without the proxy.
    pub(super) fn to(
        &mut self,
        broker: &Broker,
        config: &Config,
        roots: Option<Trust>,
        way: Way,
        wall: Option<Timestamp>,
    ) -> Result<Approach, Reason> {
        if self.trust != roots {
            if let (Some(before), Some(roots)) = (&self.trust, &roots) {
                roots.tell_time_of(before);
            }
            self.trust = roots;
        }
        if let (Some(trust), Some(wall)) = (&self.trust, wall) {
            trust.tell_time(wall);
        }
        let proxy = match config.proxy_to(&broker.host) {
            Some(_) => way?,
            None => None,
        };
        Ok(Approach {
            endpoint: Endpoint {
                host: broker.host.clone(),
                port: broker.port,
                tls: self.trust.clone(),
                proxy,
                websocket: broker.websocket.map(str::to_owned),
            },
            keep_alive: config.session.keep_alive,
            connect_timeout: config.session.connect_timeout,
            resolver: self.resolver.clone(),
        })
    }
}

/// The proxy of the configuration, with the password that its file has now. The inner error is why it cannot be used.
pub(super) async fn proxy(config: &Config) -> anyhow::Result<Way> {
    let Some(proxy) = &config.session.proxy else { return Ok(Ok(None)) };
    let password = match proxy.password_file.clone() {
        Some(path) => off_the_loop(move || config::read_proxy_password(&path)).await?,
        None => Ok(Secret::new(String::new())),
    };
    Ok(password.map_err(Reason::Proxy).map(|password| {
        let login = proxy.user.clone().map(|user| ProxyLogin { user, password });
        Some(Proxy { host: proxy.host.clone(), port: proxy.port, login })
    }))
}

async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the reading of a file for the connection ended in a panic")
}
