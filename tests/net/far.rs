//! A way that takes its time: each byte arrives so much later than it was sent, at any rate, either way.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Pieces of data on their way in one direction: more than any story sends in one delay.
const PIECES: usize = 1_024;

/// Takes connections and carries them to this address, until dropped.
pub(crate) async fn carry(listener: TcpListener, to: std::net::SocketAddr, delay: Duration) {
    let mut ways = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.expect("a connection");
        let far = TcpStream::connect(to).await.expect("the cloud listens");
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("an option");
        }
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        ways.spawn(one_way(near_in, far_out, delay));
        ways.spawn(one_way(far_in, near_out, delay));
    }
}

/// Ends with the connection at either end, and then with the sending at the other.
async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (begin, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut piece = vec![0; 16 * 1_024];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            if begin.send((Instant::now() + delay, piece[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = under_way.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
