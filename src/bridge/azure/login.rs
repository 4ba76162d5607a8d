//! What lets a device in: its user name, and a token or a certificate.
//!
//! Source: "Communicate with an IoT hub using the MQTT protocol" (learn.microsoft.com/azure/iot).

use super::access::check_validity;
use super::names::UserName;
use super::policy::Right;
use super::sas::{Denied, Token};
use super::{Azure, HubName};
use crate::bridge::broker::ClientNumber;
use crate::bridge::google::quoted;
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
        if !self.is_host(&host) {
            return Err(format!("the user name is for another hub: {}", quoted(&host)).into());
        }
        if login.client_id != name.to_string() {
            return Err(format!("the client id is not {name}, as the user name has it").into());
        }
        let number = self.number_of(&name).map_err(|error| error.message)?;
        if !self.is_enabled(number) {
            return Err(format!("device {} is disabled", name.device).into());
        }
        let expires = match login.password {
            None | Some([]) => {
                self.check_certificate(number, &name, login.certificate, now)?;
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
        now: Timestamp,
    ) -> Result<(), String> {
        let shown = certificate.ok_or("neither a token nor a certificate was shown")?;
        let authentication = &self.known(number).map_err(|error| error.message)?.identity.authentication;
        if !authentication.is_certificate(shown) {
            let kind = authentication.kind();
            return Err(format!("the certificate is not that of {name}, which proves itself by {kind}"));
        }
        check_validity(shown, now)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{IdentityBody, IfMatch, Settings};
    use super::*;
    use crate::dialect::sas::{SharedKey, mint};

    const PRIMARY: &str = "a2V5a2V5a2V5a2V5";
    const SECONDARY: &str = "b3RoZXJvdGhlcm90aGVy";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// A hub with device `d`, and its module `d/m` with other keys.
    fn hub() -> Azure {
        let settings = Settings { skew: Duration::from_secs(10), hosts: vec!["hub.example".to_owned()] };
        let mut hub = Azure::new(settings, None, Vec::new()).expect("a hub");
        let device = HubName::device("d").expect("a name");
        let module = device.module("m").expect("a name");
        for (name, body) in [
            (device, IdentityBody::with_keys(PRIMARY, Some(SECONDARY))),
            (module, IdentityBody::with_keys("bW9kdWxlbW9kdWxlbW9kdWxl", None)),
        ] {
            hub.put_identity(&name, body, None, at(0)).expect("an identity");
        }
        hub
    }

    fn token(key: &str, resource: &str, policy: Option<&str>) -> String {
        mint(&SharedKey::parse(key).expect("a key"), resource, at(100), policy).reveal().to_owned()
    }

    fn enter(hub: &Azure, name: &str, password: &str, certificate: Option<&[u8]>) -> Result<Admitted, Refused> {
        let username = format!("Hub.example/{name}/?api-version=2021-04-12");
        let login = Login { username: &username, client_id: name, password: Some(password.as_bytes()), certificate };
        hub.login(&login, at(0))
    }

    #[test]
    fn both_keys_let_a_device_in_until_the_token_expires() {
        let hub = hub();
        for key in [PRIMARY, SECONDARY] {
            let token = token(key, "hub.example/devices/d", None);
            let admitted = enter(&hub, "d", &token, None).expect("a good login");
            assert_eq!(admitted.expires, Some(at(100)));
            assert_eq!(hub.name_of(admitted.number).map(ToString::to_string).as_deref(), Some("d"));
            let login = Login {
                username: "hub.example/d/?api-version=2021-04-12",
                client_id: "d",
                password: Some(token.as_bytes()),
                certificate: None,
            };
            assert!(hub.login(&login, at(109)).is_ok());
            assert_eq!(hub.login(&login, at(110)).expect_err("too late").code, 5);
        }
        let policy = token(hub.service_key(), "hub.example", Some("iothubowner"));
        assert!(enter(&hub, "d", &policy, None).is_ok());
        assert!(enter(&hub, "d/m", &policy, None).is_ok());
    }

    #[test]
    fn a_certificate_lets_in_whom_it_belongs_to_while_it_is_valid() {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 2);
        let of = || {
            let key = rcgen::KeyPair::generate().expect("a key");
            params.self_signed(&key).expect("a certificate").der().to_vec()
        };
        let (own, other) = (of(), of());
        let digest = ring::digest::digest(&ring::digest::SHA256, &own);
        let thumbprint = digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
        let mut hub = hub();
        let name = HubName::device("x").expect("a name");
        hub.put_identity(&name, IdentityBody::with_thumbprints(&thumbprint, None), None, at(0)).expect("an identity");
        assert_eq!(enter(&hub, "x", "", Some(&own)).map(|admitted| admitted.expires), Ok(None));
        let no_password = Login {
            username: "hub.example/x/?api-version=2021-04-12",
            client_id: "x",
            password: None,
            certificate: Some(&own),
        };
        for (now, why) in
            [(-1, Some("not valid before 1970-01-01T00:00:00")), (0, None), (86_400, None), (86_401, Some("ended on"))]
        {
            let refused = hub.login(&no_password, at(now)).err().map(|refused| refused.why);
            assert_eq!(refused.is_some(), why.is_some(), "{now}: {refused:?}");
            assert!(refused.unwrap_or_default().contains(why.unwrap_or_default()), "{now}");
        }
        for (name, certificate) in [("x", None), ("x", Some(&*other)), ("d", Some(&*own))] {
            assert!(enter(&hub, name, "", certificate).is_err(), "{name}");
        }
    }

    #[test]
    fn whoever_proves_nothing_stays_outside() {
        let mut hub = hub();
        let good = token(PRIMARY, "hub.example/devices/d", None);
        assert!(enter(&hub, "d", &good, None).is_ok(), "else the rest says nothing");
        for (name, password) in [
            ("d", token(PRIMARY, "other.example/devices/d", None)),
            ("d", token(PRIMARY, "hub.example/devices/d/modules/m", None)),
            ("d", token(PRIMARY, "hub.example/devices/x", None)),
            ("d", token(PRIMARY, "hub.example", Some("iothubowner"))),
            ("d", token(hub.service_key(), "hub.example", Some("service"))),
            ("d", token(hub.service_key(), "hub.example/devices/d", None)),
            ("d/m", good.clone()),
            ("d/none", good.clone()),
            ("x", good.clone()),
            ("nobody", good.clone()),
            ("d", "no token".to_owned()),
            ("d", String::new()),
        ] {
            let refused = enter(&hub, name, &password, None).expect_err(name);
            assert!(refused.code == 5 && !refused.why.is_empty() && !refused.why.contains("sig="), "{name}");
        }
        // As of a device that takes the name of its gateway, or that of the provisioning service, for the hub's.
        let elsewhere = token(PRIMARY, "other.example/devices/d", None);
        let of_another_hub = Login {
            username: "other.example/d/?api-version=2021-04-12",
            client_id: "d",
            password: Some(elsewhere.as_bytes()),
            certificate: None,
        };
        assert!(hub.login(&of_another_hub, at(0)).expect_err("another hub").why.contains("another hub"));
        let other_client = Login {
            username: "hub.example/d/?api-version=2021-04-12",
            client_id: "e",
            password: Some(good.as_bytes()),
            certificate: None,
        };
        assert!(hub.login(&other_client, at(0)).is_err());
        let device = hub.number_of(&HubName::device("d").expect("a name")).expect("a device");
        hub.set_enabled(device, false, at(0)).expect("a device");
        assert!(enter(&hub, "d", &good, None).expect_err("disabled").why.contains("disabled"));
        hub.set_enabled(device, true, at(0)).expect("a device");
        assert!(enter(&hub, "d", &good, None).is_ok());
        hub.delete_identity(&HubName::device("d").expect("a name"), &IfMatch::Any).expect("a device");
        assert!(enter(&hub, "d", &good, None).is_err());
    }

    #[test]
    fn a_user_name_says_which_cloud_is_meant() {
        assert!(Azure::is_login("localhost/d/?api-version=2021-04-12"));
        for other in ["unused", "", "0ne0/registrations/r/api-version=2019-03-31&ClientVersion=x"] {
            assert!(!Azure::is_login(other), "{other}");
        }
    }
}
