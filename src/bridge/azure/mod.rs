//! The stand-in for Azure IoT Hub: its identities, twins and keys, and the rules of all three. Knows no socket and no HTTP.
//!
//! [`registry`] and [`twins`] are what the service's API does, [`login`] and [`twins`] what a device may do. Times are handed
//! in; random numbers for keys are drawn here. Sources: the pages under learn.microsoft.com/azure/iot-hub.

mod access;
mod document;
mod error;
mod identity;
mod login;
mod names;
mod policy;
mod properties;
mod query;
mod registry;
pub(crate) mod sas;
mod twin;
mod twins;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::access::{check_validity, thumbprint_matches};
pub use self::error::HubError;
pub(crate) use self::identity::IdentityBody;
pub(crate) use self::login::Login;
pub use self::names::HubName;
pub(crate) use self::names::is_api_version;
pub(crate) use self::policy::{HubFile, Right};
pub(crate) use self::registry::LONGEST_LIST;
pub(crate) use self::twin::{TwinBody, Write};

use self::identity::Identity;
use self::twin::Twin;
use super::broker::ClientNumber;
use super::google::FileChange;

/// The least number of a client of this cloud; those of the other cloud are below it.
pub(crate) const FIRST_NUMBER: ClientNumber = 1 << 63;

/// Where the files are, under the data folder: one [`Record`] each, and one [`HubFile`].
pub(crate) const IDENTITIES: &str = "azure/identities";
pub(crate) const HUB_FILE: &str = "azure/hub.json";

/// What can be set for tests.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long after its end a token is taken.
    pub(crate) skew: Duration,
    /// The names of the hub, in lower case.
    pub(crate) hosts: Vec<String>,
}

/// A hub with all that is in it.
#[derive(Debug)]
pub(crate) struct Azure {
    settings: Settings,
    hub: HubFile,
    records: HashMap<ClientNumber, Record>,
    numbers: BTreeMap<HubName, ClientNumber>,
    changed: BTreeSet<Change>,
}

/// A device or module: who it is, and its twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    number: ClientNumber,
    identity: Identity,
    twin: Twin,
}

/// Something whose file is out of date: it was changed, or it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Hub,
    Record(ClientNumber),
}

/// Which version of a resource a call is for: the header `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// `*`: the newest one, whichever that is.
    Any,
    Tag(String),
}

impl IfMatch {
    /// Reads `*`, `"tag"` and `W/"tag"`; quotes that are left out are taken for meant, as the service does.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        if text == "*" || text == "\"*\"" {
            return Self::Any;
        }
        let strong = text.strip_prefix("W/").unwrap_or(text);
        let bare = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(strong);
        Self::Tag(bare.to_owned())
    }

    fn check(&self, etag: &str) -> Result<(), HubError> {
        match self {
            Self::Tag(tag) if tag != etag => Err(HubError::precondition()),
            _ => Ok(()),
        }
    }
}

impl Azure {
    /// What an earlier run kept; without the file of the hub its keys are made. A record that is not of this cloud is
    /// refused.
    pub(crate) fn new(settings: Settings, hub: Option<HubFile>, records: Vec<Record>) -> anyhow::Result<Self> {
        let mut changed = BTreeSet::new();
        let hub = hub.unwrap_or_else(|| {
            changed.insert(Change::Hub);
            HubFile::new()
        });
        let mut numbers = BTreeMap::new();
        for Record { number, identity, .. } in &records {
            anyhow::ensure!(
                *number >= FIRST_NUMBER && numbers.insert(identity.name.clone(), *number).is_none(),
                "{IDENTITIES}/{number}.json is a second file of {}, or has a number of another cloud; remove it",
                identity.name
            );
        }
        // Whoever was connected to an earlier run is not any more.
        let records = records.into_iter().map(|mut record| {
            record.identity.connection = identity::Connection::default();
            (record.number, record)
        });
        Ok(Self { settings, hub, records: records.collect(), numbers, changed })
    }

    /// How long after its end a token is taken.
    pub(crate) fn skew(&self) -> Duration {
        self.settings.skew
    }

    /// Whether this, in lower case, is a name of the hub.
    fn is_host(&self, host: &str) -> bool {
        self.settings.hosts.iter().any(|known| known == host)
    }

    /// Whether a client is one of this cloud.
    pub(crate) fn holds(number: ClientNumber) -> bool {
        number >= FIRST_NUMBER
    }

    /// The primary key, in base64, of the policy `iothubowner`.
    pub(crate) fn service_key(&self) -> &str {
        self.hub.owner_key()
    }

    pub(crate) fn number_of(&self, name: &HubName) -> Result<ClientNumber, HubError> {
        self.numbers.get(name).copied().ok_or_else(|| HubError::not_found(name))
    }

    pub(crate) fn name_of(&self, number: ClientNumber) -> Option<&HubName> {
        self.records.get(&number).map(|record| &record.identity.name)
    }

    fn record(&self, number: ClientNumber) -> Option<&Record> {
        self.records.get(&number)
    }

    /// The record of a number that is held to be one; a device may have been deleted just now.
    fn known(&self, number: ClientNumber) -> Result<&Record, HubError> {
        self.record(number).ok_or_else(HubError::gone)
    }

    /// The record, to be changed; its file will be written.
    fn record_mut(&mut self, number: ClientNumber) -> Option<&mut Record> {
        let record = self.records.get_mut(&number)?;
        self.changed.insert(Change::Record(number));
        Some(record)
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The files that are out of date.
    pub(crate) fn take_changes(&mut self) -> Vec<FileChange> {
        std::mem::take(&mut self.changed).into_iter().map(|change| self.file(change)).collect()
    }

    fn file(&self, change: Change) -> FileChange {
        match change {
            Change::Hub => FileChange { path: HUB_FILE.to_owned(), content: Some(to_json(&self.hub)) },
            Change::Record(number) => FileChange {
                path: format!("{IDENTITIES}/{number}.json"),
                content: self.records.get(&number).map(to_json),
            },
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("records are JSON");
    text.push(b'\n');
    text
}
