//! Lines of the journal of the system (systemd-journald.service(8)), which neither the agent nor its handlers may read. A small
//! service reads it for the agent: one connection, a question in one line of JSON, an answer in one line.
//!
//! This file has the words of both and the agent's side; `reader.rs` is the other side. Which units may be asked for, the
//! service decides by itself.
//!
//! Who may read the journal of the system may read all of it. So that right belongs to a process for each question, which
//! has no other (`systemd/twinagent-logs@.service`), and the agent has a socket to it.

pub mod reader;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::model::json;
use crate::model::now::Timestamp;
use crate::model::unit_name::UnitName;

/// The most lines that can be asked for.
pub const MOST_LINES: u16 = 1_000;

/// The most bytes of the lines of an answer, in JSON.
pub const MOST_BYTES: usize = 64 * 1_024;

/// The longest question, in bytes.
const QUESTION: usize = 4 * 1_024;

/// The longest answer: its lines, and what stands around them.
const ANSWER: u64 = MOST_BYTES as u64 + 4 * 1_024;

/// The reader has ten seconds, and as many to start: a unit of systemd's is made for it.
const PATIENCE: Duration = Duration::from_secs(25);

/// Questions at one time. The socket takes four connections (`MaxConnections=`), and counts one until its service has ended.
const ASKING: usize = 2;

/// And so often it is asked again where the connection ended without a word, as one too many does.
const TRIES: u32 = 5;

/// The first wait before that; each is twice the last.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// For the whole program, since it has one such socket.
static ROOM: Semaphore = Semaphore::const_new(ASKING);

/// The name of the socket in the folder of the service.
const SOCKET: &str = "socket";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub unit: UnitName,
    /// 1 to [`MOST_LINES`], the newest.
    pub lines: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// 0 (emergency) to 7 (debug): this one and all that are more urgent (syslog(3)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Only of this start of the unit: its `InvocationID`, 32 digits of a hexadecimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
}

/// The lines, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    pub entries: Vec<Entry>,
    /// There were more, older ones, which did not fit.
    pub truncated: bool,
}

/// One entry of the journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub time: Timestamp,
    /// Without control characters, but for tabs and the ends of lines.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// What others have logged stays out of our log.
impl std::fmt::Debug for Entry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Entry").field("time", &self.time).finish_non_exhaustive()
    }
}

/// What the service says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Lines(Lines),
    /// The unit is not one that may be asked for.
    NotListed(String),
    /// It could not be read; why, for people.
    Failed(String),
}

/// Why there are no lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error(
        "the log service cannot be reached: {0}; hint: `systemctl status twinagent-logs.socket`, and if it is off \
         `sudo systemctl enable --now twinagent-logs.socket`"
    )]
    Unreachable(String),
    #[error("the log of {0} is not for the agent to read; hint: name the unit in `log_units` under [methods]")]
    NotListed(UnitName),
    #[error("the log cannot be read: {0}")]
    Failed(String),
}

impl Query {
    /// All that there is of this unit, as far as it can be asked for.
    pub fn of(unit: UnitName) -> Self {
        Self { unit, lines: MOST_LINES, since: None, priority: None, invocation: None }
    }

    /// Strict: what it does not know, or a number out of bounds, makes it none. The error is for people.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() > QUESTION {
            return Err(format!("a question of more than {QUESTION} bytes"));
        }
        let value = json::strict(text).map_err(|error| format!("not JSON: {error}"))?;
        // Serde would take a list of the members' values, too.
        if !value.is_object() {
            return Err("an object is expected".to_owned());
        }
        let query: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if !(1..=MOST_LINES).contains(&query.lines) || query.priority.is_some_and(|priority| priority > 7) {
            return Err(format!("`lines` is 1 to {MOST_LINES}, `priority` 0 to 7"));
        }
        let is_id = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !query.invocation.as_ref().is_none_or(is_id) {
            return Err("`invocation` is 32 hexadecimal digits".to_owned());
        }
        Ok(query)
    }
}

/// The service, for the agent.
#[derive(Clone, Debug)]
pub struct Logs {
    socket: PathBuf,
}

impl Logs {
    /// That which has its socket in this folder.
    pub fn beside(folder: &Path) -> Self {
        Self { socket: folder.join(SOCKET) }
    }

    /// Asks. What is not an answer, or does not come in time, is a failure as any other.
    pub async fn read(&self, query: &Query) -> Result<Lines, LogError> {
        let asked = tokio::time::timeout(PATIENCE, self.ask_in_turn(query)).await;
        let late = || LogError::Failed(format!("no answer within {} s", PATIENCE.as_secs()));
        match asked.unwrap_or_else(|_| Err(late()))? {
            Answer::Lines(lines) => Ok(lines),
            Answer::NotListed(_) => Err(LogError::NotListed(query.unit.clone())),
            Answer::Failed(why) => Err(LogError::Failed(why)),
        }
    }

    /// Asks when it is our turn, and again where nothing was said.
    async fn ask_in_turn(&self, query: &Query) -> Result<Answer, LogError> {
        let _room = ROOM.acquire().await.map_err(|error| LogError::Failed(error.to_string()))?;
        for again in 0..TRIES - 1 {
            if let Some(answer) = self.ask(query).await? {
                return Ok(answer);
            }
            tokio::time::sleep(FIRST_WAIT * 2_u32.pow(again)).await;
        }
        let silent = || LogError::Failed("the log service ended without an answer; its own log says why".to_owned());
        self.ask(query).await?.ok_or_else(silent)
    }

    /// Nothing: the connection ended without an answer.
    async fn ask(&self, query: &Query) -> Result<Option<Answer>, LogError> {
        let unreachable = |error: io::Error| LogError::Unreachable(format!("{}: {error}", self.socket.display()));
        let failed = |error: io::Error| LogError::Failed(error.to_string());
        let mut stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let mut question = serde_json::to_vec(query).expect("a name, numbers and a time are JSON");
        question.push(b'\n');
        let mut answer = Vec::new();
        let talked = async {
            stream.write_all(&question).await?;
            stream.shutdown().await?;
            stream.take(ANSWER + 1).read_to_end(&mut answer).await
        };
        match talked.await {
            // Closed by the other side before it has read.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(None),
            talked => talked.map_err(failed)?,
        };
        if answer.is_empty() {
            return Ok(None);
        }
        if answer.len() as u64 > ANSWER {
            return Err(LogError::Failed("its answer is too long".to_owned()));
        }
        let answer = json::strict(&answer).and_then(serde_json::from_value);
        answer.map(Some).map_err(|error| LogError::Failed(format!("its answer is none: {error}")))
    }
}

#[cfg(test)]
mod tests;
