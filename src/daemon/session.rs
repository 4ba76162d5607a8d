//! The connection to the cloud as the loop sees it: dialect, login and the link, joined.
//!
//! Each connection is told from the ones before it, so that nothing meant for an old one reaches a new one.

use std::future::pending;
use std::sync::Arc;

use super::credentials::{self, Credentials, Read};
use super::route::{self, Route};
use crate::config::{Cloud, Config, Folders, IotCore as IotCoreConfig};
use crate::dialect::iotcore::IotCore;
use crate::dialect::{Dialect, Encoded, Proof};
use crate::model::agent::Input;
use crate::model::cloud::{CloudLimits, Outbound};
use crate::model::device_key::{DeviceKey, Found, KeySlot};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::Now;
use crate::model::outbox::WINDOW;
use crate::model::problems::Code;
use crate::model::turn::Attempt;
use crate::model::wire::{Delivery, MessageId, Reason};
use crate::mqtt::{self, Ask, Event, Limits, Link, Order, Preparation, Proxy};

/// Deliveries of one connection are numbered below this; above it stands the number of the connection.
const CONNECTION_BIT: u32 = 40;

pub(super) struct Session {
    config: Config,
    folders: Folders,
    /// The one that we are on.
    machine: Fingerprint,
    /// Of the next connection. Without it there is nothing to connect to; the text says what is missing.
    dialect: Result<Arc<dyn Dialect>, String>,
    live: Option<Live>,
    route: Route,
    /// The stream of the next connection, where it was ordered ahead.
    prepared: Option<Preparation>,
    connection: u64,
    /// What was last read of keys and `ca_file`.
    seen: Option<Digest>,
    /// The proxy that was last read, with its password.
    way: Option<Result<Option<Proxy>, Reason>>,
    /// The key that was last told.
    key: Option<DeviceKey>,
    /// There was one that could be used: if it is missing now, it has been lost.
    has_had_key: bool,
}

/// A connection, and the dialect of its login: another configuration must not make it speak for another device.
struct Live {
    link: Link,
    dialect: Arc<dyn Dialect>,
    made_with: Config,
    /// The session stands.
    is_online: bool,
}

impl Session {
    pub(super) fn new(config: &Config, folders: Folders, machine: Fingerprint) -> Self {
        Self {
            config: config.clone(),
            folders,
            machine,
            dialect: dialect(config),
            live: None,
            route: Route::new(),
            prepared: None,
            connection: 0,
            seen: None,
            way: None,
            key: None,
            has_had_key: false,
        }
    }

    /// Takes another configuration, with which the next connection is made. Unless what a login says is `anew`, the
    /// one that stands goes on with it.
    pub(super) fn reconfigure(&mut self, config: &Config, anew: bool) {
        self.config = config.clone();
        self.dialect = dialect(config);
        if let (Some(live), Ok(dialect), false) = (&mut self.live, &self.dialect, anew) {
            live.dialect = dialect.clone();
        }
    }

    /// Whether the session that stands now shows that one can be had with this configuration.
    pub(super) fn proves(&self, config: &Config) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_online && config.connects_as(&live.made_with))
    }

    /// What the model must know of this cloud, or what is missing to have one.
    pub(super) fn limits(&self) -> Result<CloudLimits, String> {
        self.dialect.as_ref().map(|dialect| dialect.limits()).map_err(Clone::clone)
    }

    /// Looks for the key before the first connection is decided on.
    pub(super) async fn begin(&mut self) -> anyhow::Result<Option<Input>> {
        let key = credentials::look(&self.folders, self.machine).await?;
        Ok(self.news(key))
    }

    /// Looks at keys, `ca_file` and the proxy's password again, because some file has changed. Without a cloud nobody needs
    /// them to log in.
    pub(super) async fn look(&mut self) -> anyhow::Result<Vec<Input>> {
        let Some(Cloud::IotCore(cloud)) = &self.config.cloud else {
            return Ok(self.begin().await?.into_iter().collect());
        };
        let Read { facts, mark, credentials } =
            credentials::read(&self.folders, self.machine, cloud, KeySlot::Current).await?;
        let way = Some(route::proxy(&self.config, cloud).await?);
        // A device that never had a key is not set up yet, and that is no trouble.
        let is_new_here = facts.is_absent() && !self.has_had_key;
        let text = credentials.err().filter(|_| !is_new_here).map(|reason| reason.to_string());
        let mut inputs: Vec<Input> = self.news(facts).into_iter().collect();
        if self.seen.replace(mark) != Some(mark) || self.way != way {
            inputs.push(Input::Hurry);
        }
        self.way = way;
        inputs.push(Input::Problem { code: Code::Key, text });
        Ok(inputs)
    }

    /// What is new about the keys.
    fn news(&mut self, key: DeviceKey) -> Option<Input> {
        self.has_had_key |= matches!(key.found, Found::Usable { .. });
        if self.key.as_ref() == Some(&key) {
            return None;
        }
        self.key = Some(key.clone());
        Some(Input::Key(key))
    }

    /// Nothing but a key is missing. What is mounted on the way to it is noticed by nobody, so it is looked for again.
    pub(super) fn waits_for_key(&self) -> bool {
        self.config.cloud.is_some() && self.key.as_ref().is_some_and(DeviceKey::is_absent)
    }

    /// Begins to open the stream of the next connection; why not, if that is not possible.
    ///
    /// Without a key that could log in the session that stands would be the last one, so that counts as not possible.
    pub(super) async fn prepare(&mut self) -> anyhow::Result<Vec<Input>> {
        self.prepared = None;
        let Some(Cloud::IotCore(cloud)) = self.config.cloud.clone() else {
            return Ok(vec![Input::Prepared(Err(no_cloud()))]);
        };
        let mut read = credentials::read(&self.folders, self.machine, &cloud, KeySlot::Current).await?;
        if !matches!(read.facts.found, Found::Usable { .. })
            && let Some(other) = read.facts.others.first().copied()
        {
            read = credentials::read(&self.folders, self.machine, &cloud, other).await?;
        }
        let proxy = route::proxy(&self.config, &cloud).await?;
        let refused = match read.credentials.and_then(|credentials| Ok((credentials.tls, proxy?))) {
            Ok((roots, proxy)) => {
                self.prepared = Some(mqtt::prepare(self.route.to(&cloud, &self.config, roots, proxy)));
                None
            }
            Err(reason) => Some(Input::Prepared(Err(reason))),
        };
        Ok(self.news(read.facts).into_iter().chain(refused).collect())
    }

    /// A stream that is open may lead nowhere over another network. One that is still being opened will tell by itself.
    pub(super) fn distrust_stream(&mut self) {
        self.prepared.take_if(|prepared| prepared.is_told());
    }

    /// Begins a connection; its end, if that is not possible. What the key turned out to be comes first.
    pub(super) async fn connect(&mut self, attempt: Attempt, now: &Now) -> anyhow::Result<Vec<Input>> {
        self.live = None;
        let Some(Cloud::IotCore(cloud)) = self.config.cloud.clone() else {
            return Ok(vec![Input::Offline(no_cloud())]);
        };
        let Read { facts, mark, credentials } =
            credentials::read(&self.folders, self.machine, &cloud, attempt.key).await?;
        self.seen = Some(mark);
        let proxy = route::proxy(&self.config, &cloud).await?;
        self.way = Some(proxy.clone());
        let begun =
            credentials.and_then(|credentials| self.dial(&cloud, credentials, proxy?, attempt.drop_session, now));
        Ok(self.news(facts).into_iter().chain(begun.err().map(Input::Offline)).collect())
    }

    fn dial(
        &mut self,
        cloud: &IotCoreConfig,
        credentials: Credentials,
        proxy: Option<Proxy>,
        drop_session: bool,
        now: &Now,
    ) -> Result<(), Reason> {
        let Credentials { key, tls } = credentials;
        let dialect = self.dialect.as_ref().map_err(|missing| Reason::NoLogin(missing.clone()))?;
        let mut login =
            dialect.login(now.wall, &Proof::Key(key)).map_err(|error| Reason::NoLogin(error.to_string()))?;
        login.clean |= drop_session;
        let window = u16::try_from(WINDOW).expect("the window of the outbox fits the packet ids of MQTT");
        self.connection += 1;
        let approach = self.route.to(cloud, &self.config, tls, proxy);
        let order = Order {
            endpoint: approach.endpoint,
            login,
            subscriptions: dialect.subscriptions(),
            connect_timeout: approach.connect_timeout,
            resolver: approach.resolver,
            limits: Limits { window, ..Limits::default() },
        };
        let link = match self.prepared.take() {
            Some(prepared) => mqtt::connect_over(order, prepared),
            None => mqtt::connect(order),
        };
        self.live = Some(Live { link, dialect: dialect.clone(), made_with: self.config.clone(), is_online: false });
        Ok(())
    }

    /// Orders a DISCONNECT; a reason if there is no connection to end.
    pub(super) fn disconnect(&mut self) -> Option<Reason> {
        match &self.live {
            Some(Live { link, .. }) if link.ask(Ask::Disconnect).is_ok() => None,
            // Its end is on its way to us.
            Some(_) => None,
            None => Some(Reason::Planned),
        }
    }

    /// Has the connection find out at once whether it is still alive.
    pub(super) fn check_link(&self) {
        if let Some(Live { link, .. }) = &self.live {
            // Refused only if the connection has ended, or has so much to do that its own pings are as good.
            let _ = link.ask(Ask::Check);
        }
    }

    pub(super) fn send(&mut self, id: MessageId, message: &Outbound) {
        let Some(Live { link, dialect, .. }) = &self.live else { return };
        let refused = match dialect.encode(id, message) {
            Ok(Encoded { packet, .. }) => link.ask(Ask::Publish(id, packet)).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = refused {
            tracing::error!("{message:?} was not sent: {why}");
        }
    }

    pub(super) fn acknowledge(&mut self, delivery: Delivery) {
        let Delivery(number) = delivery;
        if let Some(Live { link, .. }) = &self.live
            && number >> CONNECTION_BIT == self.connection
        {
            // Refused only if the connection has ended: then the broker sends it again, or told its sender.
            let _ = link.ask(Ask::Ack(Delivery(number & ((1 << CONNECTION_BIT) - 1))));
        }
    }

    /// What the connection says next; nothing, while there is none. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        let (live, prepared) = (&mut self.live, &mut self.prepared);
        tokio::select! {
            biased;
            outcome = opened(prepared) => {
                if outcome.is_err() {
                    self.prepared = None;
                }
                Input::Prepared(outcome)
            }
            event = event(live) => self.read(event),
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Input> {
        let event = self.live.as_mut()?.link.try_event()?;
        Some(self.read(event))
    }

    fn read(&mut self, event: Event) -> Input {
        match event {
            Event::Online { session_kept, tls } => {
                if let Some(live) = &mut self.live {
                    live.is_online = true;
                }
                Input::Online { session_kept, tls }
            }
            Event::Settled(id) => Input::Settled(id),
            Event::Ended(reason) => {
                self.live = None;
                Input::Offline(reason)
            }
            Event::Received(Delivery(number), packet) => {
                let delivery = Delivery(self.connection << CONNECTION_BIT | number);
                match &self.live {
                    Some(live) => Input::Cloud(live.dialect.decode(&packet), delivery),
                    None => Input::Tick,
                }
            }
        }
    }
}

async fn opened(prepared: &mut Option<Preparation>) -> Result<(), Reason> {
    match prepared {
        Some(prepared) => prepared.opened().await,
        None => pending().await,
    }
}

async fn event(live: &mut Option<Live>) -> Event {
    match live {
        Some(live) => live.link.event().await,
        None => pending().await,
    }
}

fn no_cloud() -> Reason {
    Reason::NoLogin("no cloud is configured".to_owned())
}

/// The dialect of the configured cloud, or what is missing in the configuration.
fn dialect(config: &Config) -> Result<Arc<dyn Dialect>, String> {
    let Some(cloud) = &config.cloud else {
        return Err(
            "`sudo twinagent setup` says which device and cloud this is; or set `kind` under [cloud] in twinagent.toml"
                .to_owned(),
        );
    };
    let Some(device) = &config.device else {
        return Err("set `id` under [device] in twinagent.toml, and see `twinagent check`".to_owned());
    };
    let (keep_alive, lifetime) = (config.session.keep_alive, config.auth.lifetime);
    Ok(match cloud {
        Cloud::IotCore(settings) => Arc::new(
            IotCore::new(settings, device.clone(), keep_alive, lifetime)
                .with_default_method(config.commands.default_method.clone()),
        ),
        Cloud::IotHub(_) => return Err("this cloud is not built yet in this version".to_owned()),
    })
}
