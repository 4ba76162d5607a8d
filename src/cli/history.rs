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
        (
            "story",
            history
                .pointer("/reboots/story")
                .filter(|story| !story.is_null())
                .map(|story| line(story).trim_end().to_owned()),
        ),
    ];
    let rows: Vec<Vec<String>> =
        lines.into_iter().filter_map(|(name, text)| Some(vec![name.to_owned(), text?])).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(&rows)) }
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
