//! MQTT within a WebSocket, on the listener for HTTPS: the handshake, and the pump between frames and the broker.
//!
//! What the frames are is `frame`'s. The broker sees a stream of bytes as everywhere. Source: RFC 6455, and the path and the
//! subprotocol of "Communicate with an IoT hub using the MQTT protocol" (learn.microsoft.com/azure/iot).

mod frame;

use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

use self::frame::{Fault, Frame, Frames};
use super::broker::connection;
use super::listen::{Entrance, unless_frozen};
use super::peer::Certificate;

/// Where the hub and its provisioning service take a WebSocket.
const PATH: &str = "/$iothub/websocket";
const SUBPROTOCOL: &str = "mqtt";
/// What RFC 6455 4.2.2 adds to the client's key.
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes on their way between pump and broker, each way.
const PIPE: usize = 64 * 1024;
/// Frames of ours that wait to be written: pongs of a client that does not read. Such a client is cut off.
const CONTROLS: usize = 16;
/// Bytes of MQTT that are read for one frame of ours.
const FRAME: usize = 16 * 1024;
/// Time for one write to get anywhere, and for a client to take the upgrade.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// What becomes of an HTTP connection whose request was a handshake: the task that serves it goes on with it, so that it is
/// counted and ended with all others of its listener.
#[derive(Clone, Debug)]
pub(crate) struct Upgrades(mpsc::Sender<OnUpgrade>);

impl Upgrades {
    /// For the requests of one connection, and for whoever serves it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<OnUpgrade>) {
        // A connection is upgraded once.
        let (sender, upgrades) = mpsc::channel(1);
        (Self(sender), upgrades)
    }
}

/// Adds the path, outside the guard of the REST side: MQTT has logins of its own.
pub(crate) fn add_route(router: Router) -> Router {
    router.route(PATH, get(answer))
}

/// Answers the handshake.
async fn answer(Extension(upgrades): Extension<Upgrades>, mut request: Request) -> Response {
    let accept = match accept(request.headers()) {
        Ok(accept) => accept,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    if upgrades.0.try_send(hyper::upgrade::on(&mut request)).is_err() {
        return (StatusCode::BAD_REQUEST, "this connection is a WebSocket already").into_response();
    }
    let headers = [
        (UPGRADE, "websocket"),
        (CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        (SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The answer to the client's key, if the request is a handshake for MQTT (RFC 6455 4.2.1).
fn accept(headers: &HeaderMap) -> Result<String, &'static str> {
    let has = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err("an upgrade to a WebSocket is expected");
    }
    if !has(HeaderName::from_static("sec-websocket-version"), "13") {
        return Err("version 13 of the WebSocket protocol is expected");
    }
    if !has(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err("the subprotocol mqtt is expected");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let key = key.ok_or("a key of 16 bytes in base64 is expected")?;
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(ACCEPT.as_bytes());
    Ok(STANDARD.encode(hash.finish()))
}

/// Serves an HTTP connection that has ended as one, to the end of its MQTT.
pub(crate) async fn serve(upgrade: OnUpgrade, peer: Option<Certificate>, entrance: Entrance) {
    let stream = match timeout(WRITE_LIMIT, upgrade).await {
        Ok(Ok(upgraded)) => TokioIo::new(upgraded),
        Ok(Err(error)) => return tracing::debug!("a connection did not become a WebSocket: {error}"),
        Err(_) => return tracing::debug!("a connection did not become a WebSocket in time"),
    };
    let Entrance { owner, idle, door, .. } = entrance;
    let id = owner.new_connection();
    let (ours, brokers) = duplex(PIPE);
    let served = async {
        // Whichever ends first, the other sees the end of the pipe and what was said before it.
        tokio::join!(connection::serve(brokers, peer, id, &owner, idle), pump(stream, ours));
    };
    unless_frozen(door, served).await;
}

/// Moves bytes until either side is done.
async fn pump<S>(stream: S, pipe: DuplexStream)
where
    S: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(stream);
    let (from_broker, to_broker) = tokio::io::split(pipe);
    let (controls, replies) = mpsc::channel(CONTROLS);
    let ended = tokio::select! {
        ended = hear(FramedRead::new(read, Frames::default()), to_broker, controls) => ended,
        ended = say(FramedWrite::new(write, Frames::default()), from_broker, replies) => ended,
    };
    if let Err(fault) = ended {
        tracing::debug!("a WebSocket ended: {fault}");
    }
}

async fn hear(
    mut frames: FramedRead<impl AsyncRead + Unpin, Frames>,
    mut broker: impl AsyncWrite + Unpin,
    controls: mpsc::Sender<Frame>,
) -> Result<(), Fault> {
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Data(bytes) => broker.write_all(&bytes).await?,
            Frame::Ping(bytes) => controls.try_send(Frame::Pong(bytes)).map_err(|_| Fault::Slow)?,
            Frame::Pong(_) => {}
            Frame::Close => {
                // RFC 6455 5.5.1: it is answered. The writer ends behind it, and this side with it.
                controls.send(Frame::Close).await.map_err(|_| Fault::Slow)?;
                controls.closed().await;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn say(
    mut frames: FramedWrite<impl AsyncWrite + Unpin, Frames>,
    mut broker: impl AsyncRead + Unpin,
    mut replies: mpsc::Receiver<Frame>,
) -> Result<(), Fault> {
    let mut buffer = BytesMut::with_capacity(FRAME);
    loop {
        buffer.reserve(FRAME);
        let frame = tokio::select! {
            Some(reply) = replies.recv() => reply,
            count = broker.read_buf(&mut buffer) => match count? {
                0 => Frame::Close,
                _ => Frame::Data(Bytes::from(buffer.split())),
            },
        };
        let last = matches!(frame, Frame::Close);
        timeout(WRITE_LIMIT, frames.send(frame)).await.map_err(|_| Fault::Slow)??;
        if last {
            return timeout(WRITE_LIMIT, frames.close()).await.map_err(|_| Fault::Slow)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_in_the_rfc_and_others_are_not() {
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "mqttv3.1, mqtt"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), value.parse().expect("a value"))
            };
            fields.iter().map(field).collect()
        };
        // The example of RFC 6455 1.3.
        assert_eq!(accept(&headers(&good)).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for left_out in 0..good.len() {
            let fields: Vec<_> = good.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, f)| *f).collect();
            assert!(accept(&headers(&fields)).is_err(), "{:?}", good[left_out]);
        }
    }
}
