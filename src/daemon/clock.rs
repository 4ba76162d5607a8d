//! The clock as the loop sees it: what time it is, whether to believe it, and when somebody has set it.
//!
//! Joins what those who keep the wall clock say with what is known of time otherwise. Asks them only while nobody vouches
//! for the clock, and beside the loop. Without an answer nothing stops: a login waits for `session.clock_wait` at most, which
//! is the model's business.
//!
//! `host/clock` reads the clocks, tells when somebody sets the wall clock, and asks its keepers; `belief.rs` judges. After
//! the wait a doubtful clock is used if it shows no less than the floor, the latest time that is known to have been
//! (`Record::Seen`). Whatever must not depend on the wall clock goes by the boot clock, which counts suspend: deadlines,
//! leases, repeats without an id, how long a command is remembered. What was noted while the clock was doubtful is put
//! right once it is known when the boot began.

mod belief;

use std::future::pending;
use std::time::Duration;

use tokio::task::JoinSet;

use self::belief::Belief;
use crate::host::clock::{self, Keepers, Steps, Word};
use crate::host::watch::Watcher;
use crate::model::device_key::KeySlot;
use crate::model::now::{BootId, BootInstant, Clock as Trust, Now, Timestamp};

/// At the start the keepers are given so long to say that all is well; then the daemon goes on with a doubtful clock.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// A doubtful clock is asked after so often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// And so often once that has gone on for [`LONG`].
const LOOK_RARELY: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(10 * 60);

/// And so often, when a turn is made anyway, while it is used though nobody vouches for it.
const LOOK_IDLY: Duration = Duration::from_secs(60 * 60);

pub(super) struct Clock {
    boot_id: BootId,
    belief: Belief,
    keepers: Keepers,
    steps: Steps,
    /// Of the file by which timesyncd says that the clock is right; while nobody vouches for it.
    flag: Option<Watcher>,
    /// At most one question.
    questions: JoinSet<Word>,
    next_look: BootInstant,
    doubtful_since: Option<BootInstant>,
}

impl Clock {
    /// `seen`: the last moment that is known to have been. Must be called in a tokio runtime.
    pub(super) fn new(boot_id: BootId, keepers: Keepers, wait: Duration, seen: Option<Timestamp>) -> Self {
        let (wall, boot) = clock::both();
        Self {
            boot_id,
            belief: Belief::new(wait, seen, wall, boot),
            keepers,
            steps: Steps::new(),
            flag: None,
            questions: JoinSet::new(),
            next_look: boot,
            doubtful_since: None,
        }
    }

    /// Asks the keepers for the first time, and waits for the answer, though not for long.
    pub(super) async fn begin(&mut self) {
        let now = self.now();
        self.ask(&now);
        if let Ok(Some(Ok(word))) = tokio::time::timeout(FIRST_ANSWER, self.questions.join_next()).await {
            self.belief.hear(word);
        }
        let now = self.now();
        self.next_look = now.boot + LOOK_EVERY;
        if now.clock == Trust::Doubtful {
            tracing::warn!(wall = %now.wall, "the clock is not known to be right; hint: see `timedatectl`");
        }
        self.follow(&now);
    }

    /// The present moment.
    pub(super) fn now(&self) -> Now {
        let (wall, boot) = clock::both();
        Now { wall, boot, boot_id: self.boot_id, clock: self.belief.judge(wall, boot) }
    }

    /// The moment of a turn, and by how many microseconds the clock was set since the last one, if it was.
    pub(super) fn turn(&mut self) -> (Now, Option<i64>) {
        let (wall, boot) = clock::both();
        let was_doubtful = self.doubtful_since.is_some();
        let step = self.belief.passes(wall, boot);
        if let Some(by) = step {
            tracing::info!(seconds = by / 1_000_000, wall = %wall, "the clock was set");
            self.next_look = boot;
        }
        let now = Now { wall, boot, boot_id: self.boot_id, clock: self.belief.judge(wall, boot) };
        self.follow(&now);
        if was_doubtful != self.doubtful_since.is_some() {
            let what = if was_doubtful { "the clock is believed now" } else { "the clock is not known to be right" };
            tracing::info!(wall = %wall, "{what}");
        }
        (now, step)
    }

    /// Looks after what a clock needs that nobody vouches for, and lets it go once somebody does.
    fn follow(&mut self, now: &Now) {
        if now.clock.is_believed() {
            self.doubtful_since = None;
        } else if self.doubtful_since.is_none() {
            self.doubtful_since = Some(now.boot);
            self.next_look = self.next_look.min(now.boot + LOOK_EVERY);
        }
        if now.clock == Trust::Trusted {
            self.flag = None;
            return;
        }
        if self.flag.is_none() && !self.belief.is_synchronized() {
            let flag = std::path::absolute(self.keepers.flag()).unwrap_or_else(|_| self.keepers.flag().to_owned());
            self.flag = Watcher::new([flag])
                .inspect_err(|error| tracing::debug!("{error}; the clock is asked after now and then"))
                .ok();
        }
        if now.boot >= self.next_look {
            self.ask(now);
        }
    }

    fn ask(&mut self, now: &Now) {
        let pause = match self.doubtful_since {
            Some(since) if now.boot.since(since) < LONG => LOOK_EVERY,
            Some(_) => LOOK_RARELY,
            // It is used as it is; only the word for it could become a better one.
            None => LOOK_IDLY,
        };
        self.next_look = now.boot + pause;
        if self.questions.is_empty() && !self.belief.is_synchronized() {
            self.questions.spawn(self.keepers.clone().ask());
        }
    }

    /// The present moment as a login should name it.
    pub(super) fn for_login(&mut self, now: &Now, key: KeySlot) -> Now {
        Now { wall: self.belief.for_login(now, key), ..*now }
    }

    /// The cloud has taken a login.
    pub(super) fn login_was_taken(&mut self) {
        self.belief.login_was_taken();
    }

    pub(super) fn set_wait(&mut self, wait: Duration) {
        self.belief.set_wait(wait);
    }

    /// When a turn is needed for its sake.
    pub(super) fn due(&self) -> Option<BootInstant> {
        self.doubtful_since.map(|_| self.belief.due().map_or(self.next_look, |due| due.min(self.next_look)))
    }

    /// Waits until it may have to be judged anew. May be dropped without loss.
    pub(super) async fn news(&mut self) {
        tokio::select! {
            () = self.steps.next() => {}
            () = changed(&mut self.flag) => self.next_look = clock::boot(),
            Some(answer) = self.questions.join_next() => {
                if let Ok(word) = answer {
                    self.belief.hear(word);
                }
            }
        }
    }
}

async fn changed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => pending().await,
    }
}
