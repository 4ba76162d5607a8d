//! The two paces at which a bench sends commands over a line, and what each takes: one at a time, or so many under way.

use std::time::{Duration, Instant};

use crate::broker::Line;
use crate::figures::Times;

/// Sends each command when the one before was answered.
pub(crate) fn one_at_a_time(line: &mut Line, method: &str, count: usize) -> Times {
    let mut times = Times::default();
    for _ in 0..count {
        let begun = Instant::now();
        line.command(method);
        line.flush();
        line.answer();
        times.push(begun.elapsed());
        line.flush();
    }
    times
}

/// Keeps `window` commands under way.
pub(crate) fn several(line: &mut Line, method: &str, count: usize, window: usize) -> Duration {
    let begun = Instant::now();
    let mut sent = 0;
    for answered in 0..count {
        while sent < count && sent - answered < window {
            line.command(method);
            sent += 1;
        }
        line.answer();
    }
    line.flush();
    begun.elapsed()
}
