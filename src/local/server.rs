//! The daemon's side of the local interface: one task that accepts, one for each connection, and one value that the
//! loop asks for questions and hands replies to.
//!
//! A caller cannot make the daemon wait, nor make it keep more than a bounded amount. Nobody can keep others out: each
//! user has a bounded number of connections, and root's are not counted among those of all others.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::connection::{Connection, Event, Shared};
use super::interface::Complaint;
use super::peer::{Peer, Rights};
use super::places::{CALLING, Places, SERVING, Seat};
use super::socket::Socket;
use crate::model::ask::{CallerId, Question, Reply};

/// Between two tries to accept, while descriptors or memory are short.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Questions that wait for the loop: one of each connection, and the news that its caller is gone.
const QUESTIONS: usize = 2 * (CALLING.most() + SERVING.most());

/// What the local callers want.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Question(CallerId, Question),
    /// No reply reaches this caller any more. Said only of callers that have not had their last reply.
    Gone(CallerId),
}

/// The local interface. Dropping it ends all connections and removes the socket.
#[derive(Debug)]
pub struct Server {
    _socket: Socket,
    accepting: AbortHandle,
    events: mpsc::Receiver<Event>,
    rights: watch::Sender<Rights>,
    callers: BTreeMap<CallerId, mpsc::Sender<Reply>>,
    /// Callers that were found to be gone when they were replied to.
    gone: VecDeque<CallerId>,
}

impl Server {
    /// Makes the socket in this folder (the runtime folder; made if it is missing) and begins to serve it. Must be
    /// called within a runtime.
    ///
    /// # Errors
    ///
    /// If the folder is not ours alone, something foreign stands in the socket's place, or another daemon serves it.
    pub fn bind(folder: &Path, rights: Rights) -> anyhow::Result<Self> {
        let (socket, listener) = Socket::bind(folder)?;
        let listener = UnixListener::from_std(listener).context("the local interface cannot be served")?;
        let (sender, events) = mpsc::channel(QUESTIONS);
        let (rights, given) = watch::channel(rights);
        let shared = Shared { events: sender, rights: given, next: Arc::new(AtomicU64::new(1)) };
        let accepting = tokio::spawn(accept(listener, shared)).abort_handle();
        Ok(Self { _socket: socket, accepting, events, rights, callers: BTreeMap::new(), gone: VecDeque::new() })
    }

    /// Other groups for every call from now on, also of those who are connected. What is followed already goes on; who serves
    /// methods and may not act any more is turned out.
    pub fn set_rights(&mut self, rights: Rights) {
        self.rights.send_replace(rights);
    }

    /// Waits for what is asked next. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Asked {
        loop {
            if let Some(caller) = self.gone.pop_front() {
                return Asked::Gone(caller);
            }
            let event = self.events.recv().await.expect("the accepting task lives as long as the server");
            if let Some(asked) = self.hear(event) {
                return asked;
            }
        }
    }

    /// What was asked already.
    pub fn try_next(&mut self) -> Option<Asked> {
        if let Some(caller) = self.gone.pop_front() {
            return Some(Asked::Gone(caller));
        }
        while let Ok(event) = self.events.try_recv() {
            if let Some(asked) = self.hear(event) {
                return Some(asked);
            }
        }
        None
    }

    fn hear(&mut self, event: Event) -> Option<Asked> {
        match event {
            Event::Asked { caller, question, replies } => {
                self.callers.insert(caller, replies);
                Some(Asked::Question(caller, question))
            }
            Event::Gone(caller) => self.callers.remove(&caller).map(|_| Asked::Gone(caller)),
        }
    }

    /// Replies to a caller; nothing happens if it is gone. Never waits: a follower that does not keep up is cut off,
    /// and [`Asked::Gone`] says so.
    pub fn reply(&mut self, caller: CallerId, reply: Reply) {
        let Some(replies) = self.callers.get(&caller) else { return };
        let is_last = !matches!(reply, Reply::Is { last: false, .. });
        let is_sent = match replies.try_send(reply) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
        };
        if is_last || !is_sent {
            self.callers.remove(&caller);
        }
        if !is_last && !is_sent {
            self.gone.push_back(caller);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts for ever. Dropping it ends all connections.
async fn accept(listener: UnixListener, shared: Shared) {
    let mut connections = JoinSet::new();
    let (mut calling, mut serving) = (Places::new(CALLING), Places::new(SERVING));
    let mut is_short = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                is_short = false;
                while connections.try_join_next().is_some() {}
                let Ok(peer) = Peer::of(&stream) else { continue };
                let (user, is_trusted) = (peer.user(), peer.is_trusted());
                match Seat::take(calling.share(user, is_trusted), serving.share(user, is_trusted)) {
                    Ok(seat) => {
                        connections.spawn(Connection::new(stream, peer, seat, shared.clone()).serve());
                    }
                    Err(limit) => turn_away(&stream, limit),
                }
            }
            Err(error) => {
                if !is_short {
                    tracing::warn!(%error, "no local caller can be let in for now");
                }
                is_short = true;
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Tells why, if there is room for it at once, which in a new socket there is.
fn turn_away(stream: &UnixStream, limit: usize) {
    let _ = stream.try_write(&Complaint::too_many_connections(limit).answer().frame());
}
