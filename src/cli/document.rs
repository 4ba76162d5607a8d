//! Reading the daemon's documents for people. A member that is missing, or of another kind, is left out: the daemon may
//! be older or newer than this program.

use std::time::Duration;

use serde_json::Value;

use super::output::plain;
use crate::config::duration;
use crate::model::now::Timestamp;

/// A text or number at this place (RFC 6901), in one line.
pub(super) fn word(document: &Value, place: &str) -> Option<String> {
    match document.pointer(place)? {
        Value::String(text) => Some(plain(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The same, or a dash.
pub(super) fn word_or_dash(document: &Value, place: &str) -> String {
    word(document, place).unwrap_or_else(|| "-".to_owned())
}

/// A count at this place.
pub(super) fn count(document: &Value, place: &str) -> Option<u64> {
    document.pointer(place)?.as_u64()
}

pub(super) fn list<'a>(document: &'a Value, place: &str) -> &'a [Value] {
    document.pointer(place).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn moment(document: &Value, place: &str) -> Option<Timestamp> {
    document.pointer(place)?.as_str()?.parse().ok()
}

/// A moment at this place, and how far it is from now: `2026-11-21 04:00:07Z (3h 5m ago)`.
pub(super) fn time(document: &Value, place: &str, now: Timestamp) -> Option<String> {
    let at = moment(document, place)?;
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
    let distance =
        if at > now { format!("in {}", about(at.since(now))) } else { format!("{} ago", about(now.since(at))) };
    Some(format!("{seconds}Z ({distance})"))
}

/// The time between two moments.
pub(super) fn between(document: &Value, from: &str, to: &str) -> Option<String> {
    Some(about(moment(document, to)?.since(moment(document, from)?)))
}

/// Two units are enough to imagine a time by.
fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = match seconds {
        0..60 => return format!("{}s", (time.as_millis() + 500) / 1000),
        60..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    duration::show(Duration::from_secs(seconds / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_told_as_people_think_of_them() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let document =
            json!({ "a": { "past": "2026-11-21T04:54:59.700000Z", "next": "2026-11-21T12:00:30Z", "odd": 7 } });
        assert_eq!(time(&document, "/a/past", now).as_deref(), Some("2026-11-21 04:54:59Z (7h 5m ago)"));
        assert_eq!(time(&document, "/a/next", now).as_deref(), Some("2026-11-21 12:00:30Z (in 30s)"));
        assert_eq!(time(&document, "/a/odd", now), None);
        assert_eq!(between(&document, "/a/past", "/a/next").as_deref(), Some("7h 5m"));
        assert_eq!(about(Duration::from_millis(62_900)), "1m 2s");
        assert_eq!(about(Duration::from_secs(3 * 86_400 + 3_700)), "3d 1h");
        assert_eq!(about(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out() {
        let document = json!({ "text": "a\u{1b}b", "list": {} });
        assert_eq!(word(&document, "/text").as_deref(), Some("a\u{fffd}b"));
        assert_eq!(word(&document, "/list"), None);
        assert_eq!(list(&document, "/list"), &[] as &[Value]);
        assert_eq!(word_or_dash(&document, "/nothing/at/all"), "-");
    }
}
