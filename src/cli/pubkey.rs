//! `twinagent pubkey`: the public key of this device.

use super::{Failure, device_key, output};
use crate::config::Folders;

pub(super) fn run(folders: &Folders) -> Result<(), Failure> {
    let (_, key) = device_key(folders)?;
    Ok(output::print(&key.public_pem())?)
}
