//! A daemon that has nothing but its local interface: each question gets a fixed answer.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use twinagent::local::client::Client;
use twinagent::local::{Asked, Rights, SOCKET, Server};
use twinagent::model::ask::{CallerId, Question, Refusal, Reply};
use twinagent::model::command::MethodSpec;

/// Far beyond what anything here takes; a wait that reaches it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A daemon, served by a thread of its own until this is dropped.
pub(crate) struct Daemon {
    folder: TempDir,
    heard: mpsc::Receiver<Asked>,
    rights: tokio::sync::mpsc::Sender<Rights>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Only root and the user of this test may ask.
    pub(crate) fn start() -> Self {
        Self::with(Rights::default())
    }

    pub(crate) fn with(rights: Rights) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        let (tell, heard) = mpsc::sync_channel(10_000);
        let (stop, stopped) = oneshot::channel();
        let (give, given) = tokio::sync::mpsc::channel(1);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let path = folder.path().to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let server = Server::bind(&path, rights).expect("the local interface");
                ready.send(()).expect("the test waits");
                tokio::select! {
                    () = answer(server, given, tell) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv_timeout(LIMIT).expect("it is bound");
        Self { folder, heard, rights: give, stop: Some(stop), thread: Some(thread) }
    }

    /// Other rights from now on.
    pub(crate) fn set_rights(&self, rights: Rights) {
        self.rights.blocking_send(rights).expect("it runs");
    }

    /// The runtime folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.folder.path()).expect("it is served")
    }

    pub(crate) fn raw(&self) -> Raw {
        let stream = UnixStream::connect(self.socket()).expect("it is served");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Raw(stream)
    }

    /// What the daemon was asked next.
    pub(crate) fn heard(&self) -> Asked {
        self.heard.recv_timeout(LIMIT).expect("something is asked")
    }

    /// What the daemon was asked since, without waiting.
    pub(crate) fn heard_already(&self) -> Vec<Asked> {
        self.heard.try_iter().collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the daemon has panicked");
        }
    }
}

/// A connection that sends what it likes.
pub(crate) struct Raw(pub(crate) UnixStream);

impl Raw {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it is taken");
    }

    pub(crate) fn call(&mut self, call: &Value) {
        let mut frame = call.to_string().into_bytes();
        frame.push(0);
        self.send(&frame);
    }

    /// The next reply. `None`: the daemon has closed the connection.
    pub(crate) fn reply(&mut self) -> Option<Value> {
        let mut frame = Vec::new();
        let mut byte = [0];
        loop {
            match self.0.read(&mut byte) {
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // With a time limit, the end of some child (signal(7)).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.expect("a reply within the limit"),
            };
            match byte[0] {
                0 => return Some(serde_json::from_slice(&frame).expect("JSON")),
                byte => frame.push(byte),
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.reply(), None, "the connection is closed");
    }
}

pub(crate) fn status() -> Value {
    json!({
        "version": "0.1.0", "startTime": "2026-11-21T04:00:12.000000Z", "restarts": 1, "state": "connected",
        "sentence": "connected to mqtt.example since 04:00:13", "device": "gw-1", "journal": "ok",
        "cloud": { "kind": "iotcore", "host": "mqtt.example" },
        "session": { "since": "2026-11-21T04:00:13.000000Z", "keptSession": false,
                     "leaseUntil": "2026-11-21T05:00:13.000000Z", "renewAt": "2026-11-21T04:48:13.000000Z" },
        "lastDisconnect": { "reason": "reset", "time": "2026-11-21T03:59:00.000000Z", "hint": "look at the network" },
        "problems": [{ "code": "disk", "since": "2026-11-21T03:00:00.000000Z", "text": "no space" }],
        "commands": { "running": 1, "waiting": 2, "untold": 3, "dropped": 0 }, "reboot": null,
        "twin": { "reportedAt": "2026-11-21T04:00:14.000000Z", "desired": { "digest": "sha256:0a", "status": 200 } },
        "telemetry": { "waiting": 0, "dropped": 7 },
    })
}

/// Answers for ever. Each merged patch is a new desired document for those who follow; the method `never` never ends.
async fn answer(mut server: Server, mut rights: tokio::sync::mpsc::Receiver<Rights>, tell: mpsc::SyncSender<Asked>) {
    let mut followers: Vec<CallerId> = Vec::new();
    let mut programs = Served::default();
    let mut version = 0;
    loop {
        let asked = tokio::select! {
            asked = server.next() => asked,
            Some(rights) = rights.recv() => {
                server.set_rights(rights);
                continue;
            }
        };
        tell.send(asked.clone()).expect("the test has room for it");
        let (caller, question) = match asked {
            Asked::Gone(caller) => {
                followers.retain(|follower| *follower != caller);
                programs.gone(caller, &mut server);
                continue;
            }
            Asked::Question(caller, question) => (caller, question),
        };
        if programs.concerns(caller, &question, &mut server) {
            continue;
        }
        let mut say = |document: Value, last: bool| server.reply(caller, Reply::Is { answer: object(document), last });
        match question {
            Question::Status { follow } => say(status(), !follow),
            Question::Key => say(json!({}), true),
            Question::Methods => say(
                json!({ "methods": [
                    { "name": "echo", "harmless": true, "from": "built-in", "description": "answers with its payload" },
                    { "name": "rebootDevice", "harmless": false, "from": "agent" },
                ] }),
                true,
            ),
            Question::Invoke { method, payload, id, follow } => {
                let id = id.map_or("x1".to_owned(), String::from);
                let told = |status: u16, payload: &Value| {
                    let last = status != 202;
                    json!({ "id": id, "method": method, "status": status, "payload": payload, "final": last })
                };
                if follow {
                    say(told(202, &Value::Null), false);
                }
                match method.as_str() {
                    "never" | "rebootDevice" => {}
                    "fail" => say(told(500, &json!({ "error": "it broke" })), true),
                    _ => say(told(200, &payload), true),
                }
            }
            Question::Cancel { id } if id.as_str() == "7" => say(json!({ "id": "7", "status": 200 }), true),
            Question::Serve { .. } | Question::Finish { .. } | Question::Progress { .. } => {
                unreachable!("answered before")
            }
            Question::Cancel { .. } => server.reply(caller, Reply::Refused(Refusal::UnknownCommand)),
            Question::History { id } if id.as_ref().is_some_and(|id| id.as_str() != "42") => {
                server.reply(caller, Reply::Refused(Refusal::UnknownCommand));
            }
            Question::History { .. } => say(
                json!({
                    "commands": [
                        { "id": "42", "target": "gw-1", "method": "count", "status": 200, "told": true,
                          "accepted": "2026-11-21T04:00:20.000000Z", "started": "2026-11-21T04:00:20.100000Z",
                          "finished": "2026-11-21T04:01:22.300000Z", "payload": { "n": 1 } },
                        { "id": "rather-long-id", "target": "gw-1", "method": "rebootDevice", "status": 202,
                          "accepted": "2026-11-21T04:02:00.000000Z", "told": false },
                    ],
                    "reboots": { "current": { "id": "b2", "time": "2026-11-21T04:00:07.120000Z" },
                                 "previous": "b1", "rebootTime": "2026-11-21T04:00:07.120000Z",
                                 "story": { "state": "completed", "commandId": "9", "cause": "command",
                                            "reason": "new kernel\u{1b}[2J", "requestedAt": "2026-11-21T03:59:30.000000Z",
                                            "startedAt": "2026-11-21T03:59:36.000000Z", "downSeconds": 31.2,
                                            "completedAt": "2026-11-21T04:00:07.200000Z", "bootId": "b2",
                                            "previousBootId": "b1", "simulated": false } },
                }),
                true,
            ),
            Question::Twin => {
                say(json!({ "desired": { "a": 1 }, "desiredVersion": 7, "reported": { "rebootTime": "t" } }), true);
            }
            Question::Report { patch } if patch.contains_key("rebootTime") => {
                server.reply(caller, Reply::Refused(Refusal::OwnMember { member: "rebootTime".to_owned() }));
            }
            Question::Report { .. } => {
                say(json!({ "merged": true }), true);
                version += 1;
                for follower in &followers {
                    let document = object(json!({ "document": { "interval": version }, "version": version }));
                    server.reply(*follower, Reply::Is { answer: document, last: false });
                }
            }
            Question::Telemetry { .. } => say(json!({ "queued": true }), true),
            Question::Desired { follow } => {
                say(json!({ "document": null, "version": 0 }), !follow);
                if follow {
                    followers.push(caller);
                }
            }
            Question::Guard { reset } => {
                let reboot = json!({ "bootId": "b2", "time": "2026-11-21T04:00:07.120000Z", "cause": "unexpected",
                                     "simulated": false });
                let mut guard = json!({ "tripped": !reset, "maxReboots": 3, "per": "1h", "healthy": "10m",
                                        "reboots": if reset { json!([]) } else { json!([reboot]) } });
                if !reset {
                    guard["why"] = json!("3 reboots within 1h");
                }
                say(guard, true);
            }
            Question::Reload => {
                server.reply(caller, Reply::Refused(Refusal::CannotNow { why: "it is stopping".to_owned() }));
            }
        }
    }
}

/// One program that serves methods, and what it was handed over.
#[derive(Default)]
struct Served {
    by: Vec<(CallerId, Vec<MethodSpec>)>,
    /// Who waits for the outcome of which run.
    runs: BTreeMap<u64, CallerId>,
    next: u64,
}

impl Served {
    /// Answers what has to do with it.
    fn concerns(&mut self, caller: CallerId, question: &Question, server: &mut Server) -> bool {
        let mut say = |caller: CallerId, document: Value, last: bool| {
            server.reply(caller, Reply::Is { answer: object(document), last });
        };
        match question {
            Question::Serve { methods } => {
                let method = methods[0].name.clone();
                if self.by.iter().flat_map(|(_, had)| had).any(|had| had.name == method) {
                    server.reply(caller, Reply::Refused(Refusal::MethodTaken { method }));
                    return true;
                }
                let names: Vec<&str> = methods.iter().map(|spec| spec.name.as_str()).collect();
                say(caller, json!({ "serving": names }), false);
                self.by.push((caller, methods.clone()));
            }
            Question::Invoke { method, payload, .. } => {
                let all = self.by.iter().flat_map(|(by, methods)| methods.iter().map(move |spec| (by, spec)));
                let Some((by, spec)) = all.into_iter().find(|(_, spec)| spec.name == *method) else { return false };
                self.next += 1;
                let limit = spec.time_limit.as_secs();
                let command = json!({ "run": self.next, "id": "x1", "method": method, "payload": payload,
                    "timeLimitSeconds": limit });
                say(*by, command, false);
                self.runs.insert(self.next, caller);
            }
            Question::Finish { run, outcome } => match self.runs.remove(run) {
                Some(invoker) => {
                    say(invoker, json!({ "status": outcome.status, "payload": outcome.payload, "final": true }), true);
                    say(caller, json!({ "taken": true }), true);
                }
                None => server.reply(caller, Reply::Refused(Refusal::UnknownRun)),
            },
            Question::Progress { run, .. } if !self.runs.contains_key(run) => {
                server.reply(caller, Reply::Refused(Refusal::UnknownRun));
            }
            Question::Progress { .. } => say(caller, json!({ "taken": true }), true),
            // A reboot that is taken back stands for a command that is: the program is told.
            Question::Cancel { id } if id.as_str() == "stop" => {
                if let Some((by, _)) = self.by.first() {
                    say(*by, json!({ "run": self.next, "stop": "cancelled" }), false);
                }
                say(caller, json!({ "status": 200 }), true);
            }
            _ => return false,
        }
        true
    }

    fn gone(&mut self, caller: CallerId, server: &mut Server) {
        let serving = self.by.len();
        self.by.retain(|(by, _)| *by != caller);
        if self.by.len() < serving {
            for invoker in std::mem::take(&mut self.runs).into_values() {
                let answer = object(json!({ "status": 503, "payload": { "error": "lost" }, "final": true }));
                server.reply(invoker, Reply::Is { answer, last: true });
            }
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => unreachable!("an object was meant, not {other}"),
    }
}
