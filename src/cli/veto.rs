//! `twinagent veto`: holds reboots back from this machine, says what holds them, and lets go again.
//!
//! Works on files, so a veto counts whether a daemon runs or not, and scripts may write the files without us. A veto is
//! gone with the next boot unless it is to be kept: whoever set it may have died with the last one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::output::{headed, line, note, plain, print, show};
use super::{Exit, Failure, document};
use crate::config::veto::{self, LONGEST_REASON, Vetoes};
use crate::config::{Folders, duration};
use crate::host::{boot, clock};
use crate::model::now::Now;

/// The longest `--for`. What shall hold for longer has no `--for`, or a configuration.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Hold reboots back; a veto of the same name is replaced
    Add(Add),
    /// Take a veto back
    Remove {
        #[arg(value_parser = veto::name)]
        name: String,
    },
    /// Show all vetoes
    List {
        /// Print one JSON document, in one line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What it is called, to be taken back by: A-Z a-z 0-9 . _ -
    #[arg(value_parser = veto::name)]
    name: String,
    /// Why; the sender of a reboot is told
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// It ends by itself after this time, such as 2h
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// Keep it over reboots, in /etc/twinagent/veto.d
    #[arg(long)]
    keep: bool,
}

fn reason(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > LONGEST_REASON {
        return Err(format!("1 to {LONGEST_REASON} characters are taken"));
    }
    Ok(text.to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text).map_err(|error| error.to_string())?;
    if span.is_zero() || span > LONGEST {
        Err("more than nothing and at most 366d is taken".to_owned())
    } else {
        Ok(span)
    }
}

pub(super) fn run(folders: &Folders, arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Add(asked) => add(folders, &asked, &now()?),
        Action::Remove { name } => remove(folders, &name),
        Action::List { json } => list(folders, json, &now()?),
    }
}

fn now() -> Result<Now, Failure> {
    Ok(clock::now(boot::id()?))
}

fn add(folders: &Folders, asked: &Add, now: &Now) -> Result<(), Failure> {
    let both = (folders.vetoes.clone(), folders.kept_vetoes());
    let (folder, other) = if asked.keep { (both.1, both.0) } else { both };
    let path = veto::file(&folder, &asked.name);
    write(&folder, &path, &veto::text(&asked.reason, asked.span, !asked.keep, now)).map_err(for_root)?;
    // One name is one veto: what was kept and shall now end with this boot must not go on for ever.
    take_away(&veto::file(&other, &asked.name)).map_err(for_root)?;
    Ok(note(&format!("wrote {}; no reboot is done for the cloud while it holds", path.display()))?)
}

/// The file appears whole or not at all: a torn one would hold, with nobody to say why.
fn write(folder: &Path, path: &Path, text: &str) -> anyhow::Result<()> {
    let put = || {
        DirBuilder::new().mode(0o755).recursive(true).create(folder)?;
        // Not a name that is read.
        let draft = path.with_extension("draft");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    put().with_context(|| format!("{} cannot be written", path.display()))
}

fn remove(folders: &Folders, name: &str) -> Result<(), Failure> {
    let mut removed: Vec<PathBuf> = Vec::new();
    for folder in [folders.vetoes.clone(), folders.kept_vetoes()] {
        let path = veto::file(&folder, name);
        if take_away(&path).map_err(for_root)? {
            removed.push(path);
        }
    }
    if removed.is_empty() {
        return Err(Failure::new(Exit::Failed, anyhow!("there is no veto `{name}`")).hint("`twinagent veto list`"));
    }
    removed.iter().try_for_each(|path| print(&format!("removed {}\n", path.display())))?;
    Ok(())
}

/// False: there was none.
fn take_away(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).with_context(|| format!("{} cannot be removed", path.display())),
    }
}

fn for_root(error: anyhow::Error) -> Failure {
    let failure = Failure::from(error);
    if failure.exit() == Exit::NotPermitted { failure.hint("only root may veto") } else { failure }
}

fn list(folders: &Folders, as_json: bool, now: &Now) -> Result<(), Failure> {
    let kept = folders.kept_vetoes();
    let found = Vetoes::read([folders.vetoes.as_path(), kept.as_path()]);
    for trouble in &found.troubles {
        note(&plain(trouble))?;
    }
    let vetoes: Vec<Value> = found
        .vetoes
        .iter()
        .map(|veto| {
            json!({
                "name": veto.name,
                "reason": veto.reason,
                "expires": veto.expires(now),
                "isOver": veto.is_over(now),
                "file": veto.path,
            })
        })
        .collect();
    let text = match vetoes.as_slice() {
        vetoes if as_json => line(&json!({ "vetoes": vetoes })),
        [] => "nothing is vetoed\n".to_owned(),
        vetoes => headed(&["NAME", "UNTIL", "REASON"], vetoes.iter().map(|veto| row(veto, now))),
    };
    show(&text)?;
    Ok(())
}

fn row(veto: &Value, now: &Now) -> Vec<String> {
    let until = document::time(veto, "/expires", now.wall).unwrap_or_else(|| "taken back".to_owned());
    vec![document::word_or_dash(veto, "/name"), until, document::word_or_dash(veto, "/reason")]
}
