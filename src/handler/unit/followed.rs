//! A job that runs, until it has ended. A bus that is lost is looked for again, and so is the job: meanwhile it goes on.

use std::time::Duration;

use super::end::End;
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
    stop: Order,
}

struct Link {
    services: Services,
    unit: Loaded,
    changes: Changes,
    /// The state may have changed since it was last looked at.
    is_stale: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Wanted,
    Given,
}

pub(super) enum News {
    /// What it says of itself, new.
    Said(String),
    Ended(End),
}

impl Followed {
    pub(super) fn started(bus: String, services: Services, unit: Loaded, changes: Changes) -> Self {
        let name = unit.name().clone();
        let link = Some(Link { services, unit, changes, is_stale: true });
        Self { link, is_known: true, ..Self::lost(bus, name) }
    }

    /// One that has to be found first.
    pub(super) fn lost(bus: String, name: UnitName) -> Self {
        let (said, stop) = (String::new(), Order::None);
        Self { bus, name, link: None, wait: FIRST_WAIT, said, is_known: false, stop }
    }

    /// It is to be stopped; its end is news as any other.
    pub(super) fn stop(&mut self) {
        if self.stop == Order::None {
            self.stop = Order::Wanted;
            if let Some(link) = &mut self.link {
                link.is_stale = true;
            }
        }
    }

    /// Waits for news. May be dropped without loss.
    pub(super) async fn next(&mut self) -> News {
        loop {
            match self.step().await {
                Ok(Some(news)) => return news,
                Ok(None) => {}
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
        }
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
        // Looked at before, so that what has ended by itself is told so.
        if self.stop == Order::Wanted {
            match link.services.stop(&link.unit).await {
                Err(error @ CallError::Lost(_)) => return Err(error),
                Err(error) => tracing::warn!(unit = %self.name, "the job cannot be stopped: {error}"),
                Ok(()) => {}
            }
            self.stop = Order::Given;
        }
        link.is_stale = false;
        if state.said.is_empty() || state.said == self.said {
            return Ok(None);
        }
        self.said.clone_from(&state.said);
        Ok(Some(News::Said(state.said)))
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
