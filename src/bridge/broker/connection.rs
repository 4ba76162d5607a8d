//! One connection of one client: moves packets between its stream and the owner, and enforces silence and slowness.
//!
//! It judges nothing. The connection ends when the owner drops its end of the orders, or the client does.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::v4::{Connect, Packet};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::wire::{Frame, Wire, WireError};
use crate::bridge::owner::{Event, Owner};
use crate::bridge::peer::Certificate;

/// The number of a connection; never used twice in one run.
pub(crate) type ConnectionId = u64;

/// Packets read at once and handed on together, so that their answers leave in one write.
const BATCH: usize = 64;
/// Orders that may wait for one connection: a full window of messages and as many acknowledgements. A client that
/// does not read as fast is cut off.
const ORDERS: usize = 16_384;
/// Bytes collected before they are written in any case.
const WRITE_BUFFER: usize = 64 * 1024;
/// Time for a new connection to say CONNECT.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time for one write to get anywhere.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// What a connection tells the owner. It holds a password, so it has no `Debug`.
pub(crate) enum Heard {
    /// With the certificate that the client has shown, if it has.
    Login(Box<Connect>, Option<Certificate>, Orders),
    Packets(Vec<Packet>),
    Gone(End),
}

/// The owner's end of a connection. Dropping it flushes what was ordered and closes the connection.
#[derive(Debug)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// False if the connection is gone or too slow; there is no use in it any more then.
    pub(crate) fn send(&self, frame: impl Into<Frame>) -> bool {
        self.0.try_send(Order::Send(frame.into())).is_ok()
    }

    /// Nothing further is written for so long.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        self.0.try_send(Order::Pause(time)).is_ok()
    }
}

#[derive(Debug)]
enum Order {
    Send(Frame),
    Pause(Duration),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("closed by the client")]
    Eof,
    #[error("closed by the bridge")]
    Ours,
    #[error("silent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the client does not read")]
    Slow,
    #[error("{0}")]
    Wire(#[from] WireError),
}

/// Serves one connection to its end. `idle` is the longest silence allowed, whatever the client's keep-alive says.
pub(crate) async fn serve<S>(stream: S, peer: Option<Certificate>, id: ConnectionId, owner: &Owner, idle: Duration)
where
    S: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(stream);
    let (orders, inbox) = mpsc::channel(ORDERS);
    let end = tokio::select! {
        end = listen(FramedRead::new(read, Wire::default()), peer, id, owner, orders, idle) => end,
        end = speak(FramedWrite::new(write, Wire::default()), inbox) => end,
    };
    owner.tell(Event { id, heard: Heard::Gone(end) }).await;
}

async fn listen<R>(
    mut packets: FramedRead<R, Wire>,
    peer: Option<Certificate>,
    id: ConnectionId,
    owner: &Owner,
    orders: mpsc::Sender<Order>,
    idle: Duration,
) -> End
where
    R: AsyncRead + Unpin,
{
    let connect = match timeout(CONNECT_LIMIT, packets.next()).await {
        Err(_) => return End::Silent(CONNECT_LIMIT),
        Ok(None) => return End::Eof,
        Ok(Some(Err(WireError::Level))) => {
            // MQTT-3.1.2-2. Nobody but this function knows the connection yet, so it answers by itself.
            let unacceptable_level = Bytes::from_static(&[0x20, 2, 0, 1]);
            let _ = orders.send(Order::Send(Frame::Raw(unacceptable_level))).await;
            drop(orders);
            sleep(WRITE_LIMIT).await;
            return End::Wire(WireError::Level);
        }
        Ok(Some(Err(error))) => return End::Wire(error),
        Ok(Some(Ok(Packet::Connect(connect)))) => connect,
        Ok(Some(Ok(_))) => return End::Wire(WireError::NoConnect),
    };
    // MQTT-3.1.2-24: one and a half times the keep-alive; 0 switches it off.
    let silence = match connect.keep_alive {
        0 => idle,
        seconds => idle.min(Duration::from_millis(u64::from(seconds) * 1500)),
    };
    owner.tell(Event { id, heard: Heard::Login(Box::new(connect), peer, Orders(orders)) }).await;
    loop {
        let first = match timeout(silence, packets.next()).await {
            Err(_) => return End::Silent(silence),
            Ok(None) => return End::Eof,
            Ok(Some(packet)) => packet,
        };
        let mut batch = Vec::new();
        let mut next = Some(first);
        let mut error = None;
        while let Some(read) = next.take() {
            match read {
                Ok(packet) => batch.push(packet),
                Err(wire) => error = Some(wire),
            }
            if error.is_none() && batch.len() < BATCH {
                next = packets.next().now_or_never().flatten();
            }
        }
        if !batch.is_empty() {
            owner.tell(Event { id, heard: Heard::Packets(batch) }).await;
        }
        if let Some(error) = error {
            return End::Wire(error);
        }
    }
}

async fn speak<W>(mut frames: FramedWrite<W, Wire>, mut inbox: mpsc::Receiver<Order>) -> End
where
    W: AsyncWrite + Unpin,
{
    frames.set_backpressure_boundary(WRITE_BUFFER);
    while let Some(order) = inbox.recv().await {
        let mut next = Some(order);
        while let Some(order) = next {
            let done = match order {
                Order::Send(frame) => timeout(WRITE_LIMIT, frames.feed(frame)).await,
                Order::Pause(time) => {
                    let flushed = timeout(WRITE_LIMIT, frames.flush()).await;
                    sleep(time).await;
                    flushed
                }
            };
            match done {
                Ok(Ok(())) => next = inbox.try_recv().ok(),
                Ok(Err(error)) => return End::Wire(error),
                Err(_) => return End::Slow,
            }
        }
        match timeout(WRITE_LIMIT, frames.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::Wire(error),
            Err(_) => return End::Slow,
        }
    }
    // The stream is closed by its drop as well; this sends TLS's close_notify. It may fail: the client may be gone.
    let _ = timeout(WRITE_LIMIT, frames.close()).await;
    End::Ours
}
