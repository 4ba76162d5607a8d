//! How the agent stands with its cloud: what the beginning and the end of a connection mean for everything else, and when
//! one is made or closed.
//!
//! When to try again and with what is `connection`'s to decide; this file tells it what it needs to know.

use std::time::Duration;

use serde_json::{Value, json};

use super::agent::{Agent, Effect};
use super::cloud::Road;
use super::connection::{End, Step};
use super::device_key::{DeviceKey, Found, KeySlot};
use super::now::{Now, Timestamp};
use super::problems::Code;
use super::wire::{Handshake, Reason};

/// A step of the wall clock below this changes nothing: every cloud takes logins whose times are off by more.
const SMALL_STEP: Duration = Duration::from_secs(1);

/// What is said of a device whose sessions another one ends.
const TAKEN_OVER: &str = "the broker closes our sessions soon after the login, again and again: another client seems to have our \
                          identity; look for a second device with this `device.id`, such as a copied card";

/// The session that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub since: Timestamp,
    pub kept: bool,
    /// How TLS was agreed on, if there is any.
    pub tls: Option<Handshake>,
}

/// The renewals in this run of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewals {
    pub count: u64,
    /// When the last one ended, and for how long nothing was sent for its sake.
    pub last: Option<(Timestamp, Duration)>,
}

impl Renewals {
    /// As the status shows the last one.
    pub fn document(&self) -> Option<Value> {
        let (time, gap) = self.last?;
        Some(json!({ "time": time, "gapSeconds": (gap.as_secs_f64() * 1_000.0).round() / 1_000.0 }))
    }
}

// === What happens

impl Agent {
    pub(super) fn online(&mut self, session_kept: bool, tls: Option<Handshake>, now: &Now) {
        let Some(beginning) = self.connection.online(now.boot) else { return };
        if let Some(gap) = beginning.gap {
            self.renewals.count += 1;
            self.renewals.last = Some((now.wall, gap));
        }
        self.outbox.begins();
        self.session = Some(Session { since: now.wall, kept: session_kept, tls });
        self.well_since.get_or_insert(now.boot);
        let is_current = self.connection.session().is_some_and(|session| session.key == KeySlot::Current);
        if is_current && !self.device_key.as_ref().is_some_and(|key| matches!(key.found, Found::Unusable(_))) {
            self.note(Code::Key, None, now);
        }
    }

    pub(super) fn offline(&mut self, reason: Reason, now: &Now, out: &mut Vec<Effect>) {
        let stood = self.connection.is_online();
        // The outbox goes by what the broker did, whatever that turns out to mean.
        let closed = reason == Reason::Closed;
        let Some(End { reason, wait }) = self.connection.offline(reason, self.outbox.is_idle(), now.boot) else {
            return;
        };
        self.outbox.lost(closed, now.boot);
        self.followed.forget();
        if self.outbox.road() == Road::Direct {
            self.runs.forget_senders();
            self.queue.forget_senders();
        }
        self.session = None;
        if let Reason::NoLogin(why) = &reason {
            self.note(Code::Key, Some(why), now);
        }
        if reason != Reason::Planned {
            self.well_since = None;
        }
        if stood && reason != Reason::Planned {
            self.last_disconnect = Some((reason.clone(), now.wall));
            self.outbox.changed();
        }
        out.push(Effect::Ended { reason, wait });
    }

    /// The wall clock was set by so many microseconds.
    pub(super) fn clock_stepped(&mut self, by: i64, now: &Now) {
        if Duration::from_micros(by.unsigned_abs()) > SMALL_STEP {
            self.connection.clock_stepped(now.boot);
        }
    }

    /// The keys were looked for.
    pub(super) fn keys_found(&mut self, key: DeviceKey) {
        if self.device_key.as_ref() != Some(&key) {
            self.connection.set_keys(key.found.is_usable(), &key.others);
        }
        self.device_key = Some(key);
    }
}

// === What follows

impl Agent {
    pub(super) fn step_connection(&mut self, now: &Now, out: &mut Vec<Effect>) {
        // For good: what is heard while the connection is closed must not open it again.
        let may_leave = self.runs.may_be_left() && !self.has_more_to_tell();
        self.leaving |= self.stopping.is_some_and(|until| now.boot >= until || may_leave);
        let is_over = self.leaving || self.is_away() || self.has_said_goodbye();
        let wanted = self.not_configured().is_none() && !is_over;
        // A machine that goes down does not wait for what has not been acknowledged.
        // Who waits for what still runs can be told on no other connection. What is left behind is waited for no more.
        let has_senders = self.runs.have_senders() || self.queue.has_senders();
        let is_awaited = self.outbox.road() == Road::Direct && has_senders && !self.leaving;
        let is_idle = (self.outbox.may_disconnect() && !is_awaited) || self.has_said_goodbye();
        if self.is_clock_awaited(now) {
            self.connection.put_off(self.clock.wait_ends());
        } else {
            self.connection.go_on();
        }
        let step = self.connection.next(wanted, is_idle, now.boot);
        out.extend(step.map(|step| match step {
            Step::Prepare => Effect::Prepare,
            Step::Connect(attempt) => Effect::Connect(attempt),
            Step::Disconnect => Effect::Disconnect,
            Step::CheckLink => Effect::CheckLink,
        }));
        let taken_over = self.connection.is_taken_over().then_some(TAKEN_OVER);
        self.note(Code::TakenOver, taken_over, now);
        let poison = self.connection.poison();
        self.note(Code::Poison, poison.as_deref(), now);
        if let Some(hint) = self.refused_key() {
            self.note(Code::Key, Some(&hint), now);
        }
        if self.leaving && self.connection.is_off() {
            self.see(now, out);
            out.push(Effect::Exit);
        }
    }

    /// There are answers that are not on their way, and a connection to send them on.
    pub(super) fn has_more_to_tell(&self) -> bool {
        self.connection.may_send() && self.outbox.has_unsent(&self.durable.ledger)
    }

    // === What is told

    /// The session that stands, for people on this machine.
    pub(super) fn session_document(&self, now: &Now) -> Option<Value> {
        let (Session { since, kept, tls }, standing) = (self.session?, self.connection.session()?);
        let renew_at = standing.renew.map(|renew| now.kernel_start().saturating_add(renew.0));
        let mut document = json!({
            "since": since,
            "keptSession": kept,
            "renewAt": renew_at,
            "key": standing.key.name(),
            "renewals": self.renewals.count,
        });
        if let Some(tls) = tls {
            document["tls"] = json!(tls.name());
        }
        if let Some(last) = self.renewals.document() {
            document["lastRenewal"] = last;
        }
        if let Some(hint) = self.key_hint() {
            document["keyHint"] = json!(hint);
        }
        Some(document)
    }

    /// That the cloud does not take the current key, though it could be used. One that cannot be used is told by whoever
    /// looked for it.
    fn refused_key(&self) -> Option<String> {
        let is_usable = self.device_key.as_ref().is_some_and(|key| key.found.is_usable());
        self.key_hint().filter(|_| is_usable)
    }

    /// What is to be done about a session that does not have the current key. Nothing, if the keys have changed since.
    fn key_hint(&self) -> Option<String> {
        let slot = self.connection.session()?.key;
        if slot != self.connection.next_key() {
            // The current one has not been tried since the keys changed, so nobody knows whether the cloud takes it.
            return None;
        }
        let key = self.device_key.as_ref().filter(|key| key.others.contains(&slot))?;
        let folder = &key.folder;
        match slot {
            KeySlot::Current => None,
            KeySlot::Next => Some(format!(
                "the cloud takes the next key and not the current one: make it the current one, \
                 `sudo mv {folder}/next.key {folder}/device.key`"
            )),
            KeySlot::Previous => Some(
                "the cloud takes the previous key and not the current one: register the current one, see `twinagent pubkey`"
                    .to_owned(),
            ),
        }
    }
}
