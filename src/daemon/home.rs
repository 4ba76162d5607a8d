//! Which cloud the device belongs to, as the configuration and what was assigned say: how it is spoken to, where it is, and
//! who the device is there.

use std::sync::Arc;

use super::route::Broker;
use crate::config::{Cloud, Config, Hub, IotHub as IotHubConfig, Provisioning};
use crate::dialect::Dialect;
use crate::dialect::iotcore::IotCore;
use crate::dialect::iothub::IotHub;
use crate::model::command::DeviceId;
use crate::model::twin::CloudName;
use crate::store::assignment::{Asked, Assignment};

/// The cloud of the next connection.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) dialect: Arc<dyn Dialect>,
    /// None: the service that assigns hubs has to be asked first.
    pub(super) broker: Option<Broker>,
    pub(super) name: CloudName,
    pub(super) device: DeviceId,
}

impl Home {
    /// `assignment`: what was assigned last, to whomever. `run`: a random number of this run of the daemon. The error says
    /// what is missing in the configuration.
    pub(super) fn find(config: &Config, assignment: Option<&Assignment>, run: u32) -> Result<Self, String> {
        let Some(cloud) = &config.cloud else {
            return Err("`sudo twinagent setup` says which device and cloud this is; or set `kind` under [cloud] in \
                        twinagent.toml"
                .to_owned());
        };
        let Some(device) = &config.device else {
            return Err("set `id` under [device] in twinagent.toml, and see `twinagent check`".to_owned());
        };
        let (keep_alive, lifetime) = (config.session.keep_alive, config.auth.lifetime);
        let default_method = config.commands.default_method.clone();
        let name = |host: &str| CloudName { kind: cloud.kind(), host: host.to_owned() };
        Ok(match cloud {
            Cloud::IotCore(settings) => {
                let dialect = IotCore::new(settings, device.clone(), keep_alive, lifetime);
                Self {
                    dialect: Arc::new(dialect.with_default_method(default_method)),
                    broker: Some(Broker::of_iotcore(settings)),
                    name: name(&settings.host),
                    device: device.clone(),
                }
            }
            Cloud::IotHub(settings) => {
                let assigned = assignment.filter(|assignment| asked(config).as_ref() == Some(&assignment.asked));
                let (hub, device, is_known) = match (&settings.hub, assigned) {
                    (Hub::Named(hub), _) => (hub, device, true),
                    (Hub::Assigned(_), Some(assignment)) => (&assignment.hub, &assignment.device, true),
                    // Nobody connects with it before there is an assignment; what it says of the cloud holds for all hubs.
                    (Hub::Assigned(service), None) => (&service.host, device, false),
                };
                let dialect = IotHub::new(settings, hub, device.clone(), keep_alive, lifetime, run);
                Self {
                    dialect: Arc::new(dialect.with_default_method(default_method)),
                    broker: is_known.then(|| Broker::of_hub(settings, hub)),
                    name: name(hub),
                    device: device.clone(),
                }
            }
        })
    }
}

/// The service that assigns the hub of this configuration, if one does.
pub(super) fn service(config: &Config) -> Option<(&IotHubConfig, &Provisioning)> {
    match &config.cloud {
        Some(Cloud::IotHub(settings)) => match &settings.hub {
            Hub::Assigned(service) => Some((settings, service)),
            Hub::Named(_) => None,
        },
        Some(Cloud::IotCore(_)) | None => None,
    }
}

/// Whom the configuration has be asked for a hub, and for whom.
pub(super) fn asked(config: &Config) -> Option<Asked> {
    let (_, Provisioning { host, id_scope, registration_id }) = service(config)?;
    let (host, id_scope, registration_id) = (host.clone(), id_scope.clone(), registration_id.clone());
    Some(Asked { host, id_scope, registration_id })
}
