//! What the cloud says, and what is done about it: seen before? taken on, or refused by `admission`?
//!
//! The order of the effects is the promise: a command is recorded, then acknowledged, then started.

use super::agent::{Agent, Effect};
use super::ask::{CallerId, Reply};
use super::asked::outcome_document;
use super::clock::Expiry;
use super::cloud::{Answer, Inbound};
use super::command::{Command, CommandId, Identity, Key, Method, MethodSpec, Outcome, ReplyTo, Request, Status};
use super::digest::Digest;
use super::ledger::{Entry, Number};
use super::now::{Clock, Now, Timestamp};
use super::own::Own;
use super::reboot::is_reboot;
use super::reboot::pending::Pending;
use super::record::Record;
use super::runs::{Run, To};
use super::wire::Delivery;

/// Recorded commands of the cloud whose outcome it has not acknowledged, and as many of this machine whose callers wait;
/// further ones are refused.
pub const UNTOLD: usize = 64;

/// To whom an answer goes: id, method as far as it was read, and address.
type Asker = (CommandId, Option<Method>, To);

/// Who asked for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// To be acknowledged.
    Cloud(Delivery),
    /// A local program.
    Caller { id: CallerId, follow: bool },
}

impl Source {
    fn to(self, reply_to: Option<ReplyTo>) -> To {
        match self {
            Self::Cloud(_) => To::Cloud(reply_to),
            Self::Caller { id, follow } => To::Caller { id, follow },
        }
    }

    fn acknowledge(self, out: &mut Vec<Effect>) {
        if let Self::Cloud(delivery) = self {
            out.push(Effect::Ack(delivery));
        }
    }
}

impl Agent {
    pub(super) fn hear(&mut self, inbound: Inbound, delivery: Delivery, now: &Now, out: &mut Vec<Effect>) {
        match inbound {
            Inbound::Command(request) => self.hear_command(request, Source::Cloud(delivery), now, out),
            Inbound::Malformed { id, method, reply_to, status, why } => {
                out.push(Effect::Ack(delivery));
                let id = id.unwrap_or_else(|| self.mint(Digest::of(why.as_bytes()), now));
                let to = (id, method, To::Cloud(reply_to));
                self.answer_at_best(to, Outcome::failed(status, why), now.wall, now, out);
            }
            Inbound::Desired { body, version } => {
                self.note_desired(body, version, Some(delivery), out);
            }
            Inbound::DesiredPatch { patch, version } => {
                out.push(Effect::Ack(delivery));
                self.desired_changed(&patch, version, out);
            }
            Inbound::DesiredUnread { version } => {
                out.push(Effect::Ack(delivery));
                self.desired_unread(version);
            }
            Inbound::Twin { id, desired, version, reported } => {
                out.push(Effect::Ack(delivery));
                if self.outbox.fetched(id, reported, now.boot) {
                    self.desired_read(desired, version, out);
                }
            }
            Inbound::Answered { id, status } => {
                out.push(Effect::Ack(delivery));
                self.answered(id, status, now, out);
            }
            Inbound::Dropped { .. } => out.push(Effect::Ack(delivery)),
        }
    }

    pub(super) fn hear_command(&mut self, mut request: Request, source: Source, now: &Now, out: &mut Vec<Effect>) {
        if let Some(method) = self.aliases.get(&request.method) {
            request.method = method.clone();
        }
        let digest = Digest::of_command(&request.method, &request.payload);
        let id = match &request.identity {
            Identity::Given(id) => id.clone(),
            Identity::Unique | Identity::Derived => self.mint(digest, now),
        };
        let key = Key { target: request.target.clone(), id };
        if let Some((number, entry)) = self.seen(&key, digest, &request, now) {
            if entry.digest == digest {
                source.acknowledge(out);
                let key = entry.key.clone();
                match source {
                    Source::Cloud(_) => self.outbox.tell_again(number, request.reply_to, now.boot),
                    Source::Caller { id, follow } => self.await_outcome(&key, id, follow, out),
                }
            } else {
                source.acknowledge(out);
                let why = "this id is that of another command; it was not run";
                self.refuse(key.id, request, source, Outcome::failed(Status::CONFLICT, why), now, out);
            }
            return;
        }
        match self.judge(&request, source, now) {
            Err(outcome) => {
                source.acknowledge(out);
                self.refuse(key.id, request, source, outcome, now, out);
            }
            Ok(spec) if spec.harmless => {
                source.acknowledge(out);
                self.run_harmless(key, request, &spec, source, now, out);
            }
            Ok(spec) => self.accept((key, digest), request, &spec, source, now, out),
        }
    }

    /// The command that this one repeats, or whose id it has.
    fn seen(&self, key: &Key, digest: Digest, request: &Request, now: &Now) -> Option<(Number, &Entry)> {
        match request.identity {
            Identity::Given(_) => self.durable.ledger.find(key),
            Identity::Unique => None,
            Identity::Derived => self.durable.ledger.find_derived(key, digest, now),
        }
    }

    /// Takes a command on: on disk before it is acknowledged, acknowledged before it runs.
    fn accept(
        &mut self,
        (key, digest): (Key, Digest),
        request: Request,
        spec: &MethodSpec,
        source: Source,
        now: &Now,
        out: &mut Vec<Effect>,
    ) {
        let is_reboot = is_reboot(&request.method);
        let is_timely = Expiry::of(request.expires, now) == Expiry::InTime;
        let started = !is_reboot && is_timely && self.runs.has_room_for(spec) && self.waiting(&request.method) == 0;
        let Request { identity, method, payload, reply_to, expires, .. } = request;
        let sender = reply_to.clone();
        let record = Record::Accepted {
            key: key.clone(),
            method: method.clone(),
            payload: payload.clone(),
            digest,
            derived: identity == Identity::Derived,
            local: matches!(source, Source::Caller { .. }),
            reply_to,
            expires,
            started,
            boot: now.boot_id,
            at: now.wall,
            up: Some(now.boot),
            doubtful: now.clock == Clock::Doubtful,
        };
        self.record(record, out);
        source.acknowledge(out);
        self.outbox.taken_on(&key.id);
        if let Source::Caller { id, follow } = source {
            self.await_outcome(&key, id, follow, out);
        }
        let Some((number, entry)) = self.durable.ledger.find(&key) else { return };
        self.outbox.awaited(number, sender, now.boot);
        if is_reboot {
            self.pending = Some((number, Pending::new(entry, now)));
            // Whether others of this batch may begin beside it.
            self.pending_step(now);
        } else if started {
            let run = Run::recorded(number, method.clone(), Some(spec.class));
            self.begin_run(run, spec, Command { key, method, payload }, now, out);
        }
    }

    fn run_harmless(
        &mut self,
        key: Key,
        request: Request,
        spec: &MethodSpec,
        source: Source,
        now: &Now,
        out: &mut Vec<Effect>,
    ) {
        let to = source.to(request.reply_to.clone());
        if !self.begins_at_once(spec) {
            self.enqueue(key, request, to, now);
            return;
        }
        let Request { method, payload, .. } = request;
        if let Some(own) = Own::of(&method) {
            let outcome = self.perform_own(own, &key.target, &payload, now, out);
            let outcome =
                outcome.noting(spec.payload.as_ref().map(|rules| rules.ignored(&payload)).unwrap_or_default());
            self.answer_at_best((key.id, Some(method), to), outcome, now.wall, now, out);
            return;
        }
        let run = Run::Harmless { key: key.clone(), method: method.clone(), to, received: now.wall };
        self.begin_run(run, spec, Command { key, method, payload }, now, out);
    }

    fn refuse(
        &mut self,
        id: CommandId,
        request: Request,
        source: Source,
        outcome: Outcome,
        now: &Now,
        out: &mut Vec<Effect>,
    ) {
        let why = outcome.why().to_owned();
        let (method, status) = (request.method.clone(), outcome.status);
        out.push(Effect::Refused { id: id.clone(), method, status, why });
        self.answer_at_best((id, Some(request.method), source.to(request.reply_to)), outcome, now.wall, now, out);
    }

    /// Answers what was never recorded.
    pub(super) fn answer_at_best(
        &mut self,
        to: Asker,
        outcome: Outcome,
        received: Timestamp,
        now: &Now,
        out: &mut Vec<Effect>,
    ) {
        let refusal = outcome.status != Status::DONE;
        self.tell_at_best(to, outcome, refusal, (received, now.wall), out);
    }

    pub(super) fn tell_at_best(
        &mut self,
        (id, method, to): Asker,
        Outcome { status, payload, .. }: Outcome,
        refusal: bool,
        (received, time): (Timestamp, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        match to {
            To::Cloud(reply_to) => {
                let answer = Answer { id, method, status, payload, last: true, reply_to };
                self.outbox.add_place(answer, refusal, received, time);
            }
            To::Nobody => {}
            To::Caller { id: caller, .. } => {
                let answer = outcome_document(&id, method.as_ref(), &Outcome::new(status, payload), true);
                out.push(Effect::Reply(caller, Reply::Is { answer, last: true }));
            }
        }
    }

    /// An id that no command has, for one that came without.
    pub(super) fn mint(&mut self, digest: Digest, now: &Now) -> CommandId {
        self.minted += 1;
        let id = Digest::of(format!("{digest} {} {} {}", now.wall, now.boot_id, self.minted).as_bytes());
        CommandId::parse(&format!("x{}", id.short())).expect("a letter and hexadecimal digits are fit for an id")
    }
}
