//! What programs say that serve methods: which ones, how a command goes, and how it ended.
//!
//! Parsed here, within the limits that the description of the interface names. Whether a name is free and whose a run is are
//! for the model to say.

use std::time::Duration;

use serde_json::{Map, Value};

use super::interface::{Complaint, Given};
use crate::model::ask::{Question, Refusal};
use crate::model::command::{Class, Method, MethodSpec, Origin, Outcome, Status};

/// Methods that one call may name.
const METHODS: usize = 32;
/// The shortest and the longest time limit, in seconds.
const TIME_LIMIT: (u64, u64) = (1, 24 * 60 * 60);
/// Commands of a serial method that may wait, and runs of a parallel one.
const WAITING: u64 = 64;
/// The largest payload of an outcome, in bytes of JSON, and the most that a method may allow itself.
const LARGEST_PAYLOAD: usize = 256 * 1_024;
/// The longest description and the longest word on how a command goes, in characters.
const LONGEST_TEXT: usize = 200;

/// The statuses that an outcome may have. 202 is no outcome.
const STATUSES: [Status; 13] = [
    Status::DONE,
    Status::NOT_A_COMMAND,
    Status::UNKNOWN_METHOD,
    Status::TIMED_OUT,
    Status::CONFLICT,
    Status::EXPIRED,
    Status::TOO_LARGE,
    Status::UNFIT_PAYLOAD,
    Status::HELD_BACK,
    Status::TOO_MANY,
    Status::CANCELLED,
    Status::FAILED,
    Status::CANNOT_NOW,
];

pub(super) fn serve(more: bool, given: &mut Given) -> Result<Question, Complaint> {
    if !more {
        return Err(Complaint::expected_more());
    }
    let Some(Value::Array(list)) = given.take("methods") else { return Err(Complaint::parameter("methods")) };
    if list.is_empty() || list.len() > METHODS {
        return Err(Complaint::parameter("methods"));
    }
    let methods = list.into_iter().enumerate().map(|(index, method)| {
        let Value::Object(method) = method else { return Err(Complaint::parameter(&format!("methods[{index}]"))) };
        spec(method).map_err(|member| Complaint::parameter(&format!("methods[{index}].{member}")))
    });
    Ok(Question::Serve { methods: methods.collect::<Result<_, _>>()? })
}

pub(super) fn finish(given: &mut Given) -> Result<Question, Complaint> {
    let run = run(given)?;
    let status = given.take("status").and_then(|status| u16::try_from(status.as_u64()?).ok()).map(Status);
    let status = status.filter(|status| STATUSES.contains(status)).ok_or_else(|| Complaint::parameter("status"))?;
    let payload = given.take("payload").unwrap_or_default();
    if payload.to_string().len() > LARGEST_PAYLOAD {
        return Err(Refusal::TooLarge { limit: LARGEST_PAYLOAD }.into());
    }
    Ok(Question::Finish { run, outcome: Outcome::new(status, payload) })
}

pub(super) fn progress(given: &mut Given) -> Result<Question, Complaint> {
    let (run, text) = (run(given)?, given.required("text")?);
    Ok(Question::Progress { run, text: text.chars().take(LONGEST_TEXT).collect() })
}

fn run(given: &mut Given) -> Result<u64, Complaint> {
    given.take("run").and_then(|run| run.as_u64()).ok_or_else(|| Complaint::parameter("run"))
}

/// A method as a program describes it; else the name of the member that is wrong.
fn spec(mut method: Map<String, Value>) -> Result<MethodSpec, String> {
    let mut take = |name: &str| method.remove(name).filter(|value| !value.is_null());
    let name = take("name").as_ref().and_then(Value::as_str).and_then(|name| Method::parse(name).ok()).ok_or("name")?;
    let mut spec = MethodSpec { origin: Origin::Program, ..MethodSpec::new(name) };
    if let Some(description) = take("description") {
        let text = description.as_str().filter(|text| text.chars().count() <= LONGEST_TEXT);
        text.ok_or("description")?.clone_into(&mut spec.description);
    }
    if let Some(harmless) = take("harmless") {
        spec.harmless = harmless.as_bool().ok_or("harmless")?;
    }
    let queue = whole(take("queue"), "queue", (0, WAITING))?;
    let parallel = whole(take("parallel"), "parallel", (1, WAITING))?;
    let class = take("class");
    spec.class = match (class.as_ref().map_or(Some("serial"), Value::as_str).ok_or("class")?, queue, parallel) {
        ("exclusive", None, None) => Class::Exclusive,
        ("serial", None, None) => spec.class,
        ("serial", Some(waiting), None) => Class::Serial(usize::try_from(waiting).map_err(|_| "queue")?),
        ("parallel", None, most) => Class::Parallel(usize::try_from(most.unwrap_or(1)).map_err(|_| "parallel")?),
        // Each of the two numbers has a meaning for its own class alone.
        ("exclusive" | "parallel", Some(_), _) => return Err("queue".to_owned()),
        ("exclusive" | "serial", _, Some(_)) => return Err("parallel".to_owned()),
        _ => return Err("class".to_owned()),
    };
    if let Some(seconds) = whole(take("timeLimitSeconds"), "timeLimitSeconds", TIME_LIMIT)? {
        spec.time_limit = Duration::from_secs(seconds);
    }
    if let Some(bytes) = whole(take("outputLimit"), "outputLimit", (0, LARGEST_PAYLOAD as u64))? {
        spec.output_limit = usize::try_from(bytes).map_err(|_| "outputLimit")?;
    }
    // One that is not known was meant to have an effect.
    method.into_iter().next().map_or(Ok(spec), |(name, _)| Err(name.chars().take(LONGEST_TEXT).collect()))
}

/// A whole number within these bounds, if there is one at all.
fn whole(value: Option<Value>, name: &str, (least, most): (u64, u64)) -> Result<Option<u64>, String> {
    value
        .map(|value| value.as_u64().filter(|number| (least..=most).contains(number)).ok_or(name.to_owned()))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(method: Value) -> Result<MethodSpec, String> {
        let Value::Object(method) = method else { unreachable!("an object was meant") };
        spec(method)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let spec = read(json!({ "name": "a", "description": null })).expect("a method");
        let name = Method::parse("a").expect("a name");
        assert_eq!(spec, MethodSpec { origin: Origin::Program, ..MethodSpec::new(name) });
        let all = json!({ "name": "a", "description": "d", "harmless": true, "class": "parallel", "parallel": 64,
            "timeLimitSeconds": 86_400, "outputLimit": 0 });
        let spec = read(all).expect("a method");
        assert_eq!((spec.class, spec.time_limit), (Class::Parallel(64), Duration::from_secs(86_400)));
        assert_eq!((spec.harmless, spec.output_limit, spec.desired, spec.outlives), (true, 0, None, false));
        let class = |json: &str| read(serde_json::from_str(json).expect("JSON")).map(|spec| spec.class);
        assert_eq!(class(r#"{"name":"a","queue":0}"#), Ok(Class::Serial(0)));
        assert_eq!(class(r#"{"name":"a","class":"exclusive"}"#), Ok(Class::Exclusive));
        assert_eq!(class(r#"{"name":"a","class":"parallel"}"#), Ok(Class::Parallel(1)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, members) in [
            ("name", vec![json!({}), json!({ "name": 1 }), json!({ "name": "../sh" })]),
            ("description", vec![json!({ "description": "x".repeat(201) }), json!({ "description": 1 })]),
            ("harmless", vec![json!({ "harmless": "yes" })]),
            ("class", vec![json!({ "class": "fast" }), json!({ "class": 1 })]),
            ("queue", vec![json!({ "queue": 65 }), json!({ "queue": -1 }), json!({ "class": "parallel", "queue": 1 })]),
            ("parallel", vec![json!({ "class": "parallel", "parallel": 0 }), json!({ "parallel": 2 })]),
            ("timeLimitSeconds", vec![json!({ "timeLimitSeconds": 0 }), json!({ "timeLimitSeconds": 86_401 })]),
            ("outputLimit", vec![json!({ "outputLimit": 262_145 }), json!({ "outputLimit": 1.5 })]),
            ("desired", vec![json!({ "desired": "hostname" })]),
        ] {
            for mut method in members {
                if wrong != "name" {
                    method["name"] = json!("a");
                }
                assert_eq!(read(method.clone()), Err(wrong.to_owned()), "{method}");
            }
        }
    }
}
