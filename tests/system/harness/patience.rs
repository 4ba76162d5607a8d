//! Waiting for what must come, and not for ever.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a story waits for what must come; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until there is something; panics with `what` when [`PATIENCE`] is over.
#[track_caller]
pub(crate) fn eventually<T>(what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// The same with another limit.
#[track_caller]
pub(crate) fn within<T>(limit: Duration, what: impl Display, look: impl FnMut() -> Option<T>) -> T {
    look_for(limit, look).unwrap_or_else(|| panic!("not within {} s: {what}", limit.as_secs()))
}

/// The same for one who has better words for the failure.
pub(super) fn look_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let found = look();
        if found.is_some() || began.elapsed() >= limit {
            return found;
        }
        sleep(LOOK);
    }
}
