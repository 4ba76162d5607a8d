//! Looks at the first bytes that come from the other side: a broker never begins with those of a web page.
//!
//! A captive portal answers in HTTP to whatever it is sent, TLS or a login. That is told here, below TLS and MQTT, which would only
//! see bytes that make no sense. Until the first bytes are known for none of HTTP nothing of them is passed on; what is
//! written is not looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::plain::status_line;

/// How every answer in HTTP/1 begins (RFC 9112 section 4). No record of TLS and no packet to a client of MQTT begins with an H
/// (0x48): TLS begins with 0x14 to 0x17, and a CONNACK with 0x20.
const HTTP: &[u8] = b"HTTP/";

/// The longest status line that is waited for. Longer ones are cut.
const LINE: usize = 256;

/// The other side answers in HTTP; this is the first line of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WebPage(pub(super) String);

/// A stream whose first bytes are looked at.
pub(super) struct Screen<S> {
    stream: S,
    state: State,
}

enum State {
    Listening(Vec<u8>),
    /// What was heard is harmless and goes on.
    Passing(Vec<u8>),
    /// Nothing is held any more.
    Clear,
}

enum Verdict {
    Unclear,
    Harmless,
    WebPage,
}

fn judge(heard: &[u8], is_all: bool) -> Verdict {
    if heard.starts_with(HTTP) {
        let is_told = is_all || heard.len() >= LINE || heard.contains(&b'\n');
        if is_told { Verdict::WebPage } else { Verdict::Unclear }
    } else if HTTP.starts_with(heard) && !is_all {
        Verdict::Unclear
    } else {
        Verdict::Harmless
    }
}

impl<S> Screen<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, state: State::Listening(Vec::new()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screen<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, state } = &mut *self;
        loop {
            match state {
                State::Listening(heard) => {
                    let mut space = [0; LINE];
                    let mut next = ReadBuf::new(&mut space[heard.len().min(LINE - 1)..]);
                    ready!(Pin::new(&mut *stream).poll_read(cx, &mut next))?;
                    let is_all = next.filled().is_empty();
                    heard.extend_from_slice(next.filled());
                    match judge(heard, is_all) {
                        Verdict::Unclear => {}
                        Verdict::Harmless => *state = State::Passing(std::mem::take(heard)),
                        Verdict::WebPage => {
                            let page = WebPage(status_line(heard));
                            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, page)));
                        }
                    }
                }
                State::Passing(heard) => {
                    let count = heard.len().min(buf.remaining());
                    buf.put_slice(&heard[..count]);
                    heard.drain(..count);
                    if heard.is_empty() {
                        *state = State::Clear;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Clear => return Pin::new(stream).poll_read(cx, buf),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screen<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What comes out of the screen when this goes in, piece by piece.
    fn screened(pieces: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut far, near) = tokio::io::duplex(64);
            let mut near = Screen::new(near);
            let write = async {
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    far.write_all(piece).await.ok();
                    tokio::task::yield_now().await;
                }
                drop(far);
            };
            // With its end of the pipe, so that a writer is not left waiting for who has stopped to read.
            let read = async move {
                let mut out = Vec::new();
                near.read_to_end(&mut out).await.map(|_| out).map_err(|error| error.to_string())
            };
            tokio::join!(read, write).0
        })
    }

    #[test]
    fn a_web_page_is_told_by_its_first_line_however_it_is_cut() {
        let page = b"HTTP/1.1 511 Network Authentication Required\r\nLocation: http://portal/\r\n\r\n<html>";
        for size in [1, 3, 5, 60] {
            let pieces: Vec<Vec<u8>> = page.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(screened(&pieces), Err("HTTP/1.1 511 Network Authentication Required".to_owned()), "{size}");
        }
        assert_eq!(screened(&[b"HTTP/".to_vec()]), Err("HTTP/".to_owned()), "all there is");
        let endless = screened(&[b"HTTP/".to_vec(), vec![b'x'; 1000]]).expect_err("no end of the line is needed");
        assert!(endless.starts_with("HTTP/xxx") && endless.len() < LINE, "{endless}");
    }

    proptest! {
        #[test]
        fn whatever_does_not_begin_as_a_web_page_comes_out_as_it_went_in(
            begins in prop::sample::select(vec!["", "H", "HTTP", "HTTP/", "HTTPS", " \u{2}", "http/"]),
            pieces: Vec<Vec<u8>>,
        ) {
            let whole = [begins.as_bytes(), &pieces.concat()].concat();
            let pieces = [vec![begins.as_bytes().to_vec()], pieces].concat();
            match screened(&pieces) {
                Ok(out) => prop_assert_eq!(out, whole),
                Err(_) => prop_assert!(whole.starts_with(HTTP)),
            }
        }
    }
}
