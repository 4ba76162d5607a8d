//! The shared access policies of a hub: a name, two keys, and what may be done with them. Who may call the service.
//!
//! Source: "Control access to IoT Hub by using shared access signatures", permissions (learn.microsoft.com/azure/iot-hub).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::access::new_key;
use super::names::host_of;
use super::sas::Token;
use super::{Azure, HubError};
use crate::dialect::sas::SharedKey;
use crate::model::now::Timestamp;

/// What a policy may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
    DeviceConnect,
}

/// The policies that every hub has from the start, and what they allow.
const POLICIES: [(&str, &[Right]); 5] = [
    (OWNER, &[Right::RegistryRead, Right::RegistryWrite, Right::ServiceConnect, Right::DeviceConnect]),
    ("service", &[Right::ServiceConnect]),
    ("device", &[Right::DeviceConnect]),
    ("registryRead", &[Right::RegistryRead]),
    ("registryReadWrite", &[Right::RegistryRead, Right::RegistryWrite]),
];
const OWNER: &str = "iothubowner";

/// What is kept of the hub itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HubFile {
    policies: Vec<Policy>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    name: String,
    primary_key: String,
    secondary_key: String,
}

/// Keys are never printed.
impl fmt::Debug for HubFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HubFile")
    }
}

impl HubFile {
    /// A new hub, with new keys.
    pub(crate) fn new() -> Self {
        let policy =
            |(name, _): (&str, _)| Policy { name: name.to_owned(), primary_key: new_key(), secondary_key: new_key() };
        Self { policies: POLICIES.map(policy).into() }
    }

    pub(super) fn owner_key(&self) -> &str {
        self.policies.iter().find(|policy| policy.name == OWNER).map_or("", |policy| &policy.primary_key)
    }

    /// The keys of a policy, if there is one of this name which has this right.
    pub(super) fn keys(&self, name: &str, right: Right) -> Vec<SharedKey> {
        let allowed = POLICIES.iter().any(|(policy, rights)| *policy == name && rights.contains(&right));
        let policy = self.policies.iter().find(|policy| allowed && policy.name == name);
        let keys = policy.into_iter().flat_map(|policy| [&policy.primary_key, &policy.secondary_key]);
        keys.filter_map(|key| SharedKey::parse(key).ok()).collect()
    }
}

impl Azure {
    /// Lets a call of the service in: `authorization` is that header, `host` the host that was called, with or without a port.
    ///
    /// A token must be for the whole hub, by the name that it was called by.
    pub(crate) fn authorize(
        &self,
        authorization: Option<&str>,
        host: Option<&str>,
        right: Right,
        now: Timestamp,
    ) -> Result<(), HubError> {
        let refused = |why: &str| HubError::unauthorized(format!("Unauthorized: {why}."));
        let text =
            authorization.ok_or_else(|| refused("a header Authorization with a SharedAccessSignature is expected"))?;
        let host = host.map(host_of).ok_or_else(|| refused("the request has no host"))?;
        if !self.is_host(&host) {
            return Err(refused("the request is for the host of another hub"));
        }
        let token = Token::parse(text).map_err(|denied| refused(&denied.to_string()))?;
        let policy = token.policy().ok_or_else(|| refused("the token names no policy (skn)"))?;
        let keys = self.hub.keys(policy, right);
        if keys.is_empty() {
            return Err(refused("the policy of the token is not one of the hub's, or does not allow this call"));
        }
        token.verify(&keys, &host, now, self.settings.skew).map(drop).map_err(|denied| refused(&denied.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Settings;
    use super::*;
    use crate::dialect::sas::mint;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn hub() -> Azure {
        let settings = Settings { skew: Duration::from_secs(10), hosts: vec!["localhost".to_owned()] };
        Azure::new(settings, None, Vec::new()).expect("a hub")
    }

    fn token(hub: &Azure, policy: &str, resource: &str) -> String {
        let known = hub.hub.policies.iter().find(|known| known.name == policy);
        let key = known.map_or(hub.service_key(), |known| &known.secondary_key);
        mint(&SharedKey::parse(key).expect("a key"), resource, at(100), Some(policy)).reveal().to_owned()
    }

    #[test]
    fn a_policy_allows_what_its_rights_say() {
        let hub = hub();
        let all = [Right::RegistryRead, Right::RegistryWrite, Right::ServiceConnect, Right::DeviceConnect];
        for (policy, rights) in POLICIES {
            let token = token(&hub, policy, "localhost:8443");
            for right in all {
                let verdict = hub.authorize(Some(&token), Some("LocalHost:8443"), right, at(0));
                assert_eq!(verdict.is_ok(), rights.contains(&right), "{policy} {right:?}");
            }
        }
    }

    #[test]
    fn callers_without_a_good_token_are_refused() {
        let hub = hub();
        let owner = token(&hub, "iothubowner", "localhost");
        let good = |text: Option<&str>, host, now| hub.authorize(text, host, Right::ServiceConnect, at(now));
        assert_eq!(good(Some(&owner), Some("localhost"), 109), Ok(()));
        let nobody = token(&hub, "nobody", "localhost");
        let device = token(&hub, "iothubowner", "localhost/devices/d");
        let unnamed = owner.replace("&skn=iothubowner", "");
        let other = token(&hub, "iothubowner", "other");
        for (text, host, now) in [
            (None, Some("localhost"), 0),
            (Some("Bearer x"), Some("localhost"), 0),
            (Some(&*owner), Some("localhost"), 110),
            (Some(&*owner), Some("other"), 0),
            (Some(&*other), Some("other"), 0),
            (Some(&*owner), None, 0),
            (Some(&*nobody), Some("localhost"), 0),
            (Some(&*device), Some("localhost"), 0),
            (Some(&*unnamed), Some("localhost"), 0),
        ] {
            let error = good(text, host, now).expect_err("no token for this");
            assert_eq!((error.status, error.code), (401, 401_002));
        }
    }

    #[test]
    fn keys_are_made_once() {
        let made = hub();
        let kept: HubFile = serde_json::from_slice(&super::super::to_json(&made.hub)).expect("the file of a hub");
        let again = Azure::new(hub().settings, Some(kept), Vec::new()).expect("a hub");
        assert_eq!(made.service_key(), again.service_key());
        assert!(made.has_changes() && !again.has_changes() && !made.service_key().is_empty());
        assert!(!format!("{made:?}").contains(made.service_key()));
    }
}
