//! Durations as people write them, in a file or a payload: `30s`, `5m`, `1h 30m`.
//!
//! Strict on purpose: whole numbers, each with its unit, the larger unit first, none twice. A number without a unit is
//! refused, for nobody can see whether it meant seconds or minutes.

use std::fmt::Write as _;
use std::time::Duration;

/// The units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a duration: numbers with their units are expected, the largest first, such as \"30s\", \"5m\" or \"1h 30m\""
)]
pub struct NotADuration;

/// Reads `{number}{unit}`, once or more, with or without a space between; units are `d`, `h`, `m`, `s`, `ms`.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or(NotADuration)?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let at = units.iter().position(|(name, _)| *name == unit).ok_or(NotADuration)?;
        let number: u64 = number.parse().map_err(|_| NotADuration)?;
        total = number.checked_mul(units[at].1).and_then(|part| total.checked_add(part)).ok_or(NotADuration)?;
        units = &units[at + 1..];
        rest = match after.strip_prefix(' ') {
            Some("") => return Err(NotADuration),
            Some(next) => next,
            None => after,
        };
    }
    if text.is_empty() { Err(NotADuration) } else { Ok(Duration::from_millis(total)) }
}

/// The duration as [`parse`] reads it; parts below a millisecond are left out.
pub fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            let space = if text.is_empty() { "" } else { " " };
            write!(text, "{space}{}{unit}", rest / length).expect("a String takes all text");
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in [
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("90m", 5_400_000),
            ("250ms", 250),
            ("1d 2h 3m 4s 5ms", 93_784_005),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text:?}");
        }
    }

    #[test]
    fn what_can_be_misread_is_refused() {
        for text in [
            "",
            " ",
            "30",
            "s",
            "1.5h",
            "-1s",
            "+1s",
            "1 h",
            "1h  30m",
            " 1h",
            "1h ",
            "30m 1h",
            "1s 1s",
            "1H",
            "1min",
            "1h,30m",
            "18446744073709551616s",
            "18446744073709551615d",
            "1h 30",
            "٣s",
            "1µs",
            "1s\n",
        ] {
            assert_eq!(parse(text), Err(NotADuration), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn no_text_is_a_panic(text in "[0-9dhms \\PC]{0,40}") {
            let _ = parse(&text);
        }
    }
}
