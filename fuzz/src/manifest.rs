//! Any bytes where a manifest of `handlers.d` should be: a method within all bounds, or faults that can be shown.

use std::path::Path;
use std::time::Duration;

use twinagent::config::manifest::{Action, Manifest, parse};
use twinagent::config::own_methods::is_own;
use twinagent::model::command::Class;
use twinagent::model::payload::Shape;

pub const VERDICTS: &[&str] = &["program", "unit", "faulty"];

/// Of a list, a payload's rules or the text of a member, wherever one is bounded.
const LARGEST: usize = 262_144;

pub fn read(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "faulty".to_owned() };
    let path = Path::new("/etc/twinagent/handlers.d/x.toml");
    let read = parse(path, text);
    assert_eq!(read, parse(path, text), "the same text says the same");
    match read {
        Ok(manifest) => {
            is_within_bounds(&manifest);
            match manifest.action {
                Action::Program { .. } => "program",
                Action::Unit { .. } => "unit",
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.len() <= 50, "{} faults", faults.len());
            for fault in &faults {
                let words = fault.to_string();
                assert!(words.len() < 1_500 && !words.contains(char::is_control), "{words:?}");
            }
            "faulty"
        }
    }
    .to_owned()
}

fn is_within_bounds(manifest: &Manifest) {
    let Manifest { spec, action, grace, .. } = manifest;
    let seconds = Duration::from_secs;
    assert!(!is_own(&spec.name));
    assert!((seconds(1)..=seconds(86_400)).contains(&spec.time_limit) && *grace <= seconds(60));
    assert!(spec.output_limit <= LARGEST && spec.description.chars().count() <= 200);
    assert!(!spec.description.contains(char::is_control));
    assert!(match spec.class {
        Class::Exclusive => true,
        Class::Serial(queue) => queue <= 64,
        Class::Parallel(count) => (1..=64).contains(&count),
    });
    assert!(spec.desired.as_ref().is_none_or(|name| (1..=64).contains(&name.len())));
    let rules = spec.payload.iter().flat_map(|rules| &rules.members);
    for (at, (name, member)) in rules.enumerate() {
        assert!(at < 64 && (1..=64).contains(&name.len()));
        match &member.shape {
            Shape::Integer { min, max } => assert!(min <= max),
            Shape::Text { longest, one_of } => {
                assert!(one_of.len() <= 64 && one_of.iter().all(|text| text.chars().count() <= *longest));
            }
            Shape::List { .. } | Shape::Any | Shape::Boolean | Shape::Number | Shape::Object => {}
        }
    }
    match action {
        Action::Program { program, arguments } => {
            let text = program.to_str().expect("it was text");
            assert!(text.starts_with('/') && text.len() < 4_096 && !text.contains('\0'));
            assert!(text[1..].split('/').all(|part| !matches!(part, "" | "." | "..")));
            assert!(arguments.len() <= 64 && arguments.iter().all(|text| text.len() <= 4_096 && !text.contains('\0')));
            assert!(!spec.outlives);
        }
        Action::Unit { job } => {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            assert!((1..=63).contains(&job.len()) && plain(job.as_bytes()[0]));
            assert!(job.bytes().all(|byte| plain(byte) || byte == b'-') && spec.outlives);
        }
    }
}
