//! How connections to the cloud are made: who we are there, keys, a hub to ask for, a login and the way, joined.
//!
//! What is made is a [`Live`], of which there is one at a time.

use std::future::pending;
use std::sync::Arc;

use anyhow::Context as _;

use super::credentials::{self, Credentials, Read};
use super::home::{self, Home};
use super::live::{Live, Unsent};
use super::provisioning::{self, Exchange};
use super::route::{self, Broker, Route, Way};
use crate::config::{Config, Folders};
use crate::dialect::provisioning::Provisioning;
use crate::model::agent::Input;
use crate::model::cloud::{CloudLimits, Outbound};
use crate::model::command::DeviceId;
use crate::model::device_key::{DeviceKey, KeySlot};
use crate::model::digest::Digest;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::Now;
use crate::model::outbox::WINDOW;
use crate::model::problems::Code;
use crate::model::turn::Attempt;
use crate::model::twin::CloudName;
use crate::model::wire::{Delivery, Login, MessageId, Reason, Subscription};
use crate::mqtt::{self, Event, Limits, Order, Preparation};
use crate::store::StateDir;
use crate::store::assignment::{self, Assignment};

pub(super) struct Session {
    config: Config,
    folders: Folders,
    state: Arc<StateDir>,
    /// The one that we are on.
    machine: Fingerprint,
    /// A random number of this run of the daemon, for clouds that ask for names of requests.
    run: u32,
    /// The last hub that was assigned to this device, by whomever.
    assignment: Option<Assignment>,
    /// Of the next connection. Without it there is nothing to connect to; the text says what is missing.
    home: Result<Home, String>,
    /// Another hub was assigned, and nobody has been told yet.
    has_moved: bool,
    live: Option<Live>,
    /// The service is being asked for a hub, and what is to be done then.
    exchange: Option<(Exchange, Try)>,
    /// It has named one, and the time is wanted at which the hub is dialled.
    assigned: Option<Try>,
    route: Route,
    /// The stream of the next connection, where it was ordered ahead.
    prepared: Option<Preparation>,
    connection: u64,
    /// What was last read of keys and `ca_file`.
    seen: Option<Digest>,
    /// The proxy that was last read, with its password.
    way: Option<Way>,
    /// The key that was last told.
    key: Option<DeviceKey>,
    /// There was one that could be used: if it is missing now, it has been lost.
    has_had_key: bool,
}

/// One try to connect, with what was read for it.
struct Try {
    credentials: Credentials,
    way: Way,
    drop_session: bool,
    /// The time that its next login names.
    moment: Now,
}

impl Session {
    /// `run`: a random number.
    pub(super) async fn new(
        config: &Config,
        folders: Folders,
        state: Arc<StateDir>,
        machine: Fingerprint,
        run: u32,
    ) -> anyhow::Result<Self> {
        let there = state.clone();
        let read = tokio::task::spawn_blocking(move || assignment::read(&there));
        // Without it the service is asked again.
        let kept = read.await.context("the reading of the assigned hub ended in a panic")?;
        let assignment = kept.inspect_err(|error| tracing::warn!("{error}")).ok().flatten();
        Ok(Self {
            config: config.clone(),
            folders,
            state,
            machine,
            run,
            home: Home::find(config, assignment.as_ref(), run),
            assignment,
            has_moved: false,
            live: None,
            exchange: None,
            assigned: None,
            route: Route::new(),
            prepared: None,
            connection: 0,
            seen: None,
            way: None,
            key: None,
            has_had_key: false,
        })
    }

    /// Takes another configuration, with which the next connection is made. Unless what a login says is `anew`, the
    /// one that stands goes on with it.
    pub(super) fn reconfigure(&mut self, config: &Config, anew: bool) {
        self.config = config.clone();
        self.home = Home::find(config, self.assignment.as_ref(), self.run);
        if let (Some(live), Ok(home), false) = (&mut self.live, &self.home, anew) {
            live.dialect = home.dialect.clone();
        }
    }

    /// Whether the session that stands now shows that one can be had with this configuration.
    pub(super) fn proves(&self, config: &Config) -> bool {
        self.live.as_ref().is_some_and(|live| live.proves(config))
    }

    /// What the model must know of this cloud, or what is missing to have one.
    pub(super) fn limits(&self) -> Result<CloudLimits, String> {
        self.home.as_ref().map(|home| home.dialect.limits()).map_err(Clone::clone)
    }

    /// The cloud and the device there, as far as they are known.
    pub(super) fn names(&self) -> (Option<CloudName>, Option<DeviceId>) {
        match &self.home {
            Ok(home) => (Some(home.name.clone()), Some(home.device.clone())),
            Err(_) => (None, self.config.device.clone()),
        }
    }

    /// Whether another hub was assigned since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Looks for the key before the first connection is decided on.
    pub(super) async fn begin(&mut self, now: &Now) -> anyhow::Result<Option<Input>> {
        let key = credentials::look(&self.folders, self.machine, self.config.cloud.as_ref(), now).await?;
        Ok(self.news(key))
    }

    /// Looks at keys, `ca_file` and the proxy's password again, because some file has changed. Without a cloud nobody needs
    /// them to log in.
    pub(super) async fn look(&mut self, now: &Now) -> anyhow::Result<Vec<Input>> {
        let Some(cloud) = &self.config.cloud else {
            return Ok(self.begin(now).await?.into_iter().collect());
        };
        let Read { facts, mark, credentials } =
            credentials::read(&self.folders, self.machine, cloud, KeySlot::Current, now).await?;
        let way = Some(route::proxy(&self.config).await?);
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
        self.has_had_key |= key.found.is_usable();
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
    pub(super) async fn prepare(&mut self, now: &Now) -> anyhow::Result<Vec<Input>> {
        self.prepared = None;
        let Some(cloud) = self.config.cloud.clone() else {
            return Ok(vec![Input::Prepared(Err(no_cloud()))]);
        };
        let mut read = credentials::read(&self.folders, self.machine, &cloud, KeySlot::Current, now).await?;
        if !read.facts.found.is_usable()
            && let Some(other) = read.facts.others.first().copied()
        {
            read = credentials::read(&self.folders, self.machine, &cloud, other, now).await?;
        }
        let way = route::proxy(&self.config).await?;
        let Self { home, route, config, .. } = self;
        let approach = read.credentials.and_then(|Credentials { tls, .. }| {
            let home = home.as_ref().map_err(|missing| Reason::NoLogin(missing.clone()))?;
            // A clock that is not believed is left as it was told when the session that stands was made.
            let wall = now.clock.is_believed().then_some(now.wall);
            route.to(home.broker.as_ref().ok_or_else(no_hub)?, config, tls, way, wall)
        });
        let refused = match approach {
            Ok(approach) => {
                self.prepared = Some(mqtt::prepare(approach));
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

    /// Begins a connection; its end, if that is not possible. What the key turned out to be comes first. `now`:
    /// the present moment as the login should name it.
    pub(super) async fn connect(&mut self, attempt: Attempt, now: &Now) -> anyhow::Result<Vec<Input>> {
        self.live = None;
        self.exchange = None;
        self.assigned = None;
        let Some(cloud) = self.config.cloud.clone() else {
            return Ok(vec![Input::Offline(no_cloud())]);
        };
        let Read { facts, mark, credentials } =
            credentials::read(&self.folders, self.machine, &cloud, attempt.key, now).await?;
        self.seen = Some(mark);
        let way = route::proxy(&self.config).await?;
        self.way = Some(way.clone());
        let begun = credentials.and_then(|credentials| {
            let this = Try { credentials, way, drop_session: attempt.drop_session, moment: *now };
            let is_homeless = self.home.as_ref().is_ok_and(|home| home.broker.is_none());
            if is_homeless || attempt.provision { self.provision(this) } else { self.dial(&this) }
        });
        Ok(self.news(facts).into_iter().chain(begun.err().map(Input::Offline)).collect())
    }

    /// Begins to ask for a hub, to which the connection is made then. Without anybody to ask the hub is known.
    fn provision(&mut self, this: Try) -> Result<(), Reason> {
        let (Some((settings, service)), Some(asked)) = (home::service(&self.config), home::asked(&self.config)) else {
            return self.dial(&this);
        };
        let broker = Broker::of_service(settings, &service.host);
        let spelling = Provisioning::new(service, self.config.session.keep_alive, self.config.auth.lifetime, self.run);
        let login = spelling.login(this.moment.wall, &this.credentials.proof);
        let login = login.map_err(|error| Reason::NoLogin(error.to_string()))?;
        let known = self.assignment.clone();
        let order = self.order(&broker, &this, login, spelling.subscriptions())?;
        self.exchange = Some((provisioning::begin(order, spelling, asked, known, self.state.clone()), this));
        Ok(())
    }

    /// A hub was assigned, or not.
    fn provisioned(&mut self, outcome: Result<Assignment, Reason>) -> Input {
        let Some((_, this)) = self.exchange.take() else { return Input::Tick };
        let assignment = match outcome {
            Ok(assignment) => assignment,
            Err(reason) => return Input::Offline(reason),
        };
        if self.assignment.as_ref() != Some(&assignment) {
            self.assignment = Some(assignment);
            self.home = Home::find(&self.config, self.assignment.as_ref(), self.run);
            self.has_moved = true;
            // Its stream leads to the old one.
            self.prepared = None;
        }
        self.assigned = Some(this);
        Input::Tick
    }

    /// Dials the hub that was assigned meanwhile, if one was; the end of that, if it is not possible. `now`: the present
    /// moment, as the login at the service is up to two minutes old.
    pub(super) fn go_home(&mut self, now: &Now) -> Option<Input> {
        let mut this = self.assigned.take()?;
        // What the service took is as good for the hub, so a clock in doubt goes on from there.
        let passed = now.boot.since(this.moment.boot);
        let wall = if now.clock.is_believed() { now.wall } else { this.moment.wall.saturating_add(passed) };
        this.moment = Now { wall, ..*now };
        self.dial(&this).err().map(Input::Offline)
    }

    fn dial(&mut self, this: &Try) -> Result<(), Reason> {
        let home = self.home.clone().map_err(Reason::NoLogin)?;
        let broker = home.broker.as_ref().ok_or_else(no_hub)?;
        let login = home.dialect.login(this.moment.wall, &this.credentials.proof);
        let mut login = login.map_err(|error| Reason::NoLogin(error.to_string()))?;
        login.clean |= this.drop_session;
        let order = self.order(broker, this, login, home.dialect.subscriptions())?;
        self.connection += 1;
        let link = match self.prepared.take() {
            Some(prepared) => mqtt::connect_over(order, prepared),
            None => mqtt::connect(order),
        };
        self.live = Some(Live::new(link, home.dialect, self.config.clone(), self.connection));
        Ok(())
    }

    fn order(
        &mut self,
        broker: &Broker,
        this: &Try,
        login: Login,
        subscriptions: Vec<Subscription>,
    ) -> Result<Order, Reason> {
        let window = u16::try_from(WINDOW).expect("the window of the outbox fits the packet ids of MQTT");
        let approach = self.route.to(
            broker,
            &self.config,
            this.credentials.tls.clone(),
            this.way.clone(),
            Some(this.moment.wall),
        )?;
        Ok(Order {
            endpoint: approach.endpoint,
            login,
            subscriptions,
            connect_timeout: approach.connect_timeout,
            resolver: approach.resolver,
            limits: Limits { window, ..Limits::default() },
        })
    }

    /// Orders a DISCONNECT; a reason if there is no connection to end.
    pub(super) fn disconnect(&mut self) -> Option<Reason> {
        self.exchange = None;
        self.assigned = None;
        let Some(live) = &self.live else { return Some(Reason::Planned) };
        live.disconnect();
        None
    }

    /// Has the connection find out at once whether it is still alive.
    pub(super) fn check_link(&self) {
        if let Some(live) = &self.live {
            live.check();
        }
    }

    /// Sends a message; what becomes of it at once, if it cannot be sent.
    pub(super) fn send(&mut self, id: MessageId, message: &Outbound) -> Option<Input> {
        match self.live.as_mut()?.send(id, message).err()? {
            Unsent::Message(why) => {
                tracing::error!("{message:?} cannot be sent: {why}");
                Some(Input::Unsent(id, why))
            }
            Unsent::Connection(reason) => {
                tracing::error!("{message:?} was not sent: {reason}");
                self.live = None;
                Some(Input::Offline(reason))
            }
        }
    }

    pub(super) fn acknowledge(&self, delivery: Delivery) {
        if let Some(live) = &self.live {
            live.acknowledge(delivery);
        }
    }

    /// What the connection says next; nothing, while there is none. May be dropped without loss.
    pub(super) async fn next(&mut self) -> Input {
        let (live, prepared, exchange) = (&mut self.live, &mut self.prepared, &mut self.exchange);
        tokio::select! {
            biased;
            outcome = opened(prepared) => {
                if outcome.is_err() {
                    self.prepared = None;
                }
                Input::Prepared(outcome)
            }
            outcome = answered(exchange) => self.provisioned(outcome),
            event = event(live) => self.read(event),
        }
    }

    /// What has come already, and the length of its payload in bytes.
    pub(super) fn try_next(&mut self) -> Option<(Input, usize)> {
        let event = self.live.as_mut()?.try_event()?;
        let length = match &event {
            Event::Received(_, packet) => packet.payload.len(),
            Event::Online { .. } | Event::Settled(_) | Event::Ended(_) => 0,
        };
        Some((self.read(event), length))
    }

    fn read(&mut self, event: Event) -> Input {
        let is_end = matches!(event, Event::Ended(_));
        // Whoever said it is still there.
        let input = self.live.as_mut().map_or(Input::Tick, |live| live.read(event));
        if is_end {
            self.live = None;
        }
        input
    }
}

async fn opened(prepared: &mut Option<Preparation>) -> Result<(), Reason> {
    match prepared {
        Some(prepared) => prepared.opened().await,
        None => pending().await,
    }
}

async fn answered(exchange: &mut Option<(Exchange, Try)>) -> Result<Assignment, Reason> {
    match exchange {
        Some((exchange, _)) => exchange.await,
        None => pending().await,
    }
}

async fn event(live: &mut Option<Live>) -> Event {
    match live {
        Some(live) => live.event().await,
        None => pending().await,
    }
}

fn no_cloud() -> Reason {
    Reason::NoLogin("no cloud is configured".to_owned())
}

fn no_hub() -> Reason {
    Reason::NoLogin("no hub was assigned to this device yet".to_owned())
}
