//! A small part of the query language of a hub: `SELECT * FROM devices [WHERE member = literal [AND …]]`, and `devices.modules`.
//!
//! What is beyond that is refused with a reason, never answered in part.
//!
//! Source: "IoT Hub query language for device and module twins, jobs, and message routing" (learn.microsoft.com/azure/iot-hub).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Azure, HubError};
use crate::model::digest::Digest;

/// The longest query, in bytes.
const LONGEST_QUERY: usize = 8 * 1_024;
/// The most twins of a page, and as many as there are on one where the caller does not say.
const LONGEST_PAGE: usize = 1_000;
/// What is understood, for errors.
const UNDERSTOOD: &str =
    "the stand-in understands SELECT * FROM devices|devices.modules [WHERE member = 'text'|number|true|false [AND …]]";

/// One page of the answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    /// Twins, as the service shows them.
    pub(crate) items: Vec<Value>,
    /// What asks for the next page; `None` after the last one.
    pub(crate) continuation: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Query {
    modules: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq)]
struct Condition {
    /// The names from the twin to the member.
    path: Vec<String>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// A name with its dots, a key word or `*`.
    Plain(String),
    Literal(Value),
    Equals,
}

impl Azure {
    /// Answers a query: a page of at most `most` twins in the order of their names, from the beginning or from where a page
    /// before ended.
    pub(crate) fn query(&self, text: &str, most: Option<usize>, continuation: Option<&str>) -> Result<Page, HubError> {
        let query = Query::parse(text).map_err(|why| HubError::invalid(format!("Query: {why}; {UNDERSTOOD}.")))?;
        let most = match most.unwrap_or(LONGEST_PAGE) {
            0 => return Err(HubError::invalid("x-ms-max-item-count must not be 0.")),
            most => most.min(LONGEST_PAGE),
        };
        let after = continuation.map(|token| name_in(token, text)).transpose()?;
        let mut matching = self
            .twins(query.modules)
            .map(|(name, twin)| (name.to_string(), twin))
            .filter(|(_, twin)| query.conditions.iter().all(|condition| condition.holds(twin)))
            .skip_while(|(name, _)| after.as_ref().is_some_and(|after| name <= after))
            .peekable();
        let (mut items, mut last) = (Vec::new(), String::new());
        while items.len() < most
            && let Some((name, twin)) = matching.next()
        {
            items.push(twin);
            last = name;
        }
        let continuation = matching.peek().is_some().then(|| continuation_after(&last, text));
        Ok(Page { items, continuation })
    }
}

/// Leads on behind a name, in the answer to this query alone.
fn continuation_after(name: &str, query: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {name}", Digest::of(query.as_bytes()).short()))
}

fn name_in(continuation: &str, query: &str) -> Result<String, HubError> {
    let wrong = || HubError::invalid("x-ms-continuation is not from an answer to this query.");
    let bytes = URL_SAFE_NO_PAD.decode(continuation).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (digest, name) = text.split_once(' ').ok_or_else(wrong)?;
    if digest == Digest::of(query.as_bytes()).short() { Ok(name.to_owned()) } else { Err(wrong()) }
}

impl Query {
    fn parse(text: &str) -> Result<Self, String> {
        let words = words(text)?;
        let mut words = words.iter();
        for expected in ["SELECT", "*", "FROM"] {
            keyword(words.next(), expected)?;
        }
        let modules = match words.next() {
            Some(Word::Plain(source)) if source.eq_ignore_ascii_case("devices") => false,
            Some(Word::Plain(source)) if source.eq_ignore_ascii_case("devices.modules") => true,
            _ => return Err("only devices and devices.modules can be asked".to_owned()),
        };
        let mut conditions = Vec::new();
        if let Some(next) = words.next() {
            keyword(Some(next), "WHERE")?;
            loop {
                conditions.push(Condition::parse(&mut words)?);
                match words.next() {
                    None => break,
                    next => keyword(next, "AND")?,
                }
            }
        }
        Ok(Self { modules, conditions })
    }
}

fn keyword(word: Option<&Word>, expected: &str) -> Result<(), String> {
    match word {
        Some(Word::Plain(word)) if word.eq_ignore_ascii_case(expected) => Ok(()),
        _ => Err(format!("{expected} is expected")),
    }
}

impl Condition {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a Word>) -> Result<Self, String> {
        let (Some(Word::Plain(path)), Some(Word::Equals), Some(value)) = (words.next(), words.next(), words.next())
        else {
            return Err("a condition is not member = literal".to_owned());
        };
        let value = match value {
            Word::Literal(value) => value.clone(),
            Word::Plain(word) if word.eq_ignore_ascii_case("true") => Value::Bool(true),
            Word::Plain(word) if word.eq_ignore_ascii_case("false") => Value::Bool(false),
            _ => return Err("a condition does not end with a literal".to_owned()),
        };
        let path: Vec<_> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("a member has no name".to_owned());
        }
        Ok(Self { path, value })
    }

    fn holds(&self, twin: &Value) -> bool {
        let member = self.path.iter().try_fold(twin, |value, name| value.get(name));
        match (member, &self.value) {
            (Some(Value::Number(is)), Value::Number(wanted)) => is.as_f64() == wanted.as_f64(),
            (member, wanted) => member == Some(wanted),
        }
    }
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    if text.len() > LONGEST_QUERY {
        return Err(format!("it has more than {LONGEST_QUERY} bytes"));
    }
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '=' => (Word::Equals, &rest[1..]),
            '*' => (Word::Plain("*".to_owned()), &rest[1..]),
            '\'' | '"' => {
                let (literal, after) = rest[1..].split_once(first).ok_or("a text has no end")?;
                if after.starts_with(first) || literal.contains('\\') {
                    return Err("quotes and escapes in a text are not understood".to_owned());
                }
                (Word::Literal(Value::from(literal)), after)
            }
            _ => {
                let inner = |letter: char| letter.is_ascii_alphanumeric() || "._-+$".contains(letter);
                let end = rest.find(|letter| !inner(letter)).unwrap_or(rest.len());
                if end == 0 {
                    return Err(format!("{first:?} is not understood"));
                }
                let (plain, after) = rest.split_at(end);
                let number = plain.starts_with(|first: char| first.is_ascii_digit() || first == '-');
                let word = if number {
                    Word::Literal(serde_json::from_str(plain).map_err(|_| format!("{plain} is no number"))?)
                } else {
                    Word::Plain(plain.to_owned())
                };
                (word, after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{HubName, IdentityBody, IfMatch, Settings, TwinBody, Write};
    use super::*;
    use crate::model::now::Timestamp;

    /// Devices `d0` to `d9`, of which the even ones are in `Rome`, and a module of `d3`.
    fn hub() -> Azure {
        let now = Timestamp::from_micros(0);
        let mut hub =
            Azure::new(Settings { skew: Duration::ZERO, hosts: Vec::new() }, None, Vec::new()).expect("a hub");
        for at in 0..10_u8 {
            let name = HubName::device(&format!("d{at}")).expect("a name");
            hub.put_identity(&name, IdentityBody::default(), None, now).expect("a device");
            let number = hub.number_of(&name).expect("it was just made");
            let city = if at % 2 == 0 { "Rome" } else { "Bern" };
            let body = json!({"tags": {"site": {"city": city, "floor": at, "open": at < 3}}});
            let body = TwinBody::parse(body.to_string().as_bytes()).expect("a body");
            hub.update_twin(number, body, &IfMatch::Any, Write::Patch, now).expect("it is allowed");
        }
        let module = HubName::device("d3").and_then(|name| name.module("m")).expect("a name");
        hub.put_identity(&module, IdentityBody::default(), None, now).expect("a module");
        hub
    }

    fn ids(page: &Page) -> String {
        page.items.iter().map(|twin| twin["deviceId"].as_str().expect("a name")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn conditions_are_members_and_literals() {
        let hub = hub();
        for (query, found) in [
            ("SELECT * FROM devices", "d0 d1 d2 d3 d4 d5 d6 d7 d8 d9"),
            ("select*from devices where tags.site.city='Rome'", "d0 d2 d4 d6 d8"),
            ("SELECT * FROM devices WHERE tags.site.city = \"Rome\" AND tags.site.open = true", "d0 d2"),
            ("SELECT * FROM devices WHERE tags.site.floor = 7.0", "d7"),
            ("SELECT * FROM devices WHERE tags.site.floor = '7'", ""),
            ("SELECT * FROM devices WHERE deviceId = 'd5' and status = 'enabled'", "d5"),
            ("SELECT * FROM devices WHERE properties.reported.none = 1", ""),
            ("SELECT * FROM devices.modules", "d3"),
        ] {
            let page = hub.query(query, None, None).expect(query);
            assert_eq!((ids(&page).as_str(), page.continuation), (found, None), "{query}");
        }
    }

    #[test]
    fn an_answer_comes_page_by_page_even_if_devices_go() {
        let mut hub = hub();
        let query = "SELECT * FROM devices WHERE tags.site.city = 'Rome'";
        let first = hub.query(query, Some(2), None).expect("a page");
        assert_eq!(ids(&first), "d0 d2");
        let next = first.continuation.expect("there is more");
        hub.delete_identity(&HubName::device("d2").expect("a name"), &IfMatch::Any).expect("a device");
        let second = hub.query(query, Some(2), Some(&next)).expect("a page");
        assert_eq!(ids(&second), "d4 d6");
        let last = hub.query(query, Some(2), second.continuation.as_deref()).expect("a page");
        assert_eq!((ids(&last).as_str(), last.continuation), ("d8", None));
        for (other, continuation) in [("SELECT * FROM devices", &*next), (query, "AAAA"), (query, "?"), (query, "")] {
            assert_eq!(hub.query(other, None, Some(continuation)).expect_err("not from there").status, 400);
        }
        assert_eq!(hub.query(query, Some(0), None).expect_err("no page").status, 400);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let hub = hub();
        for query in [
            "",
            "SELECT",
            "SELECT deviceId FROM devices",
            "SELECT * FROM devices.jobs",
            "SELECT * FROM devices WHERE",
            "SELECT * FROM devices WHERE a",
            "SELECT * FROM devices WHERE a = ",
            "SELECT * FROM devices WHERE a = b",
            "SELECT * FROM devices WHERE a > 1",
            "SELECT * FROM devices WHERE a != 1",
            "SELECT * FROM devices WHERE a = 1 OR b = 2",
            "SELECT * FROM devices WHERE a = 1 AND",
            "SELECT * FROM devices WHERE a..b = 1",
            "SELECT * FROM devices WHERE is_defined(a)",
            "SELECT * FROM devices WHERE a = 'x",
            "SELECT * FROM devices WHERE a = 'it''s'",
            "SELECT * FROM devices WHERE a = 1-2",
            "SELECT * FROM devices ORDER BY deviceId",
            &format!("SELECT * FROM devices{}", " ".repeat(9_000)),
        ] {
            let error = hub.query(query, None, None).expect_err(query);
            assert!(error.status == 400 && error.message.contains("understands"), "{query}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_or_refused(tail in "[a-c.=' \"*0-9ANDWHERü-]{0,40}") {
            let hub = Azure::new(Settings { skew: Duration::ZERO, hosts: Vec::new() }, None, Vec::new()).expect("a hub");
            for text in [tail.clone(), format!("SELECT * FROM devices WHERE {tail}")] {
                match hub.query(&text, None, Some(&tail)) {
                    Ok(page) => prop_assert!(page.items.is_empty()),
                    Err(error) => prop_assert_eq!(error.status, 400),
                }
            }
        }
    }
}
