//! The key that the running daemon logs in with, as it tells it itself. It may be a credential of its service, which nobody
//! else can read, and then every file that we find is the wrong key.

use serde_json::{Value, json};

use super::document::word;
use super::{Exit, Failure};
use crate::config::Folders;
use crate::dialect::token::Key;
use crate::local::client::{Client, ClientError, Wait};

/// The public half of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) pem: String,
    /// `ES256` or `RS256`.
    pub(super) algorithm: String,
}

impl From<&Key> for PublicKey {
    fn from(key: &Key) -> Self {
        Self { pem: key.public_pem(), algorithm: format!("{:?}", key.algorithm()) }
    }
}

/// What the daemon says of its key.
#[derive(Debug)]
pub(super) struct DaemonKey {
    pub(super) is_credential: bool,
    pub(super) path: String,
    /// Its kind, as words for people; nothing, if there is none that can be used.
    pub(super) proof: Option<String>,
    /// The error is what is wrong with it; nothing, if there is none.
    pub(super) public: Result<PublicKey, Option<String>>,
}

impl DaemonKey {
    /// Whose key this is.
    pub(super) fn origin(&self) -> String {
        let credential = if self.is_credential { "its credential " } else { "" };
        format!("the key of the running daemon, {credential}{}", self.path)
    }

    /// Its public half, where there must be one.
    pub(super) fn usable(self) -> Result<PublicKey, Failure> {
        let origin = self.origin();
        self.public.map_err(|why| {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            Failure::new(Exit::Failed, anyhow::anyhow!("{origin}, cannot be used{why}"))
        })
    }
}

/// Asks the daemon that works with these folders. `None`: there is none, or it is too old to say; the error is why it could
/// not be asked.
pub(super) fn ask(folders: &Folders) -> Result<Option<DaemonKey>, ClientError> {
    let asked = Client::connect(&folders.runtime).and_then(|mut client| client.call("GetKey", &json!({}), Wait::Short));
    let told: Value = match asked {
        Ok(told) => told.into(),
        Err(error @ (ClientError::Silent(_) | ClientError::Lost(_))) => return Err(error),
        Err(error) if error.is_not_permitted() => return Err(error),
        Err(_) => return Ok(None),
    };
    // A daemon of other folders is another device.
    let is_ours = word(&told, "/folder").is_some_and(|folder| folder == folders.keys().display().to_string());
    Ok(is_ours.then(|| read(&told)))
}

fn read(told: &Value) -> DaemonKey {
    let is_pem = |pem: &&str| pem.starts_with("-----BEGIN PUBLIC KEY-----\n");
    let pem = told.pointer("/publicKey").and_then(Value::as_str).filter(is_pem);
    DaemonKey {
        is_credential: word(told, "/source").as_deref() == Some("credential"),
        path: word(told, "/path").unwrap_or_default(),
        proof: word(told, "/proof"),
        public: match (pem, word(told, "/algorithm")) {
            (Some(pem), Some(algorithm)) => Ok(PublicKey { pem: pem.to_owned(), algorithm }),
            _ => Err(word(told, "/trouble")),
        },
    }
}

/// What the running daemon says of its key, if that is a credential of its service.
pub(super) fn credential(folders: &Folders) -> Option<DaemonKey> {
    ask(folders).ok().flatten().filter(|key| key.is_credential)
}
