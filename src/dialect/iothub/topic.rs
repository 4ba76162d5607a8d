//! The topics of an IoT hub and of its provisioning service: a path, and properties behind it as in a URL's query.
//!
//! What is read here came from outside, so every part is bounded or refused; what a message means is not known here.
//!
//! Source: "Communicate with an IoT hub using the MQTT protocol" (learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub).

use crate::dialect::sas::{percent_decode, percent_encode};

/// The longest `$rid` that is given back, in bytes. The hub's own and those of its libraries have at most 36.
const LONGEST_RID: usize = 256;

/// The most properties of one topic that are looked at. A topic has at most 65 535 bytes (MQTT 3.1.1, 1.5.3).
const MOST_PROPERTIES: usize = 64;

/// What stands behind a path: `name=value` parts with a `&` between two.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialect) struct Properties<'a>(&'a str);

impl<'a> Properties<'a> {
    pub(in crate::dialect) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The value as it stands. Names may be written with escapes, as the hub does with `$`.
    fn raw(self, name: &str) -> Option<&'a str> {
        self.0.split('&').take(MOST_PROPERTIES).find_map(|part| {
            let (found, value) = part.split_once('=')?;
            (found == name || percent_decode(found).is_some_and(|found| found == name)).then_some(value)
        })
    }

    /// The value with its escapes resolved.
    pub(in crate::dialect) fn get(self, name: &str) -> Option<String> {
        percent_decode(self.raw(name)?)
    }

    /// A value that is a whole number, without sign.
    pub(in crate::dialect) fn number(self, name: &str) -> Option<u64> {
        digits(self.raw(name)?)
    }

    /// The `$rid`, to be given back as it is. One that could change the meaning of a topic is none.
    pub(in crate::dialect) fn rid(self) -> Option<&'a str> {
        let fits = |rid: &&str| {
            (1..=LONGEST_RID).contains(&rid.len())
                && !rid.chars().any(|c| matches!(c, '+' | '#' | '/' | '&') || c.is_control())
        };
        self.raw("$rid").filter(fits)
    }
}

/// `path/?properties`; the properties may be missing.
pub(in crate::dialect) fn parted(topic: &str) -> (&str, Properties<'_>) {
    match topic.rsplit_once("/?") {
        Some((path, properties)) => (path, Properties(properties)),
        None => (topic.strip_suffix('/').unwrap_or(topic), Properties("")),
    }
}

/// The name of a device or module in a topic: the hub writes it as it is, some of its libraries with escapes.
pub(super) fn is_name(written: &str, name: &str) -> bool {
    written == name || percent_decode(written).is_some_and(|decoded| decoded == name)
}

/// What is added to the topic of telemetry.
pub(super) fn bag(properties: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| format!("{}={}", percent_encode(name), percent_encode(value));
    properties.iter().map(part).collect::<Vec<_>>().join("&")
}

/// `parse` takes a sign, and the hub writes none.
pub(in crate::dialect) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_given_back_as_it_is_or_not_at_all() {
        let rid = |text: &'static str| parted(text).1.rid();
        assert_eq!(rid("a/?$rid=1f"), Some("1f"));
        assert_eq!(rid("a/?%24rid=x%2Fy&$version=3"), Some("x%2Fy"));
        assert_eq!(rid("a/?$rid=a=b?c"), Some("a=b?c"));
        for bad in
            ["a", "a/", "a/?", "a/?$rid", "a/?$rid=", "a/?$rid=a/b", "a/?$rid=a+b", "a/?$rid=#", "a/?$rid=a\u{1}"]
        {
            assert_eq!(rid(bad), None, "{bad}");
        }
        let long = format!("a/?$rid={}", "x".repeat(LONGEST_RID + 1));
        assert_eq!(parted(&long).1.rid(), None);
        assert_eq!(parted(&long[..long.len() - 1]).1.rid().map(str::len), Some(LONGEST_RID));
    }

    #[test]
    fn numbers_have_no_sign_and_fit() {
        let number = |text: &'static str| Properties::new(text).number("$version");
        assert_eq!(number("$version=7"), Some(7));
        assert_eq!(number("a=b&%24version=18446744073709551615"), Some(u64::MAX));
        for bad in ["", "$version=", "$version=+7", "$version=-7", "$version=18446744073709551616", "$version=1.0"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_a_flood_of_properties_the_first_count() {
        let flood = "x=1&".repeat(10_000) + "$rid=1";
        assert_eq!(Properties::new(&flood).rid(), None);
    }

    #[test]
    fn a_bag_is_escaped_as_the_clouds_own_libraries_do() {
        let bag = bag(&[("$.mid", "m1"), ("$.ct", "application/json"), ("a b", "ü")]);
        assert_eq!(bag, "%24.mid=m1&%24.ct=application%2Fjson&a%20b=%C3%BC");
        assert_eq!(Properties::new(&bag).get("a b").as_deref(), Some("ü"));
    }
}
