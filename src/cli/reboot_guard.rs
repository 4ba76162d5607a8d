//! `twinagent reboot-guard`: shows the breaker of reboots, and clears it.

use serde_json::{Value, json};

use super::Failure;
use super::ask::ask;
use super::document::{count, list, time, word, word_or_dash};
use super::output::{Paint, headed, line, note, paint, show};
use crate::config::Folders;
use crate::host::clock;
use crate::model::now::Timestamp;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the daemon's own document, in one line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Action {
    /// Forget the reboots so far, so that the next command is obeyed again
    Reset,
}

pub(super) fn run(folders: &Folders, arguments: Arguments) -> Result<(), Failure> {
    let method = if arguments.action.is_some() { "ResetGuard" } else { "ShowGuard" };
    let guard = ask(folders, method, &json!({}))?;
    show(&if arguments.json { line(&guard) } else { words(&guard, clock::wall()) })?;
    if let Some(forgotten) = word(&guard, "/forgotten") {
        note(&forgotten)?;
    }
    Ok(())
}

fn words(guard: &Value, now: Timestamp) -> String {
    let most = count(guard, "/maxReboots").zip(word(guard, "/per"));
    let head = match word(guard, "/why") {
        Some(why) => format!("{}: {why}", paint(Paint::Bad, "tripped")),
        None => paint(Paint::Good, "not tripped"),
    };
    let head = match most {
        Some((most, per)) if word(guard, "/why").is_none() => format!("{head}; {most} reboots within {per} trip it"),
        _ => head,
    };
    let reboots = list(guard, "/reboots");
    if reboots.is_empty() {
        return format!("{head}\n");
    }
    let row = |reboot: &Value| {
        let simulated = reboot.get("simulated").and_then(Value::as_bool) == Some(true);
        let at = time(reboot, "/time", now).unwrap_or_else(|| "-".to_owned());
        let cause = word_or_dash(reboot, "/cause") + if simulated { " (simulated)" } else { "" };
        vec![at, cause, word_or_dash(reboot, "/bootId")]
    };
    format!("{head}\n{}", headed(&["REBOOT", "CAUSE", "BOOT"], reboots.iter().map(row)))
}
