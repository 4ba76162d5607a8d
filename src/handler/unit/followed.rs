//! A job that runs, until it has ended. A bus that is lost is looked for again, and so is the job: meanwhile it goes on.

use std::time::Duration;

use super::Unit;
use super::end::End;
use super::stopping::Stopping;
use crate::host::clock;
use crate::host::services::{CallError, Changes, Loaded, Services};
use crate::model::unit_name::UnitName;

/// The first wait before a bus that is gone is looked for again; each is twice the last.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Followed {
    bus: String,
    name: UnitName,
    link: Option<Link>,
    wait: Duration,
    said: String,
    /// It was started, or seen not to be at its end, in this life of the agent.
    is_known: bool,
    /// The last start of it that was seen.
    invocation: String,
    stopping: Stopping,
}

struct Link {
    services: Services,
    unit: Loaded,
    changes: Changes,
    /// The state may have changed since it was last looked at.
    is_stale: bool,
}

pub(super) enum News {
    /// What it says of itself, new.
    Said(String),
    Ended(End),
}

impl Followed {
    pub(super) fn started(of: &Unit, services: Services, unit: Loaded, changes: Changes) -> Self {
        let name = unit.name().clone();
        let link = Some(Link { services, unit, changes, is_stale: true });
        Self { link, is_known: true, ..Self::lost(of, name) }
    }

    /// One that has to be found first.
    pub(super) fn lost(of: &Unit, name: UnitName) -> Self {
        Self {
            bus: of.bus.clone(),
            name,
            link: None,
            wait: FIRST_WAIT,
            said: String::new(),
            is_known: false,
            invocation: String::new(),
            stopping: Stopping::not_yet(of.slack),
        }
    }

    /// It is to be stopped. Its end is news as any other, and so is that systemd cannot bring it about.
    pub(super) fn stop(&mut self) {
        self.stopping.want(clock::awake());
        if let Some(link) = &mut self.link {
            link.is_stale = true;
        }
    }

    /// Waits for news. May be dropped without loss.
    pub(super) async fn next(&mut self) -> News {
        loop {
            // Each turn may set it anew.
            let until = self.stopping.until();
            tokio::select! {
                biased;
                news = self.turn() => if let Some(news) = news {
                    return news;
                },
                () = passed(until) => return News::Ended(End::Overdue { invocation: self.invocation.clone() }),
            }
        }
    }

    /// Waits until nothing goes on any more, however long that takes.
    pub(super) async fn end(mut self) {
        while !matches!(self.turn().await, Some(News::Ended(_))) {}
    }

    /// A step, and a wait where that fails.
    async fn turn(&mut self) -> Option<News> {
        match self.step().await {
            Ok(news) => return news,
            Err(CallError::Lost(why)) => {
                tracing::warn!(unit = %self.name, "the job is not heard of, and looked for again: {why}");
                self.link = None;
                tokio::time::sleep(self.wait).await;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
            Err(error) => {
                // Nothing that waiting would mend, but nothing is known of the job either.
                tracing::warn!(unit = %self.name, "the job cannot be looked at: {error}");
                tokio::time::sleep(LONGEST_WAIT).await;
                self.link = None;
            }
        }
        None
    }

    /// Gets one step further: finds it, looks at it, stops it, or waits for a change.
    async fn step(&mut self) -> Result<Option<News>, CallError> {
        let Some(link) = &mut self.link else {
            let Some(link) = Link::find(&self.bus, &self.name).await? else { return Ok(Some(News::Ended(End::Gone))) };
            self.link = Some(link);
            self.wait = FIRST_WAIT;
            return Ok(None);
        };
        if !link.is_stale {
            link.changes.next().await?;
            link.is_stale = true;
        }
        let state = Box::new(link.services.state(&link.unit).await?);
        if state.is_settled() {
            let end = End::Settled { job: link.changes.job(), is_known: self.is_known, state };
            return Ok(Some(News::Ended(end)));
        }
        self.is_known = true;
        self.invocation.clone_from(&state.invocation);
        self.stopping.seen(&state, clock::awake());
        // Looked at before, so that what has ended by itself is told so.
        if self.stopping.is_wanted() {
            match link.services.stop(&link.unit).await {
                Err(error @ CallError::Lost(_)) => return Err(error),
                Err(error) => tracing::warn!(unit = %self.name, "the job cannot be stopped: {error}"),
                Ok(()) => {}
            }
            self.stopping.given(clock::awake());
        }
        link.is_stale = false;
        if state.said.is_empty() || state.said == self.said {
            return Ok(None);
        }
        self.said.clone_from(&state.said);
        Ok(Some(News::Said(state.said)))
    }
}

async fn passed(until: Option<Duration>) {
    match until {
        Some(until) => tokio::time::sleep(until.saturating_sub(clock::awake())).await,
        None => std::future::pending().await,
    }
}

/// Ends when a job has had its time, counted from its start; never, if systemd does not know it.
pub(super) async fn late(bus: String, name: UnitName, time_limit: Duration) {
    let begun = async || {
        let services = Services::connect(&bus).await?;
        let Some(unit) = services.find(&name).await? else { return Ok(None) };
        Ok::<_, CallError>(services.state(&unit).await?.begun)
    };
    let begun = loop {
        match begun().await {
            Ok(begun) => break begun,
            // Whoever follows the job says so.
            Err(_) => tokio::time::sleep(LONGEST_WAIT).await,
        }
    };
    match begun {
        Some(ago) => tokio::time::sleep(time_limit.saturating_sub(ago)).await,
        None => std::future::pending().await,
    }
}

impl Link {
    /// Nothing: systemd does not have it in memory.
    async fn find(bus: &str, name: &UnitName) -> Result<Option<Self>, CallError> {
        let services = Services::connect(bus).await?;
        let Some(unit) = services.find(name).await? else { return Ok(None) };
        let changes = services.changes(&unit).await?;
        Ok(Some(Self { services, unit, changes, is_stale: true }))
    }
}
