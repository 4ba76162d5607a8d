//! The handlers' service (`twinagent run-handlers`): starts the programs that manifests name, as a user of its own, and ends
//! them and all that they leave behind.
//!
//! It is reached by the agent alone, which says which manifest, with which payload. It reads the manifest by itself, so an
//! agent that was taken over can run what the administrator installed, and nothing else. A service that was taken over has
//! no key and can ask the agent for nothing.
//!
//! One loop, here, owns all processes and reads the manifests; one task for each connection serves its run. All of it is one
//! thread: what a script's interpreter inherits would else reach a program that another thread starts at the same time.
//!
//! The end of a run is the end of its process, not of its output: SIGTERM to the group, the grace, SIGKILL; then whatever
//! is left is killed (`children.rs`). A program that was told to stop has 408 or 499 whatever its exit code: nobody knows
//! how far it came.
//!
//! systemd holds the socket and passes it as stdin, since taking another descriptor would need unsafe code. After a while
//! without a connection the service ends. So it does, in the same order and then with an error, when programs have spoiled it
//! (`health.rs`).

mod captured;
mod children;
mod connection;
mod health;
mod news;
mod outcome;
mod program_file;
mod room;
mod run;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::children::{Children, Start, Started};
use self::connection::Shared;
use self::health::{Health, LOOKING};
pub use self::program_file::Owners;
use self::program_file::ProgramFile;
use self::room::Room;
use crate::config::manifest::Manifest;
use crate::host::{clock, systemd};

/// Runs at once, and connections that are to become some.
const RUNS: usize = 64;
/// What connections want of the loop; each has one wish at a time.
const ORDERS: usize = RUNS;
/// How long all runs together may take to end when this service does.
const ENDING: Duration = Duration::from_secs(9);
/// How long killed ones may take after that.
const KILLED: Duration = Duration::from_secs(1);
/// Between two tries to accept, while descriptors or memory are short.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Between two times that orphans are taken note of. They may end as fast as the kernel can start them.
const ORPHANS: Duration = Duration::from_millis(5);

/// Finds the manifest in the file of this name, or says why there is none that can be used.
pub type Find = Box<dyn FnMut(&str) -> Result<Manifest, String> + Send>;

/// What the service is made of.
#[derive(Debug)]
pub struct Launcher {
    /// Users that may ask for runs.
    pub callers: BTreeSet<u32>,
    /// Who may own programs and the folders above them.
    pub owners: Owners,
    /// Where the sockets of running programs lie; nobody else writes there.
    pub folder: PathBuf,
    /// After so long without a connection the service ends. Whoever holds the socket starts it again.
    pub idle: Duration,
}

/// What a connection wants of the loop.
#[derive(Debug)]
enum Order {
    /// The manifest in the file of this name.
    Find(String, oneshot::Sender<Result<Manifest, String>>),
    Start(Box<Start>, oneshot::Sender<io::Result<Started>>),
    /// For a program and its group.
    Signal(Pid, Signal),
}

/// When children are to be taken note of.
#[derive(Debug)]
struct Ends {
    signal: unix::Signal,
    /// Not before this moment of [`clock::awake`].
    pause: Duration,
    /// There may be more of them, without a further signal.
    are_left: bool,
}

/// The listening socket that a descriptor is, as `StandardInput=socket` passes it (systemd.exec(5)).
///
/// # Errors
///
/// If it is none.
pub fn listener(descriptor: BorrowedFd<'_>) -> anyhow::Result<UnixListener> {
    let is_unix = getsockname(descriptor).is_ok_and(|name| name.address_family() == AddressFamily::UNIX);
    let is_stream = sockopt::socket_type(descriptor).is_ok_and(|found| found == SocketType::STREAM);
    let listens = sockopt::socket_acceptconn(descriptor).is_ok_and(|listens| listens);
    if !(is_unix && is_stream && listens) {
        bail!("stdin is no listening Unix socket");
    }
    let owned: OwnedFd = descriptor.try_clone_to_owned().context("stdin cannot be kept")?;
    let listener = UnixListener::from(owned);
    listener.set_nonblocking(true).context("stdin cannot be waited for")?;
    Ok(listener)
}

/// Judges the file of a program as it is judged before each run, for who wants to know before.
///
/// # Errors
///
/// Why it is not run, in a sentence for people.
pub fn check(program: &Path, owners: &Owners) -> Result<(), String> {
    ProgramFile::open(program, owners).and_then(|file| file.judge_interpreter()).map_err(|unfit| unfit.to_string())
}

impl Launcher {
    /// Serves until nobody has come for a while, or SIGTERM or SIGINT. Who comes too late finds the socket as it was, and its next
    /// owner. Must run on a runtime of one thread, in a process that starts no others.
    ///
    /// # Errors
    ///
    /// If this process cannot be what the service needs, or a program has spoiled it.
    pub async fn serve(self, listener: UnixListener, mut find: Find) -> anyhow::Result<()> {
        // Programs run as the same user, and must not read here what others are sent (ptrace(2)).
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("the memory of this process stays open to others")?;
        let mut children = Children::adopt().context("orphans cannot be adopted")?;
        let inherited = children::inherited();
        if !inherited.is_empty() {
            tracing::warn!(descriptors = inherited.join(" "), "programs inherit what this service was started with");
        }
        let listener = tokio::net::UnixListener::from_std(listener).context("the socket cannot be served")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let mut ends = Ends::listen().context("cannot wait for programs to end")?;
        let (orders, mut wanted) = mpsc::channel(ORDERS);
        let (ending, is_ending) = watch::channel(false);
        let patience = self.idle;
        let room = Room::new();
        let shared = Arc::new(Shared {
            launcher: self,
            orders,
            ending: is_ending,
            marks: AtomicU64::new(0),
            is_mute: AtomicBool::new(false),
            room,
        });
        let mut connections = JoinSet::new();
        let mut health = Health::new();
        let mut looking = interval(LOOKING);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = pin!(sleep(patience));
        systemd::ready();
        let end = loop {
            let is_idle = connections.is_empty();
            tokio::select! {
                // What has ended is noted before anything new begins, but nothing here comes so often that the rest starves.
                biased;
                () = ends.come() => ends.note(&mut children),
                Some(order) = wanted.recv() => obey(order, &mut children, &mut find),
                Some(ended) = connections.join_next() => {
                    note(ended);
                    idle.set(sleep(patience));
                    if let Err(spoiled) = health.look(&children, connections.len()) {
                        break Err(spoiled);
                    }
                }
                _ = looking.tick() => {
                    health.tell();
                    if let Err(spoiled) = health.look(&children, connections.len()) {
                        break Err(spoiled);
                    }
                }
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        health.let_in();
                        if connections.len() < RUNS {
                            connections.spawn(connection::serve(stream, shared.clone()));
                        } else {
                            connection::turn_away(&stream, RUNS);
                        }
                    }
                    Err(error) => {
                        if health.shut() {
                            tracing::warn!(%error, "no run can be taken on for now");
                        }
                        sleep(BACK_OFF).await;
                    }
                },
                () = &mut idle, if is_idle => break Ok(()),
            }
        };
        systemd::stopping();
        // Whoever connects from here on is let in by the next process.
        drop(listener);
        ending.send_replace(true);
        end_all(&mut connections, &mut children, &mut ends, &mut wanted).await;
        end
    }
}

impl Ends {
    fn listen() -> io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::child())?, pause: Duration::ZERO, are_left: false })
    }

    /// Returns when it is time. May be dropped without loss.
    async fn come(&mut self) {
        let left = self.pause.saturating_sub(clock::awake());
        if !left.is_zero() {
            sleep(left).await;
        }
        if !self.are_left {
            self.signal.recv().await;
        }
    }

    fn note(&mut self, children: &mut Children) {
        let orphans = children.reap();
        self.are_left = orphans >= children::MOST;
        // Programs end as often as they were started; orphans may have a rhythm of their own.
        if orphans > 0 {
            self.pause = clock::awake() + ORPHANS;
        }
    }
}

/// Ends what runs: each program is asked, and killed if that does not help; whoever waits for one is told.
async fn end_all(
    connections: &mut JoinSet<()>,
    children: &mut Children,
    ends: &mut Ends,
    wanted: &mut mpsc::Receiver<Order>,
) {
    let in_good_order = async {
        while !connections.is_empty() {
            tokio::select! {
                () = ends.come() => ends.note(children),
                Some(order) = wanted.recv() => match order {
                    // Its run says that nothing has begun.
                    Order::Find(..) | Order::Start(..) => {}
                    Order::Signal(pid, signal) => children.signal(pid, signal),
                },
                Some(ended) = connections.join_next() => note(ended),
            }
        }
    };
    if timeout(ENDING, in_good_order).await.is_err() {
        tracing::warn!(runs = connections.len(), "not all programs have ended in time");
    }
    children.kill_all();
    let gone = async {
        while !connections.is_empty() {
            tokio::select! {
                () = ends.come() => ends.note(children),
                Some(ended) = connections.join_next() => note(ended),
            }
        }
    };
    // What does not end even when killed hangs in the kernel; the service manager is told by the exit.
    let _ = timeout(KILLED, gone).await;
}

fn obey(order: Order, children: &mut Children, find: &mut Find) {
    match order {
        Order::Find(name, reply) => {
            // A few small files of the disk that programs come from, too: a thread for that would cost more than it saves.
            // Fails if nobody waits any more.
            let _ = reply.send(find(&name));
        }
        Order::Start(start, reply) => {
            if let Err(Ok(started)) = reply.send(children.start(*start)) {
                // Nobody would end it.
                children.signal(started.pid, Signal::KILL);
            }
        }
        Order::Signal(pid, signal) => children.signal(pid, signal),
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a run was given up, and its program killed");
    }
}
