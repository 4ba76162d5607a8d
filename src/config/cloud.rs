//! The clouds as they can be configured: where each is, who the device is there, and with what it proves that.
//!
//! Plain data. Secrets are named by the files that hold them and never held.

use std::path::{Path, PathBuf};

/// The one cloud of this daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cloud {
    IotCore(IotCore),
    IotHub(IotHub),
}

impl Cloud {
    /// The word of `cloud.kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::IotCore(_) => "iotcore",
            Self::IotHub(_) => "iothub",
        }
    }

    /// Where it is, for people: a host name or an address.
    pub fn host(&self) -> &str {
        match self {
            Self::IotCore(cloud) => &cloud.host,
            Self::IotHub(cloud) => cloud.gateway_host.as_deref().unwrap_or(match &cloud.hub {
                Hub::Named(host) | Hub::Assigned(Provisioning { host, .. }) => host,
            }),
        }
    }

    /// The certificates to trust in the place of the system's, where TLS is spoken at all.
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::IotCore(cloud) => cloud.ca_file.as_deref().filter(|_| cloud.tls),
            Self::IotHub(cloud) => cloud.ca_file.as_deref(),
        }
    }

    /// Files that nobody but the daemon is to read.
    pub fn secrets(&self) -> Vec<&Path> {
        match self {
            Self::IotCore(_) => Vec::new(),
            Self::IotHub(cloud) => match &cloud.proof {
                HubProof::ConnectionString(path) | HubProof::Key(path) | HubProof::Certificate { key: path, .. } => {
                    vec![path]
                }
            },
        }
    }

    /// Whether the way there is TLS.
    pub fn tls(&self) -> bool {
        match self {
            Self::IotCore(cloud) => cloud.tls,
            Self::IotHub(_) => true,
        }
    }
}

/// Azure IoT Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotHub {
    pub hub: Hub,
    /// Where to connect in the hub's place; the login still names the hub.
    pub gateway_host: Option<String>,
    pub port: u16,
    /// MQTT within a WebSocket, which passes firewalls that let nothing but HTTPS through.
    pub websocket: bool,
    /// Absolute. Missing: the roots of the system.
    pub ca_file: Option<PathBuf>,
    /// Log in as this module of the device, so that another program may be the device.
    pub module_id: Option<String>,
    /// Of IoT Plug and Play: `dtmi:…`.
    pub model_id: Option<String>,
    pub proof: HubProof,
}

/// Which hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hub {
    /// By its host name.
    Named(String),
    /// The Device Provisioning Service says which.
    Assigned(Provisioning),
}

/// Where a device learns which hub it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioning {
    pub host: String,
    pub id_scope: String,
    pub registration_id: String,
}

/// Where that lies with which the device proves who it is. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubProof {
    /// The member `SharedAccessKey` of this file.
    ConnectionString(PathBuf),
    /// The first line of this file, base64.
    Key(PathBuf),
    /// Both in PEM; the chain begins with the device's own.
    Certificate { chain: PathBuf, key: PathBuf },
}

/// Cloud IoT Core, and the bridges that took its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IotCore {
    /// A host name or an IP address.
    pub host: String,
    pub port: u16,
    pub project_id: String,
    pub region: String,
    pub registry_id: String,
    /// Absolute. Missing: the roots of the system.
    pub ca_file: Option<PathBuf>,
    /// False only where `host` is loopback.
    pub tls: bool,
    pub answers: Answers,
    pub clean_session: bool,
}

/// The road on which answers travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    State,
    Events,
}
