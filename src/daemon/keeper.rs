//! Keeps the journal off the loop's thread: an SD card can stall for seconds, and nobody may wait for that but the
//! turn whose records it holds up. Also knows when to try a broken journal again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::model::now::{BootInstant, Now};
use crate::model::record::Record;
use crate::store::{Journal, OpenError, StateDir, StoreError};

/// A broken journal is tried again after this, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// But never later than this: space may come back at any time.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What the journal held when it was opened, and why it cannot be written if it cannot.
pub(super) struct Opened {
    pub(super) records: Vec<Record>,
    pub(super) trouble: Option<String>,
}

pub(super) struct Keeper {
    state: Arc<StateDir>,
    journal: State,
    wait: Duration,
}

enum State {
    Sound(Journal),
    Broken {
        journal: Journal,
        retry: BootInstant,
    },
    /// It could not be read, which may pass.
    Unread {
        retry: BootInstant,
    },
    /// What is there cannot be used until somebody decides.
    Unusable,
    /// With the thread that works on it.
    Away,
}

impl Keeper {
    pub(super) async fn open(state: Arc<StateDir>) -> anyhow::Result<(Self, Opened)> {
        let opened = {
            let state = state.clone();
            off_the_loop(move || Journal::open(&state)).await?
        };
        let now = BootInstant::default();
        let (journal, records, trouble) = match opened {
            Ok((journal, records)) => match journal.fault().map(ToString::to_string) {
                None => (State::Sound(journal), records, None),
                trouble => (State::Broken { journal, retry: now }, records, trouble),
            },
            Err(error @ OpenError::Io { .. }) => (State::Unread { retry: now }, Vec::new(), Some(error.to_string())),
            Err(error) => (State::Unusable, Vec::new(), Some(error.to_string())),
        };
        Ok((Self { state, journal, wait: FIRST_RETRY }, Opened { records, trouble }))
    }

    /// A journal that must not even be read, in words for people.
    pub(super) fn refused(state: Arc<StateDir>, why: &str) -> (Self, Opened) {
        let keeper = Self { state, journal: State::Unusable, wait: FIRST_RETRY };
        (keeper, Opened { records: Vec::new(), trouble: Some(why.to_owned()) })
    }

    /// Appends records, on disk if one of them must be. The inner error is for people; then none of them counts.
    pub(super) async fn append(&mut self, records: Vec<Record>, now: &Now) -> anyhow::Result<Result<(), String>> {
        if records.is_empty() {
            return Ok(Ok(()));
        }
        self.work(now, move |journal| journal.append(&records)).await
    }

    /// Writes a new journal that holds just these records.
    pub(super) async fn rewrite(&mut self, records: Vec<Record>, now: &Now) -> anyhow::Result<Result<(), String>> {
        self.work(now, move |journal| journal.rewrite(&records)).await
    }

    async fn work(
        &mut self,
        now: &Now,
        work: impl FnOnce(&mut Journal) -> Result<(), StoreError> + Send + 'static,
    ) -> anyhow::Result<Result<(), String>> {
        let mut journal = match std::mem::replace(&mut self.journal, State::Away) {
            State::Sound(journal) | State::Broken { journal, .. } => journal,
            other => {
                self.journal = other;
                return Ok(Err("the journal cannot be used".to_owned()));
            }
        };
        let (journal, result) = off_the_loop(move || {
            let result = work(&mut journal);
            (journal, result)
        })
        .await?;
        Ok(match result {
            Ok(()) => {
                self.journal = State::Sound(journal);
                self.wait = FIRST_RETRY;
                Ok(())
            }
            // Making a sound journal small may fail and leave it as it was.
            Err(_) if journal.fault().is_none() => {
                self.journal = State::Sound(journal);
                Ok(())
            }
            Err(error) => {
                self.journal = State::Broken { journal, retry: now.boot + self.wait };
                self.wait = (self.wait * 2).min(LAST_RETRY);
                Err(error.to_string())
            }
        })
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.journal, State::Broken { .. })
    }

    /// Whether it has grown enough to be made small, or is broken and may be tried again.
    pub(super) fn wants_rewrite(&self, now: &Now) -> bool {
        match &self.journal {
            State::Sound(journal) => journal.wants_rewrite(),
            State::Broken { retry, .. } => now.boot >= *retry,
            State::Unread { .. } | State::Unusable | State::Away => false,
        }
    }

    /// Whether a journal that could not be read can be read now.
    pub(super) async fn is_back(&mut self, now: &Now) -> anyhow::Result<bool> {
        let State::Unread { retry } = &mut self.journal else { return Ok(false) };
        if now.boot < *retry {
            return Ok(false);
        }
        *retry = now.boot + self.wait;
        self.wait = (self.wait * 2).min(LAST_RETRY);
        let state = self.state.clone();
        off_the_loop(move || Journal::open(&state).is_ok()).await
    }

    pub(super) fn deadline(&self) -> Option<BootInstant> {
        match &self.journal {
            State::Broken { retry, .. } | State::Unread { retry } => Some(*retry),
            State::Sound(_) | State::Unusable | State::Away => None,
        }
    }
}

async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work on the journal ended in a panic")
}
