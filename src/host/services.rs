//! The service manager over D-Bus (org.freedesktop.systemd1(5)): what a unit is and how it stands, start, stop, restart, and
//! word of every change.
//!
//! Asks and hands on: which unit, and what its end means, others know. Every call has an end, so a bus that hangs is one
//! that cannot be reached. Rights are polkit's to give.

mod changes;
mod state;

use std::time::Duration;

use zbus::message::Message;
use zbus::proxy::CacheProperties;
use zbus::zvariant::{DynamicType, ObjectPath, OwnedObjectPath};
use zbus::{Connection, Proxy, connection};

use crate::model::unit_name::UnitName;

pub use changes::Changes;
pub use state::{Active, Exit, State};

/// The longest wait for an answer. systemd answers within milliseconds; while it reads all units anew, within seconds.
const PATIENCE: Duration = Duration::from_secs(25);

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The service manager, as long as the bus is there.
#[derive(Clone, Debug)]
pub struct Services {
    manager: Proxy<'static>,
}

/// Why a call had no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No bus, no systemd on it, or no answer: the call may still have had its effect.
    #[error("systemd cannot be reached over D-Bus: {0}")]
    Lost(String),
    /// polkit, or the policy of the bus.
    #[error("not permitted: {0}")]
    Refused(String),
    #[error("there is no such unit: {0}")]
    NoSuchUnit(String),
    /// systemd will not, and says why.
    #[error("systemd: {0}")]
    Failed(String),
}

/// A unit that systemd knows, by its place on the bus.
#[derive(Clone, Debug)]
pub struct Loaded {
    path: OwnedObjectPath,
    name: UnitName,
}

impl Loaded {
    pub fn name(&self) -> &UnitName {
        &self.name
    }
}

impl Services {
    /// Connects to the bus at this address (D-Bus Specification, "Server Addresses"), and asks systemd for its signals.
    pub async fn connect(bus: &str) -> Result<Self, CallError> {
        let lost = |error: zbus::Error| CallError::Lost(error.to_string());
        let connecting = connection::Builder::address(bus).map_err(lost)?.method_timeout(PATIENCE).build();
        let services = Self::on(&within(connecting).await?).await?;
        services.subscribe().await?;
        Ok(services)
    }

    async fn on(connection: &Connection) -> Result<Self, CallError> {
        let building = async {
            zbus::proxy::Builder::new(connection)
                .destination(NAME)?
                .path(PATH)?
                .interface(MANAGER)?
                .cache_properties(CacheProperties::No)
                .build()
                .await
        };
        Ok(Self { manager: within(building).await? })
    }

    /// systemd sends signals only while somebody has asked for them.
    async fn subscribe(&self) -> Result<(), CallError> {
        match self.call("Subscribe", &()).await {
            // It says so by an error of its own, which is as good.
            Ok(_) | Err(CallError::Failed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The unit of this name, loaded from its file if it is not in memory. Whether there is a file, its state says. Where
    /// the name is an alias, the unit bears its first name, by which polkit is asked and its jobs are told.
    pub async fn load(&self, name: &UnitName) -> Result<Loaded, CallError> {
        let Loaded { path, .. } = self.unit("LoadUnit", name).await?;
        let name = self.first_name(&path).await?;
        Ok(Loaded { path, name })
    }

    /// The unit of this name, if it is in memory: it runs, or has run and its result is kept.
    pub async fn find(&self, name: &UnitName) -> Result<Option<Loaded>, CallError> {
        match self.unit("GetUnit", name).await {
            Ok(unit) => Ok(Some(unit)),
            Err(CallError::NoSuchUnit(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The unit that we run in.
    pub async fn own(&self) -> Result<UnitName, CallError> {
        // Zero is whoever asks.
        let path: OwnedObjectPath = read(&self.call("GetUnitByPID", &0_u32).await?)?;
        self.first_name(&path).await
    }

    async fn first_name(&self, path: &ObjectPath<'_>) -> Result<UnitName, CallError> {
        let name = self.property(path, "org.freedesktop.systemd1.Unit", "Id").await?;
        UnitName::parse(&name).map_err(|error| CallError::Failed(error.to_string()))
    }

    async fn unit(&self, method: &str, name: &UnitName) -> Result<Loaded, CallError> {
        let path = read(&self.call(method, &name.as_str()).await?)?;
        Ok(Loaded { path, name: name.clone() })
    }

    /// How the unit stands now.
    pub async fn state(&self, unit: &Loaded) -> Result<State, CallError> {
        let unit_facts = self.properties(&unit.path, "org.freedesktop.systemd1.Unit").await?;
        let service_facts = if unit.name.as_str().ends_with(".service") {
            Some(self.properties(&unit.path, "org.freedesktop.systemd1.Service").await?)
        } else {
            None
        };
        State::read(&unit_facts, service_facts.as_ref())
    }

    /// Begins to start it. A job that is queued and says otherwise makes it fail (`systemctl --job-mode=fail`).
    pub async fn start(&self, unit: &Loaded) -> Result<(), CallError> {
        self.call("StartUnit", &(unit.name.as_str(), "fail")).await.map(drop)
    }

    /// Begins to stop it, and whatever else its stopping asks for, as `systemctl stop` does.
    pub async fn stop(&self, unit: &Loaded) -> Result<(), CallError> {
        self.call("StopUnit", &(unit.name.as_str(), "replace")).await.map(drop)
    }

    /// Begins to restart it, or to start it if it does not run, as `systemctl restart` does.
    pub async fn restart(&self, unit: &Loaded) -> Result<(), CallError> {
        self.call("RestartUnit", &(unit.name.as_str(), "replace")).await.map(drop)
    }

    /// Forgets that it failed.
    pub async fn reset_failed(&self, unit: &Loaded) -> Result<(), CallError> {
        self.call("ResetFailedUnit", &unit.name.as_str()).await.map(drop)
    }

    /// Units in memory whose names begin so and end in `.service`.
    pub async fn services_named(&self, beginning: &str) -> Result<Vec<Loaded>, CallError> {
        type Unit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let patterns = [format!("{beginning}*.service")];
        let all: Vec<Unit> =
            read(&self.call("ListUnitsByPatterns", &(Vec::<&str>::new(), patterns.as_slice())).await?)?;
        let known = |unit: Unit| Some(Loaded { name: UnitName::parse(&unit.0).ok()?, path: unit.6 });
        Ok(all.into_iter().filter_map(known).collect())
    }

    /// Word of every change of this unit from now on.
    pub async fn changes(&self, unit: &Loaded) -> Result<Changes, CallError> {
        Changes::of(self.manager.connection(), unit).await
    }

    async fn properties(&self, path: &ObjectPath<'_>, interface: &str) -> Result<Message, CallError> {
        let asking = self.manager.connection().call_method(Some(NAME), path, Some(PROPERTIES), "GetAll", &interface);
        within(asking).await
    }

    async fn property(&self, path: &ObjectPath<'_>, interface: &str, name: &str) -> Result<String, CallError> {
        let arguments = (interface, name);
        let asking = self.manager.connection().call_method(Some(NAME), path, Some(PROPERTIES), "Get", &arguments);
        let answer: zbus::zvariant::OwnedValue = read(&within(asking).await?)?;
        String::try_from(answer).map_err(|error| CallError::Failed(error.to_string()))
    }

    async fn call<Arguments>(&self, method: &str, arguments: &Arguments) -> Result<Message, CallError>
    where
        Arguments: serde::Serialize + DynamicType + Sync,
    {
        within(self.manager.call_method(method, arguments)).await
    }
}

fn read<Answer>(message: &Message) -> Result<Answer, CallError>
where
    Answer: serde::de::DeserializeOwned + zbus::zvariant::Type,
{
    message.body().deserialize().map_err(|error| CallError::Failed(error.to_string()))
}

async fn within<T>(work: impl Future<Output = zbus::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(CallError::from),
        Err(_) => Err(CallError::Lost(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// Errors have names; the words beside them are for people and may change.
impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        let (name, words) = match &error {
            zbus::Error::MethodError(name, words, _) => (name.as_str().to_owned(), words.clone().unwrap_or_default()),
            other => return Self::Lost(other.to_string()),
        };
        match name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or(&name) {
            "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => Self::Refused(words),
            "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "Timeout" | "TimedOut" | "Disconnected" | "NoServer" => {
                Self::Lost(words)
            }
            // The bus would start systemd, and cannot.
            name if name.starts_with("Spawn.") => Self::Lost(words),
            "org.freedesktop.systemd1.NoSuchUnit" => Self::NoSuchUnit(words),
            name => Self::Failed(if words.is_empty() { name.to_owned() } else { words }),
        }
    }
}

#[cfg(test)]
mod tests;
