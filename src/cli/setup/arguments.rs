//! What `twinagent setup` may be told, and the keys of the configuration that it sets.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::ValueEnum as _;

use super::super::{Exit, Failure};
use crate::config::Setting;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The kind of cloud
    #[arg(long)]
    kind: Kind,
    /// The id under which the cloud knows this device; %H, %m, %s and @/path are filled in when it is read. A connection
    /// string says it too
    #[arg(long, value_name = "ID", required_if_eq("kind", "iotcore"))]
    device: Option<String>,
    /// The host name or address of the cloud's MQTT bridge, or of the IoT hub
    #[arg(long)]
    host: Option<String>,
    /// Its port, if it is not 8883
    #[arg(long)]
    port: Option<u16>,
    /// The project that the device is registered in
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// The region of its registry
    #[arg(long)]
    region: Option<String>,
    /// The registry that the device is registered in
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// The certificates (PEM) that the bridge's or hub's own may come from, if not those of the system
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
}

/// What only an IoT hub wants to be told.
#[derive(Debug, Default, clap::Args)]
struct HubArguments {
    /// The file with the device's connection string. It holds a key, so it is never given on the command line itself
    #[arg(long, value_name = "FILE")]
    connection_string_file: Option<PathBuf>,
    /// The file with the key (base64) that the device shares with its hub
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The device's certificate and what leads to its root (PEM)
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    cert_key_file: Option<PathBuf>,
    /// The id scope of the provisioning service that assigns a hub, in the place of --host
    #[arg(long, value_name = "ID")]
    id_scope: Option<String>,
    /// The name under which the device is enrolled there, if it is not --device
    #[arg(long, value_name = "ID")]
    registration_id: Option<String>,
    /// Where that service is, if it is not the global one
    #[arg(long, value_name = "HOST")]
    provisioning_host: Option<String>,
    /// A gateway to connect to in the place of the hub
    #[arg(long, value_name = "HOST")]
    gateway_host: Option<String>,
    /// Carry MQTT within a WebSocket, on port 443
    #[arg(long)]
    websocket: bool,
    /// Log in as this module of the device
    #[arg(long, value_name = "ID")]
    module_id: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// Cloud IoT Core, and the bridges that took its place
    Iotcore,
    /// Azure IoT Hub
    Iothub,
}

impl Arguments {
    /// What was given, by its keys, in the order of the reference.
    pub(super) fn settings(self) -> Result<Vec<(&'static str, Setting)>, Failure> {
        let Arguments { kind, device, host, port, project, region, registry, ca_file, hub } = self;
        let text = |text: Option<String>| text.map(Setting::Text);
        let number = |port: Option<u16>| port.map(|port| Setting::Number(port.into()));
        let flag = |is_set: bool| is_set.then_some(Setting::Flag(true));
        let path = |path: Option<PathBuf>, option: &str| match path.map(std::path::absolute).transpose()? {
            Some(path) => path.into_os_string().into_string().map(|path| Some(Setting::Text(path))).map_err(|_| {
                Failure::new(Exit::Usage, anyhow!("the path of {option} is not UTF-8, which a configuration must be"))
            }),
            None => Ok(None),
        };
        let strangers: Vec<&str> = match kind {
            Kind::Iotcore => hub.given(),
            Kind::Iothub => [(&project, "--project"), (&region, "--region"), (&registry, "--registry")]
                .into_iter()
                .filter_map(|(value, option)| value.is_some().then_some(option))
                .collect(),
        };
        if let Some(option) = strangers.first() {
            let kind = kind.to_possible_value().map(|kind| kind.get_name().to_owned()).unwrap_or_default();
            let why = anyhow!("{option} means nothing to --kind {kind}");
            return Err(Failure::new(Exit::Usage, why).hint("nothing was changed"));
        }
        let ca_file = path(ca_file, "--ca-file")?;
        let all = match kind {
            Kind::Iotcore => vec![
                ("device.id", text(device)),
                ("cloud.kind", text(Some("iotcore".to_owned()))),
                ("cloud.iotcore.host", text(host)),
                ("cloud.iotcore.port", number(port)),
                ("cloud.iotcore.project_id", text(project)),
                ("cloud.iotcore.region", text(region)),
                ("cloud.iotcore.registry_id", text(registry)),
                ("cloud.iotcore.ca_file", ca_file),
            ],
            Kind::Iothub => vec![
                ("device.id", text(device)),
                ("cloud.kind", text(Some("iothub".to_owned()))),
                ("cloud.iothub.connection_string_file", path(hub.connection_string_file, "--connection-string-file")?),
                ("cloud.iothub.host", text(host)),
                ("cloud.iothub.key_file", path(hub.key_file, "--key-file")?),
                ("cloud.iothub.cert_file", path(hub.cert_file, "--cert-file")?),
                ("cloud.iothub.cert_key_file", path(hub.cert_key_file, "--cert-key-file")?),
                ("cloud.iothub.gateway_host", text(hub.gateway_host)),
                ("cloud.iothub.websocket", flag(hub.websocket)),
                ("cloud.iothub.port", number(port)),
                ("cloud.iothub.ca_file", ca_file),
                ("cloud.iothub.module_id", text(hub.module_id)),
                ("cloud.iothub.provisioning.id_scope", text(hub.id_scope)),
                ("cloud.iothub.provisioning.registration_id", text(hub.registration_id)),
                ("cloud.iothub.provisioning.host", text(hub.provisioning_host)),
            ],
        };
        Ok(all.into_iter().filter_map(|(key, setting)| Some((key, setting?))).collect())
    }
}

impl HubArguments {
    /// The options that were used.
    fn given(&self) -> Vec<&'static str> {
        let Self { connection_string_file, key_file, cert_file, cert_key_file, .. } = self;
        let Self { id_scope, registration_id, provisioning_host, gateway_host, websocket, module_id, .. } = self;
        [
            (connection_string_file.is_some(), "--connection-string-file"),
            (key_file.is_some(), "--key-file"),
            (cert_file.is_some(), "--cert-file"),
            (cert_key_file.is_some(), "--cert-key-file"),
            (id_scope.is_some(), "--id-scope"),
            (registration_id.is_some(), "--registration-id"),
            (provisioning_host.is_some(), "--provisioning-host"),
            (gateway_host.is_some(), "--gateway-host"),
            (*websocket, "--websocket"),
            (module_id.is_some(), "--module-id"),
        ]
        .into_iter()
        .filter_map(|(is_given, option)| is_given.then_some(option))
        .collect()
    }
}
