//! What a manifest may say: every key, its default, its bounds.
//!
//! Text in, a manifest out, or all that is wrong with it. Whether the program or the unit is there is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fields::{Fields, LONGEST_NAME};
use super::{Action, Manifest};
use crate::config::fault::{Fault, Place};
use crate::config::{file, own_methods};
use crate::model::command::{Class, Method, MethodSpec, Origin};
use crate::model::digest::Digest;
use crate::model::payload::{Member, PayloadRules, Shape};

const TIME_LIMIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// What waits is kept in memory and in the journal.
const QUEUE: RangeInclusive<u32> = 0..=64;
const DEFAULT_QUEUE: usize = 8;
const PARALLEL: RangeInclusive<u32> = 1..=64;
const DEFAULT_PARALLEL: usize = 4;
/// The most is IoT Hub's for a message, and a quarter of a MiB at most is held for each run (learn.microsoft.com, "IoT Hub
/// quotas and throttling").
const OUTPUT_LIMIT: RangeInclusive<u32> = 0..=262_144;

const LONGEST_DESCRIPTION: usize = 200;
/// Far below `ARG_MAX`, and more than anybody writes into a file by hand.
const MOST_ARGUMENTS: usize = 64;
const LONGEST_ARGUMENT: usize = 4096;
/// `PATH_MAX` of Linux, with the byte that ends the text (limits.h).
const LONGEST_PATH: usize = 4096;
const MOST_MEMBERS: usize = 64;
/// No payload is larger than this, so a larger bound would be none.
const MAX_LENGTH: RangeInclusive<u32> = 0..=262_144;
const MOST_CHOICES: usize = 64;
const LONGEST_CHOICE: usize = 256;
/// The most faults that are told of one manifest.
const MOST_FAULTS: usize = 50;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Program,
    Unit,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Any,
    Boolean,
    Integer,
    Number,
    Text,
    List,
    Object,
}

/// Reads the text of the manifest at `path`, which is named in faults only.
///
/// # Errors
///
/// All that is wrong with it, at most 50 faults, in the order of their lines.
pub fn parse(path: &Path, text: &str) -> Result<Manifest, Vec<Fault>> {
    let (tree, mut faults) = file::parse(path, text);
    let mut manifest = None;
    if faults.is_empty() {
        let place = Place::File { path: path.display().to_string(), line: None };
        let mut fields = Fields::new(tree, place, &mut faults);
        manifest = read(path, text, &mut fields);
        fields.finish();
    }
    faults.sort();
    faults.truncate(MOST_FAULTS);
    manifest.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Something is `None` only where a fault was told.
fn read(path: &Path, text: &str, from: &mut Fields<'_>) -> Option<Manifest> {
    let method = from.parsed("method", method);
    from.require("method");
    let description = from.parsed("description", description);
    let kind = from.choice("kind", &[("program", Kind::Program), ("unit", Kind::Unit)]);
    from.require("kind");
    let action = action(from, kind);
    let grace = from.duration("grace", &GRACE);
    if kind == Some(Kind::Unit) {
        from.unfit(&["grace"], "is for kind = \"program\" only; a unit has TimeoutStopSec=");
    }
    let time_limit = from.duration("time_limit", &TIME_LIMIT);
    let class = class(from);
    let harmless = from.flag("harmless");
    let output_limit = from.count("output_limit", &OUTPUT_LIMIT);
    let desired = from.parsed("desired", name);
    let payload = from.section("payload").map(payload);
    let plain = MethodSpec::new(method?);
    let spec = MethodSpec {
        harmless,
        class,
        time_limit: time_limit.unwrap_or(plain.time_limit),
        output_limit: output_limit.unwrap_or(plain.output_limit),
        description: description.unwrap_or_default(),
        origin: Origin::File(path.display().to_string()),
        payload,
        outlives: kind == Some(Kind::Unit),
        desired,
        ..plain
    };
    let (path, digest) = (path.to_owned(), Digest::of(text.as_bytes()));
    Some(Manifest { path, digest, spec, action: action?, grace: grace.unwrap_or(DEFAULT_GRACE) })
}

fn action(from: &mut Fields<'_>, kind: Option<Kind>) -> Option<Action> {
    let program = from.parsed("program", program);
    let arguments = from.list("arguments", MOST_ARGUMENTS, argument);
    let job = from.parsed("unit", job);
    match kind? {
        Kind::Program => {
            from.require("program");
            from.unfit(&["unit"], "is for kind = \"unit\" only");
            Some(Action::Program { program: program?, arguments: arguments.unwrap_or_default() })
        }
        Kind::Unit => {
            from.require("unit");
            from.unfit(&["program", "arguments"], "is for kind = \"program\" only; a unit has ExecStart=");
            Some(Action::Unit { job: job? })
        }
    }
}

fn class(from: &mut Fields<'_>) -> Class {
    #[derive(Clone, Copy)]
    enum Name {
        Exclusive,
        Serial,
        Parallel,
    }
    let names = [("exclusive", Name::Exclusive), ("serial", Name::Serial), ("parallel", Name::Parallel)];
    let name = from.choice("class", &names);
    let queue = from.count("queue", &QUEUE);
    let parallel = from.count("parallel", &PARALLEL);
    let is_judged = name.is_some() || !from.is_set("class");
    let name = name.unwrap_or(Name::Serial);
    if is_judged && !matches!(name, Name::Serial) {
        from.unfit(&["queue"], "is for class = \"serial\" only");
    }
    if is_judged && !matches!(name, Name::Parallel) {
        from.unfit(&["parallel"], "is for class = \"parallel\" only");
    }
    match name {
        Name::Exclusive => Class::Exclusive,
        Name::Serial => queue.map_or(Class::Serial(DEFAULT_QUEUE), Class::Serial),
        Name::Parallel => Class::Parallel(parallel.unwrap_or(DEFAULT_PARALLEL)),
    }
}

fn payload(mut from: Fields<'_>) -> PayloadRules {
    let others = from.flag("others");
    let mut members = BTreeMap::new();
    if let Some(section) = from.section("members") {
        section.sections(MOST_MEMBERS, |key, from| {
            if let Some(member) = member(from) {
                members.insert(key.to_owned(), member);
            }
        });
    }
    from.finish();
    PayloadRules { members, others }
}

fn member(from: &mut Fields<'_>) -> Option<Member> {
    let types = [
        ("any", Type::Any),
        ("boolean", Type::Boolean),
        ("integer", Type::Integer),
        ("number", Type::Number),
        ("text", Type::Text),
        ("list", Type::List),
        ("object", Type::Object),
    ];
    let kind = from.choice("type", &types);
    from.require("type");
    let required = from.flag("required");
    let all = i64::MIN..=i64::MAX;
    let (min, max) = (from.number("min", &all), from.number("max", &all));
    let longest = from.count("max_length", &MAX_LENGTH);
    let one_of = from.list("one_of", MOST_CHOICES, choice);
    let kind = kind?;
    if kind != Type::Integer {
        from.unfit(&["min", "max"], "is for type = \"integer\" only");
    }
    if !matches!(kind, Type::Text | Type::List) {
        from.unfit(&["max_length"], "is for type = \"text\" and \"list\" only");
    }
    if kind != Type::Text {
        from.unfit(&["one_of"], "is for type = \"text\" only");
    }
    let (least, most) = (min.unwrap_or(*all.start()), max.unwrap_or(*all.end()));
    if least > most {
        from.fault("max", format_args!("{most} is below min, {least}, so no value would fit"));
    }
    let longest = longest.unwrap_or(usize::MAX);
    if let Some(choices) = &one_of {
        if choices.is_empty() {
            from.fault("one_of", "is empty, so no value would fit");
        }
        if choices.iter().collect::<BTreeSet<_>>().len() < choices.len() {
            from.fault("one_of", "holds a text twice");
        }
        if choices.iter().any(|choice| choice.chars().count() > longest) {
            from.fault("one_of", format_args!("holds a text that is longer than max_length, {longest}"));
        }
    }
    let shape = match kind {
        Type::Any => Shape::Any,
        Type::Boolean => Shape::Boolean,
        Type::Integer => Shape::Integer { min: least, max: most },
        Type::Number => Shape::Number,
        Type::Text => Shape::Text { longest, one_of: one_of.unwrap_or_default() },
        Type::List => Shape::List { longest },
        Type::Object => Shape::Object,
    };
    Some(Member { required, shape })
}

fn method(text: &str) -> Result<Method, String> {
    let method = Method::parse(text).map_err(|error| error.to_string())?;
    if own_methods::is_own(&method) {
        return Err("the program's own method; another name is needed".to_owned());
    }
    Ok(method)
}

fn description(text: &str) -> Result<String, String> {
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        return Err(format!("not one line of at most {LONGEST_DESCRIPTION} characters"));
    }
    Ok(text.to_owned())
}

/// An absolute path as it will be walked: nothing in it leads back.
fn program(text: &str) -> Result<PathBuf, &'static str> {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let Some(parts) = text.strip_prefix('/') else {
        return Err("not an absolute path: one that begins with / is expected, and its arguments under `arguments`");
    };
    if !parts.split('/').all(is_plain) {
        Err("not the plain path of a file: no part of it may be empty, `.` or `..`")
    } else if text.len() >= LONGEST_PATH || text.contains(char::is_control) {
        Err("not a path: below 4096 bytes without control characters are expected")
    } else {
        Ok(text.into())
    }
}

/// execve(2) ends an argument at the first NUL.
fn argument(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_ARGUMENT || text.contains('\0') {
        return Err(format!("not an argument: at most {LONGEST_ARGUMENT} bytes without NUL are expected"));
    }
    Ok(text.to_owned())
}

/// The part of a unit's name that polkit's rule lets the agent start.
fn job(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(|byte| fits(byte) || byte == b'-')
        && text.bytes().next().is_some_and(fits);
    if is_name {
        Ok(text.to_owned())
    } else if text.contains(['.', '@']) {
        Err("the name of a unit: only NAME of twinagent-job-NAME@.service is expected")
    } else {
        Err("not NAME of twinagent-job-NAME@.service: a-z or 0-9, and then up to 62 of a-z 0-9 - are expected")
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("not the name of a member: 1 to 64 of the characters A-Z a-z 0-9 _ - are expected")
    }
}

fn choice(text: &str) -> Result<String, String> {
    if text.chars().count() > LONGEST_CHOICE {
        return Err(format!("longer than {LONGEST_CHOICE} characters"));
    }
    Ok(text.to_owned())
}
