//! The composition root and the one loop: inputs in, decisions of the model, records to disk, then the effects.
//!
//! One turn: gather what is ready, let the model decide, append and sync the records, and only then perform the other
//! effects in order. Nothing else changes state, so nothing needs a lock. While a turn waits for the disk the
//! connection goes on answering pings, since it is a task of its own.
//!
//! Around the loop: `session` makes connections of what `home` (which cloud, which device), `route` (the way) and
//! `credentials` (the proofs) say, and `live` is the one that stands; `provisioning` asks which hub it is, beside the loop.
//! `workers` runs handlers, which `methods` puts together; `keeper` writes the journal; `callers` is the local interface;
//! `power` is reboots and shutdowns; `clock` says whether the time is to be believed. `configuration` and `reload` take in
//! what files say, `settings` makes the parts' values of it, and `narrator` tells the log.

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
mod watchdog;
mod workers;

use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

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
use crate::model::agent::{Agent, Effect, Input};
use crate::model::durable::Durable;
use crate::model::fingerprint::Fingerprint;
use crate::model::now::{BootInstant, Now};
use crate::model::problems::Code;
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

/// Inputs of one turn. More would only delay the answers to the first of them.
const BATCH: usize = 256;

/// A key that is missing is looked for so often, beside the watching of its folder.
const KEY_EVERY: Duration = Duration::from_secs(60);

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

    async fn live(mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<End> {
        let mut inputs = vec![Input::Begin { left_clean: self.left_clean }];
        inputs.extend(self.problems());
        inputs.push(Input::Problem { code: Code::AnotherMachine, text: self.foreign.take() });
        inputs.extend(self.watchdog.pet_while(self.session.begin(&self.clock.now())).await?);
        self.watchdog.pet_while(self.clock.begin()).await;
        inputs.extend(self.power.begin());
        let mut is_ready = false;
        loop {
            let now = self.turn(&mut inputs);
            self.narrator.hear(&inputs, now.boot);
            // Also one that came into force while a session stands, unless it needs another one.
            if self.is_to_be_kept().is_some_and(|due| now.boot >= due) {
                self.watchdog.pet_while(self.configuration.keep(now.boot)).await?;
            }
            if self.callers.open_if_due(now.boot) {
                self.tell_status();
            }
            let effects = self.agent.handle(&now, std::mem::take(&mut inputs));
            let records = effects.iter().filter_map(|effect| match effect {
                Effect::Record(record) => Some(record.clone()),
                _ => None,
            });
            let written = self.keeper.append(records.collect(), &now);
            match self.watchdog.pet_while(written).await? {
                Ok(()) => self.agent.stored(),
                Err(why) => {
                    tracing::error!("{why}; commands that need the journal are refused meanwhile");
                    inputs.push(Input::JournalFailed { why, held: effects });
                    continue;
                }
            }
            for effect in effects {
                self.narrator.tell(&effect, now.boot);
                if let Effect::Exit = effect {
                    return Ok(End::Stopped);
                }
                self.perform(effect, &now, &mut inputs).await?;
            }
            if !is_ready {
                is_ready = true;
                // What it said is in the journal now. What comes from here on comes out of the blue.
                self.farewell.stay().await;
                systemd::ready();
            }
            if inputs.is_empty() {
                inputs.extend(self.compact(&now).await?);
            }
            if inputs.is_empty()
                && let Some(end) = self.wait(&mut inputs, stop.as_mut()).await?
            {
                return Ok(end);
            }
        }
    }

    /// The moment of this turn; that the clock was set since the last one is the first of its inputs.
    fn turn(&mut self, inputs: &mut Vec<Input>) -> Now {
        if inputs.iter().any(|input| matches!(input, Input::Online { .. })) {
            self.clock.login_was_taken();
        }
        let (now, step) = self.clock.turn();
        self.power.set_clock(now.clock);
        if let Some(by) = step {
            self.started.wall = self.started.wall.shifted(by);
            inputs.insert(0, Input::ClockStepped { by });
        }
        now
    }

    /// Does what the model ordered; what it leads to at once is further input.
    async fn perform(&mut self, effect: Effect, now: &Now, inputs: &mut Vec<Input>) -> anyhow::Result<()> {
        match effect {
            Effect::Record(_) | Effect::Refused { .. } | Effect::Ended { .. } | Effect::Exit => {}
            Effect::Ack(delivery) => self.session.acknowledge(delivery),
            Effect::Start(run, command) => inputs.extend(self.workers.start(run, command)),
            Effect::Resume(run, command) => inputs.extend(self.workers.resume(run, command)),
            Effect::Cancel(run) => self.workers.cancel(run),
            Effect::Probe => self.power.look(),
            Effect::Send(id, message) => inputs.extend(self.session.send(id, &message)),
            Effect::Prepare => {
                let begun = Box::pin(self.session.prepare(now));
                inputs.extend(self.watchdog.pet_while(begun).await?);
            }
            Effect::Connect(attempt) => {
                let now = self.clock.for_login(now, attempt.key);
                let begun = self.session.connect(attempt, &now);
                inputs.extend(self.watchdog.pet_while(begun).await?);
            }
            Effect::CheckLink => self.session.check_link(),
            Effect::Disconnect => inputs.extend(self.session.disconnect().map(Input::Offline)),
            Effect::Status(sentence) => {
                self.sentence = sentence;
                self.tell_status();
            }
            Effect::Hand(caller, _, reply) | Effect::Reply(caller, reply) => self.callers.reply(caller, reply),
            Effect::Reload => self.reload(inputs).await?,
            Effect::Reboot(plan) => inputs.extend(self.power.ask(plan)),
            Effect::LetGo => self.power.let_go(),
        }
        Ok(())
    }

    /// Leaves the mark of an orderly end for a shutdown that begins, or takes it back. A daemon that is stopping leaves it.
    async fn hear_of_shutdowns(&mut self, news: &[Input]) {
        for input in news {
            match input {
                Input::ShuttingDown(true) => self.farewell.leave().await,
                Input::ShuttingDown(false) if !self.is_stopping => self.farewell.stay().await,
                _ => {}
            }
        }
    }

    /// When a key that is missing is looked for again.
    fn key_due(&self) -> Option<BootInstant> {
        self.session.waits_for_key().then(|| self.looked + KEY_EVERY)
    }

    /// Makes the journal small again when it has grown, and writes it anew when it was broken.
    async fn compact(&mut self, now: &Now) -> anyhow::Result<Option<Input>> {
        if !self.keeper.wants_rewrite(now) {
            return Ok(None);
        }
        let was_broken = self.keeper.is_broken();
        let records = self.agent.durable().records();
        Ok(match self.keeper.rewrite(records, now).await? {
            Ok(()) if was_broken => {
                tracing::info!("the journal can be written again");
                Some(Input::JournalHealed)
            }
            Ok(()) => None,
            Err(_) if was_broken => None,
            Err(why) => Some(Input::JournalFailed { why, held: Vec::new() }),
        })
    }

    /// Waits for something to happen, then takes all that is ready, up to [`BATCH`].
    async fn wait(
        &mut self,
        inputs: &mut Vec<Input>,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> anyhow::Result<Option<End>> {
        let now = self.clock.now();
        let deadline = [
            self.agent.deadline(&now),
            self.keeper.deadline(),
            self.callers.deadline(),
            self.is_to_be_kept(),
            self.key_due(),
            self.watchdog.pet(now.boot),
            self.clock.due(),
        ];
        let deadline = deadline.into_iter().flatten().min();
        let mut is_changed = false;
        // The cloud comes last of what can happen: it may have more to say at any time, and all else is bounded.
        tokio::select! {
            biased;
            () = stop => {
                self.is_stopping = true;
                self.farewell.leave().await;
                inputs.push(Input::Stop);
            }
            _ = self.hangups.recv() => {
                is_changed = true;
                inputs.push(Input::Hurry);
            }
            () = self.configuration.changed() => is_changed = true,
            news = self.power.news() => {
                self.hear_of_shutdowns(&news).await;
                inputs.extend(news);
            }
            () = self.network.changed() => {
                self.session.distrust_stream();
                inputs.push(Input::NetworkChanged);
            }
            input = self.workers.next() => inputs.push(input),
            input = self.callers.next() => inputs.push(input),
            input = self.session.next() => inputs.push(input),
            () = self.clock.news() => inputs.push(Input::Tick),
            () = self.alarm.wait(deadline) => inputs.push(Input::Tick),
        }
        if is_changed {
            self.reload(inputs).await?;
        }
        let now = clocks::boot();
        if is_changed || self.key_due().is_some_and(|due| now >= due) {
            // Keys are watched with the configuration, and most changes are none of theirs.
            let present = self.clock.now();
            inputs.extend(self.watchdog.pet_while(self.session.look(&present)).await?);
            self.looked = now;
        }
        while inputs.len() < BATCH
            && let Some(input) = self.workers.try_next().or_else(|| self.session.try_next())
        {
            inputs.push(input);
        }
        inputs.extend(self.session.go_home(&self.clock.now()));
        if self.session.take_moved() {
            inputs.push(self.reloaded(false));
        }
        let is_back = !self.is_stopping && self.keeper.is_back(&self.clock.now()).await?;
        // What was gathered is lost with the connection, so the cloud says it again.
        Ok(is_back.then_some(End::JournalIsBack))
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
