//! How the broker is reached, and what lasts from one connection to the next: trust with its sessions of TLS, and names.
//!
//! Opens no connection itself; `mqtt` does. Files are read off the loop.

use anyhow::Context as _;

use crate::config::{self, Config, IotCore};
use crate::model::wire::{Reason, Secret};
use crate::mqtt::tls::Trust;
use crate::mqtt::{Approach, Endpoint, Proxy, ProxyLogin, Resolver};

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

    /// The way to this broker, for who trusts these roots; none is without TLS.
    pub(super) fn to(
        &mut self,
        cloud: &IotCore,
        config: &Config,
        roots: Option<Trust>,
        proxy: Option<Proxy>,
    ) -> Approach {
        if self.trust != roots {
            self.trust = roots;
        }
        Approach {
            endpoint: Endpoint {
                host: cloud.host.clone(),
                port: cloud.port,
                tls: self.trust.clone(),
                proxy,
                websocket: None,
            },
            keep_alive: config.session.keep_alive,
            connect_timeout: config.session.connect_timeout,
            resolver: self.resolver.clone(),
        }
    }
}

/// The proxy on the way to this broker, with the password that its file has now. The inner error is why it cannot be used.
pub(super) async fn proxy(config: &Config, cloud: &IotCore) -> anyhow::Result<Result<Option<Proxy>, Reason>> {
    let Some(proxy) = config.proxy_to(cloud) else { return Ok(Ok(None)) };
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
