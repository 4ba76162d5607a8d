//! A method whose manifest names a program: the handlers' service runs it, and is asked for that here.
//!
//! The agent starts nothing by itself. It says which manifest, passes news on, and closes its half of the connection when the
//! run is to end. Whatever becomes of the connection, a program that may have begun is not asked for again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, recv, shutdown, socket_with,
};
use serde_json::json;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::{Context, Handler, Running, Stop};
use crate::config::Folders;
use crate::config::manifest::Manifest;
use crate::model::command::{Command, MethodSpec, Outcome, Status};
use crate::model::digest::Digest;
use crate::varlink::handlers::{LONGEST_CALL, LONGEST_REPLY, ROOM, Reply, Run, SOCKET, is_too_deep};
use crate::varlink::protocol::Frames;

/// The service keeps the time limit by itself, and counts from the start of the program. So long after its end by our own
/// count it is told to stop.
const BEHIND: Duration = Duration::from_secs(2);
/// What the service takes beyond the grace of a program: for a killed one to be gone, and to say so.
const CLEARING: Duration = Duration::from_secs(8);

/// One such method.
#[derive(Debug)]
pub struct Program {
    spec: MethodSpec,
    /// The name of the manifest's file.
    manifest: String,
    digest: Digest,
    grace: Duration,
    socket: PathBuf,
}

/// What became of the connection to the service.
enum Lost {
    Unreachable(io::Error),
    /// It ended before the program began.
    Unheard(io::Error),
    /// It ended while the program may have run.
    Midway,
    NotUnderstood(String),
    /// The command was stopped before the program began.
    Stopped(Stop),
}

impl Program {
    /// The method of this manifest, by way of the handlers' service that has these folders.
    pub fn new(folders: &Folders, manifest: &Manifest) -> Self {
        let mut spec = manifest.spec.clone();
        // However little output it may have, what went wrong must find room.
        spec.output_limit = spec.output_limit.max(ROOM);
        let name = manifest.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            spec,
            manifest: name,
            digest: manifest.digest,
            grace: manifest.grace,
            socket: folders.launcher().join(SOCKET),
        }
    }
}

impl Handler for Program {
    fn spec(&self) -> MethodSpec {
        self.spec.clone()
    }

    fn run(&self, command: &Command, context: Context) -> Running {
        if is_too_deep(&command.payload) {
            let refused = Outcome::failed(Status::UNFIT_PAYLOAD, "the payload is nested too deeply");
            return Box::pin(std::future::ready(refused));
        }
        let run = Run {
            manifest: self.manifest.clone(),
            digest: self.digest,
            id: command.key.id.clone(),
            device: command.key.target.clone(),
            payload: command.payload.clone(),
        };
        let frame = run.frame();
        if frame.len() > LONGEST_CALL {
            let refused = Outcome::failed(Status::TOO_LARGE, format!("more than {LONGEST_CALL} bytes for a program"));
            return Box::pin(std::future::ready(refused));
        }
        let (socket, limit) = (self.socket.clone(), self.spec.time_limit);
        Box::pin(async move {
            match served(&socket, &frame, context).await {
                Ok(outcome) => outcome,
                Err(lost) => lost.outcome(&socket, limit),
            }
        })
    }

    fn grace(&self) -> Duration {
        self.grace + BEHIND + CLEARING
    }
}

async fn served(socket: &Path, frame: &[u8], mut context: Context) -> Result<Outcome, Lost> {
    let stream = connect(socket).map_err(Lost::Unreachable)?;
    // A service that turns us away says why before it hangs up, so an error of writing is none yet. While nobody has read the
    // whole call, nothing has begun.
    let (stream, written) = tokio::select! {
        called = call(stream, frame) => called.map_err(Lost::Unreachable)?,
        stop = context.stopped() => return Err(Lost::Stopped(stop)),
    };
    // It tells the service to end the run.
    let mut is_closed = false;
    let mut frames = Frames::default();
    let mut some = vec![0; 4096];
    let mut stopped = None;
    let mut has_begun = false;
    let mut behind = pin!(sleep(BEHIND));
    loop {
        while let Some(frame) = frames.take(LONGEST_REPLY).map_err(|error| Lost::NotUnderstood(error.to_string()))? {
            match Reply::parse(&frame).map_err(|error| Lost::NotUnderstood(error.0))? {
                Reply::Begun => has_begun = true,
                Reply::Progress(text) => context.tell(&text),
                Reply::Ended(outcome) => return Ok(told(outcome, stopped, has_begun)),
            }
        }
        let ends = tokio::select! {
            read = read(&stream, &mut some) => {
                let lost = match read {
                    Ok(0) => written.as_ref().err().map_or(io::ErrorKind::UnexpectedEof, io::Error::kind).into(),
                    Ok(length) => {
                        frames.push(&some[..length]);
                        continue;
                    }
                    Err(error) => error,
                };
                return Err(if has_begun { Lost::Midway } else { Lost::Unheard(lost) });
            }
            stop = context.stopped(), if stopped.is_none() => {
                stopped = Some(stop);
                behind.set(sleep(BEHIND));
                stop == Stop::Cancelled
            }
            () = &mut behind, if stopped.is_some() && !is_closed => true,
        };
        if ends {
            is_closed = true;
            // Fails if the service has hung up, which is noticed at the next reading.
            let _ = shutdown(&stream, Shutdown::Write);
        }
    }
}

/// A Unix socket is connected at once or not at all (connect(2)), so that there is nothing to wait for.
fn connect(socket: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    registered(stream, Interest::READABLE)
}

fn registered(stream: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "what replaces it is unsafe; an OwnedFd keeps the promise that is asked for there")]
    AsyncFd::with_interest(stream, interest)
}

/// Sends the call; beside the stream, whether that went well. Nearly each call finds room at once. Room is waited for only
/// where it is short, since who waits for it is woken whenever the service reads.
///
/// # Errors
///
/// If room cannot be waited for.
async fn call(stream: AsyncFd<OwnedFd>, frame: &[u8]) -> io::Result<(AsyncFd<OwnedFd>, io::Result<()>)> {
    let mut left = match send(stream.get_ref(), frame) {
        Ok(sent) if sent == frame.len() => return Ok((stream, Ok(()))),
        Ok(sent) => &frame[sent..],
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => frame,
        Err(error) => return Ok((stream, Err(error))),
    };
    let stream = registered(stream.into_inner(), Interest::READABLE | Interest::WRITABLE)?;
    while !left.is_empty() {
        match stream.async_io(Interest::WRITABLE, |stream| send(stream, left)).await {
            Ok(sent) => left = &left[sent..],
            Err(error) => return Ok((stream, Err(error))),
        }
    }
    Ok((stream, Ok(())))
}

/// So many of the bytes; with `EAGAIN` if there is room for none.
fn send(stream: &OwnedFd, some: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, some, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// What the service says next; nothing if it has hung up. May be dropped without loss.
async fn read(stream: &AsyncFd<OwnedFd>, some: &mut [u8]) -> io::Result<usize> {
    stream.async_io(Interest::READABLE, |stream| Ok(recv(stream, &mut *some, RecvFlags::DONTWAIT)?.0)).await
}

/// The service knows a time limit of its own only; told to stop, it takes that for the wish of somebody.
fn told(outcome: Outcome, stopped: Option<Stop>, has_begun: bool) -> Outcome {
    match stopped {
        // It has waited for the end of what an agent before us has begun.
        Some(Stop::TimedOut) if outcome.status == Status::CANCELLED && !has_begun => {
            let why = "the program did not begin in time: an earlier run is not over; try again later";
            Outcome::failed(Status::CANNOT_NOW, why)
        }
        Some(Stop::TimedOut) if outcome.status == Status::CANCELLED => Outcome { status: Status::TIMED_OUT, ..outcome },
        _ => outcome,
    }
}

impl Lost {
    fn outcome(self, socket: &Path, limit: Duration) -> Outcome {
        let hint = "systemctl status twinagent-handlers.socket twinagent-handlers.service";
        let cannot_now = |why: String| Outcome::new(Status::CANNOT_NOW, json!({ "error": why, "hint": hint }));
        match self {
            Self::Unreachable(error) => {
                cannot_now(format!("the handlers' service cannot be reached at {}: {error}", socket.display()))
            }
            Self::Unheard(error) => {
                cannot_now(format!("the handlers' service ended before the program began ({error})"))
            }
            Self::Midway => Outcome::new(
                Status::FAILED,
                json!({
                    "error": "the handlers' service ended while this ran; it may have taken effect and was not run again",
                    "hint": hint,
                    "interrupted": true,
                }),
            ),
            Self::NotUnderstood(why) => Outcome::new(
                Status::FAILED,
                json!({ "error": format!("the handlers' service is not understood: {why}"), "hint": hint }),
            ),
            Self::Stopped(stop) => stop.outcome(limit).not_run(),
        }
    }
}
