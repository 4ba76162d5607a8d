//! How the broker is reached, and what lasts from one connection to the next: trust with its sessions of TLS, and names.
//!
//! Opens nothing itself; `mqtt` does.

use anyhow::Context as _;

use crate::config::{Config, IotCore};
use crate::model::wire::{Reason, TlsFault};
use crate::mqtt::tls::Trust;
use crate::mqtt::{Approach, Endpoint, Resolver};

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
    pub(super) fn to(&mut self, cloud: &IotCore, config: &Config, roots: Option<Trust>) -> Approach {
        if self.trust != roots {
            self.trust = roots;
        }
        Approach {
            endpoint: Endpoint { host: cloud.host.clone(), port: cloud.port, tls: self.trust.clone() },
            keep_alive: config.session.keep_alive,
            connect_timeout: config.session.connect_timeout,
            resolver: self.resolver.clone(),
        }
    }
}

/// Reads the roots for this broker, off the loop. The inner error is why nobody can be trusted.
pub(super) async fn roots(cloud: &IotCore) -> anyhow::Result<Result<Option<Trust>, Reason>> {
    if !cloud.tls {
        return Ok(Ok(None));
    }
    let ca_file = cloud.ca_file.clone();
    let read = tokio::task::spawn_blocking(move || Trust::read(ca_file.as_deref())).await;
    let read = read.context("the reading of the roots ended in a panic")?;
    Ok(read.map(Some).map_err(|error| Reason::Tls(TlsFault::Other, format!("{error:#}"))))
}
