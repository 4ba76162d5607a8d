//! One connection of a local caller, from its first byte to its end. Calls are answered in their order, one at a time.
//!
//! Every wait has a limit, and so has every frame. A caller that goes away while its answer is awaited is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::interface::{self, Complaint, Wish};
use super::peer::{Peer, Rights, Standing};
use super::places::Seat;
use crate::model::ask::{CallerId, Question, Reply};
use crate::varlink::protocol::{Answer, Call, Frames};

/// The longest frame of one who may act: a payload has up to 256 KiB, which base64 makes 342 KiB.
const LONGEST_OF_ACTORS: usize = 512 * 1024;
/// The longest frame of anybody else; no question that only reads needs more.
const LONGEST_OF_OTHERS: usize = 8 * 1024;
/// From the first byte of a frame to its last.
const HALF_FRAME: Duration = Duration::from_secs(10);
/// Between two calls. A program that has nothing to ask can connect again.
const IDLE: Duration = Duration::from_secs(60);
/// For a reply to be taken.
const WRITING: Duration = Duration::from_secs(10);
/// Read ahead while an answer is awaited; more stays with the kernel, which makes the sender wait.
const AHEAD: usize = 8 * 1024;
/// How often a caller that has closed its sending half is looked after: the kernel does not tell when it is gone.
const LOOKING_AFTER: Duration = Duration::from_secs(5);
/// Replies that wait for a slow caller. A follower further behind than this is cut off.
pub(super) const REPLIES: usize = 16;
/// The same for a program that serves methods: all the commands that can be under way at once, and word to stop each.
const HANDED_OVER: usize = 256;

/// What who may not act is told.
const TO_ACT: &str = "ask as root, or as a member of the group that `act_group` under [local] names";

/// What a connection tells the server.
#[derive(Debug)]
pub(super) enum Event {
    Asked { caller: CallerId, question: Question, replies: mpsc::Sender<Reply> },
    Gone(CallerId),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the caller is gone")]
    Gone,
    #[error("the caller is too slow")]
    Slow,
    #[error("the caller does not keep to the protocol")]
    NotUnderstood,
    #[error("a follower was too far behind")]
    Behind,
    #[error("it may not serve methods any more")]
    NotPermitted,
    #[error("it does not serve any more, and there are too many others")]
    NoPlace,
    #[error("the daemon is stopping")]
    Stopping,
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    peer: Peer,
    seat: Seat,
    frames: Frames,
    shared: Shared,
}

/// What all connections of a server share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) rights: watch::Receiver<Rights>,
    /// The next caller's number.
    pub(super) next: Arc<AtomicU64>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, seat: Seat, shared: Shared) -> Self {
        Self { stream, peer, seat, frames: Frames::default(), shared }
    }

    /// Answers calls until the caller leaves or does not keep to the limits.
    pub(super) async fn serve(mut self) {
        let user = self.peer.user();
        match self.answer_all().await {
            Ok(()) | Err(End::Gone | End::Stopping) => {}
            Err(end) => tracing::debug!(user, "a local connection was ended: {end}"),
        }
    }

    async fn answer_all(&mut self) -> Result<(), End> {
        while let Some(frame) = self.frame().await? {
            let call = match Call::parse(&frame) {
                Ok(call) => call,
                Err(error) => return self.give_up(&error.to_string()).await,
            };
            drop(frame);
            let (more, oneway) = (call.more, call.oneway);
            match interface::read(call).and_then(|wish| self.permit(wish)) {
                Ok(Wish::Introspection(answer)) if !oneway => self.send(&Answer::new(answer, false)).await?,
                Err(complaint) if !oneway => self.send(&complaint.answer()).await?,
                Ok(Wish::Ask(question @ Question::Serve { .. })) => self.ask_to_serve(question, more, oneway).await?,
                Ok(Wish::Ask(question)) => self.ask(question, more, oneway).await?,
                Ok(Wish::Introspection(_)) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The next frame. `None`: the caller has nothing more to say.
    async fn frame(&mut self) -> Result<Option<Vec<u8>>, End> {
        if self.frames.is_empty() && !matches!(timeout(IDLE, self.read()).await, Ok(Ok(true))) {
            return Ok(None);
        }
        let limit = if self.standing() == Standing::Acts { LONGEST_OF_ACTORS } else { LONGEST_OF_OTHERS };
        let whole = async {
            loop {
                match self.frames.take(limit) {
                    Ok(Some(frame)) => return Ok(Some(frame)),
                    Ok(None) if self.read().await? => {}
                    Ok(None) => return Ok(None),
                    Err(error) => {
                        self.give_up(&error.to_string()).await?;
                        return Err(End::NotUnderstood);
                    }
                }
            }
        };
        timeout(HALF_FRAME, whole).await.unwrap_or(Err(End::Slow))
    }

    /// Receives something. False: the caller has closed its sending half.
    async fn read(&mut self) -> Result<bool, End> {
        let mut some = [0; 4096];
        let length = self.stream.read(&mut some).await?;
        self.frames.push(&some[..length]);
        Ok(length > 0)
    }

    fn standing(&mut self) -> Standing {
        let rights = *self.shared.rights.borrow();
        self.peer.standing(&rights)
    }

    fn permit(&mut self, wish: Wish) -> Result<Wish, Complaint> {
        let Wish::Ask(question) = &wish else { return Ok(wish) };
        let (needed, hint) = if question.acts() {
            (Standing::Acts, TO_ACT)
        } else {
            (Standing::Reads, "ask as root, or as a member of the group that `read_group` under [local] names")
        };
        if self.standing() >= needed { Ok(wish) } else { Err(Complaint::not_permitted(hint)) }
    }

    /// Passes on what a program serves. Meanwhile its connection, which stays, counts apart from those that ask.
    async fn ask_to_serve(&mut self, question: Question, more: bool, oneway: bool) -> Result<(), End> {
        if let Err(limit) = self.seat.serves() {
            self.send(&Complaint::too_many_connections(limit).answer()).await?;
            return Err(End::NoPlace);
        }
        self.ask(question, more, oneway).await?;
        self.seat.calls().map_err(|_| End::NoPlace)
    }

    /// Passes a question on, and its replies back. A caller that takes no reply waits all the same: one call at a time.
    async fn ask(&mut self, question: Question, more: bool, oneway: bool) -> Result<(), End> {
        let caller = CallerId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let serves = matches!(question, Question::Serve { .. });
        let room = if serves { HANDED_OVER } else { REPLIES };
        let (replies, mut waiting) = mpsc::channel(room);
        let asked = Event::Asked { caller, question, replies };
        self.shared.events.send(asked).await.map_err(|_| End::Stopping)?;
        let answered = loop {
            tokio::select! {
                reply = waiting.recv() => {
                    let Some(reply) = reply else { break Err(End::Behind) };
                    let (answer, last) = match reply {
                        Reply::Is { answer, last } => (Answer::new(answer, !last), last),
                        Reply::Refused(refusal) => (Complaint::from(refusal).answer(), true),
                    };
                    // Without `more` there is one reply, the last.
                    if !oneway && (more || last) && let Err(end) = self.send(&answer).await {
                        break Err(end);
                    }
                    if last {
                        break Ok(());
                    }
                }
                end = hung_up(&mut self.stream, &mut self.frames) => break Err(end),
                changed = self.shared.rights.changed(), if serves => {
                    if changed.is_err() {
                        break Err(End::Stopping);
                    }
                    if self.standing() != Standing::Acts {
                        // The program may be gone, or not read: it is turned out all the same.
                        let _ = self.send(&Complaint::not_permitted(TO_ACT).answer()).await;
                        break Err(End::NotPermitted);
                    }
                }
            }
        };
        if answered.is_err() {
            // Fails only if the server is gone too.
            let _ = self.shared.events.send(Event::Gone(caller)).await;
        }
        answered
    }

    /// Says why nothing more is read from this caller.
    async fn give_up(&mut self, why: &str) -> Result<(), End> {
        self.send(&Complaint::not_a_call(why).answer()).await?;
        Err(End::NotUnderstood)
    }

    async fn send(&mut self, answer: &Answer) -> Result<(), End> {
        Ok(timeout(WRITING, self.stream.write_all(&answer.frame())).await.map_err(|_| End::Slow)??)
    }
}

/// Returns when the caller cannot be answered any more. Reads ahead, since only behind what was sent the end shows.
async fn hung_up(stream: &mut UnixStream, frames: &mut Frames) -> End {
    let mut some = [0; 1024];
    loop {
        if frames.len() < AHEAD {
            match stream.read(&mut some).await {
                Ok(0) => {}
                Ok(length) => {
                    frames.push(&some[..length]);
                    continue;
                }
                Err(_) => return End::Gone,
            }
        }
        if is_gone(stream) {
            return End::Gone;
        }
        sleep(LOOKING_AFTER).await;
    }
}

/// Whether nobody would receive what we send. A caller that closed only its sending half still would.
fn is_gone(stream: &UnixStream) -> bool {
    send(stream, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_err()
}
