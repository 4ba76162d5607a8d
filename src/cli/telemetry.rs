//! `twinagent telemetry`: sends one message of telemetry, read from stdin.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Failure;
use super::ask::{stdin, tell};
use super::output::note;
use crate::config::Folders;
use crate::model::telemetry::Subfolder;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the cloud files it, such as `alerts/hot`
    #[arg(value_parser = Subfolder::parse)]
    subfolder: Option<Subfolder>,
}

pub(super) fn run(folders: &Folders, arguments: &Arguments) -> Result<(), Failure> {
    let subfolder = arguments.subfolder.as_ref().map(Subfolder::as_str);
    let data = STANDARD.encode(stdin()?);
    tell(folders, "SendTelemetry", &json!({ "subfolder": subfolder, "data": data }))?;
    Ok(note("queued; it is sent when the cloud can be reached")?)
}
