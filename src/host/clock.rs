//! The clocks. Every present moment in the program comes from here, as a value.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::now::{BootId, BootInstant, Clock, Now, Timestamp};

/// The present moment in the boot with this id.
pub fn now(boot_id: BootId) -> Now {
    Now { wall: wall(), boot: boot(), boot_id, clock: Clock::Trusted }
}

/// The wall clock (`CLOCK_REALTIME`); may jump either way.
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub fn wall() -> Timestamp {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
    Timestamp::from_micros(tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1_000))
}

/// Time since the kernel started, suspend included (`CLOCK_BOOTTIME`).
#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
pub fn boot() -> BootInstant {
    let time = clock_gettime(ClockId::Boottime);
    BootInstant(Duration::try_from(time).expect("the boot clock begins at zero"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "judged by the standard library's clock")]
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
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert!(now.wall.unix_seconds().abs_diff(since.as_secs().cast_signed()) < 20);
        assert!(now.wall >= before.0, "no step during the test");
    }
}
