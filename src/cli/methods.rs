//! `twinagent methods`: what this device can be asked, and where each method comes from.

use serde_json::{Value, json};

use super::Failure;
use super::ask::ask;
use super::document::{list, word, word_or_dash};
use super::output::{headed, line, show};
use crate::config::Folders;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Print the daemon's own document, in one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(folders: &Folders, arguments: Arguments) -> Result<(), Failure> {
    let methods = ask(folders, "ListMethods", &json!({}))?;
    show(&if arguments.json { line(&methods) } else { words(&methods) })?;
    Ok(())
}

fn words(methods: &Value) -> String {
    let row = |method: &Value| {
        let harmless = method.get("harmless").and_then(Value::as_bool) == Some(true);
        vec![
            word_or_dash(method, "/name"),
            word_or_dash(method, "/from"),
            if harmless { "harmless" } else { "recorded" }.to_owned(),
            word(method, "/description").unwrap_or_default(),
        ]
    };
    headed(&["METHOD", "FROM", "KIND", "DESCRIPTION"], list(methods, "/methods").iter().map(row))
}
