//! What lets a device in: its user name, and a token or a certificate.
//!
//! Source: "Communicate with an IoT hub using the MQTT protocol" (learn.microsoft.com/azure/iot).

use super::names::UserName;
use super::policy::Right;
use super::sas::{Denied, Token};
use super::{Azure, HubName};
use crate::bridge::broker::ClientNumber;
use crate::model::now::Timestamp;

/// What a CONNECT says.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) username: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) password: Option<&'a [u8]>,
    /// The DER of the certificate of the TLS handshake, where its key was proved.
    pub(crate) certificate: Option<&'a [u8]>,
}

/// A login that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) number: ClientNumber,
    /// When the token expires; a certificate is not asked again.
    pub(crate) expires: Option<Timestamp>,
}

/// A login that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Of CONNACK: MQTT 3.1.1 section 3.2.2.3.
    pub(crate) code: u8,
    /// For the log.
    pub(crate) why: String,
}

/// Not authorized: the hub's answer to all that is wrong with a login.
const NOT_AUTHORIZED: u8 = 5;

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { code: NOT_AUTHORIZED, why }
    }
}

impl Azure {
    /// Whether a user name is that of a device of a hub, and not of another cloud.
    pub(crate) fn is_login(text: &str) -> bool {
        text.contains("/?") && text.contains("api-version=")
    }

    /// Lets a device in, or says why not.
    pub(crate) fn login(&self, login: &Login<'_>, now: Timestamp) -> Result<Admitted, Refused> {
        let UserName { host, name } = UserName::parse(login.username)?;
        if login.client_id != name.to_string() {
            return Err(format!("the client id is not {name}, as the user name has it").into());
        }
        let number = self.number_of(&name).map_err(|error| error.message)?;
        if !self.is_enabled(number) {
            return Err(format!("device {} is disabled", name.device).into());
        }
        let expires = match login.password {
            None | Some([]) => {
                self.check_certificate(number, &name, login.certificate)?;
                None
            }
            Some(password) => Some(self.check_token(number, &name, &host, password, now)?),
        };
        Ok(Admitted { number, expires })
    }

    fn check_certificate(
        &self,
        number: ClientNumber,
        name: &HubName,
        certificate: Option<&[u8]>,
    ) -> Result<(), String> {
        let shown = certificate.ok_or("neither a token nor a certificate was shown")?;
        let authentication = &self.known(number).map_err(|error| error.message)?.identity.authentication;
        if authentication.is_certificate(shown) {
            return Ok(());
        }
        Err(format!("the certificate is not that of {name}, which proves itself by {}", authentication.kind()))
    }

    /// A token is signed with a key of the device, or of a policy that lets devices in.
    fn check_token(
        &self,
        number: ClientNumber,
        name: &HubName,
        host: &str,
        password: &[u8],
        now: Timestamp,
    ) -> Result<Timestamp, String> {
        let why = |denied| format!("the token of {name} is refused: {denied}");
        let token = str::from_utf8(password).map_err(|_| Denied::NotAToken).and_then(Token::parse).map_err(why)?;
        let keys = match token.policy() {
            None => self.record(number).map(|record| record.identity.authentication.keys()).unwrap_or_default(),
            Some(policy) => self.hub.keys(policy, Right::DeviceConnect),
        };
        token.verify(&keys, &name.resource(host), now, self.settings.skew).map_err(why)
    }
}
