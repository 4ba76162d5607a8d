//! JSON from outside: one document, no member twice, bounded depth. Anything else is refused with a reason.
//!
//! A member that stands twice is ambiguous: two readers may act on different ones, so nobody acts on it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a payload: JSON, or nothing, which is `null`. The error is for people.
///
/// Depth is bounded at 128 by `serde_json`; size is for the caller to bound.
pub fn payload(bytes: &[u8]) -> Result<Value, String> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    strict(bytes).map(unquote).map_err(|error| format!("not JSON: {error}"))
}

/// A string that is itself JSON is taken as that: some consoles quote whatever is typed into them.
pub fn unquote(value: Value) -> Value {
    match value {
        Value::String(text) => strict(text.as_bytes()).unwrap_or(Value::String(text)),
        value => value,
    }
}

/// One JSON document in which no object has a member twice.
pub fn strict(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("member `{}` stands twice", name.escape_debug())));
            }
            let Strict(value) = members.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn nothing_is_null_and_quoted_json_is_json() {
        assert_eq!(payload(b""), Ok(Value::Null));
        assert_eq!(payload(br#""{\"reason\":\"x\"}""#), Ok(json!({ "reason": "x" })));
        assert_eq!(payload(br#""hello""#), Ok(json!("hello")));
        assert_eq!(payload(br#""{\"a\":1,\"a\":2}""#), Ok(json!(r#"{"a":1,"a":2}"#)), "what is ambiguous stays text");
    }

    #[test]
    fn bad_input_is_refused_with_a_reason() {
        let nested = "[".repeat(100_000);
        let cases = [
            (&b"\xef\xbb\xbf{}"[..], "expected value"),
            (b"{} {}", "trailing"),
            (b"{", "EOF"),
            (b"{\"a\":1,\"a\":2}", "member `a` stands twice"),
            (b"[{\"b\":{\"c\":0,\"c\":0}}]", "member `c` stands twice"),
            (b"1e999", "out of range"),
            (b"\"\\ud800\"", "unexpected end of hex escape"),
            (b"\"\xff\"", "invalid unicode"),
            (nested.as_bytes(), "recursion limit exceeded"),
        ];
        for (bytes, expected) in cases {
            let why = payload(bytes).expect_err("bad input");
            assert!(why.starts_with("not JSON") && why.contains(expected), "{why}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_wherever_no_member_stands_twice(text in "[\\[\\]{}:,\"a0 ]{0,24}") {
            match (strict(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("stands twice")),
                (Err(_), Err(_)) => {}
                (Ok(_), Err(error)) => prop_assert!(false, "we took what serde_json refuses: {error}"),
            }
        }
    }
}
