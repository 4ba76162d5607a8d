//! `twinagent pubkey`: the public key of this device, in the form that whoever registers it wants.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::{Exit, Failure, configuration, device_key, output};
use crate::config::Folders;
use crate::dialect::token::{Algorithm, Key};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Print the `publicKey` object of a device credential (Cloud IoT Core's REST API)
    #[arg(long, conflicts_with = "csr")]
    json: bool,
    /// Print a certification request (PKCS#10) with the device's id as its common name
    #[arg(long)]
    csr: bool,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    let (_, key) = device_key(folders)?;
    let text = if arguments.csr {
        request(folders, file, &key)?
    } else if arguments.json {
        format!("{}\n", public_key(&key))
    } else {
        key.public_pem()
    };
    Ok(output::print(&text)?)
}

/// `PublicKeyCredential` of Cloud IoT Core's REST API, v1.
fn public_key(key: &Key) -> serde_json::Value {
    let format = match key.algorithm() {
        Algorithm::ES256 => "ES256_PEM",
        _ => "RSA_PEM",
    };
    serde_json::json!({ "format": format, "key": key.public_pem() })
}

fn request(folders: &Folders, file: Option<&Path>, key: &Key) -> Result<String, Failure> {
    let Some(device) = configuration(folders, file)?.device else {
        return Err(Failure::new(Exit::Failed, anyhow!("the request needs the device's id, and none is configured"))
            .hint("set `id` under [device] in twinagent.toml"));
    };
    Ok(key.request(device.as_str()).with_context(|| format!("no request for {device}"))?)
}
