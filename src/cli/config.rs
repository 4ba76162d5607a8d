//! `twinagent config`: what holds, merged from all its places, as TOML that could be a file again.

use std::fmt::Write as _;
use std::path::Path;

use super::{Failure, loaded, output};
use crate::config::{Folders, Setting};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Say behind each value where it comes from: file and line, $VARIABLE, or default
    #[arg(long)]
    origin: bool,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let loaded = loaded(folders, file)?;
    for unknown in &loaded.unknown {
        output::note(&unknown.to_string())?;
    }
    let remark = |key: &str| match (arguments.origin, loaded.origins.get(key)) {
        (false, _) => String::new(),
        (true, Some(place)) => format!("  # {place}"),
        (true, None) => "  # default".to_owned(),
    };
    Ok(output::print(&sections(loaded.config.settings(), remark))?)
}

/// Settings as TOML, a line each, with a remark behind it. Those of one section must stand together.
pub(super) fn sections(settings: Vec<(&str, Setting)>, remark: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut open = "";
    for (key, setting) in settings {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if section != open {
            let gap = if open.is_empty() { "" } else { "\n" };
            writeln!(text, "{gap}[{section}]").expect("a String takes all text");
            open = section;
        }
        writeln!(text, "{name} = {setting}{}", remark(key)).expect("a String takes all text");
    }
    text
}
