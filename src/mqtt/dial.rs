//! Opens the stream to a broker: name, addresses, TCP and its options, proxy, TLS, WebSocket.
//!
//! Knows the true reason of a failure. Sets no time limit over the whole and tries once; who calls it bounds it, the model
//! decides when to try again.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::{select, time};
use tokio_rustls::TlsConnector;

use super::screen::Screen;
use super::stage::Stage;
use super::websocket::{self, WebSocket};
use super::{Endpoint, Resolver, distrust};
use crate::model::wire::{Handshake, Reason, TlsFault};

/// An open stream, whatever it runs over.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream on which MQTT can begin, and how TLS was agreed on where there is any.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) tls: Option<Handshake>,
}

/// How a stream is opened.
#[derive(Clone, Debug)]
pub struct Approach {
    pub endpoint: Endpoint,
    /// The patience of TCP itself follows from it.
    pub keep_alive: Duration,
    /// One limit over all that is waited for. The look-up of a name takes at most half of it.
    pub connect_timeout: Duration,
    pub resolver: Resolver,
}

/// The head start of one address before the next is tried beside it (RFC 8305 section 8, Connection Attempt Delay).
const HEAD_START: Duration = Duration::from_millis(250);

/// No stream takes longer to open, whatever was ordered; it keeps the sum of times in range.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Approach {
    /// `connect_timeout` as it is kept.
    pub(super) fn limit(&self) -> Duration {
        self.connect_timeout.min(DAY)
    }

    /// Opens the stream. `stage` says what is being waited for.
    pub(super) async fn open(&self, stage: &mut Stage) -> Result<Opened, Reason> {
        let tcp = self.reach(stage).await?;
        let Endpoint { host, tls, websocket, .. } = &self.endpoint;
        let Some(tls) = tls else {
            let stream: Stream = match websocket {
                // Its answer is HTTP, and read by who asked for it.
                Some(path) => Box::new(self.upgrade(tcp, path, stage).await?),
                None => Box::new(Screen::new(tcp)),
            };
            return Ok(Opened { stream, tls: None });
        };
        *stage = Stage::Tls;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| Reason::Tls(TlsFault::Name, format!("`{host}` is no name for a certificate")))?;
        let connected = TlsConnector::from(tls.config()).connect(name, Screen::new(tcp)).await;
        let stream = connected.map_err(|error| distrust::handshake(&error))?;
        let tls = match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        };
        let stream: Stream = match websocket {
            Some(path) => Box::new(self.upgrade(stream, path, stage).await?),
            None => Box::new(stream),
        };
        Ok(Opened { stream, tls: Some(tls) })
    }

    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        path: &str,
        stage: &mut Stage,
    ) -> Result<WebSocket<S>, Reason> {
        *stage = Stage::WebSocket;
        websocket::open(stream, &self.endpoint, path).await
    }

    /// A connection whose other end is the broker's, if nobody on the way pretends.
    async fn reach(&self, stage: &mut Stage) -> Result<TcpStream, Reason> {
        let Endpoint { host, port, proxy, .. } = &self.endpoint;
        let Some(proxy) = proxy else { return self.connect(host, *port, stage).await };
        let connected = self.connect(&proxy.host, proxy.port, stage).await;
        let mut tcp = connected.map_err(|reason| Reason::Proxy(format!("it is not reached: {reason}")))?;
        *stage = Stage::Proxy;
        proxy.tunnel(&mut tcp, host, *port).await?;
        Ok(tcp)
    }

    async fn connect(&self, host: &str, port: u16, stage: &mut Stage) -> Result<TcpStream, Reason> {
        *stage = Stage::Name;
        // Asked each time: a cloud moves its brokers by DNS.
        let addresses = self.resolver.resolve(host, self.limit() / 2).await.map_err(Reason::Dns)?;
        *stage = Stage::Tcp;
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let tcp = race(addresses).await.map_err(Reason::Tcp)?;
        tune(&tcp, self.keep_alive).map_err(|error| Reason::Tcp(format!("socket options: {error}")))?;
        Ok(tcp)
    }
}

/// The first connection that opens. The next address is tried when the one before has failed or has had its head start, so that
/// one that never answers hides none.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut waiting = addresses.into_iter();
    let mut tries = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            tries
                .spawn(async move { TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}")) });
        }
        select! {
            ended = tries.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(failure))) => failures.push(failure),
                Some(Err(failure)) => failures.push(failure.to_string()),
                None => return Err(failures.join("; ")),
            },
            () = time::sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

/// No waiting to fill packets, and an end of its own for TCP to what our pings do not see: the wait for a daemon that does not
/// read. It is longer than theirs, so that a dead link is named as one where they can see it.
fn tune(tcp: &TcpStream, keep_alive: Duration) -> rustix::io::Result<()> {
    let patience = keep_alive * 2;
    sockopt::set_tcp_nodelay(tcp, true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    // Linux takes at most 32767 seconds (MAX_TCP_KEEPIDLE).
    sockopt::set_tcp_keepidle(tcp, patience.min(Duration::from_secs(32_767)))?;
    sockopt::set_tcp_user_timeout(tcp, patience.as_millis().try_into().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// An address where nobody ever answers: the kernel drops what comes when a listener's queue is full.
    async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let mut filling = Vec::new();
        while let Ok(opened) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            filling.push(opened.expect("room in the queue"));
        }
        (address, listener, filling)
    }

    #[tokio::test]
    async fn an_address_that_never_answers_does_not_hide_the_next() {
        let (hole, _listener, _filling) = black_hole().await;
        let alive = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
        let address = alive.local_addr().expect("its address");

        let begun = Instant::now();
        let stream = race(vec![hole, address]).await.expect("the second answers");
        assert_eq!(stream.peer_addr().expect("connected"), address);
        assert!(begun.elapsed() >= HEAD_START, "the first had its head start");
        // The kernel alone would try the first one for two minutes.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        // The control: alone, the first one is still not open long afterwards.
        assert!(timeout(HEAD_START * 3, race(vec![hole])).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_no_head_start_and_all_failures_are_told() {
        // Bound, so that nobody else gets the port, and not listening.
        let refusing = || {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
            let address = socket.local_addr().expect("its address");
            (socket, address)
        };
        let ((_first, first), (_second, second)) = (refusing(), refusing());
        let begun = Instant::now();
        // With a head start for each they would take a quarter of a minute.
        let failure = race([first, second].repeat(30)).await.expect_err("all refuse");
        assert!(begun.elapsed() < HEAD_START * 40, "{:?}", begun.elapsed());
        for address in [first, second] {
            assert_eq!(failure.matches(&address.to_string()).count(), 30, "{failure}");
        }
    }
}
