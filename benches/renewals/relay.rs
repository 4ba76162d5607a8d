//! A long way between two ends on loopback: what comes in leaves [`ONE_WAY`] later, each direction in order.
//!
//! The kernel opens a connection to this relay at once, which over the real way would take a round trip. So what the
//! client says first is held back for one more.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub(crate) const ONE_WAY: Duration = Duration::from_millis(30);

/// Pieces that are on their way in one direction; a sender that is ahead of that waits, as for a window of TCP.
const UNDER_WAY: usize = 256;
const PIECE: usize = 16 * 1024;

/// Listens on a free port and passes all on to `target`, until the runtime ends.
pub(crate) async fn start(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.expect("a connection");
            tokio::spawn(carry(near, target));
        }
    });
    address
}

async fn carry(near: TcpStream, target: SocketAddr) {
    let opened = Instant::now() + 2 * ONE_WAY;
    let Ok(far) = TcpStream::connect(target).await else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("a socket option");
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(one_way(near_read, far_write, opened), one_way(far_read, near_write, Instant::now()));
}

/// Ends with either end; the end, too, takes its time to arrive.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, opened: Instant) {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now().max(opened) + ONE_WAY;
            if put.send((due, piece[..length].to_vec())).await.is_err() {
                return;
            }
        }
        // An empty piece is the end.
        let _ = put.send((Instant::now().max(opened) + ONE_WAY, Vec::new())).await;
    };
    let write = async move {
        while let Some((due, piece)) = take.recv().await {
            sleep_until(due).await;
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        // The other side may be gone already.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
