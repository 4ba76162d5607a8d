//! Opens the stream to a broker: name, addresses, TCP and its options, TLS.
//!
//! Knows the true reason of a failure. Sets no time limit over the whole and tries once; `connection` bounds it, the model decides
//! when to try again.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::{select, time};
use tokio_rustls::TlsConnector;

use super::Endpoint;
use crate::model::wire::{Reason, TlsFault};

/// An open stream, whatever it runs over.
pub(super) type Stream = Box<dyn Duplex>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The head start of one address before the next is tried beside it (RFC 8305 section 8, Connection Attempt Delay).
const HEAD_START: Duration = Duration::from_millis(250);

/// More addresses of one name than this are not tried: the last would start two seconds after the first.
const ADDRESSES: usize = 8;

/// Opens the stream. `stage` says what is being waited for; `keep_alive` measures the patience of TCP itself.
pub(super) async fn open(
    endpoint: &Endpoint,
    keep_alive: Duration,
    stage: &mut &'static str,
) -> Result<Stream, Reason> {
    let Endpoint { host, port, tls } = endpoint;
    *stage = "resolving its name";
    // Asked each time: a cloud moves its brokers by DNS.
    let found = lookup_host((host.as_str(), *port)).await.map_err(|error| Reason::Dns(format!("{host}: {error}")))?;
    let addresses = in_turns(found.collect());
    if addresses.is_empty() {
        return Err(Reason::Dns(format!("{host}: no address")));
    }
    *stage = "opening the TCP connection";
    let tcp = race(addresses).await.map_err(Reason::Tcp)?;
    tune(&tcp, keep_alive).map_err(|error| Reason::Tcp(format!("socket options: {error}")))?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    *stage = "agreeing on TLS";
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Reason::Tls(TlsFault::Name, format!("`{host}` is no name for a certificate")))?;
    let tls = TlsConnector::from(tls.clone())
        .connect(name, tcp)
        .await
        .map_err(|error| Reason::Tls(TlsFault::Other, error.to_string()))?;
    Ok(Box::new(tls))
}

/// Orders addresses so that the two families take turns, beginning with the one that the resolver prefers (RFC 8305 section 4).
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    while ordered.len() < ADDRESSES {
        let before = ordered.len();
        ordered.extend(preferred.next());
        ordered.extend(other.next());
        if ordered.len() == before {
            break;
        }
    }
    ordered
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
    use std::net::{Ipv4Addr, Ipv6Addr};

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
        assert!(begun.elapsed() < HEAD_START * 3, "{:?}", begun.elapsed());
        // The control: alone, the first one is still not open long afterwards.
        assert!(timeout(HEAD_START * 3, race(vec![hole])).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_no_head_start_and_all_failures_are_told() {
        let refusing = || async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
            listener.local_addr().expect("its address")
        };
        let (first, second) = (refusing().await, refusing().await);
        let begun = Instant::now();
        let failure = race(vec![first, second]).await.expect_err("both refuse");
        assert!(begun.elapsed() < HEAD_START, "{:?}", begun.elapsed());
        for address in [first, second] {
            assert!(failure.contains(&address.to_string()), "{failure}");
        }
    }

    #[test]
    fn families_take_turns_and_their_number_is_bounded() {
        let v4 = |n| SocketAddr::from((Ipv4Addr::new(192, 0, 2, n), 1));
        let v6 = |n| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n), 1));
        assert_eq!(in_turns(vec![v6(1), v6(2), v6(3), v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
        assert_eq!(in_turns(vec![v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
        assert_eq!(in_turns((1..=200).map(v4).collect()).len(), ADDRESSES);
        assert_eq!(in_turns(Vec::new()), []);
    }
}
