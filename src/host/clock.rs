//! The clocks. Every present moment in the program comes from here, as a value.
//!
//! `alarm.rs` wakes a task at a moment of the boot clock, and when somebody sets the wall clock; `keepers.rs` asks those who
//! keep the wall clock whether it is right. Whether it is believed, the daemon decides from all of that.

mod alarm;
mod keepers;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::now::{BootId, BootInstant, Clock, Now, Timestamp};

pub use alarm::{Alarm, Steps};
pub use keepers::{Keepers, Word};

/// No release of this program is older than this moment, in seconds since 1970: 2026-01-01T00:00:00Z. A clock that shows
/// less has not been set.
///
/// A constant, so that the same source gives the same bytes on whichever day it is built.
const NO_EARLIER: i64 = 1_767_225_600;

/// Two clocks that are read within this time are read at one moment.
const TOGETHER: Duration = Duration::from_millis(5);
/// How often that is tried. A machine that is never so quick has no use for more.
const TRIES: u8 = 8;

/// The earliest moment that a clock can show which is right; see `NO_EARLIER`.
pub fn earliest() -> Timestamp {
    Timestamp::from_micros(NO_EARLIER * 1_000_000)
}

/// The present moment in the boot with this id, for whoever takes the wall clock as it is.
pub fn now(boot_id: BootId) -> Now {
    let (wall, boot) = both();
    Now { wall, boot, boot_id, clock: Clock::Trusted }
}

/// The wall clock (`CLOCK_REALTIME`); may jump either way.
///
/// Asked of the C library, as all other programs of the machine do, and not of the kernel by a way around it: so what an
/// administrator has put before the C library's clock counts for us too.
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub fn wall() -> Timestamp {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => micros(before.duration()).saturating_neg(),
    })
}

/// Time since the kernel started, without suspend (`CLOCK_MONOTONIC`), as systemd stamps what it does.
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub fn awake() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).expect("the clock begins at zero")
}

/// Time since the kernel started, suspend included (`CLOCK_BOOTTIME`).
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub fn boot() -> BootInstant {
    let time = clock_gettime(ClockId::Boottime);
    BootInstant(Duration::try_from(time).expect("the boot clock begins at zero"))
}

/// Wall clock and boot clock at one moment. If this thread stood still between the two, they are asked again: read apart they
/// would tell of a step that nobody made.
pub fn both() -> (Timestamp, BootInstant) {
    for _ in 0..TRIES {
        let (before, wall, after) = (boot(), wall(), boot());
        if after.since(before) <= TOGETHER {
            return (wall, after);
        }
    }
    (wall(), boot())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "judged by the kernel's own word")]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_those_of_the_kernel() {
        let before = (wall(), boot());
        std::thread::sleep(Duration::from_millis(20));
        let now = now("7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10".parse().expect("a UUID"));
        let passed = now.boot.since(before.1);
        assert!((Duration::from_millis(20)..Duration::from_secs(20)).contains(&passed), "{passed:?}");

        let seconds = |path, field: &str| -> f64 {
            let text = std::fs::read_to_string(path).expect("proc");
            let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let uptime = seconds("/proc/uptime", "");
        assert!((uptime - now.boot.0.as_secs_f64()).abs() < 20.0, "up for {uptime} s, boot clock {:?}", now.boot);
        let kernel = clock_gettime(ClockId::Realtime).tv_sec;
        assert!(now.wall.unix_seconds().abs_diff(kernel) < 20);
        assert!(now.wall >= before.0, "no step during the test");
    }

    #[test]
    fn the_earliest_moment_is_before_the_newest_release_and_not_long_before() {
        let changelog = include_str!("../../packaging/debian/changelog");
        let newest = changelog.lines().find(|line| line.starts_with(" -- ")).expect("a signed entry");
        let (_, date) = newest.split_once(">  ").expect("a date behind the address");
        let released = jiff::fmt::rfc2822::parse(date).expect("a date of RFC 2822").timestamp().as_second();
        let days = (released - NO_EARLIER) / (24 * 60 * 60);
        assert!((0..=2 * 366).contains(&days), "{days} days before {date}; raise the constant with a release");
        assert_eq!(earliest().to_string(), "2026-01-01T00:00:00.000000Z");
    }
}
