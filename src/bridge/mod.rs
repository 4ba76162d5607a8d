//! The stand-in cloud: Cloud IoT Core and Azure IoT Hub as devices and clients see them, for the demo and for tests.
//!
//! [`Bridge::start`] runs it in the caller's tokio runtime. One task owns all state (`owner`, `world`); connections
//! (`broker`) and REST calls (`rest`) ask it. `google` and `azure` are the rules of one cloud each, `provisioning` those of
//! the second's front door. Nothing in the daemon uses this module, and no device's package contains it.
#![expect(clippy::disallowed_methods, reason = "a stand-in cloud has a clock and random numbers of its own")]

mod azure;
mod broker;
mod client_name;
mod cloud;
mod faults;
mod google;
mod hub;
mod listen;
mod owner;
mod peer;
mod persist;
mod provisioning;
mod rest;
mod taps;
mod tls;
mod websocket;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::azure::{HubError, HubName};
pub use self::client_name::ClientName;
pub use self::cloud::Cloud;
pub use self::faults::{Door, Fault, Faults, RawPublish, Stage, Times};
pub use self::google::{ApiError, Canonical, DeviceName, RegistryName};
pub use self::hub::{Access, Hub, Sent};
pub use self::provisioning::{Enrollment, Verdict};
pub use self::taps::{HubMessage, ReportedChange, StateChange, Telemetry};

use self::google::Settings;
use self::listen::Entrance;
use self::owner::Owner;
use self::provisioning::Provisioning;
use self::rest::Token;
use self::world::World;
use crate::model::wire::Secret;

/// What to serve, and how strictly.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of certificates, registries, devices, twins and the event log. Made if it is not there.
    pub data: PathBuf,
    /// Addresses to listen on, such as `127.0.0.1:0`. A listener that is not named is off.
    pub mqtt: Option<String>,
    pub mqtts: Option<String>,
    pub http: Option<String>,
    pub https: Option<String>,
    /// Names and addresses in the certificate besides `localhost`, 127.0.0.1, `::1` and the host name.
    pub names: Vec<String>,
    /// A file with the bearer token that REST calls must carry. Needed for a REST listener beyond loopback.
    pub token_file: Option<PathBuf>,
    /// Sessions are kept and rules are forgiving, as with brokers that came after the closed service: messages that a
    /// device did not acknowledge come again, commands are queued while it is away, and an expired token ends nothing.
    /// Of Cloud IoT Core only; IoT Hub keeps what it keeps.
    pub sessions: bool,
    /// The host names that the hub goes by. Whoever logs in to another one is refused. `None`: `localhost`, the name of this
    /// machine, and `names`, in which a `*` stands for itself here.
    pub hubs: Option<Vec<String>>,
    /// Of Cloud IoT Core: how far a device's clock may be off; a connection is closed so long after its token expired.
    pub skew: Duration,
    /// The same for a token of IoT Hub and of its provisioning service. The real ones do not wait.
    pub hub_skew: Duration,
    /// The least time between the PUBACK of a state and the next state.
    pub state_interval: Duration,
    /// A configuration that is not acknowledged is sent again after this time.
    pub config_retry: Duration,
    /// The longest silence of a device, whatever its keep-alive.
    pub idle: Duration,
    /// How long a command waits for the device's PUBACK.
    pub command_limit: Duration,
    /// Whether telemetry is appended to `events.jsonl`.
    pub event_log: bool,
}

impl Options {
    /// The limits of the real service, and no listener.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            mqtt: None,
            mqtts: None,
            http: None,
            https: None,
            names: Vec::new(),
            token_file: None,
            sessions: false,
            hubs: None,
            skew: Duration::from_secs(10 * 60),
            hub_skew: Duration::ZERO,
            state_interval: Duration::from_secs(1),
            config_retry: Duration::from_secs(10),
            idle: Duration::from_secs(20 * 60),
            command_limit: google::COMMAND_LIMIT,
            event_log: false,
        }
    }

    /// The names of the hub, in lower case.
    fn hub_hosts(&self) -> Vec<String> {
        let own = || ["localhost".to_owned(), tls::host_name()].into_iter().chain(self.names.iter().cloned());
        let hosts = self.hubs.clone().unwrap_or_else(|| own().collect());
        hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
    }
}

/// Where the listeners that are on can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub mqtt: Option<SocketAddr>,
    pub mqtts: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
}

/// A running stand-in. Dropped without [`Bridge::stop`] it ends at once and may not keep its last changes.
#[derive(Debug)]
pub struct Bridge {
    addresses: Addresses,
    ca_file: PathBuf,
    cloud: Cloud,
    hub: Hub,
    /// Of the hub's service API, for the announcement.
    service_key: Secret,
    faults: Faults,
    /// Ends the listeners and their connections first, the owner after them.
    stop_serving: CancellationToken,
    stop_owner: CancellationToken,
    listeners: JoinSet<()>,
    keepers: JoinSet<()>,
    /// Held until all files are written.
    _lock: persist::Lock,
}

impl Bridge {
    /// Binds all listeners and serves. Fails if an address cannot be bound, or the data folder cannot be used.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(&options).await?;
        let addresses = listeners.addresses()?;
        let token = options.token_file.as_deref().map(Token::read).transpose()?;
        if token.is_none() {
            let open = [addresses.http, addresses.https].into_iter().flatten().find(|at| !at.ip().is_loopback());
            if let Some(open) = open {
                bail!(
                    "REST on {open} could be reached from other machines by anyone\nhint: name a file with a token by \
                     --token-file, or listen on 127.0.0.1"
                );
            }
        }
        std::fs::create_dir_all(&options.data)
            .with_context(|| format!("cannot make the data folder {}", options.data.display()))?;
        let settings = Settings {
            sessions: options.sessions,
            skew: options.skew,
            state_interval: options.state_interval,
            config_retry: options.config_retry,
        };
        let lock = persist::lock(&options.data)?;
        let identity = tls::Identity::load_or_make(&options.data, &options.names)?;
        let google = persist::load(&options.data, settings)?;
        let azure =
            persist::load_hub(&options.data, azure::Settings { skew: options.hub_skew, hosts: options.hub_hosts() })?;
        let service_key = Secret::new(azure.service_key().to_owned());

        let mut keepers = JoinSet::new();
        let (files, writer) = persist::writer(options.data.clone());
        keepers.spawn(writer);
        let (taps, events) = taps::Taps::new(options.event_log);
        if let Some(events) = events {
            let file = taps::open_log(&options.data.join("events.jsonl"))?;
            keepers.spawn_blocking(move || taps::write_log(file, events));
        }
        let stop_serving = CancellationToken::new();
        let stop_owner = CancellationToken::new();
        let (owner, owning) =
            Owner::new(World::new(google, azure, Provisioning::default(), taps), files, stop_owner.clone());
        keepers.spawn(owning);
        let cloud = Cloud::new(owner.clone(), options.command_limit);
        let hub = Hub::new(owner.clone());
        let rest = rest::router(rest::Rest::new(owner.clone(), cloud.clone(), hub.clone()), token);
        let tls = identity.acceptor()?;
        let (door, at_the_door) = watch::channel(Door::Open);
        let entrance = Entrance { owner: owner.clone(), tls, idle: options.idle, door: at_the_door };
        let rest = websocket::add_route(rest);
        let listeners = listeners.serve(&entrance, &rest, &stop_serving);
        Ok(Self {
            addresses,
            ca_file: identity.ca_file().to_owned(),
            cloud,
            hub,
            service_key,
            faults: Faults::new(owner, door),
            stop_serving,
            stop_owner,
            listeners,
            keepers,
            _lock: lock,
        })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The certificate, in PEM, of the authority behind both TLS listeners.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub fn cloud(&self) -> Cloud {
        self.cloud.clone()
    }

    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// What `serve` prints when all listeners are bound.
    pub fn announcement(&self) -> Value {
        let mut line = json!({});
        let Addresses { mqtt, mqtts, http, https } = self.addresses;
        for (name, address) in [("mqtt", mqtt), ("mqtts", mqtts)] {
            if let Some(address) = address {
                line[name] = json!(address.to_string());
            }
        }
        if let Some(address) = http {
            line["http"] = json!(format!("http://{address}"));
        }
        if let Some(address) = https {
            // By a name that the certificate holds and every client can check.
            let host = if address.ip().is_loopback() { "localhost".to_owned() } else { tls::host_name() };
            line["https"] = json!(format!("https://{host}:{}", address.port()));
            let host = format!("{host}:{}", address.port());
            line["iothub"] = json!(hub::service_connection_string(&host, self.service_key.reveal()));
        }
        line["ca"] = json!(self.ca_file);
        line
    }

    /// Closes all connections, writes what has changed, and ends.
    pub async fn stop(mut self) {
        self.stop_serving.cancel();
        while self.listeners.join_next().await.is_some() {}
        self.stop_owner.cancel();
        while self.keepers.join_next().await.is_some() {}
    }
}

/// Bound and not yet served.
struct Listeners {
    mqtt: Option<TcpListener>,
    mqtts: Option<TcpListener>,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
}

impl Listeners {
    async fn bind(options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            mqtt: bind(options.mqtt.as_deref()).await?,
            mqtts: bind(options.mqtts.as_deref()).await?,
            http: bind(options.http.as_deref()).await?,
            https: bind(options.https.as_deref()).await?,
        })
    }

    fn addresses(&self) -> anyhow::Result<Addresses> {
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose().context("a listener has no address")
        };
        Ok(Addresses {
            mqtt: address(&self.mqtt)?,
            mqtts: address(&self.mqtts)?,
            http: address(&self.http)?,
            https: address(&self.https)?,
        })
    }

    fn serve(self, entrance: &Entrance, rest: &axum::Router, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (listener, with_tls) in [(self.mqtt, false), (self.mqtts, true)] {
            if let Some(listener) = listener {
                tasks.spawn(listen::serve_mqtt(listener, with_tls, entrance.clone(), stop.clone()));
            }
        }
        for (listener, with_tls) in [(self.http, false), (self.https, true)] {
            if let Some(listener) = listener {
                tasks.spawn(listen::serve_http(listener, with_tls, rest.clone(), entrance.clone(), stop.clone()));
            }
        }
        tasks
    }
}

async fn bind(address: Option<&str>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).with_context(|| format!("cannot listen on {address}"))
}
