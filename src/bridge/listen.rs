//! Takes connections, with TLS or without, and hands each stream to what is spoken on it.
//!
//! The number of connections and the time of a handshake are bounded here, and faults that a test asks for before a login strike
//! here.

use std::pin::pin;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::broker::connection;
use super::faults::Door;
use super::owner::Owner;
use super::peer::Certificate;
use super::websocket::{self, Upgrades};

/// Connections of one listener at one time: the quota of the real service for a project and region.
const CONNECTIONS: usize = 10_000;
/// Time for a TLS handshake, and for the head of an HTTP request.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// Pause after a failed accept: the usual reason is that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection to MQTT passes.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) owner: Owner,
    pub(crate) tls: TlsAcceptor,
    /// The longest silence of a device.
    pub(crate) idle: Duration,
    pub(crate) door: watch::Receiver<Door>,
}

/// Serves MQTT until stopped; then all its connections end.
pub(crate) async fn serve_mqtt(listener: TcpListener, with_tls: bool, entrance: Entrance, stop: CancellationToken) {
    accept(listener, stop, move |stream| enter(stream, with_tls, entrance.clone())).await;
}

async fn enter(mut stream: TcpStream, with_tls: bool, Entrance { owner, tls, idle, door }: Entrance) {
    let id = owner.new_connection();
    let found = door.borrow().clone();
    let with_tls = match found {
        Door::Open | Door::Frozen => with_tls,
        Door::WrongLayer => !with_tls,
        Door::Reset => {
            // Where it fails the connection is closed in the usual way, and a test that counts on the reset says so.
            let _ = stream.set_zero_linger();
            return;
        }
        Door::Says(bytes) => {
            let mut heard = [0; 1024];
            // Whoever is gone does not hear it.
            if let Ok(Ok(1..)) = timeout(HANDSHAKE_LIMIT, stream.read(&mut heard)).await {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            return;
        }
    };
    let served = async {
        if !with_tls {
            connection::serve(stream, None, id, &owner, idle).await;
        } else if let Some(stream) = handshake(&tls, stream).await {
            let peer = Certificate::of(stream.get_ref().1);
            connection::serve(stream, peer, id, &owner, idle).await;
        }
    };
    unless_frozen(door, served).await;
}

/// Goes on with a connection, but not while the door is frozen.
pub(crate) async fn unless_frozen(mut door: watch::Receiver<Door>, connection: impl Future<Output = ()>) {
    let mut connection = pin!(connection);
    loop {
        if door.wait_for(|door| *door != Door::Frozen).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            // The sender is gone only when the whole bridge is.
            frozen = door.wait_for(|door| *door == Door::Frozen) => if frozen.is_err() { return },
            () = &mut connection => return,
        }
    }
}

/// Serves HTTP/1.1 until stopped; then all its connections end, and each that has become a WebSocket.
pub(crate) async fn serve_http(
    listener: TcpListener,
    with_tls: bool,
    router: Router,
    entrance: Entrance,
    stop: CancellationToken,
) {
    accept(listener, stop, move |stream| {
        let (router, entrance) = (router.clone(), entrance.clone());
        async move {
            if !with_tls {
                speak_http(stream, None, router, entrance).await;
            } else if let Some(stream) = handshake(&entrance.tls, stream).await {
                let peer = Certificate::of(stream.get_ref().1);
                speak_http(stream, peer, router, entrance).await;
            }
        }
    })
    .await;
}

async fn accept<F>(listener: TcpListener, stop: CancellationToken, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // Dropping the set at the end closes all connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    // Without it a PUBACK would wait for the acknowledgement of the packet before it.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream));
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!("a connection ended by a fault of the bridge: {error}");
            },
        }
    }
}

async fn handshake(tls: &TlsAcceptor, stream: TcpStream) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::warn!("TLS handshake failed: {error}");
            None
        }
        Err(_) => {
            tracing::warn!("no TLS handshake within {} s", HANDSHAKE_LIMIT.as_secs());
            None
        }
    }
}

async fn speak_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<Certificate>,
    router: Router,
    entrance: Entrance,
) {
    let (upgrades, mut taken) = Upgrades::new();
    let router = router.layer(Extension(upgrades));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("HTTP connection ended: {error}");
    }
    if let Ok(upgrade) = taken.try_recv() {
        websocket::serve(upgrade, peer, entrance).await;
    }
}
