//! Weekly windows in which a reboot may be done, each in a time zone of its own.
//!
//! A window is open whenever a clock on the wall of its zone shows a time in it. So an hour that the clock skips in
//! spring is no time in it, an hour that is shown twice in autumn counts twice, and no reboot ever happens at a time
//! that nobody wrote down. The data of a zone comes in as a value: nothing is read here.

use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;

use crate::model::now::Timestamp;

/// The days as they are written, the first of the week first (ISO 8601).
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Changes of a zone's offset that are looked at in one search. Real zones have a few a year, and a window opens every
/// week.
const CHANGES: usize = 64;

/// Openings of the past that are searched for the one that is open now. The longest that ends is shorter.
const LOOK_BACK: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// Openings that are looked at in one search: those of [`LOOK_BACK`] at one a day, and one more.
const OPENINGS: usize = 10;

/// When reboots may be done, and how devices of a fleet are kept apart in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// None: always.
    pub list: Vec<Window>,
    /// A device waits for a random share of this after a window has opened, but never past its end. At most a day.
    pub spread: Duration,
    /// What tells this device from others. Its share follows from this and the opening, so a restart does not move it.
    pub seed: u64,
}

/// One weekly window. `Display` writes what [`Window::parse`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it opens, Monday first.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    /// Minutes after midnight, up to 1440; below `from` it is of the next day.
    to: u16,
    zone: String,
    rules: TimeZone,
}

/// The text is no window. Reads on after "… is".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAWindow {
    #[error("not a window: days, hours and a zone are expected, such as \"Sat,Sun 02:00-04:00 Europe/Berlin\"")]
    Form,
    #[error("not a window: it names no time zone; write \"UTC\" or one such as \"Europe/Berlin\" behind the hours")]
    NoZone,
    #[error("not a window: `{0}` is no day; Mon, Tue, Wed, Thu, Fri, Sat, Sun and ranges such as Mon-Fri are expected")]
    Day(String),
    #[error("not a window: `{0}` is no time of day; 00:00 to 24:00 is expected")]
    Time(String),
    #[error("not a window: it ends when it begins; a whole day is 00:00-24:00")]
    Empty,
    #[error("not a window: the zone `{zone}` {why}")]
    Zone { zone: String, why: String },
}

impl Window {
    /// Reads `[DAYS ]HH:MM-HH:MM ZONE`. Days are a list with commas, ranges with `-`; without them it is every day. An
    /// end that is not after the beginning is of the next day. `zones` gives the rules of a zone by its name, or words
    /// that say what is wrong with it.
    pub fn parse(text: &str, zones: impl FnOnce(&str) -> Result<TimeZone, String>) -> Result<Self, NotAWindow> {
        let parts: Vec<&str> = text.split_ascii_whitespace().take(4).collect();
        let (days, hours, zone) = match parts[..] {
            [days, hours, zone] => (read_days(days)?, hours, zone),
            [hours, zone] if hours.contains(':') => ([true; 7], hours, zone),
            [_, hours] if hours.contains(':') => return Err(NotAWindow::NoZone),
            [hours] if hours.contains(':') => return Err(NotAWindow::NoZone),
            _ => return Err(NotAWindow::Form),
        };
        let (from, to) = hours.split_once('-').ok_or(NotAWindow::Form)?;
        let (from, to) = (read_time(from)?, read_time(to)?);
        if from == 24 * 60 {
            return Err(NotAWindow::Time("24:00".to_owned()));
        }
        if from == to {
            return Err(NotAWindow::Empty);
        }
        let rules = zones(zone).map_err(|why| NotAWindow::Zone { zone: shown(zone), why })?;
        Ok(Self { days, from, to, zone: zone.to_owned(), rules })
    }

    /// The first moment at or after `from` at which it is open.
    pub fn opens(&self, from: Timestamp) -> Timestamp {
        self.seek(from, |local| self.until_open(local))
    }

    /// The first moment at or after `from` at which it is not open; decades away if it never closes.
    pub fn closes(&self, from: Timestamp) -> Timestamp {
        self.seek(from, |local| self.until_closed(local))
    }

    /// The first moment at or after `from` that lies as far ahead as `distance` says, on a clock that runs on evenly
    /// until the zone's offset changes and is asked anew then.
    fn seek(&self, from: Timestamp, distance: impl Fn(DateTime) -> Option<Duration>) -> Timestamp {
        let mut moment = from;
        for _ in 0..CHANGES {
            let local = self.rules.to_datetime(moment.instant());
            let found = distance(local).map(|distance| moment.saturating_add(distance));
            let change = self.rules.following(moment.instant()).next();
            let change = change.map(|change| Timestamp::from_instant(change.timestamp()));
            match (found, change) {
                (Some(found), Some(change)) if found < change => return found,
                (Some(found), None) => return found,
                (_, Some(change)) => moment = change,
                (None, None) => return moment.saturating_add(Duration::MAX),
            }
        }
        moment
    }

    fn until_open(&self, local: DateTime) -> Option<Duration> {
        let today = since_midnight(local);
        let mut weekday = local.weekday();
        for day in 0..=7_u32 {
            let midnight = DAY * day;
            for (from, to) in self.hours(weekday).into_iter().flatten() {
                if today < midnight + to {
                    return Some((midnight + from).saturating_sub(today));
                }
            }
            weekday = weekday.wrapping_add(1_i8);
        }
        None
    }

    fn until_closed(&self, local: DateTime) -> Option<Duration> {
        let today = since_midnight(local);
        let mut moment = today;
        let mut weekday = local.weekday();
        for day in 0..=7_u32 {
            let midnight = DAY * day;
            for (from, to) in self.hours(weekday).into_iter().flatten() {
                if midnight + from <= moment && moment < midnight + to {
                    moment = midnight + to;
                }
            }
            if moment < midnight + DAY {
                return Some(moment.saturating_sub(today));
            }
            weekday = weekday.wrapping_add(1_i8);
        }
        None
    }

    /// When it is open on such a day, since midnight: what is left from the day before, then what begins on it.
    fn hours(&self, weekday: Weekday) -> [Option<(Duration, Duration)>; 2] {
        let opens = |weekday: Weekday| self.days[usize::from(weekday.to_monday_zero_offset().unsigned_abs())];
        let (from, to) = (MINUTE * u32::from(self.from), MINUTE * u32::from(self.to));
        let is_overnight = to < from;
        [
            (is_overnight && opens(weekday.wrapping_sub(1_i8))).then_some((Duration::ZERO, to)),
            opens(weekday).then_some((from, if is_overnight { DAY } else { to })),
        ]
    }
}

impl Windows {
    /// The first moment at or after `now` at which a reboot may be done that was not to be done before `earliest`.
    pub fn next(&self, earliest: Timestamp, now: Timestamp) -> Timestamp {
        let now = now.max(earliest);
        self.list.iter().map(|window| self.next_in(window, earliest, now)).min().unwrap_or(now)
    }

    fn next_in(&self, window: &Window, earliest: Timestamp, now: Timestamp) -> Timestamp {
        // A command that comes while the window is open would find all devices in it: they wait for their share too.
        let mut from = earliest.max(now.saturating_sub(LOOK_BACK));
        for _ in 0..OPENINGS {
            let opens = window.opens(from);
            let closes = window.closes(opens);
            let due = opens.saturating_add(self.share(opens, closes.since(opens)));
            if now < due {
                return due;
            }
            if now < closes {
                return now;
            }
            from = closes;
        }
        from
    }

    /// This device's share of the spread, shorter than what is open.
    fn share(&self, opens: Timestamp, open: Duration) -> Duration {
        let most = self.spread.min(open).as_micros();
        let dice = u128::from(scatter(self.seed ^ opens.unix_micros().cast_unsigned()));
        u64::try_from((most * dice) >> 64).map_or(Duration::ZERO, Duration::from_micros)
    }
}

/// The finishing steps of `SplitMix64`: near seeds lead to numbers that are far apart.
fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn since_midnight(local: DateTime) -> Duration {
    let time = local.time();
    let part = |number: i8, unit: u64| u64::from(number.unsigned_abs()) * unit;
    let seconds = part(time.hour(), 3_600) + part(time.minute(), 60) + part(time.second(), 1);
    Duration::new(seconds, time.subsec_nanosecond().unsigned_abs())
}

// === Text

fn read_days(text: &str) -> Result<[bool; 7], NotAWindow> {
    let day = |name: &str| {
        let known = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
        known.ok_or_else(|| NotAWindow::Day(shown(name)))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        for number in (first..).take((last + 7 - first) % 7 + 1) {
            days[number % 7] = true;
        }
    }
    Ok(days)
}

/// `HH:MM`, up to 24:00, in minutes.
fn read_time(text: &str) -> Result<u16, NotAWindow> {
    let wrong = || NotAWindow::Time(shown(text));
    let number = |digits: &str| match digits.as_bytes() {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Ok(u16::from(tens - b'0') * 10 + u16::from(ones - b'0')),
        _ => Err(wrong()),
    };
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = hours * 60 + minutes;
    if minutes < 60 && time <= 24 * 60 { Ok(time) } else { Err(wrong()) }
}

/// A part of the text as an error repeats it.
fn shown(text: &str) -> String {
    text.chars().take(32).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days = DAYS.iter().zip(self.days).filter(|(_, opens)| *opens);
            for (number, (day, _)) in days.enumerate() {
                write!(out, "{}{day}", if number > 0 { "," } else { "" })?;
            }
            out.write_char(' ')?;
        }
        let (from, to) = (self.from, self.to);
        write!(out, "{:02}:{:02}-{:02}:{:02} {}", from / 60, from % 60, to / 60, to % 60, self.zone)
    }
}

#[cfg(test)]
mod tests;
