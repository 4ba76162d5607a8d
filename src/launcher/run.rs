//! The life of one run: manifest, program, start, what it writes and says, its end.
//!
//! A run ends when its program has ended and nothing of it is left, whoever holds its output open. A program that is to end
//! is asked (SIGTERM), given its grace, and killed.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Order;
use super::captured::{Beginning, Tail};
use super::children::{Start, Started, Unfed};
use super::connection::{Caller, Shared, ends};
use super::news::News;
use super::outcome::{Cause, Facts, LONGEST_TAIL};
use super::program_file::ProgramFile;
use super::room::Stay;
use crate::config::manifest::{Action, Manifest};
use crate::host::clock;
use crate::model::command::{Outcome, Status};
use crate::varlink::handlers::Run;

/// The longest grace when the service ends; its unit waits no longer.
const GRACE_AT_THE_END: Duration = Duration::from_secs(5);
/// For a killed program to be gone. One that hangs in the kernel is given up.
const KILLED: Duration = Duration::from_secs(5);
/// For what it has left behind to be gone. What takes longer is still killed, but not waited for.
const CLEARED: Duration = Duration::from_secs(2);
/// For earlier runs to be over: the longest grace that a manifest has, then what a killed one and its leftovers take.
const WAITING: Duration = Duration::from_secs(70);
/// What is read at once of a stream.
const PIECE: usize = 16 * 1024;
/// How much may lie in a pipe that nobody of the run writes to any more (`/proc/sys/fs/pipe-max-size`, pipe(7)).
const LEFT_IN_PIPE: usize = 1024 * 1024;

/// Where programs look for others: as a login of root would.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that runs. Dropping it kills it, unless it is known to have ended.
#[derive(Debug)]
struct Held<'a> {
    pid: Pid,
    has_ended: bool,
    orders: &'a mpsc::Sender<Order>,
}

/// How far the end of a program has been brought about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Runs,
    Asked,
    Killed,
}

/// A run that is over.
struct Over {
    outcome: Outcome,
    /// Its socket goes when nobody waits for anything any more.
    _news: News,
}

/// Serves one run, to the last word. The agent is told first; the rest can wait.
pub(super) async fn serve(run: Run, mut caller: Caller, shared: &Shared) {
    let manifest = match judged(&run, shared).await {
        Ok(manifest) => manifest,
        Err(refused) => {
            let file = run.manifest.escape_debug().to_string();
            tracing::warn!(id = %run.id, manifest = file, status = %refused.status, "not run: {}", refused.why());
            return caller.refuse(refused).await;
        }
    };
    let (method, id) = (&manifest.spec.name, &run.id);
    let number = shared.marks.fetch_add(1, Ordering::Relaxed);
    let came = clock::awake();
    // Until nothing of it is left, or it was given up.
    let stay = match admitted(&manifest, number, &mut caller, shared).await {
        Ok(stay) => stay,
        Err(refused) => {
            let waited = clock::awake().saturating_sub(came).as_secs();
            tracing::warn!(%method, %id, status = %refused.status, waited, "not run: {}", refused.why());
            return caller.refuse(refused).await;
        }
    };
    let begun = clock::awake();
    let ended = attempt(&run, &manifest, number, &mut caller, shared).await;
    drop(stay);
    match ended {
        Ok(over) => {
            let milliseconds = u64::try_from(clock::awake().saturating_sub(begun).as_millis()).unwrap_or(u64::MAX);
            let status = over.outcome.status;
            caller.finish(over.outcome).await;
            let program = program_of(&manifest).unwrap_or(&manifest.path).display();
            tracing::info!(%method, %id, %program, %status, milliseconds, "run");
        }
        Err(refused) => {
            tracing::warn!(%method, %id, status = %refused.status, "not run: {}", refused.why());
            caller.refuse(refused).await;
        }
    }
}

/// The manifest, if it is what the agent speaks of, and takes the payload. An agent of ours has judged the payload already; one
/// that was taken over must not get around it.
async fn judged(run: &Run, shared: &Shared) -> Result<Manifest, Outcome> {
    let failed = |why: String| Outcome::failed(Status::FAILED, why);
    let (reply, found) = oneshot::channel();
    // Fails if the loop is gone, and with it the answer.
    let _ = shared.orders.send(Order::Find(run.manifest.clone(), reply)).await;
    let Ok(found) = found.await else { return Err(service_ends()) };
    let manifest = found.map_err(failed)?;
    if manifest.digest != run.digest {
        let path = manifest.path.display();
        return Err(failed(format!("{path} has changed since the agent has read it; send the command again")));
    }
    if program_of(&manifest).is_none() {
        return Err(failed(format!("{} names no program", manifest.path.display())));
    }
    let faults = manifest.spec.payload.as_ref().map(|rules| rules.judge(&run.payload)).unwrap_or_default();
    if !faults.is_empty() {
        return Err(Outcome::failed(Status::UNFIT_PAYLOAD, faults.join("; ")));
    }
    Ok(manifest)
}

fn program_of(manifest: &Manifest) -> Option<&Path> {
    match &manifest.action {
        Action::Program { program, .. } => Some(program),
        Action::Unit { .. } => None,
    }
}

/// Waits until the class of the method lets it run: what an agent has begun that is gone may still be ending.
async fn admitted<'a>(
    manifest: &Manifest,
    number: u64,
    caller: &mut Caller,
    shared: &'a Shared,
) -> Result<Stay<'a>, Outcome> {
    let mut ending = shared.ending.clone();
    tokio::select! {
        biased;
        stay = shared.room.enter(&manifest.spec, number) => Ok(stay),
        () = caller.stops() => Err(Outcome::failed(Status::CANCELLED, "stopped before the program began")),
        () = ends(&mut ending) => Err(service_ends()),
        () = sleep(WAITING) => {
            let why = "an earlier run is not over that this one may not be beside; try again later";
            Err(Outcome::failed(Status::CANNOT_NOW, why))
        }
    }
}

/// Runs it. An error is the outcome of a program that was not started.
async fn attempt(
    run: &Run,
    manifest: &Manifest,
    number: u64,
    caller: &mut Caller,
    shared: &Shared,
) -> Result<Over, Outcome> {
    let Action::Program { program, arguments } = &manifest.action else {
        return Err(Outcome::failed(Status::FAILED, "the manifest names no program"));
    };
    let file = ProgramFile::open(program, &shared.launcher.owners)
        .map_err(|unfit| Outcome::failed(unfit.status(), unfit.to_string()))?;
    let mut news = News::bind(&shared.launcher.folder, &shared.is_mute);
    let environment = environment(run, manifest, &news);
    let mark = format!("{}-{number}", std::process::id());
    let start = Start { file, arguments: arguments.clone(), input: run.payload.to_string(), environment, mark };
    if caller.has_given_up() {
        return Err(Outcome::failed(Status::CANCELLED, "stopped before the program began"));
    }
    if let Err(error) = caller.begin() {
        return Err(Outcome::failed(Status::CANCELLED, format!("nobody waits for it ({error})")));
    }
    let started = begin(start, shared).await?;
    let outcome = follow(started, manifest, &mut news, caller, shared).await;
    Ok(Over { outcome, _news: news })
}

async fn begin(start: Start, shared: &Shared) -> Result<Started, Outcome> {
    let (reply, started) = oneshot::channel();
    let refused = start.file.refusal();
    let is_sent = shared.orders.send(Order::Start(Box::new(start), reply)).await;
    match (is_sent, started.await) {
        (Ok(()), Ok(Ok(started))) => Ok(started),
        (Ok(()), Ok(Err(error))) => {
            let unfit = refused.because(&error);
            Err(Outcome::failed(unfit.status(), unfit.to_string()))
        }
        _ => Err(service_ends()),
    }
}

fn service_ends() -> Outcome {
    Outcome::failed(Status::CANNOT_NOW, "the handlers' service ends")
}

fn environment(run: &Run, manifest: &Manifest, news: &News) -> Vec<(&'static str, String)> {
    let limit = manifest.spec.time_limit;
    let mut all = vec![
        ("PATH", PATH.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TWINAGENT_METHOD", manifest.spec.name.to_string()),
        ("TWINAGENT_COMMAND_ID", run.id.to_string()),
        ("TWINAGENT_DEVICE_ID", run.device.to_string()),
        ("TWINAGENT_DEADLINE", clock::wall().saturating_add(limit).to_string()),
        ("TWINAGENT_TIME_LIMIT", limit.as_secs().to_string()),
    ];
    all.extend(news.path().map(|path| ("NOTIFY_SOCKET", path.display().to_string())));
    all
}

async fn follow(
    started: Started,
    manifest: &Manifest,
    news: &mut News,
    caller: &mut Caller,
    shared: &Shared,
) -> Outcome {
    let mut held = Held { pid: started.pid, has_ended: false, orders: &shared.orders };
    let output_limit = manifest.spec.output_limit;
    let mut output = Stream::new(started.stdout);
    let mut errors = Stream::new(started.stderr);
    let (mut beginning, mut tail) = (Beginning::new(output_limit), Tail::new(LONGEST_TAIL));
    let mut ended = started.ended;
    let mut is_fed = started.unfed.is_none();
    let mut feeding = pin!(feed(started.unfed));
    let mut ending = shared.ending.clone();
    let (mut stage, mut cause) = (Stage::Runs, None);
    let mut patience = pin!(sleep(manifest.spec.time_limit));
    let end = loop {
        let why = tokio::select! {
            biased;
            // Fails if the loop is gone, and this task with it.
            end = &mut ended => break end.ok(),
            () = ends(&mut ending), if stage == Stage::Runs => Cause::Ending,
            () = caller.stops(), if stage == Stage::Runs => Cause::Cancelled,
            () = &mut patience => match stage {
                Stage::Runs => Cause::TimedOut(manifest.spec.time_limit),
                Stage::Asked => {
                    held.signal(Signal::KILL).await;
                    stage = Stage::Killed;
                    patience.set(sleep(KILLED));
                    continue;
                }
                Stage::Killed => break None,
            },
            progress = news.next() => {
                caller.tell(progress);
                continue;
            }
            () = &mut feeding, if !is_fed => {
                is_fed = true;
                continue;
            }
            () = errors.read() => {
                tail.push(errors.piece());
                continue;
            }
            () = output.read() => {
                beginning.push(output.piece());
                continue;
            }
        };
        held.signal(Signal::TERM).await;
        let grace = if why == Cause::Ending { manifest.grace.min(GRACE_AT_THE_END) } else { manifest.grace };
        cause = Some(why);
        stage = Stage::Asked;
        patience.set(sleep(grace));
    };
    held.has_ended = end.is_some();
    // Given up after a while: what is still there is killed by the loop, and counts no longer.
    let _ = timeout(CLEARED, started.cleared).await;
    for _ in 0..LEFT_IN_PIPE / PIECE {
        if !output.read_left() {
            break;
        }
        beginning.push(output.piece());
    }
    for _ in 0..LEFT_IN_PIPE / PIECE {
        if !errors.read_left() {
            break;
        }
        tail.push(errors.piece());
    }
    let facts =
        Facts { end, cause, output: beginning.bytes(), is_cut: beginning.is_cut(), errors: tail.bytes(), output_limit };
    facts.outcome()
}

/// Writes the input and closes. A program that does not read it, or not all, is right to do so.
async fn feed(unfed: Option<Unfed>) {
    let Some(unfed) = unfed else { return };
    // Fails if it were no pipe; it was made as one.
    if let Ok(mut stdin) = pipe::Sender::from_owned_fd(unfed.pipe) {
        // EPIPE: it has closed its stdin, or ended.
        let _ = stdin.write_all(unfed.input.as_bytes()).await;
    }
}

impl Held<'_> {
    async fn signal(&self, signal: Signal) {
        // Fails if the loop is gone, and this task with it.
        let _ = self.orders.send(Order::Signal(self.pid, signal)).await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Without room, the service kills it when it ends.
        let _ = self.orders.try_send(Order::Signal(self.pid, Signal::KILL));
    }
}

/// Stdout or stderr of a program.
struct Stream {
    /// `None`: it has ended.
    pipe: Option<pipe::Receiver>,
    buffer: Vec<u8>,
    length: usize,
}

impl Stream {
    fn new(descriptor: OwnedFd) -> Self {
        // Fails if it were no pipe; it was made as one.
        let pipe = pipe::Receiver::from_owned_fd(descriptor).ok();
        Self { pipe, buffer: vec![0; PIECE], length: 0 }
    }

    /// What was read last.
    fn piece(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Reads a piece; never returns after the last. May be dropped without loss.
    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return pending().await };
        // A pipe that cannot be read has nothing more.
        self.length = pipe.read(&mut self.buffer).await.unwrap_or_default();
        if self.length == 0 {
            self.pipe = None;
        }
    }

    /// Reads a piece of what is there already; false if nothing is. Asks the kernel, and not what is known of its readiness.
    fn read_left(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        self.length = loop {
            match rustix::io::read(pipe, &mut self.buffer) {
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
                read => break read.unwrap_or(0),
            }
        };
        self.length > 0
    }
}
