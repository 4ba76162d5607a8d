//! `twinagent status`: what the daemon is doing, and what troubles it.

use serde_json::{Value, json};

use super::Failure;
use super::ask::{ask, follow};
use super::document::{count, list, time, word, word_or_dash};
use super::output::{CLEAR, Paint, line, paint, show, table};
use crate::config::Folders;
use crate::host::clock;
use crate::model::now::Timestamp;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Print the daemon's own document, in one line
    #[arg(long)]
    json: bool,
    /// Stay, and print it again whenever something changes
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(folders: &Folders, arguments: Arguments) -> Result<(), Failure> {
    let text = |status: &Value| {
        if arguments.json { line(status) } else { words(status, clock::wall()) }
    };
    if arguments.watch {
        let clear = if arguments.json { "" } else { CLEAR };
        return follow(folders, "GetStatus", &json!({}), |status| show(&format!("{clear}{}", text(&status))));
    }
    let status = ask(folders, "GetStatus", &json!({}))?;
    show(&text(&status))?;
    Ok(())
}

/// The status for people.
fn words(status: &Value, now: Timestamp) -> String {
    let state = word(status, "/state").unwrap_or_else(|| "state unknown".to_owned());
    let colour = match state.as_str() {
        "connected" => Paint::Good,
        "connecting" => Paint::Middling,
        _ => Paint::Bad,
    };
    let sentence = word(status, "/sentence").filter(|sentence| *sentence != state);
    // The sentence often begins with the state, or ends with it where something is more serious.
    let rest = sentence.map(|text| match text.strip_prefix(state.as_str()) {
        Some(rest) => rest.to_owned(),
        None => format!(": {}", text.strip_suffix(&format!("; {state}")).unwrap_or(&text)),
    });
    let head = format!("{}{}\n", paint(colour, &state), rest.unwrap_or_default());
    let lines = [
        ("device", device(status)),
        ("session", session(status, now)),
        ("renewals", renewals(status, now)),
        ("proof", proof(status, now)),
        ("key", key(status)),
        ("last end", last_end(status, now)),
        ("other keys", other_keys(status)),
        ("commands", counts(status, "/commands", &["running", "waiting", "untold", "dropped"])),
        ("runs", runs(status)),
        ("reboot", reboot(status)),
        ("reported", time(status, "/twin/reportedAt", now)),
        ("desired", desired(status)),
        ("telemetry", counts(status, "/telemetry", &["waiting", "dropped"])),
        ("journal", word(status, "/journal")),
        ("agent", agent(status, now)),
    ];
    let rows: Vec<Vec<String>> =
        lines.into_iter().filter_map(|(name, text)| Some(vec![format!("  {name}"), text?])).collect();
    head + &table(&rows) + &problems(status, now)
}

/// What runs at this moment, and how it goes as far as it says so.
fn runs(status: &Value) -> Option<String> {
    let runs = status.pointer("/commands/runs")?.as_array()?.iter().map(|run| {
        let progress = word(run, "/progress").map(|text| format!(": {text}")).unwrap_or_default();
        format!("{} {}{progress}", word_or_dash(run, "/method"), word_or_dash(run, "/id"))
    });
    Some(runs.collect::<Vec<_>>().join("; ")).filter(|runs| !runs.is_empty())
}

fn device(status: &Value) -> Option<String> {
    let device = word(status, "/device")?;
    let cloud = word(status, "/cloud/kind").map(|kind| format!(", {kind}")).unwrap_or_default();
    let host = word(status, "/cloud/host").map(|host| format!(" at {host}")).unwrap_or_default();
    Some(device + &cloud + &host)
}

fn session(status: &Value, now: Timestamp) -> Option<String> {
    let since = format!("since {}", time(status, "/session/since", now)?);
    let kept = status.pointer("/session/keptSession").and_then(Value::as_bool) == Some(true);
    let renewal = time(status, "/session/renewAt", now).map(|at| format!(", renewed {at}"));
    Some(since + if kept { ", kept from before" } else { "" } + &renewal.unwrap_or_default())
}

/// The renewals of this run of the daemon, and how long the device could not be heard for the last one.
fn renewals(status: &Value, now: Timestamp) -> Option<String> {
    let renewals = count(status, "/session/renewals").filter(|n| *n > 0)?;
    let gap = status.pointer("/session/lastRenewal/gapSeconds").and_then(Value::as_f64);
    let gap = gap.map(|seconds| format!(", the last with a gap of {seconds} s"));
    let at = time(status, "/session/lastRenewal/time", now).map(|at| format!(", {at}"));
    Some(format!("{renewals}{}{}", gap.unwrap_or_default(), at.unwrap_or_default()))
}

/// With what logins are made, where that is no private key: those have lines of their own.
fn proof(status: &Value, now: Timestamp) -> Option<String> {
    let kind = word(status, "/proof/kind").filter(|kind| kind != "private key")?;
    let path = word(status, "/proof/path").map(|path| format!(", {path}")).unwrap_or_default();
    let ends = time(status, "/proof/ends", now).map(|at| format!(", ends {at}")).unwrap_or_default();
    Some(kind + &path + &ends)
}

/// The key of the session, if it is not the one that it should be.
fn key(status: &Value) -> Option<String> {
    let key = word(status, "/session/key").filter(|key| key != "current")?;
    let hint = word(status, "/session/keyHint").map(|hint| format!("; hint: {hint}"));
    Some(format!("the {key} one{}", hint.unwrap_or_default()))
}

fn last_end(status: &Value, now: Timestamp) -> Option<String> {
    let reason = word(status, "/lastDisconnect/reason")?;
    let at = time(status, "/lastDisconnect/time", now).map(|at| format!(", {at}"));
    let hint = word(status, "/lastDisconnect/hint").map(|hint| format!("; hint: {hint}"));
    Some(reason + &at.unwrap_or_default() + &hint.unwrap_or_default())
}

/// Keys beside the current one, which are tried when that is refused.
fn other_keys(status: &Value) -> Option<String> {
    let keys = list(status, "/otherKeys").iter().filter_map(|key| {
        let trouble = word(key, "/trouble").map(|why| format!(" cannot be used: {why}"));
        Some(format!("{}{}", word(key, "/slot")?, trouble.unwrap_or_default()))
    });
    let keys: Vec<String> = keys.collect();
    (!keys.is_empty()).then(|| keys.join("; "))
}

/// The counts that are not zero.
fn counts(status: &Value, place: &str, names: &[&str]) -> Option<String> {
    status.pointer(place)?.as_object()?;
    let counted =
        |name: &&str| Some(format!("{} {name}", count(status, &format!("{place}/{name}")).filter(|n| *n > 0)?));
    let counted: Vec<String> = names.iter().filter_map(counted).collect();
    Some(if counted.is_empty() { "none under way".to_owned() } else { counted.join(", ") })
}

fn reboot(status: &Value) -> Option<String> {
    let state = word(status, "/reboot/state")?;
    let because = |place, name: &str| word(status, place).map(|text| format!(", {name} {text}")).unwrap_or_default();
    Some(format!("{state}{}{}", because("/reboot/commandId", "command"), because("/reboot/reason", "because of")))
}

fn desired(status: &Value) -> Option<String> {
    let digest = word(status, "/twin/desired/digest")?;
    let applied = word(status, "/twin/desired/status").map(|status| format!(", applied with {status}"));
    Some(digest + &applied.unwrap_or_default())
}

fn agent(status: &Value, now: Timestamp) -> Option<String> {
    let version = word(status, "/version")?;
    let started = time(status, "/startTime", now).map(|at| format!(", started {at}"));
    let restarts = count(status, "/restarts").filter(|n| *n > 0).map(|n| {
        let word = if n == 1 { "restart" } else { "restarts" };
        format!(", {n} {word} in this boot")
    });
    Some(version + &started.unwrap_or_default() + &restarts.unwrap_or_default())
}

fn problems(status: &Value, now: Timestamp) -> String {
    let problems = list(status, "/problems");
    if problems.is_empty() {
        return String::new();
    }
    let row = |problem: &Value| {
        let since = time(problem, "/since", now).map(|at| format!("since {at}"));
        vec![
            format!("  {}", word(problem, "/code").unwrap_or_default()),
            word(problem, "/text").unwrap_or_default(),
            since.unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = problems.iter().map(row).collect();
    format!("{}\n{}", paint(Paint::Bad, "problems"), table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_and_a_key_that_is_not_the_current_one_have_their_lines() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let mut status = json!({ "state": "connected", "session": {
            "since": "2026-11-21T11:00:00Z", "keptSession": false, "renewAt": null, "key": "next", "keyHint": "change them",
            "renewals": 3, "lastRenewal": { "time": "2026-11-21T11:00:00Z", "gapSeconds": 0.085 },
        } });
        let text = words(&status, now);
        assert!(text.contains("3, the last with a gap of 0.085 s, 2026-11-21 11:00:00Z (1h ago)"), "{text}");
        assert!(text.contains("the next one; hint: change them"), "{text}");
        status["session"] = json!({ "since": "2026-11-21T11:00:00Z", "key": "current", "renewals": 0 });
        let text = words(&status, now);
        assert!(!text.contains("renewals") && !text.contains("key"), "{text}");
    }
}
