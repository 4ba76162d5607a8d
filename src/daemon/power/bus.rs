//! The connection to the system bus, kept by a task of its own: the lock that makes shutdowns wait for us, word of them,
//! and logind for whoever has a question.
//!
//! What is lost is had again, after a wait that grows; where there is not even a bus, its socket is watched and nothing is
//! tried. While all is well the task sleeps.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::daemon::retry::Retry;
use crate::host::clock;
use crate::host::logind::{BusError, DelayLock, Logind, Right};
use crate::host::watch::Watcher;
use crate::model::now::BootInstant;
use crate::model::reboot::facts::Inhibitor;

/// Words of shutdowns that wait for the loop: one, and that it was given up.
const WORDS: usize = 4;
/// To let go twice is to let go.
const ORDERS: usize = 1;
/// A bus that was there for this long was a good one: it is looked for at once when it is gone.
const GOOD_AFTER: Duration = Duration::from_secs(60);
/// Whoever has a question while the bus is being looked for waits this long. Connecting takes moments.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Bus {
    link: watch::Receiver<Link>,
    words: mpsc::Receiver<bool>,
    orders: mpsc::Sender<()>,
    /// Ends with this value.
    _task: JoinSet<()>,
}

/// What may be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A shutdown begins, or was given up.
    Shutdown(bool),
    /// logind can be asked, or cannot any more.
    Reached,
}

/// How to get at logind.
#[derive(Clone, Debug)]
enum Link {
    Trying,
    Up(Logind),
    /// And why.
    Down(String),
}

/// logind for a question, if it is to be had within moments. All errors are for people.
#[derive(Clone, Debug)]
pub(super) struct Asking(watch::Receiver<Link>);

impl Bus {
    pub(super) fn start(address: String) -> Self {
        let (link, linked) = watch::channel(Link::Trying);
        let (words, heard) = mpsc::channel(WORDS);
        let (orders, ordered) = mpsc::channel(ORDERS);
        let mut task = JoinSet::new();
        task.spawn(Keeper { socket: socket_of(&address), address, link, words, told: false, orders: ordered }.keep());
        Self { link: linked, words: heard, orders, _task: task }
    }

    pub(super) fn logind(&self) -> Asking {
        Asking(self.link.clone())
    }

    /// Drops the lock that holds a shutdown up.
    pub(super) fn let_go(&self) {
        // Refused only if that is ordered already.
        let _ = self.orders.try_send(());
    }

    /// May be dropped without loss.
    pub(super) async fn news(&mut self) -> News {
        tokio::select! {
            Some(begins) = self.words.recv() => News::Shutdown(begins),
            Ok(()) = self.link.changed() => News::Reached,
            else => pending().await,
        }
    }
}

impl Asking {
    async fn reach(mut self) -> Result<Logind, String> {
        let is_known = self.0.wait_for(|link| !matches!(link, Link::Trying));
        // The bus may be too slow, or nobody look for it any more.
        if let Ok(Ok(link)) = tokio::time::timeout(PATIENCE, is_known).await {
            match &*link {
                Link::Up(logind) => return Ok(logind.clone()),
                Link::Down(why) => return Err(why.clone()),
                Link::Trying => {}
            }
        }
        Err("logind cannot be reached yet".to_owned())
    }

    /// Our right to reboot, as far as logind says, and who holds a reboot back.
    pub(super) async fn look(self) -> Result<(Result<Right, String>, Vec<Inhibitor>), String> {
        let logind = self.reach().await?;
        let (right, inhibitors) = tokio::join!(logind.can_reboot(), logind.inhibitors());
        Ok((right.map_err(|error| error.to_string()), inhibitors.map_err(|error| error.to_string())?))
    }

    pub(super) async fn reboot(self) -> Result<(), String> {
        self.reach().await?.reboot().await.map_err(|error| error.to_string())
    }
}

/// The task.
struct Keeper {
    address: String,
    socket: Option<PathBuf>,
    link: watch::Sender<Link>,
    words: mpsc::Sender<bool>,
    /// The last of them.
    told: bool,
    orders: mpsc::Receiver<()>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut retry = Retry::new();
        loop {
            let why = match open(&self.address).await {
                Ok((logind, shutdowns)) => {
                    let since = clock::boot();
                    self.serve(logind, shutdowns).await;
                    if clock::boot().since(since) >= GOOD_AFTER {
                        retry = Retry::new();
                    }
                    "the system bus has ended".to_owned()
                }
                Err(error) => error.to_string(),
            };
            self.lost(why);
            retry.failed(clock::boot());
            self.wait(retry.due()).await;
        }
    }

    async fn tell(&mut self, begins: bool) {
        self.told = begins;
        // Refused only if nobody is left, and then this task ends with them.
        let _ = self.words.send(begins).await;
    }

    fn lost(&self, why: String) {
        self.link.send_if_modified(|link| {
            let is_new = !matches!(link, Link::Down(known) if *known == why);
            if is_new {
                tracing::info!("logind is not reached: {why}");
                *link = Link::Down(why);
            }
            is_new
        });
    }

    /// Waits for the next try: until then, or where there is no bus, until its socket is there.
    async fn wait(&self, due: BootInstant) {
        let watcher =
            self.socket.as_deref().filter(|socket| !socket.exists()).map(|socket| Watcher::new([socket.into()]));
        match (watcher, &self.socket) {
            (Some(Ok(mut watcher)), Some(socket)) => {
                // It may have come while the watch was set up.
                while !socket.exists() {
                    watcher.changed().await;
                }
            }
            _ => tokio::time::sleep(due.since(clock::boot())).await,
        }
    }

    /// Until the bus ends.
    async fn serve(&mut self, logind: Logind, mut shutdowns: impl Stream<Item = bool> + Unpin) {
        self.link.send_replace(Link::Up(logind.clone()));
        // An order was for the lock that went with the last bus, and that a shutdown was given up may have been missed.
        while self.orders.try_recv().is_ok() {}
        if self.told && matches!(logind.is_shutting_down().await, Ok(false)) {
            self.tell(false).await;
        }
        let mut lock = Lock::new();
        loop {
            lock.take_if_due(&logind).await;
            tokio::select! {
                word = shutdowns.next() => {
                    let Some(begins) = word else { return };
                    if !begins {
                        lock = Lock::new();
                    }
                    self.tell(begins).await;
                }
                Some(()) = self.orders.recv() => lock = Lock::LetGo,
                () = tokio::time::sleep(lock.due()) => {}
            }
        }
    }
}

/// The lock by which shutdowns wait for us.
enum Lock {
    Held {
        _lock: DelayLock,
    },
    /// To be taken; perhaps logind is only late.
    Wanted(Retry),
    /// The machine goes down.
    LetGo,
}

impl Lock {
    fn new() -> Self {
        Self::Wanted(Retry::new())
    }

    async fn take_if_due(&mut self, logind: &Logind) {
        let Self::Wanted(retry) = self else { return };
        if clock::boot() < retry.due() {
            return;
        }
        match logind.delay().await {
            Ok(lock) => *self = Self::Held { _lock: lock },
            Err(error) => {
                if !retry.has_failed() {
                    tracing::info!("shutdowns do not wait for the goodbye: {error}; it is tried again");
                }
                retry.failed(clock::boot());
            }
        }
    }

    /// How long until it is to be taken.
    fn due(&self) -> Duration {
        match self {
            Self::Wanted(retry) => retry.due().since(clock::boot()),
            Self::Held { .. } | Self::LetGo => Duration::MAX,
        }
    }
}

async fn open(address: &str) -> Result<(Logind, impl Stream<Item = bool> + Unpin + use<>), BusError> {
    let logind = Logind::connect(address).await?;
    // Heard before the lock is held, so that no word is missed.
    let shutdowns = logind.shutdowns().await?;
    Ok((logind, shutdowns))
}

/// The file that a D-Bus address leads to, if it is one.
fn socket_of(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix:path=")?.split([',', ';']).next()?;
    Path::new(path).is_absolute().then(|| path.into())
}
