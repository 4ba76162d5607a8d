//! The composition root: what a daemon is made of, and its lives one after another.
//!
//! The parts are put together here, and `turns` is the loop. Around it: `session` makes connections of what `home` (which
//! cloud, which device), `route` (the way) and `credentials` (the proofs) say, and `live` is the one that stands;
//! `provisioning` asks which hub it is, beside the loop. `workers` runs handlers, which `methods` puts together; `keeper`
//! writes the journal; `callers` is the local interface; `power` is reboots and shutdowns; `clock` says whether the time is
//! to be believed. `configuration` and `reload` take in what files say, `settings` makes the parts' values of it, and
//! `narrator` tells the log.

mod callers;
mod clock;
mod configuration;
mod credentials;
mod farewell;
mod home;
pub mod hub_key;
mod keeper;
mod live;
mod machine;
mod methods;
mod narrator;
mod power;
mod provisioning;
mod reload;
mod retry;
mod route;
mod session;
mod settings;
mod turns;
mod watchdog;
mod workers;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Folders;
use crate::dialect::token;
use crate::handler::Handler;
use crate::host::clock::{Alarm, Keepers};
use crate::host::network::Network;
use crate::host::{boot, clock as clocks, systemd};
use crate::model::agent::Agent;
use crate::model::durable::Durable;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::{BootInstant, Now};
use crate::store::StateDir;
use callers::Callers;
use clock::Clock;
use configuration::Configuration;
use farewell::{Farewell, Left};
use keeper::Keeper;
use machine::Claim;
use methods::Methods;
use narrator::Narrator;
use power::Power;
use session::Session;
use settings::{rights, settings, volatile_state};
use watchdog::Watchdog;
use workers::Workers;

/// What the daemon is made of.
#[expect(missing_debug_implementations, reason = "handlers have nothing to show")]
pub struct Parts {
    pub folders: Folders,
    /// Takes the place of `twinagent.toml`.
    pub file: Option<PathBuf>,
    /// Beside those of the model itself.
    pub handlers: Vec<Arc<dyn Handler>>,
    /// The machine that we are on. State and keys of another one are not used.
    pub machine: Fingerprint,
}

/// How a life of the daemon ended.
enum End {
    /// As it was told to.
    Stopped,
    /// The journal, which could not be read before, can be read now.
    JournalIsBack,
}

/// Runs the daemon until `stop` is ready and what is under way has ended.
///
/// # Errors
///
/// If the state folder cannot be locked ([`crate::store::LockError`]), or the kernel does not tell which boot this is.
/// Nothing that the network, the cloud or the configuration does is an error here.
pub async fn run(parts: Parts, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    token::install_provider();
    let boot_id = boot::id()?;
    let state = Arc::new(StateDir::lock(&parts.folders.state)?);
    let left = Left::read(&state);
    let claim = Claim::make(&state, parts.machine).await?;
    let started = clocks::now(boot_id);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), boot = %started.boot_id, "started");
    let mut stop = pin!(stop.fuse());
    loop {
        // In boxes: who runs a daemon need not have room for all of it on its own stack.
        let daemon = Box::pin(Daemon::new(&parts, state.clone(), &left, &claim, &started)).await?;
        match Box::pin(daemon.live(stop.as_mut())).await? {
            End::Stopped => break,
            End::JournalIsBack => tracing::info!("the journal can be read again; beginning anew"),
        }
    }
    systemd::stopping();
    tracing::info!("stopped");
    Ok(())
}

/// One life of the daemon, from the reading of the journal.
struct Daemon {
    clock: Clock,
    alarm: Alarm,
    agent: Agent,
    keeper: Keeper,
    session: Session,
    workers: Workers,
    methods: Methods,
    configuration: Configuration,
    /// SIGHUP: read the configuration again, and try to connect now.
    hangups: Signal,
    power: Power,
    network: Network,
    farewell: Farewell,
    /// Whether the boot that we last knew, if it is over, has ended in good order.
    left_clean: Option<bool>,
    /// What is to be said of a state folder that comes from another machine.
    foreign: Option<String>,
    /// What is to be said of a state folder that forgets at a reboot. The folder is held open, so this stays true.
    volatile: Option<String>,
    callers: Callers,
    /// What the model last said of the state of things.
    sentence: String,
    narrator: Narrator,
    watchdog: Watchdog,
    /// When the key was last looked for.
    looked: BootInstant,
    started: Now,
    is_stopping: bool,
}

impl Daemon {
    /// `left`: the mark of an orderly end, as it was found. `claim`: whose state this is.
    async fn new(
        parts: &Parts,
        state: Arc<StateDir>,
        left: &Left,
        claim: &Claim,
        started: &Now,
    ) -> anyhow::Result<Self> {
        let (keeper, opened) = match claim.refusal() {
            None => Keeper::open(state.clone()).await?,
            Some(why) => Keeper::refused(state.clone(), why),
        };
        if let Some(trouble) = &opened.trouble {
            tracing::error!("{trouble}; commands that need the journal are refused until then");
        }
        let durable = Durable::replay(&opened.records);
        let left_clean = left.is_of(durable.rest.boots.current.map(|boot| boot.id));
        let farewell = Farewell::new(state.clone(), started.boot_id);
        let narrator = Narrator::new(durable.rest.boots.current.is_some());
        let configuration = Configuration::read(parts.folders.clone(), parts.file.as_deref(), state.clone()).await?;
        let run = u32::from_le_bytes(draw()?);
        let session = Session::new(configuration.current(), parts.folders.clone(), state, parts.machine, run).await?;
        if let Err(missing) = session.limits() {
            tracing::info!("not configured, so no connection is made: {missing}");
        }
        let keepers = Keepers::beside(&parts.folders.runtime, &parts.folders.bus);
        let wait = configuration.current().session.clock_wait;
        let clock = Clock::new(started.boot_id, keepers, wait, durable.rest.seen);
        let methods = Methods::read(parts.folders.clone(), parts.handlers.clone()).await?;
        let workers = Workers::new(&methods.handlers(configuration.current()));
        let callers = Callers::new(parts.folders.runtime.clone(), rights(configuration.current()), clocks::boot());
        let power = Power::new(&parts.folders, configuration.current().reboot.mode, started.boot_id);
        let volatile = volatile_state(&parts.folders.state);
        let settings = settings(configuration.current(), &session, &workers, volatile.as_deref(), started);
        Ok(Self {
            agent: Agent::new(settings, durable, opened.trouble, u64::from_le_bytes(draw()?), &clock.now()),
            clock,
            alarm: Alarm::new(),
            keeper,
            session,
            workers,
            methods,
            configuration,
            power,
            network: Network::watch(),
            farewell,
            left_clean,
            foreign: claim.problem().map(str::to_owned),
            volatile,
            hangups: signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?,
            callers,
            sentence: String::new(),
            narrator,
            watchdog: Watchdog::new(started.boot),
            looked: started.boot,
            started: *started,
            is_stopping: false,
        })
    }
}

/// The only randomness of the model, as devices that lose the same broker must not come back together; and the number by which
/// a cloud's answers to this run of the daemon are told from those to a former one.
#[expect(clippy::disallowed_methods, reason = "this is where the model's randomness is drawn")]
fn draw<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("no randomness from the kernel"))
        .context("the back-off needs a seed")?;
    Ok(bytes)
}
