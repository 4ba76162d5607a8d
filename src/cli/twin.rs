//! `twinagent twin`: the two documents of this device, and a change to the one that it reports.

use anyhow::anyhow;
use serde_json::json;

use super::ask::{ask, json, tell};
use super::output::{note, pretty, print};
use super::{Exit, Failure};
use crate::config::Folders;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Merge a patch (RFC 7396) into the reported document; the agent's own members are refused
    Report {
        /// A JSON object; null removes a member; `-` reads it from stdin
        patch: String,
    },
}

pub(super) fn run(folders: &Folders, arguments: Arguments) -> Result<(), Failure> {
    let Some(Action::Report { patch }) = arguments.action else {
        return Ok(print(&pretty(&ask(folders, "GetTwin", &json!({}))?))?);
    };
    let patch = json("patch", &patch)?;
    if !patch.is_object() {
        return Err(Failure::new(Exit::Usage, anyhow!("the patch is no JSON object")));
    }
    tell(folders, "Report", &json!({ "patch": patch }))?;
    Ok(note("merged; it is sent when the cloud can be reached")?)
}
