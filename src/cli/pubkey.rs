//! `twinagent pubkey`: the public key of this device, in the form that whoever registers it wants.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::daemon_key::{self, PublicKey};
use super::slot::Slot;
use super::{Exit, Failure, configuration, device_key, key_in, machine, output};
use crate::config::key_file::CREDENTIAL;
use crate::config::{Cloud, Folders, IotHub};
use crate::daemon::hub_key::{self, HubKey, Unread};
use crate::dialect::token::Key;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Print the `publicKey` object of a device credential (Cloud IoT Core's REST API)
    #[arg(long, conflicts_with = "csr")]
    json: bool,
    /// Print a certification request (PKCS#10) with the device's id as its common name
    #[arg(long)]
    csr: bool,
    /// Which of the device's keys it is about
    #[arg(long, value_enum, default_value_t = Slot::Current)]
    slot: Slot,
}

pub(super) fn run(folders: &Folders, file: Option<&Path>, arguments: Arguments) -> Result<(), Failure> {
    if arguments.csr {
        let key = if arguments.slot == Slot::Current { own_key(folders)? } else { beside(folders, arguments.slot)? };
        return Ok(output::print(&request(folders, file, &key)?)?);
    }
    if arguments.slot == Slot::Current
        && let Ok(config) = configuration(folders, file)
        && let Some(Cloud::IotHub(hub)) = &config.cloud
    {
        return to_hub(folders, hub);
    }
    let key = match arguments.slot {
        Slot::Current => public_key(folders)?,
        slot => PublicKey::from(&beside(folders, slot)?),
    };
    let text = if arguments.json { format!("{}\n", credential(&key)) } else { key.pem };
    Ok(output::print(&text)?)
}

/// What an IoT hub is told of a device: the thumbprint of its certificate. A shared key has no half that could be told.
fn to_hub(folders: &Folders, hub: &IotHub) -> Result<(), Failure> {
    let path = hub_key::path(&hub.proof).display();
    match hub_key::read(folders, &machine(), &hub.proof) {
        Ok(HubKey::Certificate(identity)) => {
            output::note(&format!("the thumbprint (SHA-256) of the certificate in {path}"))?;
            Ok(output::print(&format!("{}\n", identity.thumbprint()))?)
        }
        Ok(HubKey::Shared { .. }) => {
            let why = anyhow!(
                "this device logs in with the key in {path}, which its hub has too and which has no public half"
            );
            Err(Failure::new(Exit::Failed, why)
                .hint("there is nothing to register: the hub made that key, or was given it"))
        }
        Err(unread @ Unread::Closed(_)) => Err(Failure::new(Exit::NotPermitted, unread)),
        Err(unread) => Err(Failure::new(Exit::Failed, unread)),
    }
}

/// The key that the running daemon logs in with, else that of the file, and a note that says which it is.
fn public_key(folders: &Folders) -> Result<PublicKey, Failure> {
    let instead = match daemon_key::ask(folders) {
        Ok(Some(key)) if key.is_credential || key.public.is_ok() => {
            // A file that was just replaced counts from the next login on, whatever the daemon has seen of it.
            let newer = device_key(folders).ok().map(|(_, own)| PublicKey::from(&own));
            if let Some(newer) = newer.filter(|own| !key.is_credential && key.public.as_ref() != Ok(own)) {
                output::note(&format!("the key in {}, which the running daemon has not read yet", key.path))?;
                return Ok(newer);
            }
            output::note(&key.origin())?;
            return key.usable();
        }
        Ok(Some(_)) => "the running daemon has no key that it can use".to_owned(),
        Ok(None) => "no daemon answers".to_owned(),
        Err(error) => format!("the daemon cannot be asked for its key ({error})"),
    };
    let (path, key) = device_key(folders)?;
    output::note(&format!("{instead}; this is the key in {}", path.display()))?;
    Ok(PublicKey::from(&key))
}

/// A key beside the current one, which only its file tells.
fn beside(folders: &Folders, slot: Slot) -> Result<Key, Failure> {
    let (path, key) = key_in(folders, slot.into())?;
    output::note(&format!("the key in {}", path.display()))?;
    Ok(key)
}

/// `PublicKeyCredential` of Cloud IoT Core's REST API, v1.
fn credential(key: &PublicKey) -> serde_json::Value {
    let format = match key.algorithm.as_str() {
        "ES256" => "ES256_PEM",
        _ => "RSA_PEM",
    };
    serde_json::json!({ "format": format, "key": key.pem })
}

/// The key of the daemon, in private.
fn own_key(folders: &Folders) -> Result<Key, Failure> {
    let theirs = daemon_key::credential(folders);
    match (device_key(folders), &theirs) {
        (Ok((_, key)), None) => Ok(key),
        (Ok((_, key)), Some(theirs)) if theirs.public.as_ref() == Ok(&PublicKey::from(&key)) => Ok(key),
        (Err(failure), None) => Err(failure),
        (_, Some(theirs)) => {
            let why = anyhow!("a request takes the private key, and {} is for its service only", theirs.origin());
            Err(Failure::new(Exit::Failed, why).hint(format!(
                "as a service of its own: sudo systemd-run --pipe --wait -p LoadCredential={CREDENTIAL} twinagent pubkey --csr"
            )))
        }
    }
}

/// A request is signed, so it takes the private key itself.
fn request(folders: &Folders, file: Option<&Path>, key: &Key) -> Result<String, Failure> {
    let Some(device) = configuration(folders, file)?.device else {
        return Err(Failure::new(Exit::Failed, anyhow!("the request needs the device's id, and none is configured"))
            .hint("set `id` under [device] in twinagent.toml"));
    };
    Ok(key.request(device.as_str()).with_context(|| format!("no request for {device}"))?)
}
