//! What a request's failures lead to: how long it waits until it is made again, and what people are told of it.
//!
//! The twin is read and the document is brought with tries of their own, so that the one's failures do not hold up the
//! other, and the one's success says nothing of the other.

use std::time::Duration;

use crate::model::now::BootInstant;

/// First wait after a request that failed; each further one doubles it.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(10);

/// And the longest.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// What the cloud refuses for what it is will be refused again.
pub(super) const REFUSED_WAIT: Duration = Duration::from_secs(15 * 60);

/// So many failures in a row are a problem. Fewer are everyday life of a busy cloud.
const TELLING: u32 = 3;

/// Draws a time up to this one.
pub(super) type Chance<'a> = &'a mut dyn FnMut(Duration) -> Duration;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// What the cloud has.
    Read,
    /// To take the document.
    Document,
}

/// How a request ended that the cloud answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It did not, or not so that it could be read.
    Silence,
    /// With this status.
    Status(u16),
    /// It was not even sent, since the cloud would not take it.
    Impossible(String),
}

/// The tries of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    failures: u32,
    /// It is not made before this.
    pub retry_at: BootInstant,
    /// The last failure was that the cloud is asked too much.
    is_throttled: bool,
    /// What people are told.
    why: Option<String>,
}

impl Failure {
    /// It was refused for what it is.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            // Too slow and too often say nothing of what was asked.
            Self::Silence | Self::Status(408 | 429) => false,
            Self::Status(status) => (400..500).contains(status),
            Self::Impossible(_) => true,
        }
    }

    /// It was not done, so what the cloud has is still known.
    pub(super) fn is_certain(&self) -> bool {
        self.is_refusal() || *self == Self::Status(429)
    }
}

impl Tries {
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    pub(super) fn failed(&mut self, request: Request, failure: &Failure, now: BootInstant, chance: Chance<'_>) {
        let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_WAIT);
        let most = if failure.is_refusal() { REFUSED_WAIT } else { doubled };
        self.failures = self.failures.saturating_add(1);
        self.is_throttled = *failure == Failure::Status(429);
        self.retry_at = now + most / 2 + chance(most / 2);
        if failure.is_refusal() || self.failures >= TELLING {
            self.why = Some(words(request, failure));
        }
    }

    /// There is another connection, and perhaps another cloud: it may go better there, unless too much is asked.
    pub(super) fn begin_anew(&mut self) {
        if !self.is_throttled {
            *self = Self::default();
        }
    }
}

fn words(request: Request, failure: &Failure) -> String {
    match (request, failure) {
        (Request::Document, Failure::Impossible(why)) => format!("the reported document cannot be sent: {why}"),
        (Request::Read, Failure::Impossible(why)) => format!("the cloud cannot be asked for the twin: {why}"),
        (Request::Document, failure) if failure.is_refusal() => {
            format!("the cloud refused the reported document with {}", outcome(failure))
        }
        (Request::Read, failure) if failure.is_refusal() => {
            format!("the cloud refused to show the twin with {}", outcome(failure))
        }
        (Request::Document, failure) => {
            format!("the reported document cannot be brought, again and again: {}", outcome(failure))
        }
        (Request::Read, failure) => format!("the twin cannot be read, again and again: {}", outcome(failure)),
    }
}

fn outcome(failure: &Failure) -> String {
    match failure {
        Failure::Status(status) => format!("status {status}"),
        Failure::Silence => "no answer that could be read".to_owned(),
        Failure::Impossible(why) => why.clone(),
    }
}
