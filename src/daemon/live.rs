//! One connection as the loop sees it: a link, and the dialect of its login.
//!
//! Deliveries carry the number of their connection, so that nothing meant for an old one reaches a new one. When a
//! connection is made, and with what, is `session`'s to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::dialect::{Dialect, Encoded};
use crate::model::agent::Input;
use crate::model::cloud::{Outbound, Settles};
use crate::model::wire::{Delivery, MessageId, Reason};
use crate::mqtt::{Ask, Event, Link, Refused};

/// Deliveries of one connection are numbered below this; above it stands the number of the connection.
const CONNECTION_BIT: u32 = 40;

pub(super) struct Live {
    link: Link,
    /// Another configuration must not make it speak for another device.
    pub(super) dialect: Arc<dyn Dialect>,
    made_with: Config,
    /// Of the connections of this run of the daemon.
    number: u64,
    /// The session stands.
    is_online: bool,
    /// Messages that the cloud answers: that they were written means nothing.
    answered: BTreeSet<MessageId>,
}

/// What becomes of a message that could not be sent.
pub(super) enum Unsent {
    /// It would never be taken.
    Message(String),
    /// The connection takes nothing more, and is to be given up.
    Connection(Reason),
}

impl Live {
    pub(super) fn new(link: Link, dialect: Arc<dyn Dialect>, made_with: Config, number: u64) -> Self {
        Self { link, dialect, made_with, number, is_online: false, answered: BTreeSet::new() }
    }

    /// Whether the session shows that one can be had with this configuration.
    pub(super) fn proves(&self, config: &Config) -> bool {
        self.is_online && config.connects_as(&self.made_with)
    }

    /// Orders a DISCONNECT.
    pub(super) fn disconnect(&self) {
        // Refused only if the connection has ended, which is on its way to us.
        let _ = self.link.ask(Ask::Disconnect);
    }

    /// Finds out at once whether anybody is there.
    pub(super) fn check(&self) {
        // Refused only if the connection has ended, or has so much to do that its own pings are as good.
        let _ = self.link.ask(Ask::Check);
    }

    pub(super) fn send(&mut self, id: MessageId, message: &Outbound) -> Result<(), Unsent> {
        let Encoded { packet, settled_by } =
            self.dialect.encode(id, message).map_err(|error| Unsent::Message(error.to_string()))?;
        match self.link.ask(Ask::Publish(id, packet)) {
            Ok(()) => {
                if settled_by == Settles::Answer {
                    self.answered.insert(id);
                }
                Ok(())
            }
            // Its end is on its way to us, and with it everything is sent again.
            Err(Refused::Ended) => Ok(()),
            // Not the message is to blame, so it must not be lost: on another connection there is room.
            Err(error @ (Refused::Full | Refused::NotOnline)) => {
                Err(Unsent::Connection(Reason::Lost(error.to_string())))
            }
            Err(error @ (Refused::Oversize { .. } | Refused::NotATopic)) => Err(Unsent::Message(error.to_string())),
        }
    }

    pub(super) fn acknowledge(&self, Delivery(number): Delivery) {
        if number >> CONNECTION_BIT == self.number {
            // Refused only if the connection has ended: then the broker sends it again, or told its sender.
            let _ = self.link.ask(Ask::Ack(Delivery(number & ((1 << CONNECTION_BIT) - 1))));
        }
    }

    /// What it says next. May be dropped without loss.
    pub(super) async fn event(&mut self) -> Event {
        self.link.event().await
    }

    pub(super) fn try_event(&mut self) -> Option<Event> {
        self.link.try_event()
    }

    /// What that means.
    pub(super) fn read(&mut self, event: Event) -> Input {
        match event {
            Event::Online { session_kept, tls } => {
                self.is_online = true;
                Input::Online { session_kept, tls }
            }
            // Written; that is all it says of a message that the cloud answers.
            Event::Settled(id) if self.answered.remove(&id) => Input::Tick,
            Event::Settled(id) => Input::Settled(id),
            Event::Ended(reason) => Input::Offline(reason),
            Event::Received(Delivery(number), packet) => {
                Input::Cloud(self.dialect.decode(&packet), Delivery(self.number << CONNECTION_BIT | number))
            }
        }
    }
}
