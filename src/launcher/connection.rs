//! One connection of the agent: who it is, its one call, and what it is told.
//!
//! Nothing that the agent does, or no longer does, makes a program wait.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::room::Room;
use super::{Launcher, Order, run};
use crate::model::command::{Outcome, Status};
use crate::varlink::handlers::{LONGEST_CALL, NotUnderstood, Reply, Run, refusal};
use crate::varlink::protocol::Frames;

/// For the whole call, from the moment of connecting.
const CALLING: Duration = Duration::from_secs(10);
/// For the outcome to be taken.
const TELLING: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) launcher: Launcher,
    pub(super) orders: mpsc::Sender<Order>,
    /// Whether the service ends.
    pub(super) ending: watch::Receiver<bool>,
    /// So many runs were marked.
    pub(super) marks: AtomicU64,
    /// A run had to go without a socket for its news, and the log has it.
    pub(super) is_mute: AtomicBool,
    pub(super) room: Room,
}

/// The agent, as a run sees it.
#[derive(Debug)]
pub(super) struct Caller {
    stream: UnixStream,
    /// A part of some news did not fit; what would follow it would not be understood.
    is_broken: bool,
}

/// Serves one connection.
pub(super) async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let user = stream.peer_cred().map(|peer| peer.uid());
    if !user.as_ref().is_ok_and(|user| shared.launcher.callers.contains(user)) {
        tracing::warn!(?user, "a caller that is not the agent was turned away");
        return;
    }
    let mut caller = Caller { stream, is_broken: false };
    let mut ending = shared.ending.clone();
    let heard = tokio::select! {
        heard = timeout(CALLING, caller.call()) => heard,
        // Nothing has begun, and the agent says so.
        () = ends(&mut ending) => return,
    };
    let run = match heard {
        Ok(Ok(Some(run))) => run,
        Ok(Ok(None)) => return,
        Ok(Err(why)) => {
            tracing::warn!("a call was not understood: {why}");
            // A caller that does not listen either has nothing to be told.
            let _ = caller.send(&refusal(&why));
            return;
        }
        Err(_) => {
            tracing::warn!("a call was not sent in time");
            return;
        }
    };
    run::serve(run, caller, &shared).await;
}

/// Tells somebody who comes when all places are taken.
pub(super) fn turn_away(stream: &UnixStream, limit: usize) {
    let outcome = Outcome::failed(Status::CANNOT_NOW, format!("{limit} programs run already"));
    // In a new socket there is room for it.
    let _ = send(stream, &Reply::Ended(outcome).frame(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

impl Caller {
    /// The call; `None` if there is none.
    async fn call(&mut self) -> Result<Option<Run>, NotUnderstood> {
        let mut frames = Frames::default();
        let mut some = vec![0; 16 * 1024];
        loop {
            match frames.take(LONGEST_CALL) {
                Ok(Some(frame)) => return Run::parse(&frame).map(Some),
                Ok(None) => {}
                Err(error) => return Err(NotUnderstood(error.to_string())),
            }
            match self.stream.read(&mut some).await {
                // Whoever hangs up before the end of a call wants nothing.
                Ok(0) | Err(_) => return Ok(None),
                Ok(length) => frames.push(&some[..length]),
            }
        }
    }

    /// Whether the agent has given up already, as it has if this service was long in coming.
    pub(super) fn has_given_up(&self) -> bool {
        let mut some = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // With more to come there would be nothing to read yet.
        matches!(recv(&self.stream, &mut some, flags), Ok((0, _)))
    }

    /// Says that from here on the program may have taken effect.
    ///
    /// # Errors
    ///
    /// If nobody hears it.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.send(&Reply::Begun.frame())
    }

    /// Passes news on; without room they are lost, since newer ones follow.
    pub(super) fn tell(&mut self, progress: String) {
        // An agent that is gone is noticed where its word is awaited.
        let _ = self.send(&Reply::Progress(progress).frame());
    }

    /// Returns when the agent wants the run to end, or is gone. May be dropped without loss.
    pub(super) async fn stops(&mut self) {
        let mut some = [0; 64];
        match self.stream.read(&mut some).await {
            // Whatever more it says is not foreseen, and it is no agent of ours.
            Ok(_) | Err(_) => {}
        }
    }

    /// The last word, on a run of which nothing has happened.
    pub(super) async fn refuse(self, refused: Outcome) {
        self.finish(refused.not_run()).await;
    }

    /// The last word.
    pub(super) async fn finish(mut self, outcome: Outcome) {
        if self.is_broken {
            return;
        }
        let frame = Reply::Ended(outcome).frame();
        match timeout(TELLING, self.stream.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "nobody waits for the outcome of a run any more"),
            Err(_) => tracing::warn!("the outcome of a run was not taken"),
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sent = send(&self.stream, frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        self.is_broken = sent < frame.len();
        Ok(())
    }
}

/// Returns when the service ends.
pub(super) async fn ends(ending: &mut watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        // The loop is gone, and this task with it.
        pending::<()>().await;
    }
}
