//! The task that owns one connection, from the dial to its typed end.
//!
//! One loop over the ping timer, the daemon's asks and the stream; it waits for nothing else, so a daemon that takes no events stops
//! the reading and never the pings. What is asked in one turn leaves in one write. It retries nothing and keeps nothing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{FutureExt as _, Sink, SinkExt, Stream, StreamExt};
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{self, Codec, Publish};
use tokio::select;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::codec::Framed;

use super::dial::{self, Approach, Opened};
use super::flight::{Received, Sent};
use super::login::{self, Session};
use super::pulse::{Beat, Pulse};
use super::stage::{Stage, whole_seconds};
use super::{Ask, Event, Order, Preparation, packets};
use crate::model::wire::{Handshake, MessageId, Packet, Qos, Reason, Subscription};

pub(super) type Wire = Framed<dial::Stream, Codec>;

/// The most that MQTT can frame (section 2.2.3). What we may send is checked before it comes here.
const FRAME_MAX: usize = 268_435_455;

/// A buffer that grew beyond this is given back once it is empty: a device that got one large message should not hold its memory
/// for years.
const BUFFER_KEPT: usize = 64 * 1024;

/// For the DISCONNECT to be written and the broker to hang up. Leaving must not take longer than a stop of the daemon may.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Runs one connection and tells how it ended.
pub(super) async fn run(order: Order, prepared: Option<Preparation>, mut asks: Receiver<Ask>, events: Sender<Event>) {
    let reason = match open(&order, prepared, &mut asks).await {
        Ok((wire, tls, session)) => Connection::new(wire, &order, session, events.clone()).live(tls, asks).await,
        Err(reason) => reason,
    };
    // A slot is always kept for this one. Where it fails nobody listens any more.
    let _ = events.try_send(Event::Ended(reason));
}

/// From the order to the last SUBACK, all under one time limit.
async fn open(
    order: &Order,
    prepared: Option<Preparation>,
    asks: &mut Receiver<Ask>,
) -> Result<(Wire, Option<Handshake>, Session), Reason> {
    let approach = Approach {
        endpoint: order.endpoint.clone(),
        keep_alive: packets::keep_alive(&order.login),
        connect_timeout: order.connect_timeout,
        resolver: order.resolver.clone(),
    };
    let deadline = Instant::now() + approach.limit();
    if let Some(prepared) = prepared
        && let Some(opened) = prepared.take(&approach).await
    {
        match log_in(opened, order, deadline, asks).await {
            // Perhaps it was closed while nobody looked, and that says nothing about us. A stream of its own will tell.
            Err(Reason::ClosedBeforeAnswer) => {}
            outcome => return outcome,
        }
    }
    let mut stage = Stage::Name;
    let opened = select! {
        biased;
        _ = called_off(asks) => return Err(Reason::Planned),
        opened = timeout_at(deadline, approach.open(&mut stage)) => opened,
    };
    let opened = opened.map_err(|_| stage.too_late(order.connect_timeout))??;
    log_in(opened, order, deadline, asks).await
}

async fn log_in(
    opened: Opened,
    order: &Order,
    deadline: Instant,
    asks: &mut Receiver<Ask>,
) -> Result<(Wire, Option<Handshake>, Session), Reason> {
    let Opened { stream, tls } = opened;
    let codec = Codec { max_incoming_size: order.limits.packet_in, max_outgoing_size: FRAME_MAX };
    let mut wire = Framed::new(stream, codec);
    let mut stage = Stage::Connack;
    let session = select! {
        biased;
        cause = called_off(asks) => {
            // The broker may know us by now, and without a DISCONNECT it would publish the will.
            if cause == CalledOff::Asked {
                leave(&mut wire).await;
            }
            return Err(Reason::Planned);
        }
        session = timeout_at(deadline, login::greet(&mut wire, order, &mut stage)) => session,
    };
    let session = session.map_err(|_| stage.too_late(order.connect_timeout))??;
    Ok((wire, tls, session))
}

#[derive(PartialEq, Eq)]
enum CalledOff {
    Asked,
    Dropped,
}

/// Waits until nobody wants the connection any more. Before it is online nothing else can be asked for.
async fn called_off(asks: &mut Receiver<Ask>) -> CalledOff {
    loop {
        match asks.recv().await {
            Some(Ask::Disconnect) => return CalledOff::Asked,
            None => return CalledOff::Dropped,
            Some(Ask::Publish(..) | Ask::Ack(_) | Ask::Check) => {}
        }
    }
}

/// A connection that is online.
struct Connection {
    wire: Wire,
    events: Sender<Event>,
    /// Slots for events that no message may take: one for each of our messages that can be settled, and Ended.
    spare: usize,
    sent: Sent,
    received: Received,
    /// What was read and not yet handed to the daemon. Nothing more is read until it is empty.
    backlog: VecDeque<Publish>,
    /// The broker kept the session, so this one stands already.
    kept: bool,
    /// What was subscribed to, while the SUBACK is due.
    subscribing: Option<Vec<Subscription>>,
    /// Messages with QoS 0 that are settled by the next complete write.
    unwritten: Vec<MessageId>,
    /// The stream holds bytes that may not have left, in our buffer or in that of TLS.
    unflushed: bool,
    /// The write buffer has grown beyond [`BUFFER_KEPT`].
    swollen: bool,
    pulse: Pulse,
}

enum Step {
    Timer,
    Asked(Option<Ask>),
    Room,
    Io(Io),
}

impl Connection {
    fn new(wire: Wire, order: &Order, session: Session, events: Sender<Event>) -> Self {
        let Session { kept, early, suback_due } = session;
        Self {
            wire,
            events,
            spare: usize::from(order.limits.window) + 1,
            sent: Sent::new(order.limits.window, suback_due.then_some(login::SUBSCRIBE_ID)),
            received: Received::default(),
            backlog: early,
            kept,
            subscribing: suback_due.then(|| order.subscriptions.clone()),
            unwritten: Vec::new(),
            unflushed: false,
            swollen: false,
            pulse: Pulse::new(packets::keep_alive(&order.login), Instant::now()),
        }
    }

    async fn live(mut self, tls: Option<Handshake>, asks: Receiver<Ask>) -> Reason {
        self.tell(Event::Online { session_kept: self.kept, tls });
        self.turn(asks).await.unwrap_or_else(|reason| reason)
    }

    /// Turns until the end. `Ok` and `Err` are both ends; `Err` is the one that `?` brings.
    async fn turn(&mut self, mut asks: Receiver<Ask>) -> Result<Reason, Reason> {
        let mut timer = pin!(sleep_until(self.pulse.deadline()));
        loop {
            self.hand_over()?;
            let listening = self.backlog.is_empty();
            self.pulse.listen(listening, Instant::now());
            let step = select! {
                // The timer first: a stream that is always ready must not keep us from pinging. Asks before the stream, so that
                // what the daemon did with one read leaves before the next.
                biased;
                () = &mut timer => Step::Timer,
                ask = asks.recv() => Step::Asked(ask),
                _ = self.events.reserve_many(self.spare + 1), if !listening && self.received.has_room() => Step::Room,
                io = io(&mut self.wire, self.unflushed, listening) => Step::Io(io),
            };
            match step {
                Step::Timer => {
                    if self.check()? == Beat::Dead {
                        // The runtime asks the kernel before it comes back to us.
                        yield_now().await;
                        self.look_once_more()?;
                    }
                    timer.as_mut().reset(self.pulse.deadline());
                }
                Step::Asked(None) => return Ok(Reason::Planned),
                Step::Asked(Some(first)) => {
                    let mut next = Some(first);
                    while let Some(ask) = next {
                        match ask {
                            Ask::Publish(id, packet) => self.publish(id, packet)?,
                            Ask::Ack(delivery) => self.received.ack(delivery),
                            Ask::Check => {
                                if self.pulse.doubt(Instant::now()) == Beat::Ping {
                                    self.write(v4::Packet::PingReq)?;
                                }
                                timer.as_mut().reset(self.pulse.deadline());
                            }
                            Ask::Disconnect => return Ok(self.disconnect().await),
                        }
                        next = asks.try_recv().ok();
                    }
                    self.write_pubacks()?;
                }
                Step::Room => {}
                Step::Io(io) => self.moved(io)?,
            }
        }
    }

    /// Pings if that is due.
    fn check(&mut self) -> Result<Beat, Reason> {
        let beat = self.pulse.check(Instant::now());
        if beat == Beat::Ping {
            self.write(v4::Packet::PingReq)?;
        }
        Ok(beat)
    }

    /// The time is over, and where this machine stood still meanwhile the sign of life may lie here: as bytes that nobody has
    /// read, or as room that nobody has written to.
    fn look_once_more(&mut self) -> Result<(), Reason> {
        // What can be written, all or a part, comes before what can be read.
        for _ in 0..3 {
            let io = io(&mut self.wire, self.unflushed, self.backlog.is_empty());
            // Else the runtime could say that there is nothing, for the sake of other tasks.
            let Some(io) = unconstrained(io).now_or_never() else { break };
            self.moved(io)?;
            if self.check()? != Beat::Dead {
                return Ok(());
            }
        }
        Err(Reason::DeadLink { seconds: whole_seconds(self.pulse.patience()) })
    }

    /// Gives the daemon what was read, as long as it has room.
    fn hand_over(&mut self) -> Result<(), Reason> {
        while self.received.has_room()
            && self.events.capacity() > self.spare
            && let Some(publish) = self.backlog.pop_front()
        {
            let (packet, id) = packets::received(publish)?;
            let delivery = self.received.number(id);
            self.tell(Event::Received(delivery, packet));
        }
        Ok(())
    }

    fn publish(&mut self, message: MessageId, packet: Packet) -> Result<(), Reason> {
        let id = match packet.qos {
            Qos::AtLeastOnce => {
                self.sent.take(message).expect("the link lets no more than a window of messages through")
            }
            Qos::AtMostOnce => {
                self.unwritten.push(message);
                0
            }
        };
        self.write(packets::publish(packet, id))
    }

    fn write_pubacks(&mut self) -> Result<(), Reason> {
        while let Some(id) = self.received.next() {
            self.write(v4::Packet::PubAck(v4::PubAck::new(id)))?;
        }
        Ok(())
    }

    /// Queues a packet; it leaves at the end of the turn.
    fn write(&mut self, packet: v4::Packet) -> Result<(), Reason> {
        // `Framed` only appends to its buffer here, whose size the window and the bound of deliveries limit, so there is no
        // readiness to wait for.
        Pin::new(&mut self.wire).start_send(packet).map_err(packets::reason)?;
        self.unflushed = true;
        self.swollen |= self.wire.write_buffer().len() > BUFFER_KEPT;
        self.pulse.queued(Instant::now());
        Ok(())
    }

    fn moved(&mut self, io: Io) -> Result<(), Reason> {
        let now = Instant::now();
        match io {
            Io::Packet(packet) => {
                self.pulse.received(now);
                self.take(packet)
            }
            Io::PartRead => {
                self.pulse.received(now);
                Ok(())
            }
            Io::PartWritten => {
                self.pulse.progressed(now);
                Ok(())
            }
            Io::Flushed => {
                self.pulse.flushed(now);
                if std::mem::take(&mut self.swollen) {
                    *self.wire.write_buffer_mut() = BytesMut::new();
                }
                self.settle_written();
                Ok(())
            }
            Io::Ended => Err(Reason::Closed),
            Io::Failed(error) => Err(match &self.subscribing {
                Some(subscriptions) => login::unsubscribed(subscriptions, error),
                None => packets::reason(error),
            }),
        }
    }

    fn settle_written(&mut self) {
        self.unflushed = false;
        for message in std::mem::take(&mut self.unwritten) {
            self.tell(Event::Settled(message));
        }
    }

    fn take(&mut self, packet: v4::Packet) -> Result<(), Reason> {
        match packet {
            v4::Packet::Publish(publish) => {
                if publish.payload.len() > BUFFER_KEPT && self.wire.read_buffer().is_empty() {
                    *self.wire.read_buffer_mut() = BytesMut::new();
                }
                self.backlog.push_back(publish);
            }
            v4::Packet::PubAck(ack) => {
                let message = self.sent.settle(ack.pkid);
                let nothing = || Reason::Protocol(format!("PUBACK for packet id {}, which is not in flight", ack.pkid));
                self.tell(Event::Settled(message.ok_or_else(nothing)?));
            }
            v4::Packet::SubAck(answer) if answer.pkid == login::SUBSCRIBE_ID && self.subscribing.is_some() => {
                let subscriptions = self.subscribing.take().unwrap_or_default();
                packets::granted(&subscriptions, &answer.return_codes)?;
            }
            // Our ping stood behind the SUBSCRIBE, and packets are answered in their order.
            v4::Packet::PingResp if self.subscribing.is_some() => {
                return Err(Reason::Protocol("a ping was answered, and the SUBSCRIBE before it was not".to_owned()));
            }
            v4::Packet::PingResp => {}
            other => return Err(packets::unexpected(&other)),
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        // There is a slot: the bounds of `spare` and `hand_over` see to it. Where it fails nobody listens, and the asks end too.
        let _ = self.events.try_send(event);
    }

    async fn disconnect(&mut self) -> Reason {
        if let Err(reason) = self.write_pubacks() {
            return reason;
        }
        if leave(&mut self.wire).await {
            self.settle_written();
        }
        Reason::Planned
    }
}

/// What the stream did.
enum Io {
    Packet(v4::Packet),
    /// Bytes came, not yet a whole packet.
    PartRead,
    PartWritten,
    /// All that was queued has been written.
    Flushed,
    Ended,
    Failed(Error),
}

/// Writes what is queued, then reads. Cancel-safe: both buffers belong to the wire.
async fn io(wire: &mut Wire, unflushed: bool, listening: bool) -> Io {
    poll_fn(|cx| {
        if unflushed {
            let before = wire.write_buffer().len();
            match Pin::new(&mut *wire).poll_flush(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Io::Flushed),
                Poll::Ready(Err(error)) => return Poll::Ready(Io::Failed(error)),
                Poll::Pending if wire.write_buffer().len() < before => return Poll::Ready(Io::PartWritten),
                Poll::Pending => {}
            }
        }
        if !listening {
            return Poll::Pending;
        }
        let before = wire.read_buffer().len();
        match Pin::new(&mut *wire).poll_next(cx) {
            Poll::Ready(Some(Ok(packet))) => Poll::Ready(Io::Packet(packet)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Io::Failed(error)),
            Poll::Ready(None) => Poll::Ready(Io::Ended),
            Poll::Pending if wire.read_buffer().len() > before => Poll::Ready(Io::PartRead),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Writes what is queued and a DISCONNECT, then waits until the broker hangs up: it has then seen the DISCONNECT, and a next
/// connection cannot overtake it. Bounded; false if the writing failed.
async fn leave(wire: &mut Wire) -> bool {
    let mut written = false;
    let _ = timeout(LEAVE_WITHIN, async {
        if wire.send(v4::Packet::Disconnect).await.is_ok() && SinkExt::<v4::Packet>::close(wire).await.is_ok() {
            written = true;
            // With bytes of the broker unread, closing would reset the connection and could take the DISCONNECT with it.
            while let Some(Ok(_)) = wire.next().await {}
        }
    })
    .await;
    written
}
