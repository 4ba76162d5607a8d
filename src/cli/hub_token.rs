//! `twinagent token` where the cloud is an IoT hub: for what a login token is, and until when.

use anyhow::{Context as _, anyhow};

use super::{Exit, Failure, machine, output};
use crate::config::{Config, Folders, Hub, IotHub as Settings, duration};
use crate::daemon::hub_key::{self, HubKey};
use crate::dialect::Proof;
use crate::dialect::iothub::IotHub;
use crate::dialect::provisioning::Provisioning;
use crate::dialect::sas::percent_decode;
use crate::dialect::{Dialect as _, LoginError};
use crate::host::clock;
use crate::model::now::Timestamp;
use crate::model::wire::Login;
use crate::store::assignment;

pub(super) fn run(folders: &Folders, config: &Config, settings: &Settings, raw: bool) -> Result<(), Failure> {
    let path = hub_key::path(&settings.proof);
    let key = match hub_key::read(folders, &machine(), &settings.proof) {
        Ok(HubKey::Shared { key, .. }) => key,
        Ok(HubKey::Certificate(_)) => {
            let why = anyhow!("this device logs in with its certificate ({}), and so without a token", path.display());
            return Err(Failure::new(Exit::Failed, why));
        }
        Err(unread @ hub_key::Unread::Closed(_)) => return Err(Failure::new(Exit::NotPermitted, unread)),
        Err(unread) => return Err(Failure::new(Exit::Failed, unread)),
    };
    let login = login(folders, config, settings, &Proof::Shared(key)).map_err(anyhow::Error::new)?;
    if raw {
        return Ok(output::print(&format!("{}\n", login.password.reveal()))?);
    }
    // Of the token only what is no secret.
    let member = |name: &str| {
        let members = login.password.reveal().strip_prefix("SharedAccessSignature ")?.split('&');
        members.filter_map(|member| member.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let resource = member("sr").and_then(percent_decode).context("the token names no resource")?;
    let expires = member("se").and_then(|seconds| seconds.parse::<i64>().ok()).context("the token has no end")?;
    let expires = Timestamp::from_micros(expires.saturating_mul(1_000_000));
    output::print(&format!("{resource}\n"))?;
    output::note(&format!("expires at {expires}, in {}", duration::show(config.auth.lifetime)))?;
    Ok(output::note(&format!("signed     with the shared key in {}", path.display()))?)
}

/// What is said to the hub; to the service that assigns hubs, as long as none is known.
fn login(folders: &Folders, config: &Config, settings: &Settings, proof: &Proof) -> Result<Login, LoginError> {
    let device = config.device.clone().expect("a configuration with a cloud has a device");
    let (keep_alive, lifetime, now) = (config.session.keep_alive, config.auth.lifetime, clock::wall());
    let (hub, device) = match &settings.hub {
        Hub::Named(hub) => (hub.clone(), device),
        Hub::Assigned(service) => {
            let is_ours = |kept: &assignment::Assignment| {
                let assignment::Asked { host, id_scope, registration_id } = &kept.asked;
                (host, id_scope, registration_id) == (&service.host, &service.id_scope, &service.registration_id)
            };
            match assignment::peek(&folders.state).filter(is_ours) {
                Some(kept) => (kept.hub, kept.device),
                // The number only tells answers apart, and nothing is asked.
                None => return Provisioning::new(service, keep_alive, lifetime, 0).login(now, proof),
            }
        }
    };
    IotHub::new(settings, &hub, device, keep_alive, lifetime, 0).login(now, proof)
}
