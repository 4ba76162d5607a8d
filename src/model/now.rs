//! Time and boot identity as the model sees them: values that the edge read, never clocks.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Unit};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything the model may know of the present moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock. May jump either way.
    pub wall: Timestamp,
    /// Time since the kernel started, suspend included. Never jumps.
    pub boot: BootInstant,
    /// Which run of the kernel this is.
    pub boot_id: BootId,
    /// Whether `wall` may be believed.
    pub clock: Clock,
}

impl Now {
    /// The wall-clock time at which the kernel of this boot started.
    pub fn kernel_start(&self) -> Timestamp {
        self.wall.saturating_sub(self.boot.0)
    }
}

/// Whether the wall clock may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Somebody who keeps it says that it is right.
    Trusted,
    /// Nobody says so, and it is used all the same: nothing speaks against it.
    Unchecked,
    Doubtful,
}

impl Clock {
    /// Whether what it shows is taken for the time.
    pub fn is_believed(self) -> bool {
        self != Self::Doubtful
    }
}

/// A moment on the boot clock: the time since the kernel started, suspend included (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootInstant(pub Duration);

impl BootInstant {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// When something was, on the clock that does not step: noted where the wall clock of then was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub boot: BootId,
    pub up: BootInstant,
}

impl Doubt {
    /// The present moment, if its wall clock is doubtful.
    pub fn of(now: &Now) -> Option<Self> {
        (now.clock == Clock::Doubtful).then_some(Self { boot: now.boot_id, up: now.boot })
    }

    /// What the wall clock should have shown, now that it is known when the kernel of `boot` started.
    pub fn resolved(self, boot: BootId, kernel_start: Timestamp) -> Option<Timestamp> {
        (self.boot == boot).then(|| kernel_start.saturating_add(self.up.0))
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// The kernel's random id of one boot (`/proc/sys/kernel/random/boot_id`, a UUID).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(u128);

impl FromStr for BootId {
    type Err = NotABootId;

    fn from_str(text: &str) -> Result<Self, NotABootId> {
        let shape = [8, 4, 4, 4, 12];
        let parts: Vec<&str> = text.trim_end().split('-').collect();
        let fits = parts.len() == shape.len()
            && parts
                .iter()
                .zip(shape)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !fits {
            return Err(NotABootId);
        }
        u128::from_str_radix(&parts.concat(), 16).map(Self).map_err(|_| NotABootId)
    }
}

/// The text is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a boot id: a UUID such as 7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10 is expected")]
pub struct NotABootId;

impl fmt::Display for BootId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(out, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

/// A moment on the wall clock, to the microsecond, in UTC. Written as RFC 3339, e.g. `2026-11-21T04:00:07.120000Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Microseconds since 1970; beyond what the calendar holds it is the first or last moment of it.
    pub fn from_micros(micros: i64) -> Self {
        let end = if micros < 0 { Self::first() } else { Self::last() };
        jiff::Timestamp::from_microsecond(micros).map_or(end, Self)
    }

    /// The first moment of the calendar, 9999 BC.
    fn first() -> Self {
        Self(jiff::Timestamp::MIN)
    }

    /// The last moment of the calendar, in 9999, that is a whole number of microseconds.
    fn last() -> Self {
        // Not by way of its microseconds: jiff 0.2.46 takes those of the last millisecond for too many.
        Self(jiff::Timestamp::new(jiff::Timestamp::MAX.as_second(), 999_999_000).unwrap_or(jiff::Timestamp::MAX))
    }

    /// As the calendar takes it.
    pub(super) fn instant(self) -> jiff::Timestamp {
        self.0
    }

    /// A moment of the calendar, to the microsecond.
    pub(super) fn from_instant(exact: jiff::Timestamp) -> Self {
        Self::to_the_microsecond(exact)
    }

    /// Microseconds since 1970.
    pub fn unix_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Whole seconds since 1970, as in the claims of a JWT.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or(Duration::ZERO)
    }

    /// `self + time`, at most the last moment of the calendar.
    #[must_use]
    pub fn saturating_add(self, time: Duration) -> Self {
        SignedDuration::try_from(time)
            .ok()
            .and_then(|time| self.0.checked_add(time).ok())
            .map_or(Self::last(), Self::to_the_microsecond)
    }

    /// `self - time`, at least the first moment of the calendar.
    #[must_use]
    pub fn saturating_sub(self, time: Duration) -> Self {
        SignedDuration::try_from(time)
            .ok()
            .and_then(|time| self.0.checked_sub(time).ok())
            .map_or(Self::first(), Self::to_the_microsecond)
    }

    /// The moment that a clock shows after it was set ahead by so many microseconds; within the calendar.
    #[must_use]
    pub fn shifted(self, by: i64) -> Self {
        Self::from_micros(self.unix_micros().saturating_add(by))
    }

    /// How far apart two moments are, whichever is earlier.
    pub fn apart(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }

    /// What is read back from a record must equal what was written, so nothing finer than its text is kept.
    fn to_the_microsecond(exact: jiff::Timestamp) -> Self {
        exact.round(Unit::Microsecond).map_or(Self::last(), Self)
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        // jiff also takes a space for the `T` and a missing offset is refused by it, as RFC 3339 asks.
        text.parse().map(Self::to_the_microsecond).map_err(|_| NotATime)
    }
}

/// The text is not a time in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: RFC 3339 such as 2026-11-21T04:00:07Z is expected")]
pub struct NotATime;

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.6}", self.0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_are_read_as_the_kernel_writes_them_and_nothing_else_is() {
        let text = "7c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10";
        let id: BootId = format!("{text}\n").parse().expect("the kernel's form");
        assert_eq!(id.to_string(), text);
        for wrong in ["", "7c1a0f0e", "7c1a0f0e3c5b4d0a9c412f4f5b8e8a10", "+c1a0f0e-3c5b-4d0a-9c41-2f4f5b8e8a10"] {
            assert_eq!(wrong.parse::<BootId>(), Err(NotABootId), "{wrong:?}");
        }
    }

    #[test]
    fn times_have_six_digits_and_come_back_equal() {
        let time: Timestamp = "2026-11-21T05:00:07.12+01:00".parse().expect("RFC 3339");
        assert_eq!(time.to_string(), "2026-11-21T04:00:07.120000Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        let finer: Timestamp = "2026-11-21T04:00:07.1234567Z".parse().expect("RFC 3339");
        assert_eq!(finer.to_string().parse(), Ok(finer));
        for wrong in ["", "2026-11-21", "2026-11-21T04:00:07", "soon"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(NotATime), "{wrong:?}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_the_calendar() {
        let last = Timestamp::from_micros(i64::MAX);
        assert_eq!(last.to_string(), "9999-12-30T22:00:00.999999Z");
        assert_eq!(last.saturating_add(Duration::MAX), last);
        for end in [last, Timestamp::from_micros(i64::MIN)] {
            assert_eq!(end.to_string().parse(), Ok(end), "an end of the calendar is read back as it was");
        }
        assert_eq!(
            Timestamp::from_micros(i64::MIN).saturating_sub(Duration::from_secs(1)),
            Timestamp::from_micros(i64::MIN)
        );
        assert_eq!(Timestamp::from_micros(0).since(last), Duration::ZERO);
    }
}
