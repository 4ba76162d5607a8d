//! The daemon's end of a connection: what it may ask, what it hears, and the two bounded queues between.
//!
//! What a connection could not carry is refused here, at the door, so that the task behind never has to.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::flight::{DELIVERIES, needs_puback};
use super::{Ask, Event, Order, Preparation, connection, packets};
use crate::model::wire::{Packet, Reason};

/// Room in the queue of asks beyond a window of messages and one Ack per delivery: the DISCONNECT, and a Check before it.
const DISCONNECT: usize = 2;
/// Room in the queue of events that no message may take: Online and Ended.
const ENDS: usize = 2;

/// Starts a connection as a task of its own on the current tokio runtime.
pub fn connect(order: Order) -> Link {
    start(order, None)
}

/// The same over a stream that was prepared, if that is open, not too old, and leads where the order says.
pub fn connect_over(order: Order, prepared: Preparation) -> Link {
    start(order, Some(prepared))
}

fn start(mut order: Order, prepared: Option<Preparation>) -> Link {
    order.limits.window = order.limits.window.max(1);
    let window = usize::from(order.limits.window);
    let packet_out = order.limits.packet_out;
    let (asks, asked) = mpsc::channel(window + DELIVERIES + DISCONNECT);
    let (told, events) = mpsc::channel(window + DELIVERIES + ENDS);
    tokio::spawn(connection::run(order, prepared, asked, told));
    Link { asks, events, window, packet_out, unsettled: AtomicUsize::new(0), stage: Stage::Opening }
}

/// One connection. Dropping it closes the socket without a DISCONNECT, as a crash would.
pub struct Link {
    asks: Sender<Ask>,
    events: Receiver<Event>,
    window: usize,
    packet_out: usize,
    /// Messages that were asked for and whose Settled has not been handed out.
    unsettled: AtomicUsize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Online,
    Ended,
}

/// Why a connection does not take an [`Ask`]. Nothing of it was sent, and the connection goes on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the connection has ended")]
    Ended,
    #[error("the connection is not yet online")]
    NotOnline,
    #[error("a packet of {size} bytes; at most {limit} are sent")]
    Oversize { size: usize, limit: usize },
    #[error("not a topic: 1 to 65535 bytes without wildcards and NUL are expected")]
    NotATopic,
    /// More was asked than the window and the deliveries at hand allow.
    #[error("too much was asked at once")]
    Full,
}

impl Link {
    /// Asks for something, and never waits.
    pub fn ask(&self, ask: Ask) -> Result<(), Refused> {
        if self.stage == Stage::Ended {
            return Err(Refused::Ended);
        }
        match ask {
            Ask::Publish(_, ref packet) => {
                self.check(packet)?;
                // Counted before it is sent: it could be settled before this call returns, on another thread.
                let before = self.unsettled.fetch_add(1, Ordering::Relaxed);
                let outcome = if before < self.window { self.send(ask) } else { Err(Refused::Full) };
                if outcome.is_err() {
                    self.unsettled.fetch_sub(1, Ordering::Relaxed);
                }
                outcome
            }
            Ask::Ack(delivery) if !needs_puback(delivery) => Ok(()),
            Ask::Check if self.stage == Stage::Opening => Err(Refused::NotOnline),
            Ask::Ack(_) | Ask::Check | Ask::Disconnect => self.send(ask),
        }
    }

    /// The next event. Cancel-safe: none is lost when the future is dropped. After Ended it waits for ever.
    pub async fn event(&mut self) -> Event {
        if self.stage == Stage::Ended {
            return pending().await;
        }
        // Without an Ended the task must have panicked.
        let event =
            self.events.recv().await.unwrap_or_else(|| Event::Ended(Reason::Lost("its task is gone".to_owned())));
        self.note(&event);
        event
    }

    /// The next event if there is one already.
    pub fn try_event(&mut self) -> Option<Event> {
        if self.stage == Stage::Ended {
            return None;
        }
        let event = self.events.try_recv().ok()?;
        self.note(&event);
        Some(event)
    }

    fn check(&self, packet: &Packet) -> Result<(), Refused> {
        if self.stage == Stage::Opening {
            return Err(Refused::NotOnline);
        }
        if packets::topic_fault(&packet.topic).is_some() {
            return Err(Refused::NotATopic);
        }
        let size = packets::publish_size(packet);
        if size > self.packet_out {
            return Err(Refused::Oversize { size, limit: self.packet_out });
        }
        Ok(())
    }

    fn send(&self, ask: Ask) -> Result<(), Refused> {
        self.asks.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Closed(_) => Refused::Ended,
        })
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Online { .. } => self.stage = Stage::Online,
            Event::Received(..) => {}
            Event::Settled(_) => *self.unsettled.get_mut() -= 1,
            Event::Ended(_) => self.stage = Stage::Ended,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Link").field("stage", &self.stage).field("unsettled", &self.unsettled).finish_non_exhaustive()
    }
}
