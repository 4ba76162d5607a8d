//! Telling when addresses, links or routes of this machine change, by rtnetlink(7): nothing is asked at intervals.
//!
//! A change is a hint and no more: what has changed is not told, since what counts is whether the broker can be reached, which no
//! table of the kernel says. Where there is no such socket (some containers and sandboxes) nothing is ever told, and a dead
//! connection is found by its pings alone. Asks the kernel nothing and changes nothing.

mod news;

use std::future::pending;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::news::Known;
use super::burst::Burst;

/// Who puts an address on a link changes routes and more with it; it is done when nothing more has come for so long.
const SETTLE: Duration = Duration::from_millis(500);
/// But after this at the latest, however much keeps coming.
const LONGEST: Duration = Duration::from_secs(2);

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE` (<linux/rtnetlink.h>).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Room for one message of the kernel. That of a link with many functions can be larger; its beginning is enough.
const BUFFER: usize = 4096;
/// The most messages that are taken at once, so that other tasks get their turn.
const MOST_MESSAGES: usize = 256;

/// Watches the network for as long as it lives.
#[derive(Debug)]
pub struct Network {
    /// `None`: nothing is ever told.
    socket: Option<AsyncFd<OwnedFd>>,
    known: Known,
    burst: Burst,
}

impl Network {
    /// Watches the network that the calling thread is in. If that is not possible, one line in the log says so.
    /// Must be called in a tokio runtime.
    pub fn watch() -> Self {
        let socket = open()
            .inspect_err(|error| tracing::debug!(%error, "changes of the network are not told on this machine"))
            .ok();
        Self { socket, known: Known::default(), burst: Burst::new(SETTLE, LONGEST) }
    }

    /// Waits for a change, and then until it has settled: one call for a burst, at most 2 s after its beginning.
    ///
    /// The first word about each address, link and route counts as a change, for nothing was known before. May be dropped and
    /// called again without loss.
    pub async fn changed(&mut self) {
        loop {
            let wait = self.burst.wait();
            if wait == Some(Duration::ZERO) {
                break;
            }
            let failed = tokio::select! {
                taken = take(self.socket.as_ref(), &mut self.known) => match taken {
                    Ok(true) => {
                        self.burst.stir();
                        None
                    }
                    Ok(false) => None,
                    Err(error) => Some(error),
                },
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => None,
            };
            if let Some(error) = failed {
                tracing::error!(%error, "changes of the network are no longer told");
                self.socket = None;
            }
        }
        self.burst.told();
        tracing::debug!("addresses, links or routes have changed");
    }
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // The protocol that is not named is 0, NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    #[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd keeps the promise that is asked for there")]
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Waits for words of the kernel and takes them, or the beginning of them: whether there is news.
async fn take(socket: Option<&AsyncFd<OwnedFd>>, known: &mut Known) -> io::Result<bool> {
    let Some(socket) = socket else { return pending().await };
    let mut ready = socket.readable().await?;
    let mut is_news = false;
    for _ in 0..MOST_MESSAGES {
        match hear(socket.get_ref(), known) {
            Ok(said) => is_news |= said,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                ready.clear_ready();
                break;
            }
            // More came than was taken, and what was lost may have been anything (netlink(7)).
            Err(Errno::NOBUFS) => {
                known.forget();
                is_news = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(is_news)
}

/// Takes one datagram: whether it is news. Other programs may send us some too, and are not believed.
fn hear(socket: &OwnedFd, known: &mut Known) -> rustix::io::Result<bool> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
    let ((said, _), _, sender) = recvfrom(socket, &mut buffer, RecvFlags::empty())?;
    let is_of_kernel = sender.and_then(|at| SocketAddrNetlink::try_from(at).ok()).is_some_and(|at| at.pid() == 0);
    Ok(is_of_kernel && known.judge(said))
}

#[cfg(test)]
mod tests;
