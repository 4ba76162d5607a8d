//! Takes connections, with TLS or without, and hands each stream to what is spoken on it.
//!
//! The number of connections and the time of a handshake are bounded here.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::broker::connection;
use super::owner::Owner;

/// Connections of one listener at one time: the quota of the real service for a project and region.
const CONNECTIONS: usize = 10_000;
/// Time for a TLS handshake, and for the head of an HTTP request.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// Pause after a failed accept: the usual reason is that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves MQTT until stopped; then all its connections end.
pub(crate) async fn serve_mqtt(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    owner: Owner,
    idle: Duration,
    stop: CancellationToken,
) {
    accept(listener, stop, move |stream| {
        let (owner, tls) = (owner.clone(), tls.clone());
        async move {
            let id = owner.new_connection();
            match tls {
                None => connection::serve(stream, id, &owner, idle).await,
                Some(tls) => {
                    if let Some(stream) = handshake(&tls, stream).await {
                        connection::serve(stream, id, &owner, idle).await;
                    }
                }
            }
        }
    })
    .await;
}

/// Serves HTTP/1.1 until stopped; then all its connections end.
pub(crate) async fn serve_http(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
) {
    accept(listener, stop, move |stream| {
        let (router, tls) = (router.clone(), tls.clone());
        async move {
            match tls {
                None => speak_http(stream, router).await,
                Some(tls) => {
                    if let Some(stream) = handshake(&tls, stream).await {
                        speak_http(stream, router).await;
                    }
                }
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

async fn speak_http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!("HTTP connection ended: {error}");
    }
}
