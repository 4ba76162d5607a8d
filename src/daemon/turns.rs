//! The one loop. One turn: gather what is ready, let the model decide, append and sync the records, and only then perform the
//! other effects in order.
//!
//! Nothing else changes state, so nothing needs a lock. While a turn waits for the disk the connection goes on answering
//! pings, since it is a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::{Daemon, End};
use crate::host::{clock as clocks, systemd};
use crate::model::agent::{Effect, Input};
use crate::model::now::{BootInstant, Now};
use crate::model::problems::Code;

/// Inputs of one turn. More would only delay the answers to the first of them.
const BATCH: usize = 256;

/// Payloads of one turn, in bytes: with so many of them gathered, the rest waits for the next one. Large ones take their time,
/// and whoever asks on this machine waits for the end of the turn.
const BYTES: usize = 256 * 1024;

/// A key that is missing is looked for so often, beside the watching of its folder.
const KEY_EVERY: Duration = Duration::from_secs(60);

impl Daemon {
    /// Lives until `stop` is ready and what is under way has ended.
    pub(super) async fn live(mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<End> {
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

    /// Waits for something to happen, then takes all that is ready, up to [`BATCH`] and [`BYTES`].
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
        let mut bytes = 0;
        while inputs.len() < BATCH && bytes < BYTES {
            if let Some(input) = self.workers.try_next() {
                inputs.push(input);
            } else if let Some((input, length)) = self.session.try_next() {
                inputs.push(input);
                bytes += length;
            } else {
                break;
            }
        }
        if inputs.len() >= BATCH || bytes >= BYTES {
            // With this much to do there is more to come, and this task would not pause by itself for a hundred turns.
            tokio::task::yield_now().await;
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
