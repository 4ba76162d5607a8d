//! The caller's side of the local interface: one connection, one call at a time. Plain blocking code, for programs that
//! start, ask and end.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Map, Value, json};

use super::SOCKET;
use super::interface::AGENT;
use crate::varlink::protocol::{Answer, Frames, TooLong};

/// For the daemon to let us in, or to take a call.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a reply that needs nothing but what the daemon knows. A slow disk may hold it for some seconds.
const LONGEST_READ: Duration = Duration::from_secs(10);
/// For a reply that needs something on disk.
const LONGEST_ACT: Duration = Duration::from_secs(30);
/// The longest reply. A whole history has at most 4 096 commands with 4 KiB of payload each.
const LONGEST_REPLY: usize = 32 * 1024 * 1024;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
}

/// How patient a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The daemon answers at once, or is in trouble.
    Short,
    /// The same, once its disk has taken something.
    Disk,
    /// As long as it takes.
    Long,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error("the daemon cannot be reached at {}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    /// The daemon went away.
    #[error("the connection to the daemon was lost")]
    Lost(#[source] io::Error),
    /// The daemon is there and does nothing.
    #[error("the daemon gave no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The daemon answers with an error. `name` comes with its interface.
    #[error("{}", said(name, parameters))]
    Refused { name: String, parameters: Map<String, Value> },
    #[error("the daemon does not speak the protocol: {0}")]
    NotUnderstood(String),
}

impl ClientError {
    /// Whether we have no right to ask.
    pub fn is_not_permitted(&self) -> bool {
        match self {
            Self::Refused { name, .. } => short(name) == Some("NotPermitted"),
            Self::Unreachable { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Lost(_) | Self::Silent(_) | Self::NotUnderstood(_) => false,
        }
    }

    /// What the daemon says can be done about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { parameters, .. } => parameters.get("hint")?.as_str(),
            _ => None,
        }
    }
}

/// The name of an error of ours.
fn short(name: &str) -> Option<&str> {
    name.strip_prefix(AGENT)?.strip_prefix('.')
}

/// An error of the daemon in words.
fn said(name: &str, parameters: &Map<String, Value>) -> String {
    let word = |member: &str| match parameters.get(member) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    match short(name) {
        Some("NotPermitted") => "not permitted".to_owned(),
        Some("UnknownCommand") => "no command with this id is known".to_owned(),
        Some("OwnMember") => format!("`{}` is the agent's own member of the reported document", word("member")),
        Some("Unfit") => format!("`{}` cannot be reported to this cloud: {}", word("member"), word("rule")),
        Some("TooLarge") => format!("too large: {} bytes are allowed", word("limit")),
        Some("CannotNow") => format!("cannot now: {}", word("why")),
        Some("NotACall") => format!("the daemon did not understand: {}", word("why")),
        Some("TooManyConnections") => format!("there are {} connections to the daemon already", word("limit")),
        _ if name == "org.varlink.service.InvalidParameter" => {
            format!("the daemon does not take this `{}`", word("parameter"))
        }
        _ => format!("the daemon answers {name} {}", Value::Object(parameters.clone())),
    }
}

impl Client {
    /// Connects to the daemon whose runtime folder this is.
    pub fn connect(folder: &Path) -> Result<Self, ClientError> {
        let path = folder.join(SOCKET);
        match open(&path) {
            Ok(stream) => Ok(Self { stream, frames: Frames::default() }),
            Err(error) if is_over(&error) => Err(ClientError::Silent(PATIENCE)),
            Err(source) => Err(ClientError::Unreachable { path, source }),
        }
    }

    /// Calls a method of `io.twinagent.Agent` and waits for its reply.
    pub fn call(&mut self, method: &str, parameters: &Value, wait: Wait) -> Result<Map<String, Value>, ClientError> {
        self.send(&json!({ "method": format!("{AGENT}.{method}"), "parameters": parameters }))?;
        let limit = match wait {
            Wait::Short => Some(LONGEST_READ),
            Wait::Disk => Some(LONGEST_ACT),
            Wait::Long => None,
        };
        Ok(self.receive(limit)?.parameters)
    }

    /// Calls a method and hands each of its replies on, until the last one or until `each` says `false`.
    pub fn follow(
        &mut self,
        method: &str,
        parameters: &Value,
        mut each: impl FnMut(Map<String, Value>) -> bool,
    ) -> Result<(), ClientError> {
        self.send(&json!({ "method": format!("{AGENT}.{method}"), "parameters": parameters, "more": true }))?;
        loop {
            let answer = self.receive(None)?;
            if !each(answer.parameters) || !answer.continues {
                return Ok(());
            }
        }
    }

    fn send(&mut self, call: &Value) -> Result<(), ClientError> {
        let mut frame = call.to_string().into_bytes();
        frame.push(0);
        match self.stream.write_all(&frame) {
            Err(error) if is_over(&error) => Err(ClientError::Silent(PATIENCE)),
            // A daemon that turns us away says why before it hangs up.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ClientError::Lost(error)),
            _ => Ok(()),
        }
    }

    /// The next reply. `limit` is for each piece of it.
    fn receive(&mut self, limit: Option<Duration>) -> Result<Answer, ClientError> {
        self.stream.set_read_timeout(limit).map_err(ClientError::Lost)?;
        let frame = loop {
            match self.frames.take(LONGEST_REPLY) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(error @ TooLong { .. }) => return Err(ClientError::NotUnderstood(error.to_string())),
            }
            let mut some = [0; 8192];
            match self.stream.read(&mut some) {
                Ok(0) => return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.frames.push(&some[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match limit.filter(|_| is_over(&error)) {
                        Some(limit) => ClientError::Silent(limit),
                        None => ClientError::Lost(error),
                    });
                }
            }
        };
        let answer: Answer =
            serde_json::from_slice(&frame).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        match answer.error {
            Some(name) => Err(ClientError::Refused { name, parameters: answer.parameters }),
            None => Ok(answer),
        }
    }
}

/// A time-out of the socket, which is EAGAIN (socket(7)).
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// std's connect would wait for ever for a daemon that hangs; `SO_SNDTIMEO` bounds it (socket(7)).
fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}
