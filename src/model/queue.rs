//! Harmless commands that wait until their method has room: the queue of a serial method, as far as nothing is recorded.
//!
//! It is in memory alone, like all that is harmless: a crash forgets it. What is recorded waits in the ledger.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{Agent, Effect};
use super::ask::CallerId;
use super::clock::{Expiry, NOT_SET, over_at};
use super::command::{Class, Command, Key, Method, MethodSpec, Outcome, Request, Status};
use super::now::{BootInstant, Now, Timestamp};
use super::runs::{Run, To};

/// So many wait, of all methods together, of the cloud and as many of this machine: neither keeps the other out.
const MOST: usize = 64;

/// And so much memory their payloads take, as far as their text tells, which is some of it.
const BYTES: usize = 1024 * 1024;

/// Whoever waits on a connection is told within this time, like those whose commands are recorded; a command that has not begun
/// by then is not run.
const PATIENCE: Duration = Duration::from_secs(3);

/// One that waits.
#[derive(Clone, Debug)]
struct Queued {
    key: Key,
    method: Method,
    payload: Value,
    to: To,
    received: Timestamp,
    expires: Option<Timestamp>,
    since: BootInstant,
    /// Of its payload, as JSON.
    bytes: usize,
}

impl Queued {
    fn is_local(&self) -> bool {
        matches!(self.to, To::Caller { .. })
    }
}

/// All that wait, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Queue(VecDeque<Queued>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn of_method(&self, method: &Method) -> usize {
        self.0.iter().filter(|queued| queued.method == *method).count()
    }

    /// Whether somebody waits on the connection for the answer of one of them.
    pub(super) fn has_senders(&self) -> bool {
        self.0.iter().any(|queued| queued.to.is_on_connection())
    }

    /// The connection has ended on which somebody waited, and who did was told so.
    pub(super) fn forget_senders(&mut self) {
        self.0.retain(|queued| !queued.to.is_on_connection());
    }

    /// A local caller does not wait any more.
    pub(super) fn forget_caller(&mut self, caller: CallerId) {
        self.0.retain(|queued| !matches!(queued.to, To::Caller { id, .. } if id == caller));
    }

    /// The wall clock, by which this was noted, was set ahead by so many microseconds.
    pub(super) fn shift_times(&mut self, by: i64) {
        self.0.iter_mut().for_each(|queued| queued.received = queued.received.shifted(by));
    }
}

impl Agent {
    /// Whether a harmless command may begin now: there is room, and none came before it.
    pub(super) fn begins_at_once(&self, spec: &MethodSpec) -> bool {
        self.runs.has_room_for(spec) && self.queue.of_method(&spec.name) == 0
    }

    /// Whether a harmless command that may not begin now may wait.
    pub(super) fn may_queue(&self, spec: &MethodSpec, payload: &Value, is_local: bool) -> bool {
        let Class::Serial(most) = spec.class else { return false };
        // The first of them begins in this turn if what ran has ended.
        let most = most + usize::from(self.runs.has_room_for(spec));
        let beside = || self.queue.0.iter().filter(|queued| queued.is_local() == is_local);
        let bytes = beside().map(|queued| queued.bytes).sum::<usize>() + payload.to_string().len();
        beside().count() < MOST && bytes <= BYTES && self.queue.of_method(&spec.name) < most
    }

    /// Lets a harmless command wait.
    pub(super) fn enqueue(&mut self, key: Key, request: Request, to: To, now: &Now) {
        let Request { method, payload, expires, .. } = request;
        let bytes = payload.to_string().len();
        let (received, since) = (now.wall, now.boot);
        self.queue.0.push_back(Queued { key, method, payload, to, received, expires, since, bytes });
    }

    /// Begins what has room by now, and ends what waits for nothing any more.
    pub(super) fn advance_queue(&mut self, now: &Now, out: &mut Vec<Effect>) {
        for queued in std::mem::take(&mut self.queue.0) {
            if let Some(outcome) = self.end_of(&queued, now) {
                let (id, method, status) = (queued.key.id.clone(), queued.method.clone(), outcome.status);
                let why = outcome.why().to_owned();
                out.push(Effect::Refused { id, method, status, why });
                self.end_queued(queued, outcome, now, out);
                continue;
            }
            match self.methods.get(&queued.method).filter(|spec| self.runs.has_room_for(spec)).cloned() {
                Some(spec) => {
                    let Queued { key, method, payload, to, received, .. } = queued;
                    let run = Run::Harmless { key: key.clone(), method: method.clone(), to, received };
                    self.begin_run(run, &spec, Command { key, method, payload }, now, out);
                }
                // Also while the program that serves it is being restarted.
                None => self.queue.0.push_back(queued),
            }
        }
    }

    /// Why one need not wait any longer.
    fn end_of(&self, queued: &Queued, now: &Now) -> Option<Outcome> {
        if self.is_going_down() {
            return Some(Outcome::failed(Status::CANNOT_NOW, "the machine is shutting down"));
        }
        if self.stopping.is_some() {
            return Some(Outcome::failed(Status::CANNOT_NOW, "the agent is stopping"));
        }
        match Expiry::of(queued.expires, now) {
            Expiry::InTime => {}
            Expiry::Over => return Some(Outcome::failed(Status::EXPIRED, "expired while it waited to be run")),
            Expiry::Unknown => return Some(Outcome::failed(Status::CANNOT_NOW, NOT_SET)),
        }
        if queued.to.is_on_connection() && now.boot >= queued.since + PATIENCE {
            let payload =
                json!({ "error": "others of this method still run; this command did not", "retryAfterSeconds": 1 });
            return Some(Outcome::new(Status::TOO_MANY, payload));
        }
        match self.methods.get(&queued.method) {
            Some(spec) if spec.harmless => None,
            Some(_) => {
                let why =
                    "this method is not harmless any more, and what waited for it was not recorded; send it again";
                Some(Outcome::failed(Status::CANNOT_NOW, why))
            }
            None if self.program_is_back_within(&queued.method, now).is_some() => None,
            None => {
                let why = "this method is not to be had any more; the command did not run";
                Some(Outcome::failed(Status::UNKNOWN_METHOD, why))
            }
        }
    }

    fn end_queued(&mut self, queued: Queued, outcome: Outcome, now: &Now, out: &mut Vec<Effect>) {
        let Queued { key, method, to, received, .. } = queued;
        // It was taken on, so this is no refusal, of which only a few are kept.
        self.tell_at_best((key.id, Some(method), to), outcome, false, (received, now.wall), out);
    }

    /// Ends all that wait with this id; whether there was one.
    pub(super) fn take_out_of_queue(&mut self, key: &Key, outcome: &Outcome, now: &Now, out: &mut Vec<Effect>) -> bool {
        let before = self.queue.len();
        for queued in std::mem::take(&mut self.queue.0) {
            if queued.key == *key {
                self.end_queued(queued, outcome.clone(), now, out);
            } else {
                self.queue.0.push_back(queued);
            }
        }
        self.queue.len() < before
    }

    /// When one of them ends by itself, if nothing happens before.
    pub(super) fn queue_due(&self, now: &Now) -> Option<BootInstant> {
        let due = |queued: &Queued| {
            let expiry = queued.expires.map(|expires| over_at(expires, now));
            let is_gone = !self.methods.contains_key(&queued.method);
            // Without a wait it is over.
            let program =
                is_gone.then(|| now.boot + self.program_is_back_within(&queued.method, now).unwrap_or_default());
            let sender = queued.to.is_on_connection().then(|| queued.since + PATIENCE);
            [expiry, program, sender].into_iter().flatten().min()
        };
        self.queue.0.iter().filter_map(due).min()
    }
}
