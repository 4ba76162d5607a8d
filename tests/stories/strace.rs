//! The system calls of a running daemon, seen or made to fail from outside with strace(1).
//!
//! strace is attached to a process and taken off again, so that a story decides when a fault begins and ends. It needs
//! the right to trace: root, or `kernel.yama.ptrace_scope` = 0.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::Packet;
use rustix::process::{Signal, kill_process};

use crate::device::{Device, PATIENCE};
use crate::process::{Process, ended, pid};

/// The calls that write, make durable or change a file or a socket; with `?` those that not every architecture has.
const CALLS: &str = "trace=?pwrite64,?pwritev,?pwritev2,write,writev,sendto,sendmsg,fdatasync,fsync,sync_file_range,msync,\
                     ?open,?creat,openat,?openat2,?truncate,ftruncate,fallocate,?rename,?renameat,renameat2,?unlink,\
                     unlinkat,?mkdir,mkdirat,?link,linkat";

/// An attached strace.
pub(crate) struct Strace {
    child: Child,
    output: PathBuf,
}

/// One call of any thread of the daemon.
pub(crate) struct Call {
    pub(crate) name: String,
    /// What its first argument leads to: a path, or `socket:[…]`.
    pub(crate) file: String,
    pub(crate) data: Vec<u8>,
    /// The places of its begin and its end in the order of all that strace saw.
    pub(crate) begin: usize,
    pub(crate) end: usize,
    /// strace made it fail.
    pub(crate) is_injected: bool,
}

/// For a person who looks for what was expected; bytes that are no text show as such.
impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, file, data, begin, end, is_injected } = self;
        let fault = if *is_injected { " (injected)" } else { "" };
        write!(out, "{begin}..{end} {name} <{file}> {}{fault}", data.escape_ascii())
    }
}

impl Call {
    pub(crate) fn is_sync(&self) -> bool {
        ["fdatasync", "fsync", "sync_file_range", "msync"].contains(&self.name.as_str())
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.data.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Strace {
    /// Watches the daemon. Returns once no call escapes.
    pub(crate) async fn watch(device: &Device, process: &Process) -> Self {
        Self::attach(device, process, &["-e", CALLS]).await
    }

    /// Makes these calls of the daemon fail with this error until [`end`](Self::end).
    pub(crate) async fn fail(device: &Device, process: &Process, calls: &str, error: &str) -> Self {
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
        Self::attach(device, process, &["-e", &trace, "-e", &inject]).await
    }

    async fn attach(device: &Device, process: &Process, what: &[&str]) -> Self {
        let (output, messages) = (device.path("strace"), device.path("strace.messages"));
        let told = File::create(&messages).expect("a file for strace");
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-xx", "-s", "65536", "-o"])
            .arg(&output)
            .args(what)
            .args(["-p", &process.id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(told)
            .spawn()
            .expect("strace starts; hint: `tests/check.sh tools` installs it");
        let attached = async {
            while !read(&messages).contains(" attached") {
                let status = child.try_wait().expect("our child");
                assert!(
                    status.is_none(),
                    "strace cannot trace the daemon; hint: run as root, or set kernel.yama.ptrace_scope to 0: {}",
                    read(&messages)
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, attached).await.expect("strace attaches");
        Self { child, output }
    }

    /// Takes strace off, after which the daemon runs as before, and returns what it saw.
    pub(crate) async fn end(mut self) -> Vec<Call> {
        kill_process(pid(&self.child), Signal::TERM).expect("our child");
        ended(&mut self.child).await;
        calls(&read(&self.output))
    }
}

/// If the story ends early, so that no tracer is left behind.
impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The MQTT packets that these calls wrote to the connection, each with the call that held its last byte.
pub(crate) fn packets(calls: &[Call]) -> Vec<(&Call, Packet)> {
    let mut packets = Vec::new();
    let mut streams: HashMap<&str, BytesMut> = HashMap::new();
    for call in calls.iter().filter(|call| call.file.starts_with("socket:")) {
        let stream = streams.entry(&call.file).or_default();
        stream.extend_from_slice(&call.data);
        while let Ok(packet) = Packet::read(stream, usize::MAX) {
            packets.push((call, packet));
        }
    }
    packets
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Reads the lines of strace: `812 pwrite64(7</var/lib/twinagent/journal>, "\x38\x63"..., 2, 0) = 2`. A call during
/// which another thread did something stands on two lines, `… <unfinished ...>` and `812 <... pwrite64 resumed>) = 2`.
fn calls(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    for (place, line) in text.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').expect("a thread");
        let rest = rest.trim_start();
        if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (place, begin.to_owned()));
        } else if let Some(end) = rest.strip_prefix("<... ") {
            let Some((begin, first)) = unfinished.remove(thread) else { continue };
            let (_, end) = end.split_once('>').expect("the end of a call");
            calls.extend(call(&format!("{first}{end}"), begin, place));
        } else {
            calls.extend(call(rest, place, place));
        }
    }
    calls
}

/// Reads one call. `None` for signals and ends of threads.
fn call(text: &str, begin: usize, end: usize) -> Option<Call> {
    let (name, arguments) = text.split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_name {
        return None;
    }
    let file = arguments.split_once('<').and_then(|(_, file)| file.split_once('>')).map_or("", |(file, _)| file);
    let file =
        if file.starts_with("\\x") { String::from_utf8_lossy(&bytes(file)).into_owned() } else { file.to_owned() };
    let data = arguments.split('"').skip(1).step_by(2).flat_map(bytes).collect();
    Some(Call { name: name.to_owned(), file, data, begin, end, is_injected: text.ends_with("(INJECTED)") })
}

/// `\x40\x02` as bytes.
fn bytes(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).expect("hexadecimal digits")).collect()
}
