//! MQTT within a WebSocket (MQTT 3.1.1 section 6, RFC 6455): a stream of bytes on top, frames below.
//!
//! * `upgrade`: how it is opened. `frame`: what a frame may look like.
//!
//! Pings are answered here, and the end that the other side announces is the end of the stream. Holds one frame of ours and
//! one control frame of theirs, whatever they send. What the bytes mean, the codec above knows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Endpoint;
use crate::model::wire::Reason;
use frame::{HEADER_AND_MASK, Header, Kind, LARGEST, LONGEST_HEADER, Order, Violation};

mod frame;
mod upgrade;

/// What is read from below in one go.
const READ: usize = 8 * 1024;

/// The status of an end that both sides wanted (RFC 6455 7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// A stream of bytes within the frames of another.
pub(super) struct WebSocket<S> {
    stream: S,
    random: SystemRandom,
    /// Read and not yet looked at, from `taken` on.
    heard: Vec<u8>,
    taken: usize,
    order: Order,
    reading: Reading,
    /// Frames of ours that are still to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// The last ping that was not answered yet. Who sends more of them gets one answer (5.5.3).
    pong: Option<Vec<u8>>,
    is_closing: bool,
}

/// What comes next from the other side.
enum Reading {
    Header,
    Data {
        left: u64,
    },
    Control {
        kind: Kind,
        left: usize,
        payload: Vec<u8>,
    },
    /// Nothing: they have said so.
    End,
}

/// Opens a WebSocket on this path of the server at the other end.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    endpoint: &Endpoint,
    path: &str,
) -> Result<WebSocket<S>, Reason> {
    let random = source();
    let nonce = draw(&random).map_err(|error| Reason::Lost(error.to_string()))?;
    let heard = upgrade::ask(&mut stream, endpoint, path, nonce).await?;
    Ok(WebSocket {
        stream,
        random,
        heard,
        taken: 0,
        order: Order::default(),
        reading: Reading::Header,
        out: Vec::new(),
        written: 0,
        pong: None,
        is_closing: false,
    })
}

#[expect(clippy::disallowed_methods, reason = "masks must be foreseen by nobody (RFC 6455 10.3), and are used at once")]
fn source() -> SystemRandom {
    SystemRandom::new()
}

fn draw<const N: usize>(random: &SystemRandom) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| io::Error::other("no randomness from the kernel"))?;
    Ok(bytes)
}

impl<S> WebSocket<S> {
    /// Queues a frame.
    fn queue(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mask = draw(&self.random)?;
        self.out.reserve(HEADER_AND_MASK + payload.len());
        frame::write(kind, payload, mask, &mut self.out);
        Ok(())
    }

    fn queue_pong(&mut self) -> io::Result<()> {
        match self.pong.take() {
            Some(payload) if !self.is_closing => self.queue(Kind::Pong, &payload),
            _ => Ok(()),
        }
    }

    fn queue_close(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_closing, true) {
            return Ok(());
        }
        self.queue(Kind::Close, &NORMAL)
    }

    /// Looks at what was heard until there are bytes for `buf`, the end, or nothing more. True: there is something to tell.
    fn digest(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        loop {
            let heard = &self.heard[self.taken..];
            match &mut self.reading {
                Reading::End => return Ok(true),
                Reading::Header => {
                    let seen = &heard[..heard.len().min(LONGEST_HEADER)];
                    let Some((Header { kind, length }, size)) = self.order.read(seen).map_err(broken)? else {
                        return Ok(false);
                    };
                    self.taken += size;
                    self.reading = match kind {
                        Kind::Data => Reading::Data { left: length },
                        // Its length was judged: a control frame is short.
                        kind => Reading::Control {
                            kind,
                            left: usize::try_from(length).unwrap_or(frame::CONTROL_MAX),
                            payload: Vec::new(),
                        },
                    };
                }
                Reading::Data { left: 0 } => self.reading = Reading::Header,
                Reading::Data { left } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let count = heard.len().min(buf.remaining()).min(most);
                    if count == 0 {
                        return Ok(false);
                    }
                    buf.put_slice(&heard[..count]);
                    self.taken += count;
                    *left -= count as u64;
                    return Ok(true);
                }
                Reading::Control { kind, left, payload } => {
                    let count = heard.len().min(*left);
                    payload.extend_from_slice(&heard[..count]);
                    self.taken += count;
                    *left -= count;
                    if *left > 0 {
                        return Ok(false);
                    }
                    let (kind, payload) = (*kind, std::mem::take(payload));
                    self.reading = Reading::Header;
                    match kind {
                        Kind::Ping => self.pong = Some(payload),
                        Kind::Close => {
                            self.queue_close()?;
                            self.reading = Reading::End;
                        }
                        // An answer to nothing means nothing (5.5.3).
                        Kind::Pong | Kind::Data => {}
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> WebSocket<S> {
    /// Writes what is queued; ready when it has left for the stream below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Answers a ping, or an end, as far as the stream below takes it now. The rest leaves with what is written next.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.out.is_empty() {
            self.queue_pong()?;
        }
        if !self.out.is_empty()
            && let Poll::Ready(outcome) = self.poll_drain(cx)
        {
            outcome?;
            if let Poll::Ready(outcome) = Pin::new(&mut self.stream).poll_flush(cx) {
                outcome?;
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Frames without bytes for us keep nobody here: tokio's sockets are ready only so often in one turn of a task.
        loop {
            let is_told = this.digest(buf)?;
            let answered = this.poll_answer(cx);
            // At the end it does not matter any more whether our last frame could be written.
            if !matches!(this.reading, Reading::End) {
                answered?;
            }
            if is_told {
                return Poll::Ready(Ok(()));
            }
            this.heard.drain(..this.taken);
            this.taken = 0;
            let mut space = [0; READ];
            let mut next = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut next))?;
            if next.filled().is_empty() {
                this.reading = Reading::End;
            }
            this.heard.extend_from_slice(next.filled());
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_drain(cx))?;
        if this.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.queue_pong()?;
        let count = bytes.len().min(LARGEST);
        this.queue(Kind::Data, &bytes[..count])?;
        // Taken already: what the stream below does not take now leaves with the next write or flush.
        if let Poll::Ready(outcome) = this.poll_drain(cx) {
            outcome?;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue_close()?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn broken(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

/// What an error of a stream means, if it came of frames that must not be.
pub(super) fn reason(error: &io::Error) -> Option<Reason> {
    let violation = error.get_ref()?.downcast_ref::<Violation>()?;
    Some(Reason::Protocol(violation.to_string()))
}
