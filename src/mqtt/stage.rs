//! What a connection that is not online yet waits for, so that a time-out can say it.

use std::time::Duration;

use crate::model::wire::Reason;

/// The steps to a session, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Name,
    Tcp,
    Proxy,
    Tls,
    WebSocket,
    Connack,
    Suback,
}

impl Stage {
    /// The end of a connection that was stuck here for this long.
    pub(super) fn too_late(self, limit: Duration) -> Reason {
        let seconds = whole_seconds(limit);
        let stage = match self {
            Self::Name => "resolving its name",
            Self::Tcp => "opening the TCP connection",
            Self::Proxy => return Reason::Proxy(format!("it did not answer within {seconds} s")),
            Self::Tls => "agreeing on TLS",
            Self::WebSocket => "opening the WebSocket",
            Self::Connack => "waiting for the answer to the login (CONNACK)",
            Self::Suback => "waiting for the answer to the subscriptions (SUBACK)",
        };
        Reason::TimedOut { stage, seconds }
    }
}

/// Whole seconds for words to the user, never 0.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}
