//! How the connection stands, for whoever has to act on it or to tell of it. Changes nothing.

use super::{Connection, Session, Standing, State};
use crate::model::device_key::KeySlot;
use crate::model::wire::Reason;

impl Connection {
    /// Messages may be sent.
    pub fn may_send(&self) -> bool {
        matches!(self.state, State::Online(_))
    }

    /// There is a session, though perhaps nothing more may be sent on it.
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online(_) | State::Settling { .. })
    }

    pub fn is_off(&self) -> bool {
        self.state == State::Off
    }

    /// There is none, not even one that has begun or is being closed.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Off | State::Waiting { .. })
    }

    pub fn session(&self) -> Option<Session> {
        let session = |standing: &Standing, renew| Session { since: standing.since, renew, key: standing.begun.key };
        match &self.state {
            State::Online(standing) => Some(session(standing, standing.renewal.due().map(|due| self.not_before(due)))),
            State::Settling { standing, .. } => Some(session(standing, None)),
            State::Off | State::Waiting { .. } | State::Connecting(_) | State::Closing { .. } => None,
        }
    }

    /// The key that is tried next. Not that of the session, where the keys have changed since it began.
    pub fn next_key(&self) -> KeySlot {
        self.slots.using()
    }

    /// Why there is no session, if there is none and there was one or was to be one.
    pub fn why(&self) -> Option<&Reason> {
        self.why.as_ref()
    }

    /// Another client seems to have our identity.
    pub fn is_taken_over(&self) -> bool {
        self.ends.is_taken_over()
    }

    /// What is to be said of a packet that comes again and again and cannot be read.
    pub fn poison(&self) -> Option<String> {
        self.ends.poison()
    }

    /// The stage, in words for people.
    pub fn stage(&self) -> &'static str {
        match self.state {
            State::Off => "disconnected on purpose",
            State::Waiting { .. } => "not connected yet",
            State::Connecting(_) => "connecting",
            State::Online(_) => "connected",
            State::Settling { .. } | State::Closing { .. } => "closing the connection as planned",
        }
    }
}
