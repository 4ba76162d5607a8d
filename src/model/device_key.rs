//! With what the device proves who it is, as the agent knows it: the public half of a key and where it comes from, or why
//! there is none.
//!
//! The private half never comes here, so all of this may be told to whoever may ask.

use serde_json::{Value, json};

use super::now::Timestamp;

/// Which of the device's keys: it may have a next one, which the cloud knows already, and a previous one, which it knows
/// still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySlot {
    #[default]
    Current,
    Next,
    Previous,
}

impl KeySlot {
    /// All of them, in the order in which they are of use.
    pub const ALL: [Self; 3] = [Self::Current, Self::Next, Self::Previous];

    /// Those that need not be there.
    pub const OTHERS: [Self; 2] = [Self::Next, Self::Previous];

    /// As documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }
}

/// What was found when the keys were last looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// The service manager passed it to the daemon, and nobody else can read it. Else it is a file.
    pub is_credential: bool,
    pub path: String,
    /// Where a key that is a file is looked for: tells daemons of different folders apart.
    pub folder: String,
    pub found: Found,
    /// Keys beside the current one that can be used.
    pub others: Vec<KeySlot>,
    /// Keys beside the current one that are there and cannot be used, with the reason in words for people.
    pub unusable: Vec<(KeySlot, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Usable {
        /// `SubjectPublicKeyInfo` in PEM.
        public: String,
        /// `ES256` or `RS256`.
        algorithm: &'static str,
    },
    /// A key that the cloud has too. Nothing of it can be told.
    Shared,
    /// A certificate with its private key.
    Certificate {
        /// SHA-256 over its DER, in capital hexadecimal digits: as clouds name a certificate.
        thumbprint: String,
        /// When it ends, if it does.
        ends: Option<Timestamp>,
    },
    /// The device has no private key yet. That is a state, not a fault.
    Absent,
    /// A file that the configuration names is not there yet, which is no fault either; in words for people.
    Awaited(String),
    /// In words for people.
    Unusable(String),
}

impl Found {
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Usable { .. } | Self::Shared | Self::Certificate { .. } => true,
            Self::Absent | Self::Awaited(_) | Self::Unusable(_) => false,
        }
    }

    /// With what logins are made, in words for people.
    fn proof(&self) -> Option<&'static str> {
        match self {
            Self::Usable { .. } => Some("private key"),
            Self::Shared => Some("shared key"),
            Self::Certificate { .. } => Some("certificate"),
            Self::Absent | Self::Awaited(_) | Self::Unusable(_) => None,
        }
    }
}

impl DeviceKey {
    /// There is none yet, and nobody is at fault.
    pub fn is_absent(&self) -> bool {
        matches!(self.found, Found::Absent | Found::Awaited(_))
    }

    /// As local callers are told of it.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "source": if self.is_credential { "credential" } else { "file" },
            "path": self.path,
            "folder": self.folder,
        });
        match &self.found {
            Found::Usable { public, algorithm } => {
                document["publicKey"] = json!(public);
                document["algorithm"] = json!(algorithm);
            }
            Found::Certificate { thumbprint, .. } => document["thumbprint"] = json!(thumbprint),
            Found::Shared | Found::Absent | Found::Awaited(_) => {}
            Found::Unusable(why) => document["trouble"] = json!(why),
        }
        if let Some(proof) = self.found.proof() {
            document["proof"] = json!(proof);
        }
        document["others"] = self.others_document();
        document
    }

    /// With what logins are made, as the status tells it. Nothing where the device has nothing that can be used.
    pub fn proof_document(&self) -> Option<Value> {
        let mut document = json!({ "kind": self.found.proof()?, "path": self.path });
        if let Found::Certificate { ends: Some(ends), .. } = &self.found {
            document["ends"] = json!(ends);
        }
        Some(document)
    }

    /// The keys beside the current one, as local callers are told of them.
    pub fn others_document(&self) -> Value {
        let usable = self.others.iter().map(|slot| json!({ "slot": slot.name(), "usable": true }));
        let unusable = self.unusable.iter();
        let unusable = unusable.map(|(slot, why)| json!({ "slot": slot.name(), "usable": false, "trouble": why }));
        usable.chain(unusable).collect()
    }
}
