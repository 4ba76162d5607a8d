//! `twinagent token`: what a login says, without logging in.
//!
//! The token itself opens the device's session to whoever has it, so it is printed only when asked for.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::daemon_key::{self, PublicKey};
use super::{Exit, Failure, configuration, device_key, hub_token, output};
use crate::config::{Cloud, Folders, duration};
use crate::dialect::token::{Claims, sign};
use crate::host::clock;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Print the token itself, and nothing else. It is a password
    #[arg(long)]
    raw: bool,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let config = configuration(folders, file)?;
    let cloud = match &config.cloud {
        Some(Cloud::IotCore(cloud)) => cloud,
        Some(Cloud::IotHub(hub)) => return hub_token::run(folders, &config, hub, arguments.raw),
        None => {
            return Err(Failure::new(
                Exit::Failed,
                anyhow!("no cloud is configured, so there is nothing to log in to"),
            )
            .hint("set cloud.kind, and [cloud.iotcore] or [cloud.iothub], in twinagent.toml"));
        }
    };
    let theirs = daemon_key::credential(folders);
    let (path, key) = match (device_key(folders), &theirs) {
        (Err(failure), Some(theirs)) => {
            return Err(failure.hint(format!("{} is for its service only", theirs.origin())));
        }
        (found, _) => found?,
    };
    if let Some(theirs) = theirs.filter(|theirs| theirs.public.as_ref() != Ok(&PublicKey::from(&key))) {
        let other = theirs.origin();
        output::note(&format!("not what the daemon logs in with: {other}, is another than {}", path.display()))?;
    }
    let claims = Claims::new(&cloud.project_id, clock::wall(), config.auth.lifetime);
    let token = sign(&key, &claims).map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    if arguments.raw {
        return Ok(output::print(&format!("{}\n", token.reveal()))?);
    }
    let claims_text = serde_json::to_string_pretty(&claims).context("the claims cannot be shown")?;
    output::print(&format!("{claims_text}\n"))?;
    output::note(&format!("issued at  {}, a little in the past on purpose", claims.issued()))?;
    output::note(&format!("expires at {}, in {}", claims.expires(), duration::show(config.auth.lifetime)))?;
    Ok(output::note(&format!("signed     with {:?} by {}", key.algorithm(), path.display()))?)
}
