//! What `[cloud.iothub]` may say: one hub, or a service that assigns one, and one proof of who the device is.
//!
//! A connection string says several of these things at once. What its file says fills the gaps; what is set beside it must
//! agree. Its key stays where it is.

use std::path::{Path, PathBuf};

use crate::config::connection_string::{self, ConnectionString};
use crate::config::reader::Reader;
use crate::config::{Hub, HubProof, IotHub, Provisioning, rules};
use crate::model::command::DeviceId;

const DEVICE: &str = "device.id";
const STRING: &str = "cloud.iothub.connection_string_file";
const HOST: &str = "cloud.iothub.host";
const KEY: &str = "cloud.iothub.key_file";
const CERT: &str = "cloud.iothub.cert_file";
const CERT_KEY: &str = "cloud.iothub.cert_key_file";
const GATEWAY: &str = "cloud.iothub.gateway_host";
const MODULE: &str = "cloud.iothub.module_id";
const SCOPE: &str = "cloud.iothub.provisioning.id_scope";
const REGISTRATION: &str = "cloud.iothub.provisioning.registration_id";
const SERVICE: &str = "cloud.iothub.provisioning.host";

/// The service for all customers (learn.microsoft.com/azure/iot-dps, "Device provisioning endpoint").
const GLOBAL_SERVICE: &str = "global.azure-devices-provisioning.net";

const PORT: u16 = 8883;
/// Of MQTT in a WebSocket.
const WEB_PORT: u16 = 443;

const ONE_PROOF: &str = "a device proves itself in one way, so one of them must go";
const ONE_HUB: &str = "the hub is either named or assigned, so one of them must go";
const NO_GATEWAY: &str =
    "the service is asked at `port` and trusted by `ca_file`, which are a gateway's then; name the hub by `host`";
const DEVICES_ONLY: &str = "only devices are provisioned, no modules, so one of them must go";

/// There is no connection string, and why is among the faults.
struct FaultWasTold;

/// What is set by itself, before it is known what it means together.
struct Parts {
    string_file: Option<PathBuf>,
    host: Option<String>,
    key: Option<PathBuf>,
    cert: Option<PathBuf>,
    cert_key: Option<PathBuf>,
    gateway: Option<String>,
    module: Option<String>,
    provisioning: Option<Provisioning>,
}

/// Reads the section even where it is not wanted, so that a mistake in it shows before it counts. What only shows together,
/// and what stands in files, is looked at where it is wanted. `device` becomes that of the connection string if it has none.
pub(super) fn read(from: &mut Reader, wanted: bool, device: &mut Option<DeviceId>) -> Option<IotHub> {
    let path = |from: &mut Reader, key| {
        let path = from.parsed(key, rules::path);
        from.files.extend(path.clone());
        path
    };
    let mut parts = Parts {
        string_file: path(from, STRING),
        host: from.parsed(HOST, rules::host),
        key: path(from, KEY),
        cert: path(from, CERT),
        cert_key: path(from, CERT_KEY),
        gateway: from.parsed(GATEWAY, rules::host),
        module: from.parsed(MODULE, rules::hub_module),
        provisioning: None,
    };
    let websocket = from.flag("cloud.iothub.websocket", false);
    let port = from.port("cloud.iothub.port", if websocket { WEB_PORT } else { PORT });
    let ca_file = path(from, "cloud.iothub.ca_file");
    let model_id = from.parsed("cloud.iothub.model_id", rules::model);
    parts.provisioning = provisioning(from, wanted, device.as_ref());
    if !wanted {
        return None;
    }
    contradictions(from);
    parts.find_credential(from);
    let proof = parts.complete(from, device);
    let hub = parts.hub(from);
    Some(IotHub {
        hub: hub?,
        gateway_host: parts.gateway,
        port,
        websocket,
        ca_file,
        module_id: parts.module,
        model_id,
        proof: proof?,
    })
}

fn provisioning(from: &mut Reader, wanted: bool, device: Option<&DeviceId>) -> Option<Provisioning> {
    let id_scope = from.parsed(SCOPE, rules::id_scope);
    let registration_id = from.parsed(REGISTRATION, rules::registration);
    let host = from.parsed(SERVICE, rules::host).unwrap_or_else(|| GLOBAL_SERVICE.to_owned());
    if from.place(SCOPE).is_none() {
        if wanted && from.place(REGISTRATION).is_some() {
            from.missing(SCOPE, REGISTRATION);
        }
        return None;
    }
    let registration_id = match (registration_id, device) {
        (None, Some(device)) if wanted && from.place(REGISTRATION).is_none() => {
            let id = rules::registration(device.as_str());
            id.map_err(|why| from.fault(DEVICE, format_args!("\"{device}\" is {why}; set {REGISTRATION}"))).ok()
        }
        (id, _) => id,
    };
    Some(Provisioning { host, id_scope: id_scope?, registration_id: registration_id? })
}

/// What excludes each other whatever it says.
fn contradictions(from: &mut Reader) {
    from.exclusive(KEY, STRING, ONE_PROOF);
    from.exclusive(KEY, CERT, ONE_PROOF);
    from.exclusive(SCOPE, HOST, ONE_HUB);
    from.exclusive(SCOPE, STRING, ONE_HUB);
    from.exclusive(SCOPE, MODULE, DEVICES_ONLY);
    from.exclusive(SCOPE, GATEWAY, NO_GATEWAY);
    for (one, other) in [(CERT, CERT_KEY), (CERT_KEY, CERT)] {
        if from.place(one).is_some() && from.place(other).is_none() {
            from.missing(other, one);
        }
    }
}

impl Parts {
    /// The credential of systemd wins over the file, and stands for it where no other key is named and no hub assigned. A
    /// certificate is no reason to pass it over: it may say which device and hub that is for.
    fn find_credential(&mut self, from: &mut Reader) {
        let others = [KEY, SCOPE].iter().any(|key| from.place(key).is_some());
        let found = from.credentials.as_ref().map(|folder| folder.join(connection_string::CREDENTIAL));
        if let Some(path) = found.filter(|path| !from.is_kept && path.exists())
            && (self.string_file.is_some() || !others)
        {
            from.files.push(path.clone());
            if from.place(STRING).is_none() {
                from.is_said_by(STRING, &path);
            }
            self.string_file = Some(path);
        }
    }

    /// The proof, after the connection string has said its part.
    fn complete(&mut self, from: &mut Reader, device: &mut Option<DeviceId>) -> Option<HubProof> {
        let string = match self.string_file.clone().filter(|_| !from.is_kept) {
            Some(path) => self.string(from, &path, device.as_ref()).ok()?,
            None => None,
        };
        let has_key = string.as_ref().map(|string| string.key.is_some());
        if let Some(string) = string {
            self.agree(from, string, device);
        }
        match (&self.string_file, &self.key, &self.cert, &self.cert_key) {
            (Some(_), _, Some(_), _) if has_key == Some(true) => {
                from.exclusive(CERT, STRING, ONE_PROOF);
                None
            }
            (_, None, Some(chain), Some(key)) => Some(HubProof::Certificate { chain: chain.clone(), key: key.clone() }),
            (Some(_), None, None, None) if has_key == Some(false) => {
                from.fault(STRING, format_args!("says x509=true, and {CERT} is not set"));
                None
            }
            (Some(path), None, None, None) => Some(HubProof::ConnectionString(path.clone())),
            (None, Some(key), None, None) => Some(HubProof::Key(key.clone())),
            _ => {
                let proofs = [STRING, KEY, CERT];
                if [STRING, KEY, CERT, CERT_KEY].iter().all(|key| from.place(key).is_none()) {
                    from.none_of(&proofs, "cloud.kind");
                }
                None
            }
        }
    }

    /// What the file says. Nothing, where it is not there yet, or not for us, and all that it has to say is set.
    fn string(
        &self,
        from: &mut Reader,
        path: &Path,
        device: Option<&DeviceId>,
    ) -> Result<Option<ConnectionString>, FaultWasTold> {
        let credentials = from.credentials.clone();
        let is_complete = self.host.is_some() && device.is_some();
        match connection_string::read_with(credentials.as_deref(), path) {
            Ok(string) => Ok(Some(string)),
            Err(error) if is_complete && (error.is_absent() || error.is_closed_to_us()) => Ok(None),
            Err(error) if error.is_absent() => {
                from.fault(STRING, format_args!("there is no such file: {}", path.display()));
                Err(FaultWasTold)
            }
            Err(error) => {
                from.fault(STRING, error.in_words());
                Err(FaultWasTold)
            }
        }
    }

    fn agree(&mut self, from: &mut Reader, string: ConnectionString, device: &mut Option<DeviceId>) {
        let ConnectionString { host, device: id, module, gateway, key: _ } = string;
        if device.as_ref().is_some_and(|device| *device != id) {
            disagree(from, DEVICE, "DeviceId");
        }
        if self.host.as_ref().is_some_and(|named| !named.eq_ignore_ascii_case(&host)) {
            disagree(from, HOST, "HostName");
        }
        match (&self.module, &module) {
            (Some(named), Some(said)) if named != said => disagree(from, MODULE, "ModuleId"),
            // Its key is the device's own, and a module has another.
            (Some(_), None) => from.fault(
                MODULE,
                format_args!("is set, and the file of {STRING} names no `ModuleId`: it is that of the device itself"),
            ),
            _ => {}
        }
        if let (Some(named), Some(said)) = (&self.gateway, &gateway)
            && !named.eq_ignore_ascii_case(said)
        {
            disagree(from, GATEWAY, "GatewayHostName");
        }
        let file = self.string_file.clone().unwrap_or_default();
        fill(from, DEVICE, &file, device, Some(id));
        fill(from, HOST, &file, &mut self.host, Some(host));
        fill(from, MODULE, &file, &mut self.module, module);
        fill(from, GATEWAY, &file, &mut self.gateway, gateway);
    }

    fn hub(&mut self, from: &mut Reader) -> Option<Hub> {
        match (self.host.take(), self.provisioning.take()) {
            (Some(host), None) => Some(Hub::Named(host)),
            (None, Some(provisioning)) => Some(Hub::Assigned(provisioning)),
            (Some(_), Some(_)) => None,
            (None, None) => {
                let is_set = |key: &&str| from.place(key).is_some();
                match ([HOST, SCOPE, REGISTRATION].iter().any(is_set), &self.string_file) {
                    (false, None) if !is_set(&STRING) => from.none_of(&[STRING, HOST, SCOPE], "cloud.kind"),
                    // What is kept is written out in full.
                    (false, Some(_)) if from.is_kept => from.missing(HOST, "cloud.kind"),
                    _ => {}
                }
                None
            }
        }
    }
}

/// What is not set is as the connection string says.
fn fill<T>(from: &mut Reader, key: &'static str, file: &Path, place: &mut Option<T>, said: Option<T>) {
    if place.is_none()
        && let Some(said) = said
    {
        *place = Some(said);
        from.is_said_by(key, file);
    }
}

fn disagree(from: &mut Reader, key: &'static str, member: &str) {
    from.fault(
        key,
        format_args!("is another than `{member}` in the file of {STRING}; leave it out, or make both agree"),
    );
}
