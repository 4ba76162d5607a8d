//! `twinagent history`: what the ledger knows of past commands and reboots.

use serde_json::{Value, json};

use super::Failure;
use super::ask::ask;
use super::document::{between, list, time, word, word_or_dash};
use super::output::{headed, line, pretty, show, table};
use crate::config::Folders;
use crate::host::clock;
use crate::model::command::CommandId;
use crate::model::now::Timestamp;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only this command, with its payload
    #[arg(value_parser = CommandId::parse)]
    id: Option<CommandId>,
    /// Print the daemon's own document, in one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(folders: &Folders, arguments: &Arguments) -> Result<(), Failure> {
    let history = ask(folders, "GetHistory", &json!({ "id": arguments.id }))?;
    let now = clock::wall();
    let text = match &arguments.id {
        _ if arguments.json => line(&history),
        Some(_) => list(&history, "/commands").iter().map(|command| details(command, now)).collect(),
        None => overview(&history, now),
    };
    show(&text)?;
    Ok(())
}

fn overview(history: &Value, now: Timestamp) -> String {
    let row = |command: &Value| {
        vec![
            word_or_dash(command, "/id"),
            word_or_dash(command, "/method"),
            word_or_dash(command, "/status"),
            told(command).to_owned(),
            between(command, "/started", "/finished").unwrap_or_else(|| "-".to_owned()),
            time(command, "/accepted", now).unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let commands = match list(history, "/commands") {
        [] => "no commands yet\n".to_owned(),
        commands => headed(&["ID", "METHOD", "STATUS", "TOLD", "TOOK", "ACCEPTED"], commands.iter().map(row)),
    };
    commands + &reboots(history, now)
}

fn told(command: &Value) -> &'static str {
    match command.get("told").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "not yet",
        None => "-",
    }
}

fn reboots(history: &Value, now: Timestamp) -> String {
    let booted = time(history, "/reboots/current/time", now);
    let lines = [
        (
            "this boot",
            word(history, "/reboots/current/id").map(|id| booted.map_or(id.clone(), |at| format!("{id}, {at}"))),
        ),
        ("before", word(history, "/reboots/previous").or_else(|| word(history, "/reboots/previous/id"))),
        ("rebooted", time(history, "/reboots/rebootTime", now)),
    ];
    let story = history.pointer("/reboots/story").map(|story| story_of(story, now));
    let lines = lines.into_iter().chain(story.into_iter().flatten());
    let rows: Vec<Vec<String>> = lines.filter_map(|(name, text)| Some(vec![name.to_owned(), text?])).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(&rows)) }
}

/// What became of the last reboot that was asked for, in the order in which it happened.
fn story_of(story: &Value, now: Timestamp) -> [(&'static str, Option<String>); 6] {
    let is = |place, expected: &str| story.pointer(place).and_then(Value::as_str) == Some(expected);
    let is_simulated = story.pointer("/simulated") == Some(&Value::Bool(true));
    let simulated = if is_simulated { ", simulated" } else { "" };
    let who = word(story, "/commandId").map(|id| {
        let from = if is("/cause", "local") { "from this machine" } else { "from the cloud" };
        format!("command {id} {from}")
    });
    let down =
        story.pointer("/downSeconds").and_then(Value::as_f64).map(|seconds| format!(", {seconds} s after it began"));
    let proof = match (word(story, "/bootId"), word(story, "/previousBootId")) {
        (Some(_), _) if is_simulated => Some("none, the machine itself went on".to_owned()),
        (Some(after), Some(before)) => Some(format!("boot {after} followed boot {before}")),
        _ => None,
    };
    [
        ("last reboot", word(story, "/state").map(|state| state + simulated)),
        (
            "  asked for",
            time(story, "/requestedAt", now).map(|at| who.map_or(at.clone(), |who| format!("{at}, by {who}"))),
        ),
        ("  reason", word(story, "/reason")),
        ("  began", time(story, "/startedAt", now)),
        ("  over", time(story, "/completedAt", now).map(|at| at + &down.unwrap_or_default())),
        ("  proof", proof),
    ]
}

/// One command, with all that is known of it.
fn details(command: &Value, now: Timestamp) -> String {
    let lines = [
        ("id", word(command, "/id")),
        ("device", word(command, "/target")),
        ("method", word(command, "/method")),
        ("status", word(command, "/status")),
        ("told", Some(told(command).to_owned())),
        ("accepted", time(command, "/accepted", now)),
        ("started", time(command, "/started", now)),
        ("finished", time(command, "/finished", now)),
        ("took", between(command, "/started", "/finished")),
    ];
    let rows: Vec<Vec<String>> =
        lines.into_iter().filter_map(|(name, text)| Some(vec![name.to_owned(), text?])).collect();
    let payload = command.get("payload").filter(|payload| !payload.is_null()).map(pretty);
    table(&rows) + &payload.unwrap_or_default()
}
