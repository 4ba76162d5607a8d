//! The connection to the cloud as the loop sees it: dialect, login and the link, joined.
//!
//! Each connection is told from the ones before it, so that nothing meant for an old one reaches a new one.

use std::future::pending;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{Cloud, Config, Folders, key_file};
use crate::dialect::iotcore::IotCore;
use crate::dialect::token::Key;
use crate::dialect::{Dialect, EncodeError};
use crate::model::agent::Input;
use crate::model::cloud::{CloudLimits, Outbound};
use crate::model::now::Now;
use crate::model::outbox::WINDOW;
use crate::model::wire::{Delivery, MessageId, Reason};
use crate::mqtt::{self, Ask, Endpoint, Event, Limits, Link, Order};

/// Deliveries of one connection are numbered below this; above it stands the number of the connection.
const CONNECTION_BIT: u32 = 40;

pub(super) struct Session {
    config: Config,
    folders: Folders,
    /// Without it there is nothing to connect to; the text says what is missing.
    dialect: Result<Box<dyn Dialect>, String>,
    link: Option<Link>,
    connection: u64,
    /// What the connection was made with.
    made_with: Option<Config>,
    /// The session stands.
    is_online: bool,
}

/// What a login needs from the disk.
struct Credentials {
    key: Key,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Session {
    pub(super) fn new(config: &Config, folders: Folders) -> Self {
        let dialect = dialect(config);
        Self { config: config.clone(), folders, dialect, link: None, connection: 0, made_with: None, is_online: false }
    }

    /// Takes another configuration, with which the next connection is made.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.config = config.clone();
        self.dialect = dialect(config);
    }

    /// Whether the session that stands now shows that one can be had with this configuration.
    pub(super) fn proves(&self, config: &Config) -> bool {
        self.is_online && self.made_with.as_ref().is_some_and(|made_with| config.connects_as(made_with))
    }

    /// What the model must know of this cloud, or what is missing to have one.
    pub(super) fn limits(&self) -> Result<CloudLimits, String> {
        self.dialect.as_ref().map(|dialect| dialect.limits()).map_err(Clone::clone)
    }

    /// Begins a connection; a reason if that is not possible.
    pub(super) async fn connect(&mut self, now: &Now) -> anyhow::Result<Option<Reason>> {
        (self.link, self.is_online) = (None, false);
        let (Ok(dialect), Some(Cloud::IotCore(cloud))) = (&self.dialect, &self.config.cloud) else {
            return Ok(Some(Reason::NoLogin("no cloud is configured".to_owned())));
        };
        let folders = self.folders.clone();
        let (ca_file, tls) = (cloud.ca_file.clone(), cloud.tls);
        // Read anew each time, so that a renewed key or CA needs no restart; and from a disk that may be slow.
        let credentials = tokio::task::spawn_blocking(move || {
            let file = key_file::read(&folders).map_err(|error| Reason::NoLogin(error.to_string()))?;
            let key = Key::parse(&file.text).map_err(|error| {
                Reason::NoLogin(format!("{}: {error}; hint: {}", file.path.display(), error.hint()))
            })?;
            let tls = tls.then(|| mqtt::tls::client_config(ca_file.as_deref())).transpose();
            let tls = tls.map_err(|error| Reason::Tls(format!("{error:#}")))?;
            Ok(Credentials { key, tls })
        })
        .await
        .context("the reading of the device's key ended in a panic")?;
        let Credentials { key, tls } = match credentials {
            Ok(credentials) => credentials,
            Err(reason) => return Ok(Some(reason)),
        };
        let login = match dialect.login(now.wall, &key) {
            Ok(login) => login,
            Err(error) => return Ok(Some(Reason::NoLogin(error.to_string()))),
        };
        let window = u16::try_from(WINDOW).expect("the window of the outbox fits the packet ids of MQTT");
        self.connection += 1;
        self.made_with = Some(self.config.clone());
        self.link = Some(mqtt::connect(Order {
            endpoint: Endpoint { host: cloud.host.clone(), port: cloud.port, tls },
            login,
            subscriptions: dialect.subscriptions(),
            connect_timeout: self.config.session.connect_timeout,
            limits: Limits { window, ..Limits::default() },
        }));
        Ok(None)
    }

    /// Orders a DISCONNECT; a reason if there is no connection to end.
    pub(super) fn disconnect(&mut self) -> Option<Reason> {
        match &self.link {
            Some(link) if link.ask(Ask::Disconnect).is_ok() => None,
            // Its end is on its way to us.
            Some(_) => None,
            None => Some(Reason::Planned),
        }
    }

    pub(super) fn send(&mut self, id: MessageId, message: &Outbound) {
        let (Ok(dialect), Some(link)) = (&self.dialect, &self.link) else { return };
        let refused = match dialect.encode(message) {
            Ok(packet) => link.ask(Ask::Publish(id, packet)).err().map(|error| error.to_string()),
            Err(error @ EncodeError::TooLarge { .. }) => Some(error.to_string()),
        };
        if let Some(why) = refused {
            tracing::error!("{message:?} was not sent: {why}");
        }
    }

    pub(super) fn acknowledge(&mut self, delivery: Delivery) {
        let Delivery(number) = delivery;
        if let Some(link) = &self.link
            && number >> CONNECTION_BIT == self.connection
        {
            // Refused only if the connection has ended: then the broker sends it again, or told its sender.
            let _ = link.ask(Ask::Ack(Delivery(number & ((1 << CONNECTION_BIT) - 1))));
        }
    }

    /// What the connection says next; nothing, while there is none. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        match &mut self.link {
            Some(link) => {
                let event = link.event().await;
                self.read(event)
            }
            None => pending().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Input> {
        let event = self.link.as_mut()?.try_event()?;
        Some(self.read(event))
    }

    fn read(&mut self, event: Event) -> Input {
        match event {
            Event::Online { session_kept } => {
                self.is_online = true;
                Input::Online { session_kept }
            }
            Event::Settled(id) => Input::Settled(id),
            Event::Ended(reason) => {
                (self.link, self.is_online) = (None, false);
                Input::Offline(reason)
            }
            Event::Received(Delivery(number), packet) => {
                let delivery = Delivery(self.connection << CONNECTION_BIT | number);
                match &self.dialect {
                    Ok(dialect) => Input::Cloud(dialect.decode(&packet), delivery),
                    Err(_) => Input::Tick,
                }
            }
        }
    }
}

/// The dialect of the configured cloud, or what is missing in the configuration.
fn dialect(config: &Config) -> Result<Box<dyn Dialect>, String> {
    let Some(cloud) = &config.cloud else {
        return Err("set `kind` under [cloud] in twinagent.toml, and see `twinagent check`".to_owned());
    };
    let Some(device) = &config.device else {
        return Err("set `id` under [device] in twinagent.toml, and see `twinagent check`".to_owned());
    };
    let (keep_alive, lifetime) = (config.session.keep_alive, config.auth.lifetime);
    Ok(match cloud {
        Cloud::IotCore(settings) => Box::new(
            IotCore::new(settings, device.clone(), keep_alive, lifetime)
                .with_default_method(config.commands.default_method.clone()),
        ),
    })
}
